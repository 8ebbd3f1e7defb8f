"""The steps of a group that concern one member: stop it, start it, leave it down, or try it again.

Why, and in which order, is ``control_groups``' matter.
"""

from __future__ import annotations

from typing import Any

from superlearner.core.control_drains import Drains
from superlearner.core.control_events import ControlEvent
from superlearner.core.control_group_records import Group, Heard
from superlearner.core.control_instructions import KeepGroup
from superlearner.core.control_records import ControlPolicy, Work
from superlearner.core.control_starts import explain
from superlearner.core.placement import Placement
from superlearner.core.restart import should_restart
from superlearner.core.snapshots import GroupInfo
from superlearner.core.strategy_events import (
    ChildStartFailed,
    ChildStopped,
    RetryDue,
)


class GroupSteps(Drains):
    """What a group does with one member."""

    def __init__(self, policy: ControlPolicy | None = None) -> None:
        super().__init__(policy)
        self._groups: dict[str, Group] = {}
        #: The groups that may have a step to do, in the order of their coming.
        self._stirred: dict[str, None] = {}

    def _destroy_work(self, work: Work, event: ControlEvent, why: str) -> None: ...  # the machine's, on top

    @property
    def groups(self) -> dict[str, GroupInfo]:
        """The groups by id."""
        return {id: group.info for id, group in self._groups.items()}

    def _group_of(self, work: Work) -> Group | None:
        """Return the group that a sandbox is a member of."""
        group = self._groups.get(work.group or "")
        return group if group is not None and work.id in group.members else None

    def _stir(self, group: Group) -> None:
        self._stirred[group.spec.id] = None

    def _keep(self, group: Group) -> None:
        """Have the group kept as it is now."""
        if not group.dying:
            self._say(KeepGroup(group.kept))

    def _put_on_hold(self, work: Work, event: ControlEvent, why: str) -> None:
        """Stop a member's instance; it waits for its turn."""
        node = str(work.record.node)
        if work.phase in ("quiescing", "moving"):
            self._roll_back(work, event, why, resume=False)
        self._note("sandbox_exited", event, work, reason=why, detail={"gave_up": False})
        self._stop(work, work.record.epoch, node, event, why)
        self._disown(work)
        work.early.clear()
        work.prefer = node
        self._set(work, "held", node=None, address=None, pid=None, reason=why)

    def _member_stopped(self, group: Group, key: str, event: ControlEvent) -> None:
        if key not in group.sup.children:
            return
        group.sup.handle(ChildStopped(key, event.cause, event.at))
        work = self._work[key]
        if key not in group.sup.children and not work.fresh:  # a temporary one: nobody starts it again
            self._retire(group, work)
            self._down(work, event, f"group {group.spec.id!r} restarts", failed=False)

    def _retire(self, group: Group, work: Work) -> None:
        """Let a member that is down for good go on without the group."""
        del group.members[work.id]
        self._set(work, spec=work.record.spec.alone())
        self._keep(group)

    def _start_member(self, group: Group, work: Work, event: ControlEvent) -> None:
        placement = self._choose(work)
        if placement.node is None:
            self._no_place(group, work, event, placement)
            return
        group.starts[work.id] = None
        reason = work.record.reason
        self._start(work, event, placement)
        if work.fresh:
            self._note("sandbox_created", event, work, detail=explain(placement))
        else:
            detail = explain(placement, work.record.spec)
            self._note("sandbox_restarting", event, work, reason=reason, detail=detail)

    def _no_place(self, group: Group, work: Work, event: ControlEvent, placement: Placement) -> None:
        if work.fresh:
            error = self._homeless(work, placement)
            self._note("placement_refused", event, work, reason=error.what(), detail=explain(placement))
            self._not_created(work, event, error)
            return
        why = self._lose(work, event, placement)
        self._member_failed(group, work, event, why)

    def _member_failed(self, group: Group, work: Work, event: ControlEvent, reason: Any) -> None:
        """Its start has failed: what depended on it is off."""
        group.starts.pop(work.id, None)
        out = group.sup.handle(ChildStartFailed(work.id, reason, event.cause, event.at))
        if group.in_order:
            group.todo.clear()
        group.todo.extendleft(reversed(out))
        self._stir(group)

    def _try_member_again(self, group: Group, work: Work, event: ControlEvent) -> None:
        """Wait for the next try: for a node where none can take it, else longer each time."""
        if work.phase == "lost":
            return
        intensity = group.sup.intensity
        delay = self.policy.backoff.wait(len(intensity.restarts))
        if not delay:
            group.inbox.append(Heard(RetryDue(work.id, event.cause, event.at)))
            return
        self._set(work, "waiting")
        self._set_timer(work, delay)
        detail = {"delay": delay, "left": intensity.left(event.at)}
        self._note("restart_scheduled", event, work, reason=work.record.reason, detail=detail)

    def _rest(self, group: Group, work: Work, event: ControlEvent, reason: Any) -> None:
        """Leave a member down that its restart type leaves down; a temporary one is a member no longer."""
        restart = work.record.spec.restart
        if should_restart(restart, reason):
            return
        if restart == "temporary":
            self._retire(group, work)
        failed = restart == "temporary" and should_restart("transient", reason)
        self._down(work, event, reason, failed=failed)
