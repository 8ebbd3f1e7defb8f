"""What the control machine has decided, carried out: one method for each effect, whose outcome is the next event."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections.abc import Coroutine, Iterable
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from superlearner import config
from superlearner.cluster.agent import PEER_TIMEOUT
from superlearner.cluster.commands import InstanceGone, NodeDoor
from superlearner.cluster.node import why
from superlearner.cluster.reports import version
from superlearner.cluster.state_dir import StateDirectory
from superlearner.core import control as c
from superlearner.core.checkpoints import CheckpointVersion
from superlearner.core.history import Event
from superlearner.core.spec import SandboxSpec
from superlearner.errors import SuperlearnerError
from superlearner.sandbox.instance import StartRequest

logger = logging.getLogger(__name__)
#: Seconds until a node whose connection broke is asked again.
AGAIN = 0.2


class Effects:
    """The effects of a control machine; `superlearner.cluster.pump.Pump` says which of them follow an event."""

    #: Commands to the nodes.
    nodes: NodeDoor
    #: Whether a creation is refused that cannot be written to the directory: somebody has asked for one.
    must_keep = False

    def __init__(self, directory: StateDirectory | None = None) -> None:
        #: Where sandboxes are kept beyond the end of this process.
        self._directory = directory

    def begin(self, policy: c.ControlPolicy) -> None:
        """Make what belongs to one run; in the loop that it is going to live on."""
        self._clock = time.time() - time.monotonic()
        self.state = c.ControlState(policy)
        self._causes = itertools.count(1)
        self._waiting: dict[str, asyncio.Future[Any]] = {}
        #: Each effect under way, with the address of the node that it waits for.
        self._tasks: dict[asyncio.Task[None], str | None] = {}
        #: The last order to a sandbox about its rest, and the last one about its peers.
        self._orders: dict[tuple[str, str], c.InstanceInstruction] = {}
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._loop = asyncio.get_running_loop()

    def handle(self, event: c.ControlEvent) -> None:
        """Give one event to the machine and carry out what it says, in order."""
        raise NotImplementedError

    def record(self, event: Event) -> None:
        """Append an event to the log and the journal, and publish it."""
        raise NotImplementedError

    def now(self) -> float:
        """Return Unix time in seconds, by a clock that never jumps: leases are reckoned with it."""
        return self._clock + time.monotonic()

    def new_cause(self, what: str) -> str:
        """Return a fresh id for a request or a report."""
        return f"{what}-{next(self._causes)}"

    async def make(self, i: c.StartInstance, request: StartRequest) -> None:
        """Make the instance, which starts by itself and reports how that went."""
        raise NotImplementedError

    def release(self, sandbox: str, epoch: int) -> None:
        """Forget an instance of which nothing is left."""

    def abandon(self, address: str) -> None:
        """Give up every effect on a lost node at once."""
        self.nodes.abandon(address)
        for task, waits_for in list(self._tasks.items()):
            if waits_for == address:
                task.cancel()

    # -- One by one ----------------------------------------------------------------------------------

    def _spawn(self, effect: Coroutine[Any, Any, None], address: str | None = None) -> asyncio.Task[None]:
        task = asyncio.create_task(effect)
        self._tasks[task] = address
        task.add_done_callback(self._on_done)
        return task

    def _on_done(self, task: asyncio.Task[None]) -> None:
        del self._tasks[task]
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("superlearner: an effect of the control plane failed", exc_info=error)

    async def _start(self, i: c.StartInstance) -> None:
        if i.seed is not None and (refused := await self._sow(i, i.seed)):
            self._start_failed(i.spec.id, i.node, i.epoch, refused, i.cause)
            return
        if self._directory is not None:
            try:
                self._directory.remember(c.KeptSandbox(self._asked(i.spec), i.epoch))
            except OSError as error:
                reason = self._why_not_kept(error)
                if self.must_keep and self.state.sandboxes[i.spec.id].status == "starting":
                    self._start_failed(i.spec.id, i.node, i.epoch, reason, i.cause)
                    return
                # It runs all the same: a full disk must not keep anything from being started again.
                self._not_kept(i.spec.id, reason)
        spec = i.spec
        request = StartRequest(
            spec,
            i.node,
            i.epoch,
            i.peers,
            i.sources,
            i.first_serial,
            i.cause,
            i.on_trial,
            i.incarnation,
            i.above,
            i.expects,
        )
        await self.make(i, request)

    def bring_back(self, sandboxes: Iterable[c.KeptSandbox], groups: Iterable[c.KeptGroup] = ()) -> None:
        """Go on with the sandboxes and groups of an earlier run; whoever asks for one waits until it runs."""
        cause = self.new_cause("remembered")
        self.handle(c.RunRemembered(tuple(sandboxes), tuple(groups), cause=cause, at=self.now()))

    def not_restored(self, sandbox: str, why: str) -> None:
        """Tell that a sandbox of an earlier run is not started again."""
        self.record(Event("sandbox_not_restored", at=self.now(), sandbox=sandbox, reason=why))

    def tell_unreadable(self, directory: StateDirectory) -> None:
        """Tell what of an earlier run cannot be brought back."""
        for sandbox, reason in directory.unreadable:
            self.not_restored(sandbox, reason)
        for group, reason in directory.unreadable_groups:
            self.record(Event("group_not_restored", at=self.now(), reason=reason, detail={"group": group}))

    def _keep_version(self, event: c.ApplicationReplaced) -> None:
        """Keep a new version of an application for later runs."""
        record = self.state.sandboxes.get(event.sandbox)
        if record is None or record.spec.application != event.application:
            return
        self._keep(c.KeptSandbox(record.spec, record.epoch))

    def _asked(self, spec: SandboxSpec) -> SandboxSpec:
        """Return a sandbox's spec as it was asked for: an instance's may differ."""
        record = self.state.sandboxes.get(spec.id)
        return spec if record is None else record.spec

    def _keep(self, kept: c.KeptSandbox) -> None:
        if self._directory is not None:
            try:
                self._directory.remember(kept)
            except OSError as error:
                self._not_kept(kept.spec.id, self._why_not_kept(error))

    def _keep_group(self, kept: c.KeptGroup) -> None:
        if self._directory is not None:
            try:
                self._directory.remember_group(kept)
            except OSError as error:
                detail = {"group": kept.spec.id}
                reason = self._why_not_kept(error)
                self.record(Event("group_not_kept", at=self.now(), reason=reason, detail=detail))

    def _forget_group(self, group: str) -> None:
        if self._directory is not None:
            self._directory.forget_group(group)

    def _why_not_kept(self, error: OSError) -> str:
        assert self._directory is not None
        return f"it could not be written to {self._directory.path}: {error}"

    def _not_kept(self, sandbox: str, reason: str) -> None:
        self.record(Event("sandbox_not_kept", at=self.now(), sandbox=sandbox, reason=reason))

    async def _sow(self, i: c.StartInstance, seed: CheckpointVersion) -> str | None:
        """Store a checkpoint from elsewhere on the node and its peers; return why the node has not got it."""
        plain, keep = asdict(seed), i.spec.checkpoint.keep

        async def store(address: str) -> str | None:
            try:
                async with asyncio.timeout(PEER_TIMEOUT):
                    refused: str | None = await self.nodes.ask(address, "store", plain, keep)
            except (OSError, TimeoutError) as error:
                return f"its checkpoint could not be stored there ({type(error).__name__}: {error})"
            return refused

        places = [(i.node, i.address), *i.peers]
        refusals = await asyncio.gather(*(store(address) for _, address in places))
        holders = tuple(node for (node, _), no in zip(places, refusals, strict=True) if no is None)
        if refusals[0] is None:
            fields = (seed.sandbox, seed.epoch, seed.seq, seed.size, holders)
            self.handle(c.CheckpointStored(*fields, cause=i.cause, at=seed.at))
        return refusals[0]

    def _start_failed(self, sandbox: str, node: str, epoch: int, reason: Any, cause: str) -> None:
        self.release(sandbox, epoch)
        self.handle(c.InstanceStartFailed(sandbox, node, epoch, reason, cause=cause, at=self.now()))

    async def _stop(self, i: c.StopInstance) -> None:
        buffered = 0
        with suppress(InstanceGone, SuperlearnerError):  # one that is not there any more is stopped
            buffered = (await self._insist(i, "stop", i.reason))["turned_away"]
        self.release(i.sandbox, i.epoch)
        self.handle(c.InstanceStopped(i.sandbox, i.epoch, buffered, cause=i.cause, at=self.now()))

    async def _restart(self, i: c.RestartInstance) -> None:
        try:
            info = await self._insist(i, "restart", i.reason)
        except Exception as error:
            reason = why(error)
            self.handle(
                c.InstanceStartFailed(i.sandbox, i.node, i.epoch, reason, cause=i.cause, at=self.now())
            )
            return
        restored = version(info["restored"])
        self.handle(
            c.InstanceRestarted(
                i.sandbox, i.epoch, info["pid"], i.reason, restored, cause=i.cause, at=self.now()
            )
        )

    async def _quiesce(self, i: c.QuiesceInstance) -> None:
        self._orders[i.topic] = i
        target, _ = i.target
        try:
            async with asyncio.timeout(config.get("move-timeout")):
                # Not asked again: by then the move may be over, and nobody would resume it.
                info = await self.on_instance(i.address, i.sandbox, i.epoch, "quiesce", target)
        except Exception as error:
            self.handle(
                c.QuiesceFailed(
                    i.sandbox, i.epoch, str(error) or type(error).__name__, cause=i.cause, at=self.now()
                )
            )
            return
        self.handle(c.Quiesced(i.sandbox, i.epoch, info["seq"], info["size"], cause=i.cause, at=self.now()))

    async def _expect(self, address: str) -> None:
        """Have a node get ready for a sandbox that comes to rest elsewhere meanwhile."""
        with suppress(OSError):  # a node that is gone gets none
            await self.nodes.ask(address, "expect")

    async def _tell(self, i: c.ResumeInstance | c.SetPeers, method: str, *args: Any) -> None:
        self._orders[i.topic] = i
        with suppress(
            OSError, InstanceGone, SuperlearnerError
        ):  # gone meanwhile: its loss is an event of its own
            await self._insist(i, method, *args)

    async def _insist(self, i: c.InstanceInstruction, method: str, *args: Any) -> Any:
        """Have an instance do what must be done; a broken connection leaves open whether it was.

        So it is asked again, until it answers, a later order is given that this one would undo, or its node is
        lost, which cancels this. Each method may be carried out twice.
        """
        while True:
            try:
                return await self.on_instance(i.address, i.sandbox, i.epoch, method, *args)
            except OSError:
                await asyncio.sleep(AGAIN)
                if self._orders.get(i.topic, i) is not i:
                    raise

    async def _drop(self, i: c.DropCheckpoints) -> None:
        for topic in ("move", "peers"):
            self._orders.pop((i.sandbox, topic), None)

        async def drop(address: str) -> None:
            with suppress(OSError):  # a node that is gone has taken its copies along
                await self.nodes.ask(address, "drop", i.sandbox, i.epoch)

        await asyncio.gather(*map(drop, i.addresses))
        if self._directory is not None:
            self._directory.forget(i.sandbox, i.epoch)

    async def _settle(
        self,
        cause: str,
        before: list[asyncio.Task[None]],
        *,
        value: Any = None,
        error: Exception | None = None,
    ) -> None:
        """Answer or refuse a request, after the effects that came before it."""
        await asyncio.gather(*before, return_exceptions=True)
        future = self._waiting.get(cause)
        if future is None or future.done():
            return  # whoever asked has gone away
        if error is None:
            future.set_result(value)
        else:
            future.set_exception(error)

    def _set_timer(self, token: str, delay: float) -> None:
        def fire() -> None:
            del self._timers[token]
            self.handle(c.TimerFired(token, cause=self.new_cause("timer"), at=self.now()))

        if token in self._timers:
            self._timers[token].cancel()
        self._timers[token] = self._loop.call_later(delay, fire)

    async def on_instance(self, address: str, sandbox: str, epoch: int, method: str, *args: Any) -> Any:
        """Run a method of an instance on its worker, and return its result or raise its error."""
        return await self.nodes.ask(address, "instance", sandbox, epoch, method, *args)
