"""What the tests of the arsenal share: examples of operations, and the three ways to run one."""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from click.testing import CliRunner

import superlearner as sl
from superlearner.arsenal import Operation
from superlearner.arsenal.http.server import Served
from superlearner.arsenal.http.tokens import read
from superlearner.arsenal.local import connect
from superlearner.arsenal.plain import to_json
from superlearner.cli.app import main

Json = Any
_ids = itertools.count(1)


@dataclass
class World:
    """A running cluster, and what examples make in it."""

    cluster: sl.Cluster
    #: What an example keeps from its making to its check.
    stored: Any = None
    _afterwards: list[Callable[[], Any]] = field(default_factory=list)
    _fresh: list[str] = field(default_factory=list)

    def afterwards(self, undo: Callable[[], Any]) -> None:
        """Do this when the test has ended, however it ends: the next one finds three nodes that are well."""
        self._afterwards.append(undo)

    def tidy(self) -> None:
        """Undo what the examples of a test have done, and end its sandboxes."""
        while self._afterwards:
            self._afterwards.pop()()
        clear(self.cluster, set(self._fresh))
        self._fresh.clear()

    def fresh(self) -> str:
        """Return an id that no other example uses."""
        self._fresh.append(f"example-{next(_ids)}")
        return self._fresh[-1]

    def sandbox(self, **options: Any) -> sl.Sandbox:
        """Return a new sandbox with a server called ``Counter``, whose state is a number."""
        return self.cluster.create_sandbox(self.fresh(), "superlearner.cli.demo_app:Counter", **options)


def clear(cluster: sl.Cluster, only: set[str] | None = None) -> None:
    """Destroy the sandboxes of a cluster, or some of them."""
    ids = (
        [info.id for info in cluster.sandboxes() if only is None or info.id in only] if only != set() else []
    )
    if ids:
        cluster.ops.destroy_sandboxes(ids=ids, confirm=True)


def nothing(world: World) -> dict[str, Json]:
    """Give no parameters."""
    return {}


@dataclass(frozen=True)
class Example:
    """How an operation is used: parameters as JSON has them, and what must be true of its result.

    `given` makes what it needs, anew for each face; `check` gets the result as JSON, and what `given` returned.
    """

    given: Callable[[World], Mapping[str, Json]]
    check: Callable[[World, Json, Mapping[str, Json]], None]


@dataclass(frozen=True)
class Answer:
    """What a server has answered."""

    status: int
    #: By name, in small letters or large.
    headers: Message
    body: bytes

    @property
    def json(self) -> Json:
        return json.loads(self.body)

    @property
    def code(self) -> str:
        return str(self.json["error"]["code"])


def fetch(
    url: str,
    *,
    token: str | None = None,
    method: str = "GET",
    body: Json = None,
    headers: Mapping[str, str] | None = None,
    raw: bytes | None = None,
) -> Answer:
    """Ask a server, as any client would."""
    sent = dict(headers or {})
    if token is not None:
        sent["Authorization"] = f"Bearer {token}"
    if body is not None:
        raw = json.dumps(body).encode()
        sent.setdefault("Content-Type", "application/json")
    request = urllib.request.Request(url, data=raw, headers=sent, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


def by_python(world: World, operation: Operation, given: Mapping[str, Json]) -> Json:
    """Run an operation as a method."""
    confirm = {"confirm": True} if operation.dangerous else {}
    result = getattr(world.cluster.ops, operation.name)(**given, **confirm)
    return None if result is None else json.loads(to_json(result))


def by_rest(
    url: str, token: str, operation: Operation, given: Mapping[str, Json], *, confirm: bool = True
) -> Answer:
    """Run an operation by its route."""
    beside = {name: value for name, value in given.items() if name in operation.beside_path}
    query = {} if operation.takes_body else beside
    if operation.dangerous and confirm:
        query = {**query, "confirm": True}
    words = {name: as_word(value) for name, value in query.items()}
    path = f"{url}/api/v1{operation.route.fill(given)}?{urlencode(words, doseq=True)}".rstrip("?")
    return fetch(path, token=token, method=operation.method, body=beside if operation.takes_body else None)


def by_command(operation: Operation, given: Mapping[str, Json], *more: str) -> Json:
    """Run an operation as a command, on the cluster that the connection file names."""
    words = ["op", operation.name, *(str(given[name]) for name in operation.in_path)]
    for name in operation.beside_path:
        if name in given:
            value = given[name]
            option = f"--{name.replace('_', '-')}"
            many = operation.params.model_json_schema()["properties"][name].get("type") == "array"
            items = value if many else [value]
            words += [f"{option}={item if isinstance(item, str) else json.dumps(item)}" for item in items]
    if operation.dangerous:
        words.append("--confirm")
    done = CliRunner().invoke(main, [*words, *more])
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout) if done.stdout.strip() else None


def as_word(value: Json) -> Any:
    if isinstance(value, list):
        return [as_word(item) for item in value]
    return value if isinstance(value, str) else json.dumps(value)


class Running:
    """A server on a thread of its own, as `superlearner serve` runs one in its process."""

    def __init__(self, tokens: Path, **options) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="server of a test")
        self._thread.start()
        self.served = self._do(self._start(tokens, options))
        self.url = self.served.url
        self.tokens = {token.access: token.secret for token in read(tokens)}

    def _do(self, work):
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _start(self, tokens: Path, options) -> Served:
        return Served(options.pop("connect", connect), tokens, **options)

    def close(self) -> None:
        self._do(self.served.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextmanager
def serving(*options: str, **environment: str) -> Iterator[tuple[subprocess.Popen[str], Json]]:
    """Run `superlearner serve`; give the process and what it says once it serves."""
    command = [sys.executable, "-m", "superlearner", "serve", "--json", *options]
    env = os.environ | environment
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
    try:
        told = ""
        while not told.endswith("}\n"):
            line = server.stdout.readline()
            assert line, server.stderr.read()
            told += line
        yield server, json.loads(told)
    finally:
        server.terminate()
        server.wait(timeout=30)
        server.stdout.close()
        server.stderr.close()


JUPYTER_TOKEN = "for-the-tests-only"
#: A base URL as on a hub.
BASE = "/user/ann/"
SETTINGS = Path(sl.__file__).parent / "cli" / "settings" / "server.json"
#: Says where it listens once it does: its own log tells that before.
JUPYTER_SERVER = """
import sys
from jupyter_server.serverapp import ServerApp
server = ServerApp.instance()
server.initialize(argv=sys.argv[1:])
server.io_loop.add_callback(lambda: print(server.connection_url, flush=True))
server.start()
"""


class Jupyter:
    """Jupyter's own server with the settings file that the package installs, as a process."""

    def __init__(self, folder: Path) -> None:
        config = folder / "config" / "jupyter_server_config.d"
        config.mkdir(parents=True)
        (config / "superlearner.json").write_text(SETTINGS.read_text())
        env = os.environ | {
            "JUPYTER_CONFIG_DIR": str(folder / "config"),
            "JUPYTER_RUNTIME_DIR": str(folder / "run"),
            "JUPYTER_DATA_DIR": str(folder / "data"),
            "JUPYTER_TOKEN": JUPYTER_TOKEN,
        }
        options = [f"--ServerApp.base_url={BASE}", f"--ServerApp.root_dir={folder}"]
        options += ["--ServerApp.ip=127.0.0.1", f"--ServerApp.port={unused_port()}"]
        options += ["--ServerApp.port_retries=0", "--allow-root"]
        with (folder / "log").open("w") as log:
            command = [sys.executable, "-c", JUPYTER_SERVER, *options]
            self.process = subprocess.Popen(
                command, env=env, cwd=folder, stdout=subprocess.PIPE, stderr=log, text=True
            )
        listens = self.process.stdout.readline()
        assert listens, (folder / "log").read_text()
        self.origin = listens.strip().removesuffix(BASE)
        self.url = f"{self.origin}{BASE}superlearner"

    def fetch(self, path: str, **options: Any) -> Answer:
        headers = {"Authorization": f"token {JUPYTER_TOKEN}", **options.pop("headers", {})}
        return fetch(self.url + path, headers=headers, **options)

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=30)


def unused_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
