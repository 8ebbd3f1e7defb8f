"""One incarnation of a sandbox on one node: it forks the host, keeps it alive, and passes requests to it.

An `Instance` lives on the worker's event loop and knows nothing of Dask: what it needs of its node is the
`NodeServices` protocol. It treats requests, replies, applications and states as opaque bytes.

When the host dies, requests in flight are answered ``process_died``; new ones wait, in order, while it is
started again from its newest good checkpoint: at once the first time, then after growing waits. Past the
restart intensity of its spec the instance gives up and tells the control plane, which may try another node.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from superlearner import config
from superlearner.core.checkpoints import CheckpointVersion
from superlearner.core.history import Event
from superlearner.core.restart import RESTART, RESTORED, Backoff, Intensity, should_restart
from superlearner.errors import CheckpointFailed, StaleEpoch, StartFailed, SuperlearnerError, in_words
from superlearner.sandbox.desk import Desk
from superlearner.sandbox.keeper import Keeper
from superlearner.sandbox.link import Interrupted, Link, Saved
from superlearner.sandbox.output import farewell, joined
from superlearner.sandbox.owing import OwingDesk
from superlearner.sandbox.payload import cut
from superlearner.sandbox.services import NODES, Answer, NodeServices, Outlet, Peer, StartRequest

__all__ = ["NODES", "Answer", "Instance", "NodeServices", "Peer", "StartRequest"]

#: Seconds that a quiescing instance waits for the requests in flight.
QUIESCE_TIMEOUT = 5.0
#: Seconds that a host has to make a checkpoint that was asked for.
SAVE_TIMEOUT = 10.0
#: Seconds that the control plane has to take the news of a restart, before it counts as silent.
SETTLE_TIMEOUT = 0.25
#: Characters of a reason that the words on a supervisor's end carry.
SHORT = 200
#: Bytes of a dead host's output that the event of its end carries.
LAST_WORDS = 2048


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
        durable = request.spec.checkpoint.durability == "reply"
        #: The desk, where answers wait for checkpoints.
        self._owing = OwingDesk(request.spec.id, request.epoch) if durable else None
        self._desk = self._owing or Desk(request.spec.id, request.epoch)
        self._keeper = Keeper(request, self._node_services)
        self._link: Link | None = None
        #: The tail of what former hosts wrote.
        self._past = b""
        self._serial = request.first_serial
        self._launching = asyncio.Lock()
        self._restarting = asyncio.Lock()
        # From a checkpoint that was taken for a move until the move's end: what is answered now would be lost.
        self._moving = False
        self._stopping = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._recovery: asyncio.Task[None] | None = None
        self._budget = Intensity(request.spec.max_restarts, request.spec.max_seconds)
        self._restarts = 0
        self._reason: Any = None
        #: Who gave up in the present host, and why: a root that does ends with ``shutdown``, as OTP has it.
        self._gave_up: str | None = None
        self._last_look = (0.0, 0.0)

    def _node_services(self) -> NodeServices:
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
        try:
            return await self._launch(first=True)
        except StartFailed as error:
            self._close(error.reason, "stopped")
            raise

    async def stop(self, reason: str = "shutdown") -> dict[str, Any]:
        """Stop in an orderly way, by force after the spec's ``shutdown`` seconds; idempotent.

        When this returns no process, file or descriptor of the sandbox is left on the node.

        Returns
        -------
        dict
            ``reason`` with which the host ended, and how many requests were ``turned_away`` while it rested or ended.
        """
        if self.status not in ("stopped", "failed"):
            starting = self.status != "running"
            self.status = "stopping"
            self._stopping.set()
            self._desk.close("stopped")
            if starting and self._link is not None:
                await self._link.kill(reason)
            if self._moving:
                # Who goes on elsewhere has stored nothing yet: this node may be about to leave, too.
                await self._keeper.complete(tell=False)
            async with self._launching:
                # Nothing is being started any more, and nothing will be.
                ended = None if self._link is None else await self._link.stop(reason, self.spec.shutdown)
            if self._recovery is not None:
                await asyncio.wait((self._recovery,))
            self._close(reason if ended is None else ended, "stopped")
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._keeper.close()
        return {"reason": self._reason, "turned_away": self._desk.turned_away}

    async def restart(self, reason: str = RESTART) -> dict[str, Any]:
        """Stop the host and start it again from its newest checkpoint, taken first if it still answers.

        Returns
        -------
        dict
            As `start`.

        Raises
        ------
        StartFailed
            When it did not start again, or had ended for good before; the instance has been closed.
        """
        async with self._restarting:  # whoever asked and got no answer may have asked again
            return await self._restart(reason)

    async def restore(self, epoch: int, seq: int) -> dict[str, Any]:
        """Start the host again from one of the checkpoints that there are, and store that as the newest.

        What the host had is stored, too, if it still answers: whatever goes wrong, it starts from that.

        Returns
        -------
        dict
            As `checkpoint`.

        Raises
        ------
        CheckpointFailed
            There is no such checkpoint, or nothing starts from it.
        StartFailed
            The host did not start again; the instance has been closed.
        """
        async with self._restarting:
            if self.status != "running":
                raise CheckpointFailed(self.spec.id, f"the sandbox is {self.status}")
            version = await self._keeper.find(epoch, seq)
            if version is None:
                raise CheckpointFailed(self.spec.id, f"there is no checkpoint {seq} of epoch {epoch}")
            started = await self._restart(f"{RESTORED} {seq} of epoch {epoch}", version)
            stored = await self.checkpoint()
            if started["restored"] != [epoch, seq]:
                raise CheckpointFailed(
                    self.spec.id,
                    f"nothing starts from checkpoint {seq} of epoch {epoch}; it goes on as it was",
                )
            return stored

    async def _restart(self, reason: str, version: CheckpointVersion | None = None) -> dict[str, Any]:
        if self._recovery is not None:
            await asyncio.wait((self._recovery,))
        if self.status in ("stopped", "failed"):
            # That has been told: by now another instance may have been started in its place.
            raise StartFailed(f"it had ended before: {in_words(self._reason)}", self.spec.id)
        link = self._link
        # From here on the end of the host is expected: nobody else starts the next one beside this, and nothing
        # is answered that the checkpoint would miss.
        self.status = "restarting"
        self._desk.hold()
        if link is not None and not link.ended.done() and link.responsive:
            with contextlib.suppress(CheckpointFailed):
                # A host that cannot save any more is the very one to restart.
                await self.checkpoint()
        if link is not None:
            await link.stop(reason, self.spec.shutdown)
        self._desk.fail(reason)
        try:
            return await self._launch(reason, version)
        except StartFailed as error:
            self._exited(error.reason, gave_up=True)
            raise

    def request(self, frame: list[Any], answer: Answer) -> None:
        """Pass a client's request to the host; its answer comes through `answer`, once for each call or command.

        Parameters
        ----------
        frame
            ``[verb, call_id, epoch, target, payload, timeout]``, where verb is ``call``, ``once`` (a call with a
            request id), ``cast``, ``send`` or ``command``. A cast or send is never answered, unless it is refused
            and has a call_id. With the verb ``calls`` call_id and payload are sequences: so many calls at once.
        answer
            Takes ``[call_id, status, payload]``: 0 and the value, 1 and the exception, or 2 and a refusal:
            ``["stale_epoch", True, word, sandbox, epoch, current]``, ``["process_died", False, reason, target]``,
            ``["not_durable", False, reason, target]`` (it was handled, and that is not stored where it has to be),
            ``["call_timeout", True, message, target, timeout]`` (it has never left the node),
            ``["not_serializable", True, what, message]`` or ``["overloaded", True, message]``. Of ``calls`` several
            may be answered at once with 0, by lists of ids and values.
        """
        if self._keeper.on_trial and frame[2] == self.epoch:
            # Nobody is told this epoch before it is the owner's: the word of it is still on its way.
            self._spawn(self._keeper.end_trial())
        self._desk.request(frame, answer)

    def forget(self, answer: Answer) -> None:
        """Owe no answer to the request that was made with `answer`: nobody waits for it."""
        self._desk.forget(answer)

    # -- Hosts

    async def _launch(
        self, again: Any = None, wanted: CheckpointVersion | None = None, *, first: bool = False
    ) -> dict[str, Any]:
        """Start a host from the newest version that works, or from the one that is `wanted`, and open the desk.

        At last it is started from none. `again` is the reason of a restart: it is told before anybody gets an answer
        of the new host, so that whoever got one and looks finds the new host in the registry.
        """
        versions = self._keeper.versions(first=first)
        # Before the lock: it may wait for other nodes, for which nobody who stops this instance shall wait.
        version = wanted or await anext(versions, None)
        restores = version is not None
        async with self._launching:
            while True:
                try:
                    link = await self._try(version, dirty=restores)
                    break
                except StartFailed as error:
                    if version is None or isinstance(error, Interrupted) or self._stopping.is_set():
                        raise  # an older version would lose what this one has, for no fault of its own
                    self._refused(version, error.reason)
                version = await anext(versions, None)
            restored = None if version is None else [version.epoch, version.seq]
            started = {"pid": link.pid, "restored": restored}
            if again is not None:
                self._restarts += 1
                self._report("instance_restarted", reason=again, restarts=self._restarts, **started)
                await self._node_services().settled(SETTLE_TIMEOUT)
            if not self._moving:
                self.status = "running"
                self._desk.open(link)
            link.ended.add_done_callback(functools.partial(self._on_ended, link))
            return started

    async def _try(self, version: CheckpointVersion | None, *, dirty: bool) -> Link:
        if version is not None and not version.good:
            raise StartFailed("its checksum is wrong", self.spec.id)
        policy = self.spec.checkpoint
        settings = {
            "sandbox": self.spec.id,
            "node": self.node,
            "epoch": self.epoch,
            "application": self.spec.application,
            "restore": None if version is None else version.payload,
            "first_serial": max(self._serial, 0 if version is None else version.next_serial),
            "every": policy.every,
            "messages": policy.messages,
            "durable": policy.durability == "reply",
            "request_ids": [config.get("request-ids.limit"), config.get("request-ids.age")],
            "lease": self._node_services().lease_until,
            "limit": config.get("message-limit"),
            # What is restored, or started past a bad checkpoint, is worth a checkpoint of its own at once.
            "dirty": dirty,
        }
        if self._stopping.is_set():
            raise Interrupted("it was stopped meanwhile", self.spec.id)
        if not self._holds_lease():
            raise Interrupted("the node's lease has run out", self.spec.id)
        try:
            link = await Link.open(self.spec, self._node_services().fork_server, self, settings)
        except OSError as error:
            # The node has no descriptor or no room on its disk left: it may have, the next time.
            raise Interrupted(f"{type(error).__name__}: {error}", self.spec.id) from error
        except StartFailed as error:
            raise Interrupted(error.reason, self.spec.id) from error  # there was no host yet
        self._link, self._gave_up = link, None
        link.ended.add_done_callback(functools.partial(self._keep_output, link))
        if self._stopping.is_set():
            await link.kill("it was stopped meanwhile")
        await link.started(self.spec.start_timeout)
        return link

    def _holds_lease(self) -> bool:
        until = self._node_services().lease_until
        return until is None or asyncio.get_running_loop().time() < until

    def renew(self) -> None:
        """Tell the host that its node's lease has been extended."""
        if self._link is not None:
            self._link.write(["lease", self._node_services().lease_until])

    async def fence(self) -> None:
        """End at once, without an orderly stop: the lease has run out, and another instance may have taken over."""
        self.status = "stopping"
        self._stopping.set()
        self._desk.close("fenced")
        if self._link is not None:
            await self._link.kill("its node's lease has run out")
        await self.stop("its node's lease has run out")

    def _refused(self, version: CheckpointVersion, reason: Any) -> None:
        detail = {"seq": version.seq, "checkpoint_epoch": version.epoch}
        self._event("checkpoint_refused", reason=reason, detail=detail)

    def _on_ended(self, link: Link, ended: asyncio.Task[Any]) -> None:
        if link is not self._link or ended.cancelled() or self.status not in ("running", "migrating"):
            # Whoever ended it on purpose looks after the rest.
            return
        if not self._moving:
            self.status = "restarting"
            self._desk.hold()
        self._desk.fail(ended.result())
        last = link.output[-LAST_WORDS:].decode(errors="replace")
        detail = {"os_pid": link.pid, "output": last}
        if ended.result() == "shutdown" and self._gave_up is not None:
            detail["because"] = self._gave_up
        self._event("host_exited", reason=ended.result(), detail=detail)
        self._recovery = self._spawn(self._recover(link, ended.result()))

    async def _recover(self, link: Link, reason: Any) -> None:
        """Start the host again while the intensity allows, else tell the control plane."""
        try:
            await link.kill()
        except SuperlearnerError as error:
            # What will not die may still act; another node is the safer place for the next start.
            self._exited(str(error), gave_up=True)
            return
        loop = asyncio.get_running_loop()
        while not self._stopping.is_set():
            if not should_restart(self.spec.restart, reason):
                self._exited(reason, gave_up=False)
                return
            self._budget, allowed = self._budget.spend(loop.time())
            if not allowed:
                self._exited(reason, gave_up=True)
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stopping.wait(), Backoff().wait(len(self._budget.restarts)))
            try:
                await self._launch(reason)
            except StartFailed as error:
                reason = error.reason
            else:
                return

    def _exited(self, reason: Any, *, gave_up: bool) -> None:
        # Not where a group decides by the reason, as a supervisor does.
        if gave_up and reason == "shutdown" and self._gave_up is not None and self.spec.group is None:
            reason = f"shutdown: {self._gave_up}"
        self._close(reason, "failed" if gave_up else "stopped")
        self._report("instance_exited", reason=reason, gave_up=gave_up)

    def _close(self, reason: Any, status: str) -> None:
        self.status = status
        self._reason = reason
        self._desk.close(status)
        self._desk.fail(reason)

    # -- Checkpoints

    async def checkpoint(self, settle: float = 0, first: str | None = None) -> dict[str, Any]:
        """Take a checkpoint now, and store it on the node and its peers.

        Parameters
        ----------
        settle
            Seconds that messages which wait in mailboxes may take to be handled first.
        first
            The only peer that gets its copy at once; `resume` and `stop` see to the others. None, or where answers
            wait for the copies: all get theirs.

        Returns
        -------
        dict
            ``epoch``, ``seq``, ``size`` in bytes and the ``nodes`` that have it; ``incomplete``, where a state cannot
            be saved, says which and why.

        Raises
        ------
        CheckpointFailed
            When the host cannot make one, or the node refuses it.
        """
        link = self._link
        if link is None or link.ended.done():
            raise CheckpointFailed(self.spec.id, f"the sandbox is {self.status}")
        try:
            saved, version = await link.save(SAVE_TIMEOUT, settle)
        except CheckpointFailed as error:
            raise CheckpointFailed(self.spec.id, error.reason) from None
        except StaleEpoch as error:
            raise CheckpointFailed(self.spec.id, str(error)) from error
        stored = await self._keeper.copy(version, first if self._owing is None else None)
        if self._owing is not None:
            self._owing.hand_over(saved.mark, await self._keeper.secure(version) or _incomplete(saved))
        missing = _incomplete(saved)
        return stored if missing is None else stored | {"incomplete": missing}

    def on_checkpoint(self, saved: Saved) -> None:
        """Take a checkpoint that the host made by its policy, or for the answers before it."""
        try:
            version = self.keep(saved)
        except (StaleEpoch, CheckpointFailed) as error:
            self.on_not_saved(str(error), saved.mark)
        else:
            self._spawn(self._store(version, saved))

    async def _store(self, version: CheckpointVersion, saved: Saved) -> None:
        if self._owing is None:
            await self._keeper.copy_newest()
            return
        try:
            trouble = await self._keeper.secure(version) or _incomplete(saved)
        except Exception as error:  # whoever waits is told: without a word the host would wait for ever, too
            trouble = f"{type(error).__name__}: {error}"
        self._dealt_with(saved.mark, trouble)

    def on_not_saved(self, reason: str, mark: int) -> None:
        """Tell that a checkpoint by the host's policy failed; the one before it still counts."""
        self._event("checkpoint_failed", reason=reason)
        self._dealt_with(mark, reason)

    def _dealt_with(self, mark: int, trouble: str | None) -> None:
        if self._owing is not None:
            self._owing.hand_over(mark, trouble)
            if self._link is not None:
                self._owing.go_on(self._link)

    def on_owed(self, number: int, status: int, payload: bytes) -> None:
        """Hold an answer of the host until its effect is stored."""
        if self._owing is not None and self._link is not None:
            self._owing.owed(self._link, number, status, payload)

    def on_taken(self) -> int:
        """Note that the host has taken a checkpoint."""
        return 0 if self._owing is None else self._owing.mark()

    def keep(self, saved: Saved) -> CheckpointVersion:
        """Number and store a checkpoint of the host."""
        try:
            version = self._keeper.keep(saved)
        except (StaleEpoch, CheckpointFailed) as error:
            if self._owing is not None:
                self._owing.hand_over(saved.mark, str(error))
            raise
        if saved.skipped:
            self._event("checkpoint_incomplete", detail={"skipped": dict(saved.skipped)})
        return version

    # -- Moves

    async def quiesce(self, target: str | None = None) -> dict[str, Any]:
        """Take no more requests, finish those in flight, and checkpoint: the first half of a move.

        Parameters
        ----------
        target
            The node that it moves to, and that has to have the checkpoint before all others.

        Returns
        -------
        dict
            As `checkpoint`.

        Raises
        ------
        CheckpointFailed
            When there is no checkpoint to move; the instance serves on.
        """
        if self.status != "running":
            raise CheckpointFailed(self.spec.id, f"the sandbox is {self.status}")
        self.status, self._moving = "migrating", True
        self._desk.close("moving")
        try:
            # Calls that take longer are told that their process died, when the old host stops.
            await self._desk.idle(QUIESCE_TIMEOUT)
            if not self._moving:
                # It was told to go on meanwhile: what is held back from here on nobody would let go.
                raise CheckpointFailed(self.spec.id, "the move was given up meanwhile")  # noqa: TRY301
            if self._owing is not None:
                self._owing.freeze()
            # Casts and messages that are still in a mailbox would be left behind.
            saved = await self.checkpoint(settle=QUIESCE_TIMEOUT, first=target)
            if "incomplete" in saved:  # a move that nobody has to make must not lose what runs well here
                raise CheckpointFailed(self.spec.id, saved["incomplete"])  # noqa: TRY301
        except BaseException:
            await self.resume()
            raise
        return saved

    async def resume(self) -> None:
        """Serve again after a move that was rolled back."""
        self._moving = False
        if self._owing is not None:
            self._owing.thaw()
        if self.status == "migrating" and self._link is not None:
            self.status = "running"
            self._desk.open(self._link)
            self._spawn(self._keeper.complete())

    async def set_peers(self, peers: Sequence[Peer]) -> None:
        """Send the newest checkpoint to these nodes, and every later one."""
        await self._keeper.set_peers(peers)

    # -- Telling

    def on_reply(self, number: int, status: int, payload: bytes) -> None:
        """Take an answer of the host."""
        self._desk.reply(number, status, payload)

    def on_replies(self, numbers: list[int], payloads: list[bytes]) -> None:
        """Take answers of the host that came together."""
        self._desk.reply_together(numbers, payloads)

    def open_outlet(self, answer: Answer, wait: Callable[[bool], None]) -> Outlet:
        """Open a host's way to other sandboxes."""
        return self._node_services().outlet(self.spec.id, answer, wait)

    @property
    def outlet(self) -> Outlet | None:
        """The host's way to other sandboxes, once it has sent something there."""
        return None if self._link is None else self._link.outlet

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
            "in_flight": self._desk.in_flight,
            "waiting": self._desk.waiting,
            "checkpoint": self._keeper.stored,
            "output": await self.logs(),
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

    def counts(self) -> dict[str, int | None]:
        """Return what the host's last pong told: its processes, and the messages that waited in their mailboxes."""
        link = self._link
        if link is None or link.processes is None:
            return {"processes": None, "mailbox": None}
        return {"processes": link.processes, "mailbox": link.mailbox}

    @property
    def responsive(self) -> bool | None:
        """Whether the host answers pings; None while there is none."""
        return None if self._link is None or self._link.ended.done() else self._link.responsive

    async def logs(self) -> str:
        """Return the last 64 KiB that the sandbox wrote to its standard output and error.

        What a host wrote before its end comes first, marked with the reason of that end.
        """
        present = b"" if self._link is None or self._link.ended.done() else self._link.output
        return joined(self._past, present)

    def _keep_output(self, link: Link, ended: asyncio.Task[Any]) -> None:
        if not ended.cancelled():
            self._past = farewell(self._past, link.output, link.pid, ended.result())

    def on_events(self, events: list[dict[str, Any]]) -> None:
        """Pass the host's events on, and remember the highest serial that it used."""
        for event in events:
            if event["kind"] in ("process_started", "events_dropped") and event["pid"]:
                serial = str(event["pid"]).rstrip(">").rpartition(".")[2]
                if serial.isdecimal():
                    self._serial = max(self._serial, int(serial) + 1)
            elif event["kind"] == "supervisor_gave_up":
                self._gave_up = _who_gave_up(event)
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
        self._node_services().report(kind, sandbox=self.spec.id, epoch=self.epoch, **fields)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work, name=f"sandbox {self.spec.id}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task


def _who_gave_up(gave_up: Mapping[str, Any]) -> str:
    """Say which supervisor gave up, and why."""
    child, reason = gave_up["detail"].get("child"), cut(in_words(gave_up["reason"]), SHORT)
    return f"{gave_up['name']!r} gave up, its child {child!r} ended too often, at last with {reason!r}"


def _incomplete(saved: Saved) -> str | None:
    """Return what keeps a checkpoint from being all there is to keep."""
    if not saved.skipped:
        return None
    process, why = saved.skipped[0]
    return f"the state of {process!r} cannot be saved: {why}"
