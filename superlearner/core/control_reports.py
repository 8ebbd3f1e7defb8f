"""What instances and timers report, and what it means for their sandboxes.

A report counts when its epoch is the owner's, or that of a start that is awaited; all others are late.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from superlearner.core.control_events import (
    ApplicationReplaced,
    CheckpointStored,
    ControlEvent,
    InstanceExited,
    InstanceRestarted,
    InstanceStarted,
    InstanceStartFailed,
    InstanceStopped,
    Quiesced,
    QuiesceFailed,
    TimerFired,
)
from superlearner.core.control_instructions import StopInstance
from superlearner.core.control_moves import Moves
from superlearner.core.control_records import OWNED, Work
from superlearner.core.restart import should_restart
from superlearner.core.snapshots import CheckpointInfo


class Reports(Moves):
    """One method for each kind of report."""

    def _owner(self, sandbox: str, epoch: int) -> Work | None:
        """Return the sandbox if that epoch is its owner's and has served."""
        work = self._work.get(sandbox)
        owns = work is not None and work.record.epoch == epoch and work.phase in OWNED - {"starting"}
        return work if owns else None

    def _starting(self, sandbox: str, epoch: int) -> Work | None:
        """Return the sandbox if the start of that epoch is awaited."""
        work = self._work.get(sandbox)
        if work is None:
            return None
        match work.phase:
            case "starting":
                return work if work.record.epoch == epoch else None
            case "moving":
                return work if self._move(work).epoch == epoch else None
            case _:
                return None

    # -- Instances --

    def instance_started(self, event: InstanceStarted) -> None:
        """Make it the owner if its start was awaited; tell any other instance to stop."""
        work = self._work.get(event.sandbox)
        if self._starting(event.sandbox, event.epoch):
            work = self._work[event.sandbox]
            if work.phase == "moving":
                self._flip(work, event)
            else:
                self._run(work, event)
                self._end_adopted(work, event, None)
            self._settle(work)
        elif work is not None and not self._owner(event.sandbox, event.epoch):
            if event.epoch in work.stopping:
                work.again.add(event.epoch)
            elif event.node in self.nodes:
                self._note("stale_instance", event, sandbox=work.id, node=event.node, epoch=event.epoch)
                self._stop(work, event.epoch, event.node, event, "its epoch is over")
        elif work is None and event.node in self.nodes:
            self._note("stale_instance", event, sandbox=event.sandbox, node=event.node, epoch=event.epoch)
            address = self.nodes[event.node].address
            stop = StopInstance(
                event.sandbox, event.node, address, event.epoch, "its sandbox is gone", event.cause
            )
            self._say(stop)

    def instance_start_failed(self, event: InstanceStartFailed) -> None:
        """Roll a move back, refuse a creation, try a restart elsewhere; nothing is left of the instance."""
        work = self._starting(event.sandbox, event.epoch)
        if work is not None and work.phase == "moving":
            self._move(work).epoch = 0  # nothing is left of it, so nothing is to be stopped
            self._roll_back(work, event, event.reason)
        elif work is not None:
            self._end_adopted(work, event, str(event.reason))
            self._start_failed(work, event)
        elif self._owner(event.sandbox, event.epoch):
            # It was told to start its OS process again and could not: the node may be the cause.
            self._exited(self._work[event.sandbox], event, event.reason, gave_up=True)
        else:
            self._gone(event.sandbox, event.epoch, event)

    def instance_restarted(self, event: InstanceRestarted) -> None:
        """Note the new OS process of the owner."""
        starting = self._starting(event.sandbox, event.epoch)
        owner = self._owner(event.sandbox, event.epoch)
        if starting is not None:
            self._hold(starting, event)
        elif owner is not None:
            self._rebooted(owner, event)

    def instance_exited(self, event: InstanceExited) -> None:
        """Start the sandbox again by its restart type, or leave it down."""
        starting = self._starting(event.sandbox, event.epoch)
        owner = self._owner(event.sandbox, event.epoch)
        if starting is not None:
            self._hold(starting, event)
        elif owner is not None:
            # A reason that crossed a wire has its tuple as a list.
            reason = tuple(event.reason) if isinstance(event.reason, list) else event.reason
            self._exited(owner, event, reason, gave_up=event.gave_up)

    def _exited(self, work: Work, event: ControlEvent, reason: Any, *, gave_up: bool) -> None:
        if work.phase == "moving" and should_restart(work.record.spec.restart, reason):
            self._note("sandbox_exited", event, work, reason=reason, detail={"gave_up": gave_up})
            self._stop(work, work.record.epoch, str(work.record.node), event, "its application has ended")
            self._adopt(work, event, reason)
            return
        if work.phase in ("quiescing", "moving"):
            self._roll_back(work, event, f"it ended during the move: {reason}", resume=False)
        self._ended(work, event, reason, gave_up=gave_up)

    def instance_stopped(self, event: InstanceStopped) -> None:
        """Note that nothing is left of an instance: a destruction may be complete now."""
        owner = self._owner(event.sandbox, event.epoch)
        if owner is not None:
            # Somebody else stopped it; by its restart type it comes back, as a child would.
            self._exited(owner, event, "shutdown", gave_up=False)
        else:
            work = self._work.get(event.sandbox)
            if work is not None:
                self._complete_move(work, event)
            self._gone(event.sandbox, event.epoch, event)

    def _gone(self, sandbox: str, epoch: int, event: ControlEvent) -> None:
        work = self._work.get(sandbox)
        if work is None:
            return
        again, node = epoch in work.again, work.stopping.get(epoch)
        if self._unstop(work, epoch):
            if again:
                self._stop(work, epoch, str(node), event, "it started while it was being stopped")
            self._finish_destroy(work, event)

    def quiesced(self, event: Quiesced) -> None:
        """Go on with the move: start the new instance, unless the quorum was lost meanwhile."""
        work = self._quiescing(event)
        if work is not None and (refusal := self.no_quorum) is not None:
            self._roll_back(work, event, refusal.what())
        elif work is not None:
            self._at_rest(work, event)

    def quiesce_failed(self, event: QuiesceFailed) -> None:
        """Roll the move back."""
        work = self._quiescing(event)
        if work is not None:
            self._roll_back(work, event, event.reason)

    def _quiescing(self, event: Quiesced | QuiesceFailed) -> Work | None:
        work = self._owner(event.sandbox, event.epoch)
        awaited = work is not None and work.phase == "quiescing" and self._move(work).cause == event.cause
        return work if awaited else None

    # -- Checkpoints and time --

    def checkpoint_stored(self, event: CheckpointStored) -> None:
        """Remember who holds the newest checkpoints."""
        work = self._work.get(event.sandbox)
        if work is None:
            return
        current = {work.record.epoch} | ({work.move.epoch} if work.move and work.move.epoch else set())
        current |= {work.seed.epoch} if work.seed else set()
        if event.epoch not in current:
            detail = {"epoch": event.epoch, "seq": event.seq}
            self._note("stale_checkpoint", event, work, reason="its epoch is over", detail=detail)
            return
        checkpoint = CheckpointInfo(event.epoch, event.seq, event.size, event.at)
        version = (event.epoch, event.seq)
        changed = False
        for node in event.nodes:
            known = work.copies.get(node)
            if node in self.nodes and (known is None or (known.epoch, known.seq) < version):
                self._copy(work, node, checkpoint)
                changed = True
        if changed:
            newest = self._newest(work)
            self._set(work, checkpoint=newest)
            stored = {"seq": event.seq, "size": event.size, "nodes": list(event.nodes)}
            self._note("checkpoint_stored", event, work, epoch=event.epoch, detail=stored)

    def application_replaced(self, event: ApplicationReplaced) -> None:
        """Start later instances with the new application."""
        work = self._work.get(event.sandbox)
        if work is None or event.epoch != work.record.epoch:
            return
        self._set(work, None, spec=replace(work.record.spec, application=event.application))
        self._note("sandbox_reloaded", event, work)

    def timer_fired(self, event: TimerFired) -> None:
        """Start a sandbox whose back-off is over; a timer that is not awaited any more means nothing."""
        sandbox = self._timers.get(event.token)
        if sandbox is not None:
            self._start_or_lose(self._work[sandbox], event)
