"""The peers, measured in the same run as our own figures."""

from __future__ import annotations

import asyncio
import logging
import statistics
import time
from collections.abc import Iterator
from typing import Any

import psutil
from distributed import Client, LocalCluster, Security
from distributed.core import Server, rpc

RUNS = 3


def _cluster() -> LocalCluster:
    """Three raw Dask workers with TLS, as ours have."""
    return LocalCluster(
        n_workers=3,
        threads_per_worker=1,
        security=Security.temporary(),
        protocol="tls",
        dashboard_address=None,
        silence_logs=logging.ERROR,
    )


def dask_start() -> Iterator[float]:
    for _ in range(RUNS):
        began = time.perf_counter()
        with _cluster():
            yield time.perf_counter() - began


def dask_idle_memory() -> Iterator[float]:
    mine = psutil.Process()
    before = set(mine.children(recursive=True))
    with _cluster():
        mine_too = [p for p in mine.children(recursive=True) if p not in before]
        yield sum(p.memory_full_info().pss for p in mine_too) / 1e6


def dask_rpc() -> Iterator[float]:
    """A bare echo between two processes' worth of Dask comms, with TLS, in one loop."""

    async def run() -> list[float]:
        security = Security.temporary()
        figures = []

        async def echo(value: Any) -> Any:
            return value

        server = Server({"echo": echo})
        await server.listen("tls://127.0.0.1:0", **security.get_listen_args("scheduler"))
        remote = rpc(server.address, connection_args=security.get_connection_args("client"))
        for _ in range(RUNS):
            seen = []
            for _ in range(2000):
                began = time.perf_counter()
                await remote.echo(value=1)
                seen.append(1e6 * (time.perf_counter() - began))
            figures.append(statistics.median(seen))
        await remote.close_rpc()
        await server.close()
        return figures

    yield from asyncio.run(run())


class Counter:
    def __init__(self) -> None:
        self.n = 0

    def increment(self) -> int:
        self.n += 1
        return self.n


def dask_actor() -> Iterator[float]:
    with _cluster() as cluster, Client(cluster) as client:
        actor = client.submit(Counter, actor=True).result()
        for _ in range(RUNS):
            seen = []
            for _ in range(300):
                began = time.perf_counter()
                actor.increment().result()
                seen.append(1e6 * (time.perf_counter() - began))
            yield statistics.median(seen)


def dask_actor_in_flight() -> Iterator[float]:
    with _cluster() as cluster, Client(cluster) as client:
        actor = client.submit(Counter, actor=True).result()
        for _ in range(RUNS):
            began = time.perf_counter()
            for future in [actor.increment() for _ in range(1000)]:
                future.result()
            yield 1000 / (time.perf_counter() - began)


def pykka_ask() -> Iterator[float]:
    import pykka

    class Echo(pykka.ThreadingActor):
        def on_receive(self, message: Any) -> Any:
            return message

    echo = Echo.start()
    for _ in range(RUNS):
        began = time.perf_counter()
        for _ in range(10_000):
            echo.ask(1)
        yield 10_000 / (time.perf_counter() - began)
    echo.stop()


def pykka_tell() -> Iterator[float]:
    import pykka

    class Sink(pykka.ThreadingActor):
        def on_receive(self, message: Any) -> Any:
            return message

    sink = Sink.start()
    for _ in range(RUNS):
        began = time.perf_counter()
        for _ in range(50_000):
            sink.tell(1)
        sink.ask(1)
        yield 50_000 / (time.perf_counter() - began)
    sink.stop()
