"""Figures of the operations over HTTP: the server is a process of its own, as ``superlearner serve`` starts it."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from figures import app, fresh
from measuring import percentiles

import superlearner as sl
from superlearner.arsenal.http.tokens import read
from superlearner.cluster.local import connection_path

LISTS = 200
REQUESTS = 2000
CLIENTS = 8


@dataclass(frozen=True)
class Door:
    """Where a server listens, and what it wants to see."""

    host: str
    token: str

    @contextlib.contextmanager
    def client(self) -> Iterator[http.client.HTTPConnection]:
        with contextlib.closing(http.client.HTTPConnection(self.host, timeout=60)) as connection:
            yield connection

    def get(self, connection: http.client.HTTPConnection, path: str) -> bytes:
        connection.request("GET", f"/api/v1{path}", headers={"Authorization": f"Bearer {self.token}"})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        return body


@contextlib.contextmanager
def served(nodes: int) -> Iterator[tuple[sl.Cluster, Door]]:
    """Start a cluster and serve its operations, apart from what else runs on this machine."""
    for name in ("SUPERLEARNER_RUNTIME_DIR", "SUPERLEARNER_STATE_DIR"):
        os.environ[name] = tempfile.mkdtemp(prefix="sl-")
    with sl.Cluster(nodes=nodes) as cluster:
        cluster._session.found.save(connection_path())  # there the server looks for it, as commands do
        with serving() as door:
            yield cluster, door


@contextlib.contextmanager
def serving() -> Iterator[Door]:
    """Serve the operations of the cluster that runs."""
    command = [sys.executable, "-m", "superlearner", "serve", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            told = ""
            while not told.endswith("}\n"):
                line = server.stdout.readline()
                assert line, "the server has ended"
                told += line
            where = json.loads(told)
            tokens = read(Path(where["token_file"]))
            secret = next(token.secret for token in tokens if token.access == "read")
            yield Door(urlsplit(where["url"]).netloc, secret)
        finally:
            server.terminate()


def lists_300() -> Iterator[dict[str, float]]:
    """Milliseconds of ``GET sandboxes``, all 300 on one page, by one client."""
    with served(3) as (cluster, door):
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(lambda _: cluster.create_sandbox(fresh(), app()), range(300)))
        with door.client() as connection:
            while True:
                seen = []
                for _ in range(LISTS):
                    began = time.perf_counter()
                    body = door.get(connection, "/distributed/sandboxes?limit=1000")
                    seen.append(1e3 * (time.perf_counter() - began))
                told = json.loads(body)
                assert len(told["sandboxes"]) == 300
                assert told["nodes_successful"] == ["alpha", "beta", "gamma"]
                yield percentiles(seen[LISTS // 10 :])


def requests_per_second() -> Iterator[float]:
    """Requests a second of clients that keep their connections, each for one sandbox."""
    with served(3) as (cluster, door):
        sandbox = cluster.create_sandbox(fresh(), app())
        path = f"/distributed/sandboxes/{sandbox.id}"
        with ThreadPoolExecutor(CLIENTS) as pool:
            while True:
                begin = threading.Barrier(CLIENTS + 1)

                def client(_: int, begin: threading.Barrier = begin) -> None:
                    with door.client() as connection:
                        door.get(connection, path)
                        begin.wait(timeout=60)
                        for _ in range(REQUESTS // CLIENTS):
                            door.get(connection, path)

                done = pool.map(client, range(CLIENTS))
                begin.wait(timeout=60)
                began = time.perf_counter()
                list(done)
                yield REQUESTS / (time.perf_counter() - began)
