"""Groups: sandboxes under a supervisor of the cluster, with OTP's strategies.

`superlearner.core.strategy` decides, as it does for processes; this layer carries its decisions out, one
step at a time, over many events: a stop is done when nothing is left of the member, a start when it answers.
What happens meanwhile waits for its turn. Two things are the cluster's own:

- the loss of a node is nobody's fault, and is not taken from the budget;
- a member that no node can take is ``lost``; the supervisor goes on, and tries again when a node can.
"""

from __future__ import annotations

from collections import deque

from superlearner.core.control_events import ControlEvent
from superlearner.core.control_group_records import Group, Heard, Remove, Step, child_of, supervisor_of
from superlearner.core.control_group_steps import GroupSteps
from superlearner.core.control_instructions import Answer, ForgetGroup, KeepSandbox, Refuse
from superlearner.core.control_kept import KeptSandbox
from superlearner.core.control_records import OWNED
from superlearner.core.strategy_events import (
    Begin,
    ChildExited,
    ChildStartFailed,
    RetryDue,
    StartRequested,
    StopRequested,
)
from superlearner.core.strategy_instructions import End, GiveUp, Record, Retry, StartChild, StopChild
from superlearner.core.strategy_instructions import Refuse as Declined
from superlearner.errors import GroupFailed, NoGroup, StartFailed, SuperlearnerError


class Groups(GroupSteps):
    """What a group does."""

    def _run_groups(self, event: ControlEvent) -> None:
        """Have each group do what it can do now."""
        while self._stirred:
            id = next(iter(self._stirred))
            del self._stirred[id]
            group = self._groups.get(id)
            while group is not None and self._step(group, event):
                pass

    def _step(self, group: Group, event: ControlEvent) -> bool:
        """Do the next step, and tell whether there may be another one now."""
        if group.ending is not None:
            work = self._work.get(group.ending)
            if work is not None and work.stopping:
                return False
            key, group.ending = group.ending, None
            self._member_stopped(group, key, ControlEvent(cause=group.cause, at=event.at))
            return True
        if group.starts and group.in_order:
            return False
        if group.todo:
            # The steps follow from what began them, not from the report that lets the next one be done.
            self._do(group, group.todo.popleft(), ControlEvent(cause=group.cause, at=event.at))
            return True
        if group.inbox:
            if group.starts and isinstance(group.inbox[0].event, StopRequested):
                return False  # a restart of all begins when all that start have started
            heard = group.inbox.popleft()
            group.cause = heard.event.cause
            self._hear(group, heard, ControlEvent(cause=group.cause, at=event.at))
            return True
        return self._at_ease(group, event)

    def _do(self, group: Group, step: Step, event: ControlEvent) -> None:
        """Carry out one decision."""
        match step:
            case StopChild(key):
                if self._work[str(key)].phase in OWNED:
                    self._put_on_hold(self._work[str(key)], event, f"group {group.spec.id!r} restarts")
                group.ending = str(key)
            case StartChild(key):
                self._start_member(group, self._work[str(key)], event)
            case Retry(key):
                self._try_member_again(group, self._work[str(key)], event)
            case Record("restart_scheduled", key, reason, detail):
                group.restarts += 1
                told = {"group": group.spec.id, "member": key, **detail}
                self._note("group_restarting", event, reason=reason, detail=told)
            case Record("supervisor_gave_up", key, reason):
                group.reason = f"{key!r} ended once more than {_budget(group)} allow: {reason}"
            case Declined(error):
                self._declined(group, error, event)
            case GiveUp() | End():
                self._end_group(group, step, event)
            case Remove(key):
                self._destroy_work(self._work[key], event, "its group was destroyed")
                group.ending = key
            case _:
                pass  # the other records are told by the members' own events

    # -- What a group hears --------------------------------------------------------------------------

    def _hear(self, group: Group, heard: Heard, event: ControlEvent) -> None:
        match heard.event:
            case StopRequested():
                self._begin_restart(group, event)
            case ChildExited(key, reason):
                child = group.sup.children.get(key)
                if child is None or child.pid != heard.start:
                    return  # it was stopped, or started again, meanwhile
                group.todo.extend(group.sup.handle(heard.event))
                self._rest(group, self._work[str(key)], event, reason)
            case RetryDue(key) if self._work[str(key)].phase != "held":
                pass  # it has been started with others meanwhile
            case told:
                group.todo.extend(group.sup.handle(told))

    def _declined(self, group: Group, error: SuperlearnerError, event: ControlEvent) -> None:
        """A start that somebody asked for has failed."""
        if not isinstance(error, StartFailed):
            return  # it runs already: that is what was asked for
        if group.starting:
            group.reason = f"{error.what_failed!r} could not start: {error.reason}"
            group.todo.extend(group.sup.handle(StopRequested("shutdown", event.cause, event.at)))
        else:
            self._down(self._work[str(error.what_failed)], event, error.reason, failed=True)

    # -- The whole group -----------------------------------------------------------------------------

    def _begin_restart(self, group: Group, event: ControlEvent) -> None:
        """Stop all members, where they are not down already, then start all of them."""
        if group.status == "failed":
            self._begin_anew(group, event)
        else:
            group.stopping = True
            group.todo.extend(group.sup.handle(StopRequested("shutdown", event.cause, event.at)))

    def _begin_anew(self, group: Group, event: ControlEvent) -> None:
        group.sup = supervisor_of(group.spec)
        group.sup.handle(Begin())
        group.status, group.reason, group.stopping, group.starting = "running", None, False, True
        self._keep(group)
        group.inbox.clear()
        detail = {"group": group.spec.id, "starts": list(group.members)}
        self._note("group_restarting", event, reason="it was asked for", detail=detail)
        for key in group.members:
            work = self._work[key]
            self._set(work, "held")
            if not work.fresh:
                self._say(KeepSandbox(KeptSandbox(work.record.spec, work.highest)))
            work.avoid.clear()
            start = StartRequested(child_of(work.record.spec), None, event.cause, event.at)
            group.inbox.append(Heard(start))

    def _end_group(self, group: Group, step: Step, event: ControlEvent) -> None:
        """All have been stopped: the group has failed, or begins anew."""
        for key in reversed(group.members):
            if self._work[key].phase in OWNED:  # one that was starting: its supervisor did not stop it
                group.starts.pop(key, None)
                self._put_on_hold(self._work[key], event, f"group {group.spec.id!r} has given up")
                group.ending = key
                group.todo.appendleft(step)
                return
        if group.stopping:
            self._begin_anew(group, event)
            return
        group.status, group.starting = "failed", False
        # Of what it has not heard yet only a restart of all still counts.
        group.inbox = deque(heard for heard in group.inbox if isinstance(heard.event, StopRequested))
        error = GroupFailed(group.spec.id, group.reason)
        self._note("group_failed", event, reason=group.reason, detail={"group": group.spec.id})
        for key in list(group.members):
            work = self._work[key]
            if work.fresh:
                self._not_created(work, event, error)
            elif work.phase not in ("stopped", "failed"):
                self._down(work, event, with_its_group(group), failed=True)
        self._keep(group)
        if not group.inbox:
            self._settle_restarters(group, error)

    def _settle_restarters(self, group: Group, error: SuperlearnerError | None = None) -> None:
        waiters, group.restarters = group.restarters, []
        for cause in waiters:
            self._say(Answer(cause, group.info) if error is None else Refuse(cause, error))

    def _at_ease(self, group: Group, event: ControlEvent) -> bool:
        """Nothing is under way: answer who waits, and start what was left behind."""
        if group.starts:
            return False
        if group.dying:
            del self._groups[group.spec.id]
            self._note("group_destroyed", event, detail={"group": group.spec.id})
            self._say(ForgetGroup(group.spec.id))
            for cause in group.destroyers:
                self._say(Answer(cause))
            return False
        group.starting = False
        self._settle_restarters(group)
        phases = {key: self._work[key].phase for key in group.members}
        held = [key for key, phase in phases.items() if phase == "held"]
        others_come_first = group.in_order and not {"waiting", "lost"}.isdisjoint(phases.values())
        if not held or others_come_first:
            return False
        # Whoever they waited for has left the group meanwhile, or has failed beside them.
        group.sup.handle(ChildStartFailed(held[0], None, event.cause, event.at))
        group.inbox.append(Heard(RetryDue(held[0], event.cause, event.at, counts=False)))
        return True

    def _abolish(self, group: Group) -> None:
        """Begin to destroy a group: its members in reverse order, then itself."""
        group.dying = True
        self._settle_restarters(group, NoGroup(group.spec.id))
        group.inbox.clear()
        group.starts.clear()
        group.ending = None
        group.todo.clear()
        group.todo.extend(Remove(key) for key in reversed(group.members))
        self._stir(group)


def with_its_group(group: Group) -> str:
    """Return why a member is down whose group has given up."""
    id = group.spec.id
    return f"its group {id!r} has given up; restart_group({id!r}) starts all its members again"


def _budget(group: Group) -> str:
    return f"{group.spec.max_restarts} restarts in {group.spec.max_seconds:g} s"
