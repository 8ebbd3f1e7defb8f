"""Our own figures. Each function yields a value for each time that it measures: a number, or several by name.

It may be called again for more, and closed before it has yielded all.
"""

from __future__ import annotations

import asyncio
import os
import queue
import statistics
import subprocess
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from typing import Any

import psutil
from measuring import IN_FLIGHT, latency, proportional, rate

import superlearner as sl
from superlearner.otp import GenServer, Reply, Runtime, call, cast, child, supervisor

_serials = count(1)
#: Seconds for which a cluster is left alone before something in it is killed: what its nodes prepare is ready then.
REST = 2.0


class Counter(GenServer):
    def init(self, start=0):
        return start

    def handle_call(self, request, sender, state):
        return Reply(state + 1, state + 1) if request == "increment" else Reply(state, state)


class Heavy(Counter):
    """A counter that carries 1 MB along, and whose `init` takes next to no time."""

    def init(self):
        return [bytes(1_000_000), 0]

    def handle_call(self, request, sender, state):
        ballast, count = state
        return Reply(count + 1, [ballast, count + 1])


class Pinger(GenServer):
    """Calls, or casts to, its neighbour as often as it is told to, and answers how many a second that were."""

    def init(self):
        return 0

    async def handle_call(self, request, sender, state):
        how, times = request
        began = time.perf_counter()
        if how == "call":
            for _ in range(times):
                await call("echo", "value")
        else:
            for _ in range(times):
                cast("echo", "value")
            await call("echo", "value")  # handled last: the burst has been worked off
        return Reply(times / (time.perf_counter() - began), state)


class Echo(GenServer):
    def init(self):
        return 0

    def handle_call(self, request, sender, state):
        return Reply(request, state)

    def handle_cast(self, message, state):
        return state + 1


def app():
    return supervisor([child(Counter, 0, id="counter", name="counter")])


def fresh() -> str:
    return f"bench-{next(_serials)}"


def import_time() -> Iterator[float]:
    code = "import time; t = time.perf_counter(); import superlearner as sl; sl.Cluster; print(time.perf_counter() - t)"
    yield float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)


def start_three_nodes() -> Iterator[float]:
    began = time.perf_counter()
    with sl.Cluster(nodes=3):
        yield time.perf_counter() - began


def idle_memory() -> Iterator[dict[str, float]]:
    mine = psutil.Process()
    with sl.Cluster(nodes=3):
        cluster = proportional(mine.children(recursive=True))
        yield {"cluster": cluster, "with client": cluster + proportional([mine])}


def create(how_many: int) -> Iterator[float]:
    async def run() -> float:
        async with sl.Cluster(nodes=3, asynchronous=True) as cluster:
            began = time.perf_counter()
            boxes = await asyncio.gather(*(cluster.create_sandbox(fresh(), app()) for _ in range(how_many)))
            await asyncio.gather(*(box.call("counter", "value", 60) for box in boxes))
            return time.perf_counter() - began

    yield asyncio.run(run())


def memory_per_sandbox() -> Iterator[float]:
    with sl.Cluster(nodes=3) as cluster:
        for _ in range(20):
            cluster.create_sandbox(fresh(), app()).call("counter", "value")
        for info in cluster.sandboxes():
            yield proportional([psutil.Process(info.pid)])


def call_latency() -> Iterator[dict[str, float]]:
    async def run() -> dict[str, float]:
        async with sl.Cluster(nodes=3, asynchronous=True) as cluster:
            box = await cluster.create_sandbox(fresh(), app())
            return await latency(lambda: box.call("counter", "increment"), 2000)

    yield asyncio.run(run())


def call_latency_sync() -> Iterator[float]:
    """The mean of a thousand calls from a plain cell, after as many that are not measured."""
    with sl.Cluster(nodes=3) as cluster:
        box = cluster.create_sandbox(fresh(), app())
        for _ in range(1000):
            box.call("counter", "value")
        while True:
            began = time.perf_counter()
            for _ in range(1000):
                box.call("counter", "value")
            yield 1e6 * (time.perf_counter() - began) / 1000


def calls_in_flight(boxes: int) -> Iterator[float]:
    async def run() -> float:
        async with sl.Cluster(nodes=3, asynchronous=True) as cluster:
            targets = [_incrementer(await cluster.create_sandbox(fresh(), app())) for _ in range(boxes)]
            return await rate(targets, total=30 * IN_FLIGHT)

    yield asyncio.run(run())


def durable_call(in_flight: int) -> Iterator[dict[str, float]]:
    """What durable calls, without and with ids, take in relation to plain ones, turn about."""
    durable = sl.Checkpoint(durability="reply")

    async def run() -> dict[str, float]:
        async with sl.Cluster(nodes=3, asynchronous=True) as cluster:
            plain = await cluster.create_sandbox(fresh(), app())
            sure, once = [await cluster.create_sandbox(fresh(), app(), checkpoint=durable) for _ in range(2)]
            calls: dict[str, Callable[[], Awaitable[Any]]] = {
                "plain": lambda: plain.call("counter", "increment", 60),
                "durable": lambda: sure.call("counter", "increment", 60),
                "with id": lambda: once.call("counter", "increment", 60, request_id=str(uuid.uuid4())),
            }
            seen: dict[str, list[float]] = {name: [] for name in calls}
            for turn in range(1100 if in_flight == 1 else 30):
                for name, call_it in calls.items():
                    began = time.perf_counter()
                    await asyncio.gather(*(call_it() for _ in range(in_flight)))
                    if turn >= (100 if in_flight == 1 else 5):  # what came before warms up
                        seen[name].append(time.perf_counter() - began)
            medians = {name: statistics.median(times) for name, times in seen.items()}
            return {name: median / medians["plain"] for name, median in medians.items()}

    yield asyncio.run(run())


def _incrementer(box: Any) -> Callable[[], Awaitable[int]]:
    return lambda: box.call("counter", "increment", 60)


def _within(how: str, times: int) -> Iterator[float]:
    neighbours = supervisor([child(Echo, id="echo", name="echo"), child(Pinger, id="pinger", name="pinger")])
    with Runtime(neighbours) as runtime:
        yield runtime.call("pinger", (how, times), timeout=60)


def in_sandbox_calls() -> Iterator[float]:
    yield from _within("call", 20_000)


def in_sandbox_casts() -> Iterator[float]:
    yield from _within("cast", 100_000)


def restart_process() -> Iterator[float]:
    with sl.Cluster(nodes=3) as cluster:
        restarted: queue.SimpleQueue[sl.Event] = queue.SimpleQueue()
        cluster.subscribe(restarted.put, "process_restarted")
        while True:
            box = cluster.create_sandbox(fresh(), app())
            box.call("counter", "value")
            began = time.perf_counter()
            box.kill("counter")
            restarted.get(timeout=10)
            box.call("counter", "value")
            yield 1e3 * (time.perf_counter() - began)
            cluster.destroy_sandbox(box.id)


def restart_host() -> Iterator[float]:
    with sl.Cluster(nodes=3) as cluster:
        while True:
            box = cluster.create_sandbox(fresh(), app())
            box.call("counter", "increment")
            box.checkpoint()
            pid = box.info().pid
            began = time.perf_counter()
            os.kill(pid, 9)
            assert box.call("counter", "value", 10, idempotent=True) == 1
            yield 1e3 * (time.perf_counter() - began)
            cluster.destroy_sandbox(box.id)


def failover_30(rest: float = REST) -> Iterator[dict[str, float]]:
    """From a node's SIGKILL until its first and last sandbox answer with their state, and how many do not."""

    async def kill(cluster: sl.Cluster) -> None:
        (victim,) = [node.pid for node in await cluster.nodes() if node.name == "alpha"]
        os.kill(victim, 9)

    yield asyncio.run(_failover(kill, "alpha", rest))


def scheduler_killed_30() -> Iterator[dict[str, float]]:
    """From the scheduler's SIGKILL until the first and last of 30 sandboxes answer with their state."""

    async def kill(cluster: sl.Cluster) -> None:
        await cluster.chaos.kill_scheduler()

    yield asyncio.run(_failover(kill, "auto", REST))


async def _failover(
    kill: Callable[[sl.Cluster], Awaitable[None]], node: str, rest: float
) -> dict[str, float]:
    async with sl.Cluster(nodes=3, asynchronous=True) as cluster:
        boxes = [await cluster.create_sandbox(fresh(), app(), node=node) for _ in range(30)]
        for n, box in enumerate(boxes):
            await box.replace_state("counter", 100 + n)
            await box.checkpoint()
        await asyncio.sleep(rest)
        times: list[float] = []
        began = time.perf_counter()
        await kill(cluster)

        async def back(n: int, box: Any) -> bool:
            try:
                answer = await box.call("counter", "value", 20, idempotent=True)
            except sl.SuperlearnerError:
                answer = None
            times.append(1e3 * (time.perf_counter() - began))
            return answer == 100 + n

        right = await asyncio.gather(*(back(n, box) for n, box in enumerate(boxes)))
        return {"first": min(times), "last": max(times), "lost": right.count(False)}


def migration_pause() -> Iterator[float]:
    """The longest that one of three callers waited while a sandbox with 1 MB of state moved."""
    yield from asyncio.run(_migrations())


async def _migrations() -> list[float]:
    pauses = []
    async with sl.Cluster(nodes=3, asynchronous=True) as cluster:
        heavy = supervisor([child(Heavy, id="counter", name="counter")])
        box = await cluster.create_sandbox(fresh(), heavy, node="alpha")
        moving, longest = True, 0.0

        async def caller() -> None:
            nonlocal longest
            last = 0
            while moving:
                began = time.perf_counter()
                answer = await box.call("counter", "increment", 20)
                longest = max(longest, time.perf_counter() - began)
                assert answer > last, "no call is lost or carried out twice, and their order is kept"
                last = answer

        callers = [asyncio.create_task(caller()) for _ in range(3)]
        for node in ("beta", "gamma", "alpha", "beta", "gamma", "alpha"):
            await box.migrate(node)
            await box.call("counter", "value", 20)  # what waited for the move is answered before this
            pauses.append(1e3 * longest)
            longest = 0.0
        moving = False
        await asyncio.gather(*callers)
    return pauses


def looks_300() -> Iterator[dict[str, float]]:
    with sl.Cluster(nodes=3) as cluster:
        with ThreadPoolExecutor(20) as pool:
            list(pool.map(lambda _: cluster.create_sandbox(fresh(), app()), range(300)))
        while True:
            began = time.perf_counter()
            cluster.status()
            between = time.perf_counter()
            infos = cluster.sandboxes()
            ended = time.perf_counter()
            assert len(infos) == 300
            yield {"status": 1e3 * (between - began), "sandboxes": 1e3 * (ended - between)}
