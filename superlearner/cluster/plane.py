"""The control plane: the pump in a Dask scheduler's process, fed by Dask's hooks."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterable
from functools import partial
from typing import Any

from distributed import Client, Scheduler
from distributed.comm import Comm
from distributed.diagnostics.plugin import SchedulerPlugin

from superlearner import config
from superlearner.cluster.agent import REPORT_OP, START_OP, NodeAgent, find_instance
from superlearner.cluster.channel import CONTROL_OP
from superlearner.cluster.commands import Nodes
from superlearner.cluster.faults import FaultControl
from superlearner.cluster.faulty import EXEMPT, can_break
from superlearner.cluster.lanes import HERE
from superlearner.cluster.machine import Deaths
from superlearner.cluster.pump import NodeLauncher, Pump
from superlearner.cluster.state_dir import StateDirectory
from superlearner.core import control as c
from superlearner.core.faults import SCHEDULER
from superlearner.core.history import Event
from superlearner.sandbox.instance import StartRequest

PLUGIN_NAME = "superlearner"
#: Seconds after a start until Dask is given its part of it; while others are being started it waits longer, up to so
#: many seconds.
_LATER, _LATEST = 0.5, 5.0


class ControlPlane(Pump, SchedulerPlugin):
    """The control plane of a cluster, as a plugin of its scheduler.

    Parameters
    ----------
    journal
        Path of the file that keeps the events; None: they are kept in memory only.
    launcher
        What can start and stop nodes here; None on a cluster that somebody else looks after.
    state
        The state directory, which its nodes can reach, too; None: nothing is kept beyond the end of the scheduler.
    takes_over
        Whether it goes on with the cluster of a scheduler that was killed, and so with its history.
    """

    name = PLUGIN_NAME
    idempotent = True

    def __init__(
        self,
        journal: str | None = None,
        launcher: NodeLauncher | None = None,
        state: str | None = None,
        *,
        takes_over: bool = False,
    ) -> None:
        super().__init__(None if state is None else StateDirectory(state))
        self._journal_path = journal
        self._takes_over = takes_over
        self._state = state
        self.launcher = launcher

    async def start(self, scheduler: Scheduler) -> None:
        """Join the scheduler: take requests and reports, and put an agent on each of its workers."""
        self.scheduler = scheduler
        self.address = scheduler.address
        if self._directory is not None:
            self._directory.take()
        lease, partition = config.get("lease"), config.get("partition")
        self.begin(c.ControlPolicy(lease=lease, partition=partition))
        #: Dask's futures of the actors, with the addresses of their workers: an actor lives while its future does.
        self._futures: dict[tuple[str, int], tuple[Any, str]] = {}
        #: What is about to be ordered, by address.
        self._ordering: dict[str, list[StartRequest]] = {}
        #: What was ordered and has no actor yet, with the address.
        self._unheld: dict[tuple[str, int], str] = {}
        self._holding: asyncio.TimerHandle | None = None
        self._deaths = Deaths()
        #: Set when clients may ask: what an earlier run left is known by then.
        self._ready = asyncio.Event()
        scheduler.handlers[CONTROL_OP] = self._serve
        scheduler.stream_handlers[REPORT_OP] = self._on_packed
        self.nodes = Nodes(scheduler.connection_args)
        self.faults = FaultControl(self, Nodes({**scheduler.connection_args, **EXEMPT}))
        if can_break(self.address):  # else this may be a client's own process
            HERE.name = SCHEDULER
        # Actors live as long as the client that made them: this one lives as long as the scheduler.
        self.client = await Client(
            scheduler.address, asynchronous=True, set_as_default=False, security=scheduler.security
        )
        self.record(Event("cluster_started", at=self.now(), detail={"address": scheduler.address}))
        interval = config.get("telemetry.interval")
        agent = NodeAgent(interval, lease, fenced=partition == "quorum", state=self._state)
        await self.client.register_plugin(agent)
        if self._directory is None:
            self._ready.set()

    def restore(self) -> None:
        """Bring back what an earlier run left, now that the nodes are there, and let clients ask."""
        if self._directory is not None:
            self.bring_back(self._directory.remembered(), self._directory.remembered_groups())
            self.tell_unreadable(self._directory)
        self._ready.set()

    def stop(self) -> None:
        """Take note that the whole cluster is being stopped: a node that ends from now on is not lost."""
        self._stopping = True

    async def before_close(self) -> None:
        """End what the plane started, while the scheduler can still talk."""
        self.stop()
        self.record(Event("cluster_stopped", at=self.now(), detail={"address": self.scheduler.address}))
        self._deaths.close()
        if self._holding is not None:
            self._holding.cancel()
        await self.end()
        await self.client.close()
        self._recorder.close()
        if self._directory is not None:
            self._directory.close()

    # -- What Dask tells -------------------------------------------------------------------------

    def remove_worker(self, scheduler: Scheduler, worker: str, **_: Any) -> None:
        """Learn that a worker's connection is closed; that it has ended is another matter.

        On this machine the kernel tells its end. Elsewhere its lease decides, where there is one.
        """
        for node, facts in self.known.items():
            if facts["address"] == worker and self._deaths.is_ending(facts["pid"]):
                self._node_ended(node, worker, "its process has ended")
            elif facts["address"] == worker and not facts["watched"] and self.state.policy.lease is None:
                self._node_ended(node, worker, "its connection was closed")

    def valid_workers_downscaling(self, scheduler: Scheduler, workers: Iterable[Any]) -> list[Any]:
        """Keep workers that carry sandboxes from being scaled away."""
        used = {record.address for record in self.state.sandboxes.values()}
        return [worker for worker in workers if worker.address not in used]

    def _on_packed(self, kind: str, fields: bytes, worker: str) -> None:
        self.on_report(kind, pickle.loads(fields), worker)

    async def _serve(self, comm: Comm) -> None:
        await self._ready.wait()
        await self.requests.serve(comm)

    # -- What the machine wants of Dask -----------------------------------------------------------

    async def make(self, i: c.StartInstance, request: StartRequest) -> None:
        """Order the node to make the instance, which starts by itself and reports how that went.

        The order goes straight to the node, and Dask's actor follows: what Dask does for each of its tasks would
        be a third of the time in which nobody answers after the loss of a node.
        """
        self._ordering.setdefault(i.address, []).append(request)
        await asyncio.sleep(0)  # what was decided together is ordered together
        if requests := self._ordering.pop(i.address, []):
            orders = [(r.spec.id, r.epoch, r.cause, pickle.dumps(r)) for r in requests]
            self.tell_node(i.address, START_OP, orders=orders)
            self._unheld |= {(r.spec.id, r.epoch): i.address for r in requests}
            if self._holding is None:
                self._hold_later(until=self._loop.time() + _LATEST)

    def _hold_later(self, until: float) -> None:
        self._holding = self._loop.call_later(_LATER, self._hold, until)

    def _hold(self, until: float) -> None:
        """Make the instances actors of Dask, in whose eyes their workers are in use then."""
        self._holding = None
        if self.state.starting and self._loop.time() < until:
            self._hold_later(until)
            return
        unheld, self._unheld = self._unheld, {}
        for address in set(unheld.values()):
            who = [key for key, where in unheld.items() if where == address]
            futures = self.client.map(
                find_instance,
                *zip(*who, strict=True),
                actor=True,
                key=[f"superlearner-{sandbox}-{epoch}" for sandbox, epoch in who],
                workers=[address],
                allow_other_workers=False,
                pure=False,
            )
            self._futures |= {key: (future, address) for key, future in zip(who, futures, strict=True)}

    def release(self, sandbox: str, epoch: int) -> None:
        """Let Dask forget an actor."""
        self._unheld.pop((sandbox, epoch), None)
        future, _ = self._futures.pop((sandbox, epoch), (None, ""))
        if future is not None:
            future.release()

    def inventory(self) -> dict[str, Any]:
        """Return what is held of sandboxes here: when all have been destroyed, each of these is empty."""
        actors = sorted(f"{sandbox} (epoch {epoch})" for sandbox, epoch in (*self._futures, *self._unheld))
        return {**super().inventory(), "actors": actors}

    def watch(self, facts: dict[str, Any]) -> bool:
        """Learn of the end of a worker's process, where it runs on this machine."""
        node, address = facts["node"], facts["address"]
        ended = partial(self._node_ended, node, address, "its process has ended")
        # What the kernel knows at once a scheduler that is cut off does not.
        return self._deaths.watch(
            facts["pid"], facts["machine"], partial(self.faults.ended, node, address, ended)
        )

    def tell_node(self, to: str, op: str, **fields: Any) -> None:
        """Send a worker what it does not answer."""
        comm = self.scheduler.stream_comms.get(to)
        if comm is not None and not comm.closed():  # else it has gone meanwhile
            comm.send({"op": op, **fields})

    def abandon(self, address: str) -> None:
        """Give up every effect on a lost node at once: Dask would let some of them wait for half a minute."""
        super().abandon(address)
        self._ordering.pop(address, None)
        held = {key: where for key, (_, where) in self._futures.items()}
        for key, where in (held | self._unheld).items():
            if where == address:
                self.release(*key)

    def publish(self, topic: str, message: Any) -> None:
        """Log an event under one of Dask's topics."""
        self.scheduler.log_event(topic, message)

    async def retire(self, node: str, address: str) -> None:
        """End the worker of a node that carries nothing any more."""
        if self.launcher is not None:
            await self.launcher.remove(node)
        else:
            await self.scheduler.retire_workers(workers=[address], close_workers=True, remove=True)

    def last_seen(self, node: str) -> float | None:
        """Return when a node's worker sent its last heartbeat."""
        worker = self.scheduler.workers.get(self.known[node]["address"])
        return None if worker is None else float(worker.last_seen)
