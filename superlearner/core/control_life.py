"""The life of a sandbox: placed, started, running, ended, started again or given up."""

from __future__ import annotations

from typing import Any, Literal

from superlearner.core.control_events import (
    ControlEvent,
    InstanceRestarted,
    InstanceStarted,
    InstanceStartFailed,
)
from superlearner.core.control_instructions import DropCheckpoints, KeepSandbox, Refuse, RestartInstance
from superlearner.core.control_kept import KeptSandbox
from superlearner.core.control_records import OWNED, Phase, SandboxRecord, Waiter, Work
from superlearner.core.control_registry import Registry
from superlearner.core.control_starts import explain, restored, start_instance
from superlearner.core.placement import Placement
from superlearner.core.restart import ASKED, RESTART, Intensity, should_restart
from superlearner.errors import NoPlacement, SandboxFailed, StartFailed, SuperlearnerError

#: Reports kept of an instance whose start is still to be reported; a live one sends one or two.
EARLY = 16


class Life(Registry):
    """What becomes of one sandbox, whatever the event was that changed it."""

    # -- Starting --

    def _choose(self, work: Work) -> Placement:
        """Choose a node: the preferred one, else the one its spec names, else any. Being somewhere comes first.

        Without a quorum nothing is started anywhere: the nodes that are not heard of may still run it.
        """
        spec = work.record.spec
        if self.no_quorum is not None:
            return Placement(None, ())
        for wanted in (work.prefer, spec.node):
            if wanted in self.nodes and wanted not in work.avoid:
                placement = self._place(spec, wanted)
                if placement.node is not None:
                    return placement
        placement = self._place(spec, avoid=work.avoid)
        if placement.node is None and work.avoid:
            # Where it failed is better than nowhere; its intensity bounds the tries.
            work.avoid.clear()
            placement = self._place(spec)
        return placement

    def _homeless(self, work: Work, placement: Placement) -> SuperlearnerError:
        """Return why there is no node for it."""
        return self.no_quorum or NoPlacement(work.id, placement.refusals)

    def _start(self, work: Work, event: ControlEvent, placement: Placement, **changes: Any) -> None:
        """Start the next instance on the node that was chosen, with the next epoch."""
        node = self.nodes[str(placement.node)]
        sources = self._sources(work, node.name)
        work.highest += 1
        work.prefer = None
        self._own(work, node.name, event.at)
        changes = {"reason": None, **changes}
        self._set(
            work, "starting", epoch=work.highest, node=node.name, address=node.address, pid=None, **changes
        )
        self._want_peers(work, self._wish(work, node.name))
        work.told = self._addresses(work.peers)
        newest = self._newest(work)
        expects = None if newest is None else (newest.epoch, newest.seq)
        self._say(start_instance(work, node, work.highest, sources, work.told, event, expects=expects))

    def _start_new(self, work: Work, event: ControlEvent, placement: Placement) -> None:
        """Start one that has just been asked for."""
        self._start(work, event, placement)
        self._note("sandbox_created", event, work, detail=explain(placement))

    def _start_or_lose(self, work: Work, event: ControlEvent) -> bool:
        """Start it on some node, or leave it lost until a node can take it; tell which."""
        reason = work.record.reason
        placement = self._choose(work)
        if placement.node is None:
            if work.phase != "lost":
                self._lose(work, event, placement)
            return False
        self._start(work, event, placement)
        detail = explain(placement, work.record.spec)
        self._note("sandbox_restarting", event, work, reason=reason, detail=detail)
        return True

    def _lose(self, work: Work, event: ControlEvent, placement: Placement) -> str:
        """Leave it lost until a node can take it; return why."""
        why = "no node can take it" if self.no_quorum is None else self.no_quorum.what()
        self._set(work, "lost", reason=why)
        self._note("sandbox_lost", event, work, reason=why, detail=explain(placement))
        return why

    def _start_anew(self, work: Work, event: ControlEvent, waiter: Waiter) -> None:
        """Start one that is down, from its checkpoint and with its whole budget again."""
        work.avoid.clear()
        placement = self._choose(work)
        if placement.node is None:
            self._say(Refuse(event.cause, self._homeless(work, placement)))
            return
        work.intensity = self._fresh_intensity()
        work.waiters.append(waiter)
        self._start(work, event, placement)
        self._note("sandbox_restarting", event, work, reason=ASKED, detail=explain(placement))

    def _take_up(self, event: ControlEvent, limit: int) -> None:
        """Try the longest lost sandboxes again; those that still fit nowhere go to the end of the row."""
        for sandbox in list(self._lost)[:limit]:
            if not self._start_or_lose(self._work[sandbox], event):
                del self._lost[sandbox]
                self._lost[sandbox] = None

    # -- Running --

    def _run(self, work: Work, event: InstanceStarted) -> None:
        """Its instance answers: it runs."""
        first, work.fresh, work.seed = work.fresh, False, None
        restarts = work.record.restarts + (not first)
        self._set(work, "running", pid=event.pid, restarts=restarts)
        self._note(
            "sandbox_started" if first else "sandbox_restarted", event, work, detail=restored(event.restored)
        )
        self._tell_peers(work)

    def _settle(self, work: Work) -> None:
        """Answer who waits for it to run, then give it what its instance reported before its start."""
        early, work.early = work.early, []
        self._answer(work, work.record)
        for late in early:
            self._react(late)

    def _react(self, event: ControlEvent) -> None: ...  # the machine's table, at the top of these layers

    def _hold(self, work: Work, event: ControlEvent) -> None:
        """Keep a report that overtook the report of the start; doubles are dropped."""
        if event not in work.early and len(work.early) < EARLY:
            work.early.append(event)

    def _rebooted(self, work: Work, event: InstanceRestarted) -> None:
        """Its OS process was started again in place."""
        if event.pid is not None and event.pid == work.record.pid:
            return  # told twice: by the instance itself and as the outcome of an order
        self._set(
            work,
            "running" if work.phase == "rebooting" else None,
            pid=event.pid,
            restarts=work.record.restarts + 1,
        )
        self._note("sandbox_restarted", event, work, reason=event.reason, detail=restored(event.restored))
        if work.phase == "running":
            self._answer(work, work.record)

    def _reboot(self, work: Work, event: ControlEvent) -> None:
        self._set(work, "rebooting")
        self._note("sandbox_restarting", event, work, reason=ASKED)
        record = work.record
        self._say(
            RestartInstance(
                work.id, str(record.node), str(record.address), record.epoch, RESTART, event.cause
            )
        )

    # -- Ending --

    def _ended(self, work: Work, event: ControlEvent, reason: Any, *, gave_up: bool) -> None:
        """Its owner has ended: it is started again, in place or elsewhere, or stays down."""
        node, epoch = str(work.record.node), work.record.epoch
        gave_up = gave_up and work.group is None  # a member's instance gives up at once, as it was told
        self._note("sandbox_exited", event, work, reason=reason, detail={"gave_up": gave_up})
        # Even an instance that ended by itself is stopped: it holds its place on the node until then.
        self._stop(work, epoch, node, event, "its application has ended")
        self._disown(work)
        if gave_up:
            self._hold_against(work, event, node, f"it ended there: {reason}")
        else:
            work.prefer = node
        self._try_again(work, event, reason)

    def _hold_against(self, work: Work, event: ControlEvent, node: str, why: str) -> None:
        """Avoid a node: each is tried once before one is tried again."""
        if work.intensity.left(event.at) == work.intensity.max_restarts:
            work.avoid.clear()  # it has been well for long: what spoke against the others is over
        work.avoid[node] = why

    def _try_again(self, work: Work, event: ControlEvent, reason: Any) -> None:
        """Start it again by its restart type, at once or after a back-off, while its intensity allows."""
        if not should_restart(work.record.spec.restart, reason):
            failed = work.record.spec.restart == "temporary" and should_restart("transient", reason)
            self._down(work, event, reason, failed=failed)
            return
        work.intensity, allowed = work.intensity.spend(event.at)
        if not allowed:
            self._down(work, event, reason, failed=True)
            return
        delay = self.policy.backoff.wait(len(work.intensity.restarts))
        if not delay:
            self._start_or_lose_after(work, event, reason)
            return
        self._set(work, "waiting", node=None, address=None, pid=None, reason=reason)
        self._set_timer(work, delay)
        detail = {"delay": delay, "left": work.intensity.left(event.at)}
        self._note("restart_scheduled", event, work, reason=reason, detail=detail)

    def _start_or_lose_after(self, work: Work, event: ControlEvent, reason: Any) -> None:
        self._set(work, "waiting", node=None, address=None, pid=None, reason=reason)
        self._start_or_lose(work, event)

    def _down(self, work: Work, event: ControlEvent, reason: Any, *, failed: bool) -> None:
        """It stays down until somebody restarts or destroys it."""
        self._set(work, "failed" if failed else "stopped", node=None, address=None, pid=None, reason=reason)
        kind = "sandbox_failed" if failed else "sandbox_stopped"
        self._note(kind, event, work, reason=reason, detail={"restart": work.record.spec.restart})
        error = SandboxFailed(work.id, reason)
        self._refuse(work, {"create": error, "restart": error})
        status: Literal["stopped", "failed"] = "failed" if failed else "stopped"
        self._say(KeepSandbox(KeptSandbox(work.record.spec, work.highest, status, reason)))

    def _recall(self, kept: KeptSandbox, event: ControlEvent, phase: Phase = "waiting") -> Work:
        """Enter a sandbox of an earlier run, down as it was or about to be started."""
        spec = kept.spec
        before = max(self._next_epoch(spec.id) - 1, kept.epoch)
        reason = "it was there before"
        record = SandboxRecord(
            spec.id, spec, "restarting", None, None, before, created_at=event.at, reason=reason
        )
        work = Work(record, phase, self._fresh_intensity(), highest=before, fresh=False)
        self._enter(work)
        if kept.down is not None:
            self._down(work, event, kept.reason, failed=kept.down == "failed")
        return work

    def _node_lost_under(self, work: Work, event: ControlEvent, reason: str) -> None:
        """Its node is gone: it starts elsewhere at once, by nobody's fault; a temporary one stays down."""
        self._disown(work)
        work.early.clear()
        if work.fresh:
            self._create_elsewhere(work, event, reason)
        elif work.record.spec.restart == "temporary":
            self._down(work, event, reason, failed=True)
        else:
            self._start_or_lose_after(work, event, reason)

    def _create_elsewhere(self, work: Work, event: ControlEvent, reason: str) -> None:
        """Its node was lost before it ever served: try another, or refuse the creation."""
        self._set(work, "waiting", node=None, address=None, reason=reason)
        placement = self._choose(work)
        if placement.node is None:
            self._note("placement_refused", event, work, reason=reason, detail=explain(placement))
            self._not_created(work, event, self._homeless(work, placement))
            return
        self._start(work, event, placement)
        self._note(
            "sandbox_restarting", event, work, reason=reason, detail=explain(placement, work.record.spec)
        )

    def _not_created(self, work: Work, event: ControlEvent, error: SuperlearnerError) -> None:
        """Refuse a creation and leave nothing behind."""
        self._refuse(work, {"create": error, "restart": error})
        self._begin_destroy(work, event)

    def _start_failed(self, work: Work, event: InstanceStartFailed) -> None:
        """Its instance could not start: a creation is refused; a restart is tried elsewhere."""
        node = str(work.record.node)
        self._note("start_failed", event, work, reason=event.reason)
        work.early.clear()
        self._disown(work)
        self._set(work, "waiting", node=None, address=None, pid=None, reason=event.reason)
        if work.fresh:
            self._not_created(work, event, StartFailed(event.reason, work.id))
            return
        self._hold_against(work, event, node, f"it could not start there: {event.reason}")
        self._try_again(work, event, event.reason)

    # -- Leaving --

    def _begin_destroy(self, work: Work, event: ControlEvent) -> None:
        """Stop what there is of it; `_finish_destroy` follows when nothing is left."""
        if work.phase in OWNED:
            self._stop(work, work.record.epoch, str(work.record.node), event, "destroyed")
            self._disown(work)
        self._set(work, "destroying", node=None, address=None, pid=None, reason="destroyed")
        work.early.clear()
        self._finish_destroy(work, event)

    def _finish_destroy(self, work: Work, event: ControlEvent) -> None:
        if work.phase != "destroying" or work.stopping:
            return
        addresses = tuple(record.address for record in self.nodes.values())
        self._say(DropCheckpoints(work.id, addresses, work.highest))
        self._note("sandbox_destroyed", event, work)
        self._leave(work)
        self._answer(work)

    def _fresh_intensity(self) -> Intensity:
        return Intensity(self.policy.max_restarts, self.policy.max_seconds)
