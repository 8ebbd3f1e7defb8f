"""What a hostile neighbour costs: the latency of calls to a quiet sandbox, alone and beside a busy loop.

The peer is a plain ``while True`` process of the same priority outside of the cluster: what two of them share
of the machine's processors is the kernel's doing, and a busy sandbox should cost its neighbour no more than that.
"""

from __future__ import annotations

import asyncio
import statistics
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import superlearner as sl
from superlearner.otp import GenServer, Reply, child, supervisor

RUNS = 3
CALLS = 2000


class Quiet(GenServer):
    def init(self):
        return 0

    def handle_call(self, request, sender, state):
        return Reply(state, state)


class Busy(GenServer):
    def init(self):
        return 0

    def handle_cast(self, message, state):
        while True:
            pass


def app(behaviour: Any) -> Any:
    return supervisor([child(behaviour, id="it", name="it")])


@contextmanager
def nothing() -> Iterator[None]:
    yield


@contextmanager
def busy_process() -> Iterator[None]:
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


@asynccontextmanager
async def busy_sandbox(cluster: Any) -> AsyncIterator[None]:
    box = await cluster.create_sandbox("busy", app(Busy), node="alpha", shutdown=0.1)
    await box.cast("it", "burn")
    try:
        yield
    finally:
        await box.stop()


async def _measure(beside: str) -> list[float]:
    """Return the latencies of single calls in microseconds; every process is on one node of one machine."""
    async with sl.Cluster(nodes=["alpha"], asynchronous=True) as cluster:
        quiet = await cluster.create_sandbox("quiet", app(Quiet), node="alpha")
        with busy_process() if beside == "process" else nothing():
            if beside != "sandbox":
                return await _call(quiet)
            async with busy_sandbox(cluster):
                return await _call(quiet)


async def _call(quiet: Any) -> list[float]:
    seen = []
    for _ in range(CALLS):
        began = time.perf_counter()
        await quiet.call("it", "value")
        seen.append(1e6 * (time.perf_counter() - began))
    return seen[CALLS // 10 :]


def _median(beside: str) -> Iterator[float]:
    for _ in range(RUNS):
        yield statistics.median(asyncio.run(_measure(beside)))


def _p99(beside: str) -> Iterator[float]:
    for _ in range(RUNS):
        yield statistics.quantiles(asyncio.run(_measure(beside)), n=100)[98]


def neighbour_latency_alone() -> Iterator[float]:
    yield from _median("nothing")


def neighbour_latency_alone_p99() -> Iterator[float]:
    yield from _p99("nothing")


def neighbour_latency_beside_busy_sandbox() -> Iterator[float]:
    yield from _median("sandbox")


def neighbour_latency_beside_busy_sandbox_p99() -> Iterator[float]:
    yield from _p99("sandbox")


def neighbour_latency_beside_busy_process() -> Iterator[float]:
    yield from _median("process")


def neighbour_latency_beside_busy_process_p99() -> Iterator[float]:
    yield from _p99("process")
