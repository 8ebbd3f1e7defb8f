"""The simulated control plane: the real machine, `core.control`, with effects as in `cluster.pump`, simulated."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from superlearner.core import control as c
from superlearner.errors import InvalidTransition, NoSandbox, SandboxFailed, StartFailed
from superlearner.testing.channels import Pool
from superlearner.testing.checks import CONSISTENT, Violation
from superlearner.testing.engine import EXPECTED, Process, Promise, Task, Timer
from superlearner.testing.network import End

if TYPE_CHECKING:
    from superlearner.testing.cluster import SimulatedCluster

#: Seconds that an instance may take to come to rest, and until a lookup gives what the client has found useless.
MOVE_TIMEOUT = 30.0
STALE_FOR = 0.25
#: Seconds until a node is asked again whose connection broke.
AGAIN = 0.2
#: Up to twice as many nodes and sandboxes the whole registry is looked through after each event; of more, after
#: so many times fewer events than there are of them, so that it costs the same for each event.
BESIDE = 10


class SimulatedPlane:
    """The scheduler's process."""

    def __init__(self, cluster: SimulatedCluster) -> None:
        self.cluster = cluster
        self.process = Process(cluster.engine, "scheduler", cluster.clock("scheduler"))
        self.state = cluster.parts.machine(
            c.ControlPolicy(
                lease=cluster.parts.patience(cluster.schedule.lease), partition="quorum", story=300
            )
        )
        #: Called with each event and what the machine made of it.
        self.watch: Callable[[c.ControlEvent, list[c.Instruction]], object] = cluster.checks.handled
        self.streams: dict[str, End] = {}
        #: Requests under way -> who waits.
        self.waiting: dict[str, Promise] = {}
        self._causes = 0
        #: Events since the registry was looked through.
        self._handled = 0
        self._timers: dict[str, Timer] = {}
        self._effects: dict[Task, str] = {}
        #: The last order to a sandbox about its rest, and the last one about its peers.
        self._orders: dict[tuple[str, str], c.InstanceInstruction] = {}
        self._changed = Promise()
        self._commands = Pool(cluster.network, self.process, "commands")
        cluster.network.listen("scheduler:1", self.process, self._accept)

    @property
    def timers(self) -> list[str]:
        """The tokens of the timers that are set."""
        return list(self._timers)

    # -- What is told --

    def _accept(self, kind: str, end: End) -> None:
        if kind == "stream":
            end.on_message = lambda report: self._on_report(end, *report)
        else:
            end.on_message = lambda message: self.process.spawn(self._serve(end, *message))

    def _cause(self, what: str) -> dict[str, Any]:
        self._causes += 1
        return {"cause": f"{what}-{self._causes}", "at": self.process.time()}

    def _on_report(self, end: End, kind: str, fields: dict[str, Any]) -> None:
        if kind == "settle":
            end.send(("settled", fields["number"]))
            return
        # A report of a start carries the cause of the start.
        told = {**self._cause(kind), **fields}
        if kind == "node_ready":
            address = fields["address"]
            self.streams[address] = end
            end.on_close = lambda: self.streams.pop(address, None) and None
        self.handle(_REPORTS[kind](**told))

    def node_ended(self, name: str, address: str) -> None:
        """The kernel tells that a worker process of this machine has ended."""
        node = self.state.nodes.get(name)
        if node is not None and node.address == address:
            self.handle(c.NodeLost(name, address, "its process has ended", **self._cause("node-lost")))

    # -- Requests --

    async def _serve(self, end: End, number: int, verb: str, *words: Any) -> None:
        try:
            value = await (self._lookup(*words) if verb == "lookup" else self._ask(verb, *words))
            end.send((number, True, value))
        except EXPECTED as error:
            end.send((number, False, error))

    async def _ask(self, verb: str, *words: Any) -> Any:
        event = _REQUESTS[verb](*words, **self._cause(verb))
        promise = self.waiting[event.cause] = Promise()
        self.handle(event)
        return await promise

    async def _lookup(self, sandbox: str, stale: tuple[str, int] | None, patience: float) -> tuple[str, int]:
        began = self.process.time()
        while True:
            record, waited = self.state.sandboxes.get(sandbox), self.process.time() - began
            if record is None:
                raise NoSandbox(sandbox)
            if record.status in ("failed", "stopped"):
                raise SandboxFailed(sandbox, record.reason)
            here = (str(record.address), record.epoch)
            if record.status == "running" and (here != stale or waited >= STALE_FOR):
                return here
            refusal = self.state.no_quorum
            if waited >= patience and refusal is not None:
                raise refusal
            limit = STALE_FOR if record.status == "running" else patience
            first = Promise()
            self._changed.then(first.resolve)
            timer = self.process.call_later(max(0.01, limit - waited), first.resolve)
            await first
            timer.cancel()

    # -- The pump --

    def handle(self, event: c.ControlEvent) -> None:
        """Give one event to the machine and carry out what it says, in order."""
        try:
            out = self.state.handle(event)
        except InvalidTransition as bug:
            raise Violation(CONSISTENT, str(bug)) from bug
        self.watch(event, out)
        self._handled += 1
        if self._handled >= (len(self.state.nodes) + len(self.state.sandboxes)) // BESIDE:
            self.look_through()
        before: list[Task] = []
        for instruction in out:
            self._carry_out(instruction, before)
        changed, self._changed = self._changed, Promise()
        changed.resolve()

    def look_through(self) -> None:
        """Check the whole registry."""
        self._handled = 0
        try:
            self.state.validate()
        except InvalidTransition as bug:
            raise Violation(CONSISTENT, str(bug)) from bug
        self.cluster.checks.look_at_registry()

    def _carry_out(self, instruction: c.Instruction, before: list[Task]) -> None:
        match instruction:
            case c.StartInstance():
                self._tell_node(instruction.address, "start", instruction)
            case c.StopInstance():
                self._spawn(self._stop(instruction), instruction.address)
            case c.RestartInstance():
                self._spawn(self._restart(instruction), instruction.address)
            case c.QuiesceInstance():
                self._spawn(self._quiesce(instruction), instruction.address)
            case c.ResumeInstance():
                before.append(self._spawn(self._tell(instruction, "resume"), instruction.address))
            case c.SetPeers():
                tell = self._tell(instruction, "set_peers", instruction.peers)
                before.append(self._spawn(tell, instruction.address))
            case c.DropCheckpoints():
                before += [self._spawn(self._drop(at, instruction), at) for at in instruction.addresses]
            case c.GrantLease():
                self._tell_node(instruction.address, "granted", instruction.number)
            case c.Rejoin():
                self._tell_node(instruction.address, "rejoin", instruction.incarnation)
            case c.GiveUpNode():
                self._give_up(instruction.address)
            case c.SetTimer(token, delay):
                self._timers[token] = self.process.call_later(delay, self._fire, token)
            case c.Answer(cause, value):
                self.process.spawn(self._settle(cause, before, value=value))
            case c.Refuse(cause, error):
                self.process.spawn(self._settle(cause, before, error=error))

    def _fire(self, token: str) -> None:
        del self._timers[token]
        self.handle(c.TimerFired(token, **self._cause("timer")))

    def _tell_node(self, address: str, *order: Any) -> None:
        stream = self.streams.get(address)
        if stream is not None:  # else it has gone meanwhile
            stream.send(order)

    def _give_up(self, address: str) -> None:
        self._commands.abandon(address)
        for task, waits_for in list(self._effects.items()):
            if waits_for == address:
                task.cancel()
        for node in self.state.nodes.values():
            self._tell_node(node.address, "gone", address)

    async def _settle(
        self, cause: str, before: list[Task], value: Any = None, error: Exception | None = None
    ) -> None:
        for task in before:
            try:
                await task
            except EXPECTED:
                continue
        promise = self.waiting.pop(cause, None)
        if promise is not None and error is None:
            promise.resolve(value)
        elif promise is not None and error is not None:
            promise.fail(error)

    # -- Effects --

    def _spawn(self, effect: Coroutine[Promise, None, None], address: str) -> Task:
        task = self.process.spawn(effect)
        if not task.done:
            self._effects[task] = address
            task.then(lambda: self._effects.pop(task, None))
        return task

    async def _insist(self, i: c.InstanceInstruction, *words: Any) -> Any:
        """Ask until the instance answers, a later order counts, or its node is lost, which cancels this."""
        while True:
            try:
                return await self._commands.ask(i.address, "instance", i.sandbox, i.epoch, *words)
            except OSError:
                await self.process.sleep(AGAIN)
                if self._orders.get(i.topic, i) is not i:
                    raise

    async def _stop(self, i: c.StopInstance) -> None:
        with suppress(LookupError):  # one that is not there any more is stopped
            await self._insist(i, "stop")
        self.handle(c.InstanceStopped(i.sandbox, i.epoch, cause=i.cause, at=self.process.time()))

    async def _restart(self, i: c.RestartInstance) -> None:
        try:
            restored = await self._insist(i, "restart")
        except EXPECTED as error:
            reason = error.reason if isinstance(error, StartFailed) else type(error).__name__
            failed = c.InstanceStartFailed(
                i.sandbox, i.node, i.epoch, reason, cause=i.cause, at=self.process.time()
            )
            self.handle(failed)
            return
        self.handle(
            c.InstanceRestarted(
                i.sandbox, i.epoch, None, i.reason, restored, cause=i.cause, at=self.process.time()
            )
        )

    async def _quiesce(self, i: c.QuiesceInstance) -> None:
        self._orders[i.topic] = i
        work = self._commands.ask(i.address, "instance", i.sandbox, i.epoch, "quiesce")
        asked = self.process.spawn(work)
        try:
            seq, size = await self.process.within(MOVE_TIMEOUT, asked)
        except EXPECTED as error:
            failed = c.QuiesceFailed(
                i.sandbox, i.epoch, type(error).__name__, cause=i.cause, at=self.process.time()
            )
            self.handle(failed)
            return
        self.handle(c.Quiesced(i.sandbox, i.epoch, seq, size, cause=i.cause, at=self.process.time()))

    async def _tell(self, i: c.ResumeInstance | c.SetPeers, *words: Any) -> None:
        self._orders[i.topic] = i
        with suppress(*EXPECTED):  # gone meanwhile: its loss is an event of its own
            await self._insist(i, *words)

    async def _drop(self, address: str, i: c.DropCheckpoints) -> None:
        try:
            await self._commands.ask(address, "drop", i.sandbox, i.epoch)
        except EXPECTED:
            return  # a node that is gone has taken its copies along


_REPORTS: dict[str, Any] = {
    "node_ready": c.NodeJoined,
    "node_heard": c.NodeHeard,
    "instance_started": c.InstanceStarted,
    "instance_start_failed": c.InstanceStartFailed,
    "instance_restarted": c.InstanceRestarted,
    "instance_exited": c.InstanceExited,
    "checkpoint_stored": c.CheckpointStored,
}
_REQUESTS: dict[str, Any] = {
    "create": c.CreateRequested,
    "destroy": c.DestroyRequested,
    "restart": c.RestartRequested,
    "move": c.MoveRequested,
}
