"""Our own figures. Each function yields one value for each time that it was measured."""

from __future__ import annotations

import asyncio
import os
import queue
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import count

import psutil

import superlearner as sl
from superlearner.core.control import ControlState, CreateRequested, InstanceStarted, NodeJoined
from superlearner.core.spec import SandboxSpec
from superlearner.otp import GenServer, Reply, Runtime, call, cast, child, supervisor

RUNS = 5
_serials = count(1)


class Counter(GenServer):
    def init(self, start=0):
        return start

    def handle_call(self, request, sender, state):
        return Reply(state + 1, state + 1) if request == "increment" else Reply(state, state)


class Pinger(GenServer):
    """Calls, or casts to, its neighbour as often as it is told to, and answers how many a second that were."""

    def init(self):
        return None

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
    for _ in range(RUNS):
        yield float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout)


def start_three_nodes() -> Iterator[float]:
    for _ in range(RUNS):
        began = time.perf_counter()
        with sl.Cluster(nodes=3):
            yield time.perf_counter() - began


def pss(processes: list[psutil.Process]) -> float:
    """Return the proportional memory of processes in MB."""
    return sum(process.memory_full_info().pss for process in processes) / 1e6


def idle_memory() -> Iterator[float]:
    mine = psutil.Process()
    before = set(mine.children(recursive=True))
    with sl.Cluster(nodes=3):
        for _ in range(3):
            yield pss([p for p in mine.children(recursive=True) if p not in before])


def create_100() -> Iterator[float]:
    async def run() -> list[float]:
        figures = []
        async with sl.Cluster(nodes=3, asynchronous=True) as cluster:
            for _ in range(3):
                ids = [fresh() for _ in range(100)]
                began = time.perf_counter()
                boxes = await asyncio.gather(*(cluster.create_sandbox(id, app()) for id in ids))
                await asyncio.gather(*(box.call("counter", "value") for box in boxes))
                figures.append(time.perf_counter() - began)
                await asyncio.gather(*(cluster.destroy_sandbox(id) for id in ids))
        return figures

    yield from asyncio.run(run())


def memory_per_sandbox() -> Iterator[float]:
    with sl.Cluster(nodes=3) as cluster:
        for _ in range(20):
            cluster.create_sandbox(fresh(), app())
        pids = [info.pid for info in cluster.sandboxes()]
        for pid in pids:
            yield pss([psutil.Process(pid)])


async def _latencies(calls: int) -> list[float]:
    async with sl.Cluster(nodes=3, asynchronous=True) as cluster:
        box = await cluster.create_sandbox(fresh(), app())
        seen = []
        for _ in range(calls):
            began = time.perf_counter()
            await box.call("counter", "value")
            seen.append(1e6 * (time.perf_counter() - began))
    return seen[calls // 10 :]


def call_latency() -> Iterator[float]:
    for _ in range(3):
        yield statistics.median(asyncio.run(_latencies(2000)))


def call_latency_p99() -> Iterator[float]:
    for _ in range(3):
        yield statistics.quantiles(asyncio.run(_latencies(2000)), n=100)[98]


def call_latency_sync() -> Iterator[float]:
    with sl.Cluster(nodes=3) as cluster:
        box = cluster.create_sandbox(fresh(), app())
        for _ in range(3):
            began = time.perf_counter()
            for _ in range(1000):
                box.call("counter", "value")
            yield 1e3 * (time.perf_counter() - began)


def calls_in_flight_one() -> Iterator[float]:
    yield from asyncio.run(_throughput(1))


def calls_in_flight_ten() -> Iterator[float]:
    yield from asyncio.run(_throughput(10))


async def _throughput(boxes: int, total: int = 30_000, in_flight: int = 1000) -> list[float]:
    figures = []
    async with sl.Cluster(nodes=3, asynchronous=True) as cluster:
        made = [await cluster.create_sandbox(fresh(), app()) for _ in range(boxes)]

        async def caller(box: sl.Sandbox, calls: int) -> None:
            last = 0
            for _ in range(calls):
                answer = await box.call("counter", "increment", 60)
                assert answer > last, "order per caller"
                last = answer

        for _ in range(RUNS):
            began = time.perf_counter()
            work = [caller(made[i % boxes], total // in_flight) for i in range(in_flight)]
            await asyncio.gather(*work)
            figures.append(total / (time.perf_counter() - began))
    return figures


def _within(how: str, times: int) -> Iterator[float]:
    neighbours = supervisor([child(Echo, id="echo", name="echo"), child(Pinger, id="pinger", name="pinger")])
    with Runtime(neighbours) as runtime:
        for _ in range(RUNS):
            yield runtime.call("pinger", (how, times), timeout=60)


def in_sandbox_calls() -> Iterator[float]:
    yield from _within("call", 50_000)


def in_sandbox_casts() -> Iterator[float]:
    yield from _within("cast", 200_000)


def restart_process() -> Iterator[float]:
    with sl.Cluster(nodes=3) as cluster:
        restarted: queue.SimpleQueue[float] = queue.SimpleQueue()
        cluster.subscribe(lambda _: restarted.put(time.perf_counter()), "process_restarted")
        for _ in range(RUNS):
            box = cluster.create_sandbox(fresh(), app())
            began = time.perf_counter()
            box.kill("counter")
            restarted.get(timeout=10)
            box.call("counter", "value")
            yield 1e3 * (time.perf_counter() - began)


def restart_host() -> Iterator[float]:
    with sl.Cluster(nodes=3) as cluster:
        for _ in range(20):
            box = cluster.create_sandbox(fresh(), app())
            box.call("counter", "increment")
            box.checkpoint()
            pid = box.info().pid
            began = time.perf_counter()
            os.kill(pid, 9)
            assert box.call("counter", "value", 10, idempotent=True) == 1
            yield 1e3 * (time.perf_counter() - began)


def failover_30(which: str) -> Iterator[float]:
    yield from asyncio.run(_failover(which))


async def _failover(which: str) -> list[float]:
    figures = []
    for _ in range(RUNS):
        async with sl.Cluster(nodes=3, asynchronous=True) as cluster:
            boxes = [await cluster.create_sandbox(fresh(), app(), node="alpha") for _ in range(30)]
            for n, box in enumerate(boxes):
                await box.replace_state("counter", n)
                await box.checkpoint()
            (victim,) = [node.pid for node in await cluster.nodes() if node.name == "alpha"]
            began = time.perf_counter()
            os.kill(victim, 9)

            async def back(n: int, box: sl.Sandbox, began: float = began) -> float:
                assert await box.call("counter", "value", 20, idempotent=True) == n, "the state is back"
                return 1e3 * (time.perf_counter() - began)

            times = await asyncio.gather(*(back(n, box) for n, box in enumerate(boxes)))
            figures.append(min(times) if which == "first" else max(times))
    return figures


def control_event(sandboxes: int) -> Iterator[float]:
    state = ControlState()
    for n in range(10):
        state.handle(NodeJoined(f"node-{n}", f"tcp://{n}", cause="join", at=0.0))

    def create(n: int) -> None:
        state.handle(CreateRequested(SandboxSpec(f"s{n}"), cause=f"c{n}", at=1.0))
        record = state.sandboxes[f"s{n}"]
        state.handle(InstanceStarted(f"s{n}", str(record.node), record.epoch, n, cause=f"c{n}", at=1.0))

    for n in range(sandboxes):
        create(n)
    for run in range(RUNS):
        began = time.perf_counter()
        for n in range(500):
            create(sandboxes + 500 * run + n)
        yield 1e6 * (time.perf_counter() - began) / 1000
