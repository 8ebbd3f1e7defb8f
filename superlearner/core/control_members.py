"""Sandboxes in groups: what would decide about one alone tells its group instead, which decides about all."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from superlearner.core.control_events import (
    ControlEvent,
    GroupCreateRequested,
    GroupDestroyRequested,
    GroupRestartRequested,
    InstanceStarted,
)
from superlearner.core.control_group_records import Group, Heard, Remove, child_of, supervisor_of
from superlearner.core.control_groups import Groups, with_its_group
from superlearner.core.control_instructions import Answer, Refuse
from superlearner.core.control_kept import KeptGroup, KeptSandbox
from superlearner.core.control_records import Waiter, Work
from superlearner.core.placement import Placement
from superlearner.core.spec import SandboxSpec
from superlearner.core.strategy_events import (
    Begin,
    ChildExited,
    ChildStarted,
    ChildStopped,
    DeleteRequested,
    Resume,
    RetryDue,
    StartRequested,
    StopRequested,
)
from superlearner.core.strategy_events import RestartRequested as RestartChild
from superlearner.core.strategy_instructions import Retry, StartChild, StopChild
from superlearner.errors import GroupExists, GroupFailed, NoGroup, SuperlearnerError

#: Why a sandbox is down that ran in a run that has ended.
_ENDED = "the control plane ended"


class Members(Groups):
    """The steps of one sandbox's life that are its group's to decide."""

    # -- Requests ------------------------------------------------------------------------------------

    def _living_group(self, id: str, cause: str) -> Group | None:
        """Return a group; when there is none, or none any more, refuse what was asked for."""
        group = self._groups.get(id)
        if group is None or group.dying:
            self._say(Refuse(cause, NoGroup(id)))
            return None
        return group

    def group_asked(self, event: GroupCreateRequested) -> None:
        """Make a group."""
        spec = event.spec
        if spec.id in self._groups:
            self._say(Refuse(event.cause, GroupExists(spec.id)))
            return
        group = self._groups[spec.id] = Group(spec, supervisor_of(spec))
        group.sup.handle(Begin())
        detail = {"group": spec.id, "strategy": spec.strategy}
        self._note("group_created", event, detail=detail)
        self._keep(group)
        self._say(Answer(event.cause, group.info))

    def _recall_group(self, kept: KeptGroup, sandboxes: Iterable[KeptSandbox], event: ControlEvent) -> None:
        """Bring a group of an earlier run back: as it was, and its members that ran one after the other."""
        spec = kept.spec
        group = self._groups[spec.id] = Group(spec, supervisor_of(spec), cause=event.cause)
        if kept.failed:
            group.status, group.reason = "failed", kept.reason
        places = {id: place for place, id in enumerate(kept.members)}
        down = set()
        for sandbox in sorted(sandboxes, key=lambda sandbox: places.get(sandbox.spec.id, len(places))):
            known = sandbox
            if known.down is None and kept.failed:
                known = sandbox._replace(down="failed", reason=with_its_group(group))
            elif known.down is None and known.spec.restart == "temporary":
                # It has ended with the run, and nobody starts it again: as after the loss of its node.
                self._recall(KeptSandbox(known.spec.alone(), known.epoch, "failed", _ENDED), event)
                continue
            group.members[known.spec.id] = None
            self._recall(known, event, "held")
            if known.down is not None:
                down.add(known.spec.id)
        detail = {"group": spec.id, "strategy": spec.strategy, "status": group.status}
        self._note("group_restored", event, reason=group.reason, detail=detail)
        self._keep(group)
        if not kept.failed:
            children = (child_of(self._work[id].record.spec) for id in group.members)
            group.sup = supervisor_of(spec, tuple(children))
            group.todo.extend(group.sup.handle(Resume(frozenset(down))))
            self._stir(group)

    def group_unwanted(self, event: GroupDestroyRequested) -> None:
        """Destroy a group with its members; whoever asks while that is done waits for it too."""
        group = self._groups.get(event.group)
        if group is None:
            self._say(Refuse(event.cause, NoGroup(event.group)))
            return
        group.destroyers.append(event.cause)
        if not group.dying:
            group.cause = event.cause
            self._abolish(group)

    def group_restart_asked(self, event: GroupRestartRequested) -> None:
        """Restart all members of a group."""
        group = self._living_group(event.group, event.cause)
        if group is None:
            return
        if (refusal := self.no_quorum) is not None:
            self._say(Refuse(event.cause, refusal))  # what is stopped now could not be started again
            return
        group.restarters.append(event.cause)
        if not group.starting and len(group.restarters) == 1:
            group.inbox.append(Heard(StopRequested("shutdown", event.cause, event.at)))
            self._stir(group)

    def _group_refusal(self, spec: SandboxSpec) -> SuperlearnerError | None:
        """Return why a sandbox cannot become a member of the group that it names."""
        if spec.group is None:
            return None
        group = self._groups.get(spec.group)
        if group is None or group.dying:
            return NoGroup(spec.group)
        return GroupFailed(spec.group, group.reason) if group.status == "failed" else None

    def _start_anew(self, work: Work, event: ControlEvent, waiter: Waiter) -> None:
        group = self._group_of(work)
        if group is None:
            super()._start_anew(work, event, waiter)
            return
        placement = self._choose(work)
        if group.status == "failed":
            self._say(Refuse(event.cause, GroupFailed(group.spec.id, group.reason)))
        elif placement.node is None:
            self._say(Refuse(event.cause, self._homeless(work, placement)))
        elif work.phase == "lost":
            work.waiters.append(waiter)
            self._start_or_lose(work, event)
        else:
            work.waiters.append(waiter)
            self._set(work, "held", reason="it was asked for")
            group.inbox.append(Heard(RestartChild(work.id, event.cause, event.at)))
            self._stir(group)

    # -- Beginning and running -----------------------------------------------------------------------

    def _start_new(self, work: Work, event: ControlEvent, placement: Placement) -> None:
        group = self._groups.get(work.group or "")
        if group is None:
            super()._start_new(work, event, placement)
            return
        group.members[work.id] = None
        self._keep(group)
        self._set(work, "held")
        start = StartRequested(child_of(work.record.spec), None, event.cause, event.at)
        group.inbox.append(Heard(start))
        self._stir(group)

    def _run(self, work: Work, event: InstanceStarted) -> None:
        super()._run(work, event)
        group = self._group_of(work)
        if group is not None:
            group.starts.pop(work.id, None)
            work.avoid.clear()
            group.serial += 1
            group.sup.handle(ChildStarted(work.id, group.serial, event.cause, event.at))
            self._stir(group)

    def _start_or_lose(self, work: Work, event: ControlEvent) -> bool:
        """Its back-off is over, or a node may be there for it."""
        group = self._group_of(work)
        if group is None:
            return super()._start_or_lose(work, event)
        lost = work.phase == "lost"
        if lost and self._choose(work).node is None:
            return False
        self._set(work, "held")
        group.inbox.append(Heard(RetryDue(work.id, event.cause, event.at, counts=not lost)))
        self._stir(group)
        return True

    # -- Ending --------------------------------------------------------------------------------------

    def _try_again(self, work: Work, event: ControlEvent, reason: Any) -> None:
        group = self._group_of(work)
        if group is None:
            super()._try_again(work, event, reason)
            return
        self._set(work, "held", node=None, address=None, pid=None, reason=reason)
        if work.id in group.starts:
            self._member_failed(group, work, event, reason)
        else:
            self._member_exited(group, work, event, reason, counts=True)

    def _node_lost_under(self, work: Work, event: ControlEvent, reason: str) -> None:
        group = self._group_of(work)
        if group is None or work.fresh:
            super()._node_lost_under(work, event, reason)
            return
        self._disown(work)
        work.early.clear()
        self._set(work, "held", node=None, address=None, pid=None, reason=reason)
        if work.id in group.starts:
            del group.starts[work.id]
            self._start_member(group, work, event)
        else:
            self._member_exited(group, work, event, reason, counts=False)

    def _adopt(self, work: Work, event: ControlEvent, reason: Any) -> None:
        """End a move whose owner is gone: the group is to hear of the loss before anything starts."""
        group = self._group_of(work)
        if group is None:
            super()._adopt(work, event, reason)
            return
        node = str(work.record.node)
        self._roll_back(work, event, reason, resume=False)
        self._disown(work)
        work.prefer = node
        self._set(work, "held", node=None, address=None, pid=None, reason=reason)
        self._member_exited(group, work, event, reason, counts=node in self.nodes)

    def _member_exited(
        self, group: Group, work: Work, event: ControlEvent, reason: Any, *, counts: bool
    ) -> None:
        child = group.sup.children[work.id]
        exited = ChildExited(work.id, reason, event.cause, event.at, counts)
        group.inbox.append(Heard(exited, child.pid))
        self._stir(group)

    def _unstop(self, work: Work, epoch: int) -> bool:
        group = self._groups.get(work.group or "")
        if group is not None:
            self._stir(group)  # it may have waited for this
        return super()._unstop(work, epoch)

    # -- Leaving -------------------------------------------------------------------------------------

    def _begin_destroy(self, work: Work, event: ControlEvent) -> None:
        group = self._group_of(work)
        if group is not None:
            self._leave_group(group, work, event)
        super()._begin_destroy(work, event)

    def _leave_group(self, group: Group, work: Work, event: ControlEvent) -> None:
        """Let the group know this member no longer, whatever it was about to do with it."""
        id = work.id
        del group.members[id]
        self._keep(group)
        group.starts.pop(id, None)
        if group.ending == id:
            group.ending = None
        mine = (StartChild, StopChild, Retry, Remove)
        group.todo = deque(step for step in group.todo if not (isinstance(step, mine) and step.key == id))
        group.inbox = deque(heard for heard in group.inbox if _whose(heard) != id)
        if id in group.sup.children:
            group.sup.handle(ChildStopped(id, event.cause, event.at))
            group.sup.handle(DeleteRequested(id, event.cause, event.at))
        self._stir(group)


def _whose(heard: Heard) -> Any:
    spec = getattr(heard.event, "spec", None)
    return getattr(heard.event, "key", None) if spec is None else spec.id
