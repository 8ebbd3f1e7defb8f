"""Figures of what sandboxes say to each other. Each function yields one value for each time that it was measured."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from itertools import count

from figures import Echo

import superlearner as sl
from superlearner.otp import GenServer, Reply, call, cast, child, supervisor

RUNS = 3
_serials = count(1)


class Caller(GenServer):
    """Measures how long its calls to a process of another sandbox take, or how many casts a second arrive there."""

    def init(self):
        return "ready"

    async def handle_call(self, request, sender, state):
        match request:
            case ("calls", target, times):
                return Reply(await self.latency(target, times), state)
            case ("casts", target, times):
                return Reply(await self.rate(target, times), state)

    async def latency(self, target, times):
        seen = []
        for _ in range(times):
            began = time.perf_counter()
            await call(target, "value")
            seen.append(1e6 * (time.perf_counter() - began))
        return statistics.median(seen[times // 10 :])

    async def rate(self, target, times):
        began = time.perf_counter()
        for _ in range(times):
            cast(target, "value")
        await call(target, "value", timeout=60)  # handled last: all of them have arrived
        return times / (time.perf_counter() - began)


def _between(node: str, what: str, times: int) -> Iterator[float]:
    serial = next(_serials)
    with sl.Cluster(nodes=3) as cluster:
        here = supervisor([child(Caller, id="caller", name="caller")])
        caller = cluster.create_sandbox(f"caller-{serial}", here, node="alpha")
        there = supervisor([child(Echo, id="echo", name="echo")])
        echo = cluster.create_sandbox(f"echo-{serial}", there, node=node)
        for _ in range(RUNS):
            yield caller.call("caller", (what, f"{echo.id}/echo", times), timeout=120)


def sandbox_call_between_nodes() -> Iterator[float]:
    """Microseconds of a sequential call from a process to one of a sandbox on another node."""
    yield from _between("beta", "calls", 2000)


def sandbox_call_same_node() -> Iterator[float]:
    """Microseconds of a sequential call from a process to one of another sandbox on the same node."""
    yield from _between("alpha", "calls", 2000)


def sandbox_casts_between_nodes() -> Iterator[float]:
    """Casts a second from a process to one of a sandbox on another node."""
    yield from _between("beta", "casts", 20_000)
