"""Raw Dask as a peer: what a person has who uses its actors, or its messages, without superlearner."""

from __future__ import annotations

import asyncio
import logging
import pickle
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import psutil
from distributed import Client, LocalCluster, Security
from distributed.core import Server, rpc
from measuring import IN_FLIGHT, latency, proportional


def _cluster(**options: Any) -> LocalCluster:
    """Three raw Dask workers with TLS, as ours have."""
    return LocalCluster(
        n_workers=3,
        threads_per_worker=1,
        security=Security.temporary(),
        protocol="tls",
        dashboard_address=None,
        silence_logs=logging.ERROR,
        **options,
    )


def start() -> Iterator[float]:
    began = time.perf_counter()
    with _cluster():
        yield time.perf_counter() - began


def idle_memory() -> Iterator[dict[str, float]]:
    """Dask's scheduler lives in its client, so that only both together can be told."""
    mine = psutil.Process()
    with _cluster():
        yield {"with client": proportional([mine, *mine.children(recursive=True)])}


async def echo(value: Any) -> Any:
    return value


async def _serve() -> None:
    """Echo for the process that started this one, until it closes the pipe."""
    security = pickle.load(sys.stdin.buffer)
    server = Server({"echo": echo})
    await server.listen("tls://127.0.0.1:0", **security.get_listen_args("scheduler"))
    print(server.address, flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await server.close()


def rpc_echo() -> Iterator[dict[str, float]]:
    """A bare echo over Dask's own messages with TLS, between two processes: the floor of what Dask can do."""
    security = Security.temporary()
    with subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as server:
        assert server.stdin is not None
        assert server.stdout is not None
        pickle.dump(security, server.stdin)
        server.stdin.flush()
        address = server.stdout.readline().decode().strip()
        yield asyncio.run(_ask(address, security))
        server.stdin.close()


async def _ask(address: str, security: Security) -> dict[str, float]:
    remote = rpc(address, connection_args=security.get_connection_args("client"))
    try:
        return await latency(lambda: remote.echo(value=1), 2000)
    finally:
        await remote.close_rpc()


class Counter:
    """Dask's actors answer one call after the other."""

    def __init__(self) -> None:
        self.n = 0

    def increment(self) -> int:
        self.n += 1
        return self.n


def actor() -> Iterator[dict[str, float]]:
    async def run() -> dict[str, float]:
        async with _cluster(asynchronous=True) as cluster, Client(cluster, asynchronous=True) as client:
            one = await client.submit(Counter, actor=True)
            return await latency(one.increment, 500)

    yield asyncio.run(run())


def in_flight(actors: int) -> Iterator[float]:
    """A thousand calls sent before the first answer is read, three times; their order is not kept.

    Dask opens a connection for each call that waits; a first round, not measured, opens them.
    """
    with _cluster() as cluster, Client(cluster) as client:
        made = [client.submit(Counter, actor=True, pure=False).result() for _ in range(actors)]

        def burst() -> None:
            for answer in [made[n % actors].increment() for n in range(IN_FLIGHT)]:
                answer.result()

        burst()
        began = time.perf_counter()
        for _ in range(3):
            burst()
        yield 3 * IN_FLIGHT / (time.perf_counter() - began)


if __name__ == "__main__":
    asyncio.run(_serve())
