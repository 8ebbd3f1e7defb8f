"""One incarnation of a sandbox on one node: it forks the host, keeps it alive, and passes requests to it.

An `Instance` lives on the worker's event loop and knows nothing of Dask: what it needs of its node is the
`NodeServices` protocol. It treats requests, replies, applications and states as opaque bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import time
from collections import deque
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from superlearner.core.checkpoints import CheckpointStore, CheckpointVersion
from superlearner.core.history import Event
from superlearner.core.restart import Backoff, Intensity, should_restart
from superlearner.core.spec import SandboxSpec
from superlearner.errors import CheckpointFailed, StaleEpoch, StartFailed
from superlearner.sandbox.forkserver import ForkServer
from superlearner.sandbox.frames import FrameError
from superlearner.sandbox.link import Link, Saved

logger = logging.getLogger(__name__)

#: ``(node, address)``.
Peer = tuple[str, str]


@dataclass(frozen=True, slots=True)
class StartRequest:
    """Everything that is needed to start one instance.

    Parameters
    ----------
    spec
        The sandbox as it was asked for.
    node
        The name of the node it starts on.
    epoch
        Its epoch, above that of every earlier instance of the sandbox.
    peers
        The nodes that shall hold copies of its checkpoints.
    sources
        The nodes that hold checkpoints already, its own first.
    first_serial
        The first serial of the pids of this epoch.
    """

    spec: SandboxSpec
    node: str
    epoch: int
    peers: tuple[Peer, ...] = ()
    sources: tuple[Peer, ...] = ()
    first_serial: int = 1


class NodeServices(Protocol):
    """What an instance needs of its node; the node agent implements it."""

    #: The node's name.
    node: str
    #: The node's warm fork server.
    fork_server: ForkServer
    #: The node's own store.
    checkpoints: CheckpointStore

    def report(self, kind: str, **fields: Any) -> None:
        """Tell the control plane, at once and in order; every report carries ``sandbox`` and ``epoch``."""

    async def replicate(self, version: CheckpointVersion, peers: Sequence[Peer]) -> list[str]:
        """Store a checkpoint on the peers; return the names of the nodes that have it."""

    async def fetch(self, sandbox: str, sources: Sequence[Peer]) -> list[CheckpointVersion]:
        """Return the checkpoints of the own store and the sources, newest first."""


#: Takes ``[call_id, status, payload]``, exactly once for each call or command.
Answer = Callable[[list[Any]], None]
#: The services of the nodes of this OS process, by node name: where an `Instance` made without any looks.
NODES: dict[str, NodeServices] = {}
#: Seconds that a quiescing instance waits for the requests in flight.
QUIESCE_TIMEOUT = 5.0
#: Seconds that a host has to make a checkpoint that was asked for.
SAVE_TIMEOUT = 10.0
#: Requests that may wait, or be in flight, before more are refused.
MOST_REQUESTS = 200_000
#: Bytes that may wait for a host that does not read before more requests are refused.
MOST_BYTES = 256 * 2**20


class Instance:
    """One incarnation of a sandbox; see the module. Making one does nothing: `start` does.

    Parameters
    ----------
    request
        What to start.
    services
        The node's services; None looks them up in `NODES` by the request's node.
    """

    def __init__(self, request: StartRequest, services: NodeServices | None = None) -> None:
        self.spec = request.spec
        self.node = request.node
        self.epoch = request.epoch
        #: ``starting running restarting migrating stopping stopped failed``.
        self.status = "starting"
        self._request = request
        self._given = services
        self._link: Link | None = None
        self._numbers = itertools.count(1)
        self._inflight: dict[int, tuple[Any, Answer, Any]] = {}
        self._idle: asyncio.Event | None = None
        self._waiting: deque[_Waiting] = deque()
        self._serial = request.first_serial
        self._peers = request.peers
        self._seq = 0
        self._stored: dict[str, Any] | None = None
        self._storing = asyncio.Lock()
        self._pending: CheckpointVersion | None = None
        self._tasks: set[asyncio.Task[Any]] = set()
        self._recovery: asyncio.Task[None] | None = None
        self._budget = Intensity(request.spec.max_restarts, request.spec.max_seconds)
        self._restarts = 0
        self._reason: Any = None
        self._last_look = (0.0, 0.0)

    @property
    def _services(self) -> NodeServices:
        return NODES[self.node] if self._given is None else self._given

    # -- Life

    async def start(self) -> dict[str, Any]:
        """Fork the host and restore it from the newest checkpoint that works.

        Returns
        -------
        dict
            ``pid`` of the host, and ``restored``: ``[epoch, seq]`` of the checkpoint, or None.

        Raises
        ------
        StartFailed
            When the application does not start without a checkpoint either; nothing is left behind.
        """
        versions = await self._services.fetch(self.spec.id, self._request.sources)
        self._seq = max((v.seq for v in versions if v.epoch == self.epoch), default=0)
        try:
            started = await self._launch(versions)
        except StartFailed as error:
            self._close(error.reason)
            raise
        self._open()
        return started

    async def stop(self, reason: str = "shutdown") -> dict[str, Any]:
        """Stop in an orderly way, by force after the spec's ``shutdown`` seconds; idempotent.

        When this returns no process, file or descriptor of the sandbox is left on the node.

        Returns
        -------
        dict
            ``reason`` with which the host ended.
        """
        if self.status not in ("stopped", "failed"):
            self.status = "stopping"
            if self._recovery is not None:
                self._recovery.cancel()
            link = self._link
            ended = None if link is None else await link.stop(reason, self.spec.shutdown)
            self._close(ended if ended is not None else reason)
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        return {"reason": self._reason}

    async def restart(self, reason: str = "restart") -> dict[str, Any]:
        """Stop the host and start it again from its newest checkpoint, taken first if it still answers.

        Raises
        ------
        StartFailed
            When it did not start again; the instance has been closed.
        """
        link = self._link
        if link is not None and not link.ended.done() and link.responsive:
            with contextlib.suppress(CheckpointFailed):
                # A host that cannot save any more is the very one to restart.
                await self.checkpoint()
        if self._recovery is not None:
            self._recovery.cancel()
        self.status = "restarting"
        if link is not None:
            await link.stop(reason, self.spec.shutdown)
            self._fail_inflight(reason)
        try:
            started = await self._launch(await self._versions())
        except StartFailed as error:
            self._exited(error.reason, gave_up=True)
            raise
        self._restarted(reason, started)
        return started

    # -- Requests

    def request(self, frame: list[Any], answer: Answer) -> None:
        """Pass a client's request to the host; its answer comes through `answer`, once for each call or command.

        Parameters
        ----------
        frame
            ``[verb, call_id, epoch, target, payload, timeout]``, where verb is ``call``, ``cast``, ``send`` or
            ``command``. A cast or send is never answered, unless it is refused and has a call_id.
        answer
            Takes ``[call_id, status, payload]``: 0 and the value, 1 and the exception, or 2 and a refusal
            ``[code, definite, message, *fields]``.
        """
        if self.status == "running" and frame[2] == self.epoch:
            self._pass(frame, answer)
        elif frame[2] != self.epoch or self.status not in ("starting", "restarting"):
            word = "moving" if self.status == "migrating" else self.status
            self._refuse(frame, answer, ["stale_epoch", True, word, self.spec.id, frame[2], self.epoch])
        elif len(self._waiting) >= MOST_REQUESTS:
            self._refuse(frame, answer, _OVERLOADED)
        else:
            self._waiting.append(_Waiting(frame, answer, self._expire))

    def _pass(self, frame: list[Any], answer: Answer) -> None:
        verb, call_id, _, target, payload, timeout = frame
        link = self._link
        assert link is not None
        if link.queued > MOST_BYTES or len(self._inflight) >= MOST_REQUESTS:
            self._refuse(frame, answer, _OVERLOADED)
            return
        number = 0
        if verb in ("call", "command"):
            number = next(self._numbers)
            self._inflight[number] = (call_id, answer, target)
        try:
            link.write([verb, number, target, payload, timeout])
        except FrameError as error:
            self._inflight.pop(number, None)
            self._refuse(frame, answer, ["not_serializable", True, "the request", str(error)])

    def on_reply(self, number: int, status: int, payload: bytes) -> None:
        """Take an answer of the host."""
        found = self._inflight.pop(number, None)
        if found is None:
            return
        call_id, answer, _ = found
        if self._idle is not None and not self._inflight:
            self._idle.set()
        try:
            answer([call_id, status, payload])
        except Exception:
            # One client's broken connection must not cost the others their host.
            logger.exception("An answer of sandbox %r could not be delivered.", self.spec.id)

    def _refuse(self, frame: list[Any], answer: Answer, why: list[Any]) -> None:
        if frame[0] in ("call", "command") or frame[1] is not None:
            answer([frame[1], 2, why])

    def _expire(self, entry: _Waiting) -> None:
        self._waiting.remove(entry)
        # It never left the node, so it certainly did not happen.
        self._refuse(entry.frame, entry.answer, ["call_timeout", True, entry.frame[3], entry.frame[5]])

    def _fail_inflight(self, reason: Any) -> None:
        inflight, self._inflight = self._inflight, {}
        for call_id, answer, target in inflight.values():
            answer([call_id, 2, ["process_died", False, reason, target]])
        if self._idle is not None:
            self._idle.set()

    def _open(self) -> None:
        """Let the requests that have waited go to the host, in order, and those that come after them."""
        self.status = "running"
        waiting, self._waiting = self._waiting, deque()
        for entry in waiting:
            self._pass(entry.release(), entry.answer)

    # -- Hosts

    async def _launch(self, versions: Sequence[CheckpointVersion]) -> dict[str, Any]:
        """Start a host from the newest version that works, at last from none."""
        candidates: list[CheckpointVersion | None] = [*versions, None]
        for version in candidates:
            if version is not None and not version.good:
                self._refused(version, "its checksum is wrong")
                continue
            try:
                link = await self._try(version, first=not versions)
            except StartFailed as error:
                if version is None or self.status == "stopping":
                    raise
                self._refused(version, error.reason)
                continue
            link.ended.add_done_callback(functools.partial(self._on_ended, link))
            return {"pid": link.pid, "restored": None if version is None else [version.epoch, version.seq]}
        raise AssertionError("the last candidate starts or raises")

    async def _try(self, version: CheckpointVersion | None, *, first: bool) -> Link:
        if self.status == "stopping":
            raise StartFailed("it was stopped meanwhile", self.spec.id)
        policy = self.spec.checkpoint
        config = {
            "sandbox": self.spec.id,
            "node": self.node,
            "epoch": self.epoch,
            "application": self.spec.application,
            "restore": None if version is None else version.payload,
            "first_serial": max(self._serial, 0 if version is None else version.next_serial),
            "every": policy.every,
            "messages": policy.messages,
            # What is restored, or started past a bad checkpoint, is worth a checkpoint of its own at once.
            "dirty": not first,
        }
        link = self._link = await Link.open(self.spec, self._services.fork_server, self, config, {})
        await link.started(self.spec.start_timeout)
        return link

    def _refused(self, version: CheckpointVersion, reason: Any) -> None:
        detail = {"seq": version.seq, "checkpoint_epoch": version.epoch}
        self._event("checkpoint_refused", reason=reason, detail=detail)

    def _on_ended(self, link: Link, ended: asyncio.Task[Any]) -> None:
        if link is not self._link or ended.cancelled() or self.status not in ("running", "migrating"):
            # Whoever ended it on purpose looks after the rest.
            return
        self.status = "restarting"
        self._fail_inflight(ended.result())
        self._recovery = self._spawn(self._recover(link, ended.result()))

    async def _recover(self, link: Link, reason: Any) -> None:
        """Start the host again while the intensity allows, else tell the control plane."""
        await link.kill()
        loop = asyncio.get_running_loop()
        while True:
            if not should_restart(self.spec.restart, reason):
                self._exited(reason, gave_up=False)
                return
            self._budget, allowed = self._budget.spend(loop.time())
            if not allowed:
                self._exited(reason, gave_up=True)
                return
            await asyncio.sleep(Backoff().wait(len(self._budget.restarts)))
            try:
                started = await self._launch(await self._versions())
            except StartFailed as error:
                reason = error.reason
            else:
                self._restarted(reason, started)
                return

    async def _versions(self) -> Sequence[CheckpointVersion]:
        own = self._services.checkpoints.newest(self.spec.id)
        return own or await self._services.fetch(self.spec.id, self._peers)

    def _restarted(self, reason: Any, started: dict[str, Any]) -> None:
        self._restarts += 1
        self._report("instance_restarted", reason=reason, restarts=self._restarts, **started)
        self._open()

    def _exited(self, reason: Any, *, gave_up: bool) -> None:
        self._close(reason)
        self.status = "failed" if gave_up else "stopped"
        self._report("instance_exited", reason=reason, gave_up=gave_up)

    def _close(self, reason: Any) -> None:
        self.status = "stopped"
        self._reason = reason
        self._fail_inflight(reason)
        waiting, self._waiting = self._waiting, deque()
        for entry in waiting:
            frame = entry.release()
            why = ["stale_epoch", True, "stopped", self.spec.id, frame[2], self.epoch]
            self._refuse(frame, entry.answer, why)

    # -- Checkpoints and moves

    async def checkpoint(self) -> dict[str, Any]:
        """Take a checkpoint now, and store it on the node and its peers.

        Returns
        -------
        dict
            ``epoch``, ``seq``, ``size`` in bytes and the ``nodes`` that have it.

        Raises
        ------
        CheckpointFailed
            When the host cannot make one, or the node refuses it.
        """
        link = self._link
        if link is None or link.ended.done():
            raise CheckpointFailed(self.spec.id, f"the sandbox is {self.status}")
        try:
            version = self._keep(await link.save(SAVE_TIMEOUT))
        except CheckpointFailed as error:
            raise CheckpointFailed(self.spec.id, error.reason) from None
        except StaleEpoch as error:
            raise CheckpointFailed(self.spec.id, str(error)) from error
        return await self._copy(version)

    def on_checkpoint(self, saved: Saved) -> None:
        """Take a checkpoint that the host made by its policy."""
        try:
            version = self._keep(saved)
        except (StaleEpoch, CheckpointFailed) as error:
            self.on_not_saved(str(error))
            return
        if self._pending is None:
            self._spawn(self._copy_pending())
        self._pending = version

    def on_not_saved(self, reason: str) -> None:
        """Tell that a checkpoint by the host's policy failed; the one before it still counts."""
        self._event("checkpoint_failed", reason=reason)

    def _keep(self, saved: Saved) -> CheckpointVersion:
        self._seq += 1
        version = CheckpointVersion.of(
            self.spec.id,
            self.epoch,
            self._seq,
            saved.payload,
            at=time.time(),
            next_serial=saved.next_serial,
        )
        self._services.checkpoints.put(version, self.spec.checkpoint.keep)
        if saved.skipped:
            self._event("checkpoint_incomplete", detail={"skipped": dict(saved.skipped)})
        return version

    async def _copy_pending(self) -> None:
        # While one version is on its way newer ones replace each other: only the newest is worth sending.
        async with self._storing:
            version, self._pending = self._pending, None
        if version is not None:
            await self._copy(version)

    async def _copy(self, version: CheckpointVersion) -> dict[str, Any]:
        async with self._storing:
            nodes = [self.node]
            if self._peers:
                nodes += await self._services.replicate(version, self._peers)
        stored = {"epoch": version.epoch, "seq": version.seq, "size": version.size, "nodes": nodes}
        if self._stored is None or self._stored["seq"] <= version.seq:
            self._stored = stored | {"at": version.at}
            self._report("checkpoint_stored", **{k: v for k, v in self._stored.items() if k != "epoch"})
        return stored

    async def quiesce(self) -> dict[str, Any]:
        """Take no more requests, finish those in flight, and checkpoint: the first half of a move.

        Raises
        ------
        CheckpointFailed
            When there is no checkpoint to move; the instance serves on.
        """
        if self.status != "running":
            raise CheckpointFailed(self.spec.id, f"the sandbox is {self.status}")
        self.status = "migrating"
        self._idle = asyncio.Event()
        try:
            if self._inflight:
                with contextlib.suppress(TimeoutError):
                    # Calls that take longer are told that their process died, when the old host stops.
                    await asyncio.wait_for(self._idle.wait(), QUIESCE_TIMEOUT)
            return await self.checkpoint()
        except BaseException:
            await self.resume()
            raise
        finally:
            self._idle = None

    async def resume(self) -> None:
        """Serve again after a move that was rolled back."""
        if self.status == "migrating":
            self._open()

    async def set_peers(self, peers: Sequence[Peer]) -> None:
        """Send the newest checkpoint to these nodes, and every later one."""
        new = [peer for peer in peers if peer not in self._peers]
        self._peers = tuple((node, address) for node, address in peers)
        newest = self._services.checkpoints.newest(self.spec.id)
        if new and newest and newest[0].epoch == self.epoch:
            await self._copy(newest[0])

    # -- Telling

    async def info(self) -> dict[str, Any]:
        """Return what is known of the instance and its host, measured now."""
        link = self._link
        known: dict[str, Any] = {
            "sandbox": self.spec.id,
            "node": self.node,
            "epoch": self.epoch,
            "status": self.status,
            "restarts": self._restarts,
            "reason": self._reason,
            "in_flight": len(self._inflight),
            "waiting": len(self._waiting),
            "checkpoint": self._stored,
            "output": "" if link is None else link.output,
        }
        if link is None or link.ended.done():
            return known | {"pid": None, "memory": None, "cpu": None, "mailbox": 0, "responsive": False}
        memory, cpu_time = link.measure()
        now = time.monotonic()
        (before, used), self._last_look = self._last_look, (now, cpu_time)
        # A restarted host has used less than its forerunner: then there is no rate yet.
        cpu = (cpu_time - used) / (now - before) if before and cpu_time >= used and now > before else None
        return known | {
            "pid": link.pid,
            "memory": memory,
            "cpu": cpu,
            "cpu_time": cpu_time,
            "mailbox": link.mailbox,
            "handled": link.handled,
            "responsive": link.responsive,
        }

    async def logs(self) -> str:
        """Return the last 64 KiB that the sandbox wrote to its standard output and error."""
        return "" if self._link is None else self._link.output

    def on_events(self, events: list[dict[str, Any]]) -> None:
        """Pass the host's events on, and remember the highest serial that it used."""
        for event in events:
            if event["kind"] == "process_started" and event["pid"]:
                serial = str(event["pid"]).rstrip(">").rpartition(".")[2]
                if serial.isdecimal():
                    self._serial = max(self._serial, int(serial) + 1)
        self._report("events", events=events)

    def on_health(self, *, responsive: bool) -> None:
        """Tell that the host has stopped, or started again, to answer."""
        self._event("sandbox_responsive" if responsive else "sandbox_unresponsive")

    def _event(self, kind: str, *, reason: Any = None, detail: Mapping[str, Any] | None = None) -> None:
        event = Event(
            kind,
            at=time.time(),
            sandbox=self.spec.id,
            node=self.node,
            epoch=self.epoch,
            reason=reason,
            detail=detail or {},
        )
        self._report("events", events=[event.as_dict()])

    def _report(self, kind: str, **fields: Any) -> None:
        self._services.report(kind, sandbox=self.spec.id, epoch=self.epoch, **fields)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=f"sandbox {self.spec.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


class _Waiting:
    """A request that waits for its host to come up, no longer than its own timeout."""

    __slots__ = ("_deadline", "_timer", "answer", "frame")

    def __init__(self, frame: list[Any], answer: Answer, expire: Callable[[_Waiting], None]) -> None:
        self.frame = frame
        self.answer = answer
        self._deadline: float | None = None
        self._timer: asyncio.TimerHandle | None = None
        if frame[5] is not None:
            loop = asyncio.get_running_loop()
            self._deadline = loop.time() + frame[5]
            self._timer = loop.call_at(self._deadline, expire, self)

    def release(self) -> list[Any]:
        """Return the frame with the time that is left to it."""
        if self._timer is None or self._deadline is None:
            return self.frame
        self._timer.cancel()
        return [*self.frame[:5], max(0.0, self._deadline - asyncio.get_running_loop().time())]


_OVERLOADED = ["overloaded", True, "Too many requests wait for this sandbox: nothing was done."]
