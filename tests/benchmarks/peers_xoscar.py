"""xoscar as a peer: actors in a pool of processes. Its messages are not encrypted, ours are."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any

import xoscar
from measuring import IN_FLIGHT, latency, rate


class Counter(xoscar.Actor):
    def __init__(self) -> None:
        super().__init__()
        self.n = 0

    def increment(self) -> int:
        self.n += 1
        return self.n


@asynccontextmanager
async def _actors(how_many: int, processes: int) -> AsyncIterator[list[Any]]:
    """Actors in processes other than this one."""
    # Its processes import this module by its name.
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    pool = await xoscar.create_actor_pool("127.0.0.1", n_process=processes)
    async with pool:
        yield [
            await xoscar.create_actor(
                Counter,
                uid=f"counter-{n}",
                address=pool.external_address,
                allocate_strategy=xoscar.allocate_strategy.ProcessIndex(1 + n % processes),
            )
            for n in range(how_many)
        ]


def call() -> Iterator[dict[str, float]]:
    async def run() -> dict[str, float]:
        async with _actors(1, 1) as (one,):
            return await latency(one.increment, 2000)

    yield asyncio.run(run())


def in_flight(actors: int) -> Iterator[float]:
    async def run() -> float:
        async with _actors(actors, min(actors, 3)) as made:
            return await rate([one.increment for one in made], total=10 * IN_FLIGHT)

    yield asyncio.run(run())
