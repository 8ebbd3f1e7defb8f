"""What every node does for its sandboxes, on a Dask worker or in a process of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Coroutine, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import psutil

from superlearner.cluster.between import Between
from superlearner.cluster.telemetry import NodeMeter
from superlearner.core.checkpoints import CheckpointStore
from superlearner.errors import StaleEpoch, StartFailed
from superlearner.sandbox import payload
from superlearner.sandbox.forkserver import ForkServer
from superlearner.sandbox.instance import Instance, StartRequest
from superlearner.sandbox.services import Answer, Outlet

if TYPE_CHECKING:
    from superlearner.cluster.agent import SandboxActor

#: What a client may ask of an instance itself, rather than of its host.
ABOUT_INSTANCES = frozenset({"info", "logs"})


class Node:
    """Holds the instances of one node, begins their starts, hands requests to them, and measures them.

    Those who inherit say how to `report`, and complete `superlearner.sandbox.services.NodeServices`.
    """

    #: The node's name.
    node: str
    #: Which life this is: past its lease a node stops everything and begins the next.
    incarnation = 1
    checkpoints: CheckpointStore
    fork_server: ForkServer
    #: What its sandboxes send to each other, and to those of other nodes.
    between: Between

    def prepare(self) -> None:
        """Make what belongs to one run, in the loop that it is going to live on."""
        #: By sandbox and epoch: one that is being stopped may live beside the next one.
        self.instances: dict[tuple[str, int], SandboxActor] = {}
        self._starts: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.get_running_loop()

    def report(self, kind: str, **fields: Any) -> None:
        """Tell the control plane; reports of one node arrive in order."""
        raise NotImplementedError

    def ready(self, address: str, labels: Mapping[str, str], machine: str | None = None) -> None:
        """Tell the control plane that the node can take sandboxes."""
        self.report(
            "node_ready",
            node=self.node,
            address=address,
            pid=os.getpid(),
            memory=psutil.virtual_memory().total,
            cpus=psutil.cpu_count() or 1,
            labels=labels,
            incarnation=self.incarnation,
            machine=machine,
        )

    def inventory(self) -> dict[str, Any]:
        """Return what the node holds of sandboxes: when all have been destroyed, each of these is empty."""
        return {
            "instances": sorted(f"{sandbox} (epoch {epoch})" for sandbox, epoch in self.instances),
            "starts": sorted(task.get_name() for task in self._starts),
            "tasks": sorted(t.get_name() for t in asyncio.all_tasks() if t.get_name().startswith("sandbox ")),
            "checkpoints": sorted(self.checkpoints.sandboxes()),
            "hosts": sorted(map(str, self.fork_server.hosts)),
        }

    async def end_instances(self) -> None:
        """End every sandbox of this node."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        stops = [instance.stop("the node is closing") for instance in list(self.instances.values())]
        # One that cannot be stopped must not keep the others, and the fork server, from ending.
        await asyncio.gather(*stops, return_exceptions=True)

    # -- Between sandboxes ----------------------------------------------------------------------------

    def find(self, sandbox: str, epoch: int) -> SandboxActor | None:
        """Return an instance of this node."""
        return self.instances.get((sandbox, epoch))

    def outlet(self, sandbox: str, answer: Answer, wait: Callable[[bool], None]) -> Outlet:
        """Open the way of one host to other sandboxes."""
        return self.between.outlet(sandbox, answer, wait)

    # -- Instances -----------------------------------------------------------------------------------

    def begin(self, instance: SandboxActor, request: StartRequest) -> None:
        """Start an instance and report how that went."""
        if request.incarnation != self.incarnation:
            # It was meant for a life that is over. That this one began tells the control plane enough, and by
            # now the sandbox may run elsewhere.
            return
        task = self._spawn(self._start(instance, request.cause))
        self._starts.add(task)
        task.add_done_callback(self._starts.discard)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _start(self, instance: SandboxActor, cause: str) -> None:
        who = {"sandbox": instance.spec.id, "node": self.node, "epoch": instance.epoch, "cause": cause}
        try:
            started = await instance.start()
        except Exception as error:
            self.report("instance_start_failed", **who, reason=why(error))
        else:
            self.report("instance_started", **who, **started)

    # -- Requests of clients --------------------------------------------------------------------------

    def take(
        self,
        message: tuple[Any, ...],
        answer: Answer,
        spawn: Callable[[Coroutine[Any, Any, None]], object],
    ) -> None:
        """Hand a request to its instance.

        Parameters
        ----------
        message
            ``(verb, id, sandbox, epoch, target, body, timeout)``
        answer
            Takes ``[id, status, payload]``, as `Instance.request` gives it.
        spawn
            Runs what cannot be answered at once, for as long as somebody waits for the answer.
        """
        verb, id, sandbox, epoch, target, body, timeout = message
        instance = self.instances.get((sandbox, epoch))
        if instance is None:
            for refused in refusals(message):
                answer(refused)
        elif verb == "instance" and target in ABOUT_INSTANCES:
            spawn(self._on_instance(id, answer, instance, target, body))
        else:
            instance.request([verb, id, epoch, target, body, timeout], answer)

    async def _on_instance(
        self, id: int, answer: Answer, instance: Instance, method: str, body: bytes
    ) -> None:
        """Answer a request about the instance itself."""
        try:
            args, kwargs = payload.loads(body)
            value = await getattr(instance, method)(*args, **kwargs)
        except Exception as error:
            answer([id, 1, payload.dumps_error(error)])
        else:
            answer([id, 0, payload.dumps(value, "the answer")])

    # -- Telemetry -------------------------------------------------------------------------------------

    async def sample(self, own: Iterable[int], interval: float) -> None:
        """Report a sample now and every `interval` seconds.

        `own` are processes of the node itself, beside its fork server and the hosts that stand by.
        """
        meter = NodeMeter()
        while True:
            hosts = {id: instance for (id, _), instance in self.instances.items() if instance.pid}
            server = self.fork_server
            of_node = (*own, *([server.pid] if server.pid else []), *server.spares)
            pids = {id: instance.pid or 0 for id, instance in hosts.items()}
            # The kernel adds up the pages of each process, a millisecond for each: nobody's answer shall wait for that.
            sample = await asyncio.to_thread(meter.sample, of_node, pids)
            for id, figures in sample["sandboxes"].items():
                figures |= {"responsive": hosts[id].responsive, **hosts[id].counts()}
            counts = [figures["processes"] for figures in sample["sandboxes"].values()]
            sample["processes"] = sum(count for count in counts if count is not None)
            self.report("node_sampled", node=self.node, **sample)
            await asyncio.sleep(interval)


def why(error: Exception) -> Any:
    """Return the reason of a start that failed, in the sandbox's own words where it has given any."""
    return error.reason if isinstance(error, StartFailed) else f"{type(error).__name__}: {error}"


def refusals(message: tuple[Any, ...]) -> list[list[Any]]:
    """Return the answers to what is not for this node, or not any more: it has not been handled."""
    verb, id, sandbox, epoch, *_ = message
    why = ["stale_epoch", True, str(StaleEpoch(sandbox, epoch))]
    return [[one, 2, why] for one in (id if verb == "calls" else (id,))]
