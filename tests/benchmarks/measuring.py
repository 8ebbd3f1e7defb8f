"""What our figures and those of the peers are measured with, so that both are measured alike."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

import psutil

#: Callers that each wait for their answer before they call again.
IN_FLIGHT = 1000


async def latency(call: Callable[[], Awaitable[Any]], calls: int) -> dict[str, float]:
    """Return the median and the 99th percentile, in us, of calls made one after the other.

    The first tenth warms up connections and caches and is left out.
    """
    seen = []
    for _ in range(calls):
        began = time.perf_counter()
        await call()
        seen.append(1e6 * (time.perf_counter() - began))
    return percentiles(seen[calls // 10 :])


def percentiles(seen: Sequence[float]) -> dict[str, float]:
    return {"median": statistics.median(seen), "p99": statistics.quantiles(seen, n=100)[98]}


async def rate(targets: Sequence[Callable[[], Awaitable[int]]], total: int) -> float:
    """Return the calls per second of callers that share the targets evenly.

    A target counts its calls. The answers that one caller sees must grow: its order was kept.
    """

    async def caller(call: Callable[[], Awaitable[int]]) -> None:
        last = 0
        for _ in range(total // IN_FLIGHT):
            answer = await call()
            assert answer > last, "the order of one caller's calls is kept"
            last = answer

    began = time.perf_counter()
    await asyncio.gather(*(caller(targets[n % len(targets)]) for n in range(IN_FLIGHT)))
    return total / (time.perf_counter() - began)


def proportional(processes: Iterable[psutil.Process]) -> float:
    """Return the proportional memory (PSS) of processes in MB: pages that several share are shared out."""
    return sum(process.memory_full_info().pss for process in processes) / 1e6
