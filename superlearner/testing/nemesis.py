"""The nemesis: real faults on a schedule, while clients work on a real local cluster; then heal, settle, check.

In the manner of Jepsen. The same seed gives the same schedule and the same wishes of each client; how they meet
is up to the operating system, so a run is not repeated by its seed, only its intent.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any

import dask.config

from superlearner.cluster.cluster import Cluster
from superlearner.cluster.local import Connection
from superlearner.cluster.session import Session
from superlearner.core.history import Event
from superlearner.core.linearizable import Counter, Model, Register, linearizable
from superlearner.core.operations import Operation
from superlearner.core.verdicts import Verdict, availability, effects, faults_in, one_owner, recoveries
from superlearner.errors import NoConnection, SuperlearnerError
from superlearner.testing import leftovers, workload
from superlearner.testing.fault_schedule import LINKS, ORDERS, FaultSchedule
from superlearner.testing.schedule import Step
from superlearner.testing.trial import Done, Trial
from superlearner.testing.workload import COUNTER, REGISTER, Client

LIVENESS = "once faults end, every node and every sandbox is back"
LEFT = "nothing is left of what was destroyed"
CLOSED = "nothing is left of a cluster that was closed"
#: Seconds of the lease in a run: short, so that frozen and cut off nodes are replaced while it lasts.
LEASE = 1.0
CLIENTS = ("ann", "bob", "cleo", "dan")
#: Seconds that everything may take to be back once faults have ended.
SETTLE = 60.0


async def torment(schedule: FaultSchedule | int) -> Trial:
    """Play a schedule (or that of a seed) on a local cluster of its own, and check what came of it."""
    if isinstance(schedule, int):
        schedule = FaultSchedule.generate(schedule)
    with dask.config.set({"superlearner.lease": LEASE}):
        async with Cluster(schedule.nodes, asynchronous=True) as cluster:
            run = _Run(schedule, cluster)
            trial, connection = await run.play(), run.connection
            were = leftovers.processes(connection)
    if left := leftovers.after_the_end(connection, were):
        trial = replace(trial, verdicts=(*trial.verdicts, Verdict(CLOSED, holds=False, why="; ".join(left))))
    return trial


class _Run:
    """One run on one cluster."""

    def __init__(self, schedule: FaultSchedule, cluster: Cluster) -> None:
        self._schedule = schedule
        self._cluster: Any = cluster  # whose methods are typed as those who do not await see them
        self._session = cluster._session  # noqa: SLF001 - for other connections, and what has no method
        found = self._session.found
        assert isinstance(found, Connection), "a cluster of its own is a local one"
        self.connection = found
        self._operations: list[Operation] = []
        self._events: list[Event] = []
        self._done: list[Done] = []
        self._silent: list[str] = []
        self._reverting: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)

    async def play(self) -> Trial:
        """Work and break, heal, settle, look, check."""
        unsubscribe = self._cluster.subscribe(self._events.append)
        self._open = await asyncio.to_thread(leftovers.descriptors, self.connection)
        try:
            for name in (REGISTER, COUNTER):
                await workload.create(self._cluster, name)
            async with self._clients() as clients:
                # The same moment by both clocks. One that was read when a module was imported may have been set since.
                self._began, self._began_at = time.monotonic(), time.time()
                stop = asyncio.Event()
                working = [asyncio.create_task(client.work(stop)) for client in clients]
                try:
                    await self._break()
                    back = await self._settle()
                finally:
                    stop.set()
                    await asyncio.gather(*working)
                applied = await self._look(clients[0])
            left = await self._destroy()
        finally:
            unsubscribe()
        return self._judge([back, left], applied)

    @asynccontextmanager
    async def _clients(self) -> AsyncIterator[list[Client]]:
        """Give each client a connection of its own."""

        async def find() -> Connection:
            return self.connection

        connections = [Cluster.of(Session(find, asynchronous=True)) for _ in CLIENTS]
        try:
            yield [
                Client(
                    name,
                    await connection,
                    self._schedule.seed,
                    lambda: next(self._numbers),
                    self._operations.append,
                )
                for name, connection in zip(CLIENTS, connections, strict=True)
            ]
        finally:
            for connection in connections:
                await connection.close()

    # -- Breaking and healing

    async def _break(self) -> None:
        loop = asyncio.get_running_loop()
        start = loop.time()
        making = []
        for step in self._schedule.steps:
            await asyncio.sleep(start + step.at - loop.time())
            making.append(asyncio.create_task(self._make(step)))
        await asyncio.sleep(start + self._schedule.seconds - loop.time())
        while True:
            try:
                await self._cluster.chaos.heal()
                break
            except NoConnection:  # the scheduler has been killed, and is being started again
                await self._cluster.status()
        await self._answered(making)
        for reverting in list(self._reverting):
            reverting.cancel()
        await asyncio.gather(*self._reverting, return_exceptions=True)
        await self._cluster.chaos.heal()  # what was asked for before the first, and made after it

    async def _answered(self, making: list[asyncio.Task[None]]) -> None:
        """Wait for whatever was asked for: it has an answer now that nothing is broken."""
        if making:
            _, silent = await asyncio.wait(making, timeout=SETTLE)
            for task in silent:
                task.cancel()
            await asyncio.gather(*making, return_exceptions=bool(silent))

    async def _make(self, step: Step) -> None:
        at, args, lasts = time.monotonic() - self._began, step.args, None
        if step.verb in LINKS:
            args, lasts = args[:-1], args[-1]
        doer = self._cluster if step.verb in ORDERS else self._cluster.chaos
        try:
            fault = await getattr(doer, step.verb)(*args)
        except SuperlearnerError as error:
            self._done.append(Done(step, at, refused=error.code))
            return
        except asyncio.CancelledError:
            self._silent.append(f"{step.verb}{step.args} was never answered")
            raise
        self._done.append(Done(step, at))
        if lasts is not None:
            task = asyncio.create_task(self._revert(fault, lasts))
            self._reverting.add(task)
            task.add_done_callback(self._reverting.discard)

    @staticmethod
    async def _revert(fault: Any, after: float) -> None:
        await asyncio.sleep(after)
        with suppress(NoConnection):  # the scheduler was killed, and its faults ended with it
            await fault.revert()

    async def _settle(self) -> Verdict:
        """Wait until everything runs again."""
        changed = asyncio.Event()
        unsubscribe = self._cluster.subscribe(lambda _: changed.set())
        missing = ""
        try:
            async with asyncio.timeout(SETTLE):
                while missing := await self._missing():
                    await changed.wait()
                    changed.clear()
        except TimeoutError:
            return Verdict(LIVENESS, holds=False, why=f"after {SETTLE:g} s: {missing}")
        finally:
            unsubscribe()
        if self._silent:
            return Verdict(LIVENESS, holds=False, why="; ".join(self._silent))
        healed = max((e.at for e in self._events if e.kind == "healed"), default=time.time())
        return Verdict(LIVENESS, holds=True, why=f"{time.time() - healed:.2f} s after the last was healed")

    async def _missing(self) -> str:
        """Tell what does not run, or nothing."""
        status, nodes = await self._cluster.status(), await self._cluster.nodes()
        boxes = await self._cluster.sandboxes()
        down = [f"node {node.name} is {node.status}" for node in nodes if node.status != "up"]
        down += [f"node {name} is not known" for name in set(self._schedule.nodes) - set(status.nodes)]
        down += [f"sandbox {box.id} is {box.status}" for box in boxes if box.status != "running"]
        down += [f"sandbox {name} is not known" for name in {REGISTER, COUNTER} - {box.id for box in boxes}]
        return "; ".join(down if status.quorum else ["there is no quorum", *down])

    # -- Looking and judging

    async def _look(self, client: Client) -> dict[str, list[int]]:
        """Read what is there at the end, and which operations made it so."""
        applied = {}
        for name in (REGISTER, COUNTER):
            await client.once(name, "read")
            with suppress(SuperlearnerError):  # what cannot be read is judged by nobody
                numbers, _ = await self._cluster.sandbox(name).call(name, ("applied", 0, None), timeout=10.0)
                applied[name] = list(numbers)
        return applied

    async def _destroy(self) -> Verdict:
        """Destroy what was tormented, and look for what is left, as the cluster tells it and as the machine does."""
        for name in (REGISTER, COUNTER):
            await self._cluster.destroy_sandbox(name)
        told = await self._session.ask("inventory")
        left = [
            f"{what} of {where}: {', '.join(these)}"
            for where, all_ in told.items()
            for what, these in all_.items()
            if these
        ]
        left += await asyncio.to_thread(leftovers.of_sandboxes, self.connection)
        left += await asyncio.to_thread(leftovers.opened, self.connection, self._open)
        if left:
            return Verdict(LEFT, holds=False, why="; ".join(left))
        return Verdict(LEFT, holds=True, why=f"asked {len(told) - 1} nodes, the scheduler, and the machine")

    def _judge(self, verdicts: list[Verdict], applied: dict[str, list[int]]) -> Trial:
        began = self._began
        operations = [
            replace(
                o, invoked=o.invoked - began, completed=None if o.completed is None else o.completed - began
            )
            for o in sorted(self._operations, key=lambda operation: operation.invoked)
        ]
        models: dict[str, Model] = {REGISTER: Register(), COUNTER: Counter()}
        judged = []
        for name, model in models.items():
            theirs = [o for o in operations if o.subject == name]
            verdict = linearizable(theirs, model)
            judged.append(replace(verdict, promise=f"the {name} is linearizable"))
        judged.append(one_owner(operations, self._events))
        judged += effects(operations, applied, workload.CHANGES)
        if len(applied) < len(models):
            judged.append(
                Verdict("the final state can be read", holds=None, why=f"only that of {', '.join(applied)}")
            )
        faults = [(at - self._began_at, what) for at, what in faults_in(self._events)]
        return Trial(
            self._schedule,
            (*judged, *verdicts),
            tuple(sorted(self._done, key=lambda done: done.at)),
            self._began_at,
            tuple(operations),
            tuple(self._events),
            tuple(recoveries(operations, faults)),
            tuple(availability(operations)),
        )
