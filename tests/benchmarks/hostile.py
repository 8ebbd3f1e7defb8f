"""What a hostile neighbour costs: the latency of calls to a quiet sandbox, alone and beside a busy loop.

The peer is a plain ``while True`` process of the same priority outside of the cluster: what two of them share
of the machine's processors is the kernel's doing, and a busy sandbox should cost its neighbour no more than that.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

from measuring import latency

import superlearner as sl
from superlearner.otp import GenServer, Reply, child, supervisor

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


def neighbour_latency(beside: str) -> Iterator[dict[str, float]]:
    """Yield the median and the 99th percentile in us, beside ``"nothing"``, a busy ``"sandbox"`` or ``"process"``."""

    async def run() -> dict[str, float]:
        async with sl.Cluster(nodes=["alpha"], asynchronous=True) as cluster:
            quiet = await cluster.create_sandbox("quiet", app(Quiet))
            async with _BESIDE[beside](cluster):
                return await latency(lambda: quiet.call("it", "value"), CALLS)

    yield asyncio.run(run())


@asynccontextmanager
async def _nothing(cluster: Any) -> AsyncIterator[None]:
    yield


@asynccontextmanager
async def _process(cluster: Any) -> AsyncIterator[None]:
    busy = await asyncio.create_subprocess_exec(sys.executable, "-c", "while True: pass")
    try:
        yield
    finally:
        busy.kill()
        await busy.wait()


@asynccontextmanager
async def _sandbox(cluster: Any) -> AsyncIterator[None]:
    # On the node of its neighbour.
    busy = await cluster.create_sandbox("busy", app(Busy), shutdown=0.1)
    await busy.cast("it", "burn")
    try:
        yield
    finally:
        await busy.stop()


_BESIDE = {"nothing": _nothing, "process": _process, "sandbox": _sandbox}
