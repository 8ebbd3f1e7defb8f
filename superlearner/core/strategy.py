"""What a supervisor decides: which children stop and start, in what order, and when it gives up.

The same machine serves processes in a sandbox and sandboxes in the cluster. It changes only through
`SupervisorState.handle`; whoever runs it carries out the instructions in order, reports each outcome as
an event, and drops the rest of a list when a `StartChild` in it fails.

Longer than most modules: what happens to children is one table of transitions.

>>> from superlearner.core.childspec import ChildSpec
>>> sup = SupervisorState(SupervisorSpec((ChildSpec("a", int), ChildSpec("b", int)), strategy="rest_for_one"))
>>> [i.key for i in sup.handle(Begin())]
['a', 'b']
>>> sup.handle(ChildStarted("a", "<1>")), sup.handle(ChildStarted("b", "<2>"))
([], [])
>>> [type(i).__name__ + " " + i.key for i in sup.handle(ChildExited("a", "boom", at=1.0))]
['Record a', 'StopChild b', 'StartChild a', 'StartChild b']
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Any, Literal, assert_never

from superlearner.core.childspec import AnySpec, SupervisorSpec, validate_significant
from superlearner.core.restart import Intensity, should_restart
from superlearner.core.strategy_events import (
    Begin,
    ChildExited,
    ChildStarted,
    ChildStartFailed,
    ChildStopped,
    DecisionDue,
    DeleteRequested,
    OptionsChanged,
    Paused,
    Prune,
    RestartRequested,
    Resume,
    RetryDue,
    SpecChanged,
    StartRequested,
    StopRequested,
    SupervisorEvent,
    TerminateRequested,
    Unpaused,
)
from superlearner.core.strategy_instructions import (
    Decide,
    End,
    GiveUp,
    Instruction,
    Record,
    Refuse,
    Retry,
    StartChild,
    StopChild,
    StopTogether,
)
from superlearner.errors import (
    AlreadyPresent,
    AlreadyStarted,
    ChildNotFound,
    ChildRunning,
    InvalidSpec,
    InvalidTransition,
    MaxChildren,
    StartFailed,
)

#: ``stopped``: kept, not running (terminated, ignored or ended normally); ``ended``: during a pause, and not
#: decided on yet.
ChildStatus = Literal["stopped", "starting", "running", "restarting", "stopping", "ended"]


@dataclass(frozen=True, slots=True)
class Child:
    """One child as its supervisor knows it."""

    key: Hashable
    spec: AnySpec
    status: ChildStatus = "stopped"
    pid: Any = None
    #: The pid before this one, by which a child that waits for its restart is still known.
    was: Any = None
    #: What is to be decided on after a pause.
    end: ChildExited | RetryDue | None = None
    #: How often it has been started again.
    restarts: int = 0
    #: Added at run time by start_child.
    added: bool = False

    @property
    def at_rest(self) -> bool:
        """Whether it runs no code and waits for nothing."""
        return self.status in {"stopped", "ended"}


#: What `OptionsChanged` may change.
_OPTIONS = ("strategy", "max_restarts", "max_seconds")


class SupervisorState:
    """One supervisor's children and restart budget, changed only through `handle`."""

    def __init__(self, spec: SupervisorSpec) -> None:
        #: Its options; ``spec.children`` is what it started with.
        self.spec = spec
        #: Every child it knows, in start order.
        self.children: dict[Hashable, Child] = {}
        self.intensity = Intensity(spec.max_restarts, spec.max_seconds)
        #: ``starting`` until every first child runs; then ``running``; ``ending`` for good.
        self.phase: Literal["starting", "running", "ending"] = "starting"
        #: Whether children that end are left as they are until `Unpaused`.
        self.paused = False
        #: Whether `OptionsChanged` has made the options others than those of the application.
        self.adjusted = False
        #: The children whose start somebody waits for: a failure is told, not retried.
        self._requested: set[Hashable] = set()
        #: The children that the newest restart starts.
        self._together: set[Hashable] = set()
        #: The children that go when a reload has worked.
        self._going: set[Hashable] = set()
        self._serial = 1
        for key, child in initial_children(spec):
            self.children[key] = Child(key, child)
        #: How many of the first children have not started yet.
        self._first = len(self.children)

    def handle(self, event: SupervisorEvent) -> list[Instruction]:
        """Take one event and return what to do, in order."""
        match event:
            case Begin():
                return self._begin()
            case Resume():
                self.phase = "running"
                return [StartChild(key, c.spec) for key, c in self.children.items() if key not in event.down]
            case ChildStarted():
                return self._started(event)
            case ChildStartFailed():
                return self._start_failed(event)
            case ChildExited():
                return self._exited(event)
            case ChildStopped():
                return self._stopped(event)
            case RetryDue():
                return self._retry(event)
            case StartRequested():
                return self._start(event)
            case TerminateRequested():
                return self._terminate(event)
            case RestartRequested():
                return self._restart_requested(event)
            case DeleteRequested():
                return self._delete(event)
            case StopRequested():
                return self._end(End(event.reason))
            case SpecChanged():
                return self._change(event)
            case Prune():
                return self._prune()
            case OptionsChanged():
                return self._change_options(event)
            case Paused():
                return self._pause()
            case Unpaused():
                return self._unpause()
            case DecisionDue():
                return self._decide(event)
        assert_never(event)

    # -- Starting ---------------------------------------------------------------------------------

    def _begin(self) -> list[Instruction]:
        starts = [self._start_instruction(key) for key in self.children]
        if not starts:
            self.phase = "running"
        return list(starts)

    def _start_instruction(self, key: Hashable) -> StartChild:
        child = self.children[key]
        self.children[key] = replace(child, status="starting", pid=None)
        return StartChild(key, child.spec, child.restarts)

    def _started(self, event: ChildStarted) -> list[Instruction]:
        child = self._expect(event.key, event)
        self._requested.discard(event.key)
        if event.pid is not None:
            self.children[event.key] = replace(child, status="running", pid=event.pid)
        elif child.spec.restart == "temporary" or self.spec.kind == "dynamic":
            del self.children[event.key]
        else:
            self.children[event.key] = replace(child, status="stopped", pid=None)
        if self.phase == "starting":
            self._first -= 1
            if self._first == 0:
                self.phase = "running"
        return []

    def _start_failed(self, event: ChildStartFailed) -> list[Instruction]:
        child = self._expect(event.key, event)
        record = Record("start_failed", event.key, event.reason, {"restart": child.restarts})
        if event.key in self._requested:
            self._requested.clear()
            if child.added and child.restarts == 0:
                del self.children[event.key]
            else:
                self.children[event.key] = replace(child, status="stopped")
            return [record, Refuse(StartFailed(event.reason, event.key))]
        if self.phase == "starting":
            self.children[event.key] = replace(child, status="stopped")
            reason = ("shutdown", ("failed_to_start_child", event.key, event.reason))
            return [record, *self._end(End(reason))]
        # The others of this restart are started with the next try: theirs is not pending, as in OTP.
        for other in self._together & self.children.keys():
            if self.children[other].status == "restarting":
                self.children[other] = replace(self.children[other], status="stopped")
        self.children[event.key] = replace(child, status="restarting")
        return [record, Retry(event.key)]

    # -- Ends -------------------------------------------------------------------------------------

    def _exited(self, event: ChildExited) -> list[Instruction]:
        child = self.children.get(event.key)
        if child is None or child.status != "running" or self.phase == "ending":
            return []  # old news: it was stopped, deleted or replaced meanwhile
        if self.paused:
            return self._postpone(replace(child, pid=None, was=child.pid, end=event), event.reason)
        if should_restart(child.spec.restart, event.reason):
            return self._restart(child, event.reason, event.at, counts=event.counts)
        if child.spec.restart == "temporary" or self.spec.kind == "dynamic":
            del self.children[event.key]
        else:
            self.children[event.key] = replace(child, status="stopped", pid=None)
        return self._auto_shutdown(child)

    def _auto_shutdown(self, ended: Child) -> list[Instruction]:
        if not ended.spec.significant:
            return []
        match self.spec.auto_shutdown:
            case "never":
                return []
            case "any_significant":
                return self._end(End("shutdown"))
            case "all_significant":
                # One that waits for its restart is not gone, as in OTP.
                alive = any(c.spec.significant and c.status != "stopped" for c in self.children.values())
                return [] if alive else self._end(End("shutdown"))
        assert_never(self.spec.auto_shutdown)

    def _restart(self, child: Child, reason: Any, at: float, *, counts: bool) -> list[Instruction]:
        allowed = True
        if counts:
            self.intensity, allowed = self.intensity.spend(at)
        was = child.was if child.pid is None else child.pid
        child = replace(child, status="restarting", pid=None, was=was, restarts=child.restarts + 1)
        self.children[child.key] = child
        if not allowed:
            return self._exhausted(child, reason)
        behind = self._void_tries(self._affected(child.key))
        stops = [
            self._stop_instruction(key) for key in reversed(behind) if self.children[key].status == "running"
        ]
        starts = [
            self._again(key, first=key == child.key)
            for key in self._from(child.key, behind)
            if self.children[key].spec.restart != "temporary"
        ]
        self._together = {start.key for start in starts}
        detail = {
            "restart": child.restarts,
            "budget_left": self.intensity.left(at),
            "max_restarts": self.spec.max_restarts,
            "max_seconds": self.spec.max_seconds,
            "strategy": self.spec.strategy,
            "stops": [stop.key for stop in stops],
            "starts": [start.key for start in starts],
        }
        return [Record("restart_scheduled", child.key, reason, detail), *stops, *starts]

    def _void_tries(self, keys: list[Hashable]) -> list[Hashable]:
        """Children that are started with another one have no decision of their own to come any more."""
        for key in keys:
            child = self.children[key]
            if child.status == "ended" and child.spec.restart == "temporary":
                del self.children[key]
            elif child.status in {"restarting", "ended"}:
                self.children[key] = replace(child, status="stopped", end=None)
        return [key for key in keys if key in self.children]

    def _exhausted(self, child: Child, reason: Any) -> list[Instruction]:
        detail = {
            "restart": child.restarts,
            "budget_left": 0,
            "max_restarts": self.spec.max_restarts,
            "max_seconds": self.spec.max_seconds,
            "why": "reached_max_restart_intensity",
        }
        self.children[child.key] = replace(child, status="stopped")
        return [Record("supervisor_gave_up", child.key, reason, detail), *self._end(GiveUp("shutdown"))]

    def _affected(self, key: Hashable) -> list[Hashable]:
        """Return the other children that stop and start with `key`, in start order."""
        keys = list(self.children) if self.spec.strategy != "one_for_one" else []
        match self.spec.strategy:
            case "one_for_one":
                return []
            case "one_for_all":
                return [other for other in keys if other != key]
            case "rest_for_one":
                return keys[keys.index(key) + 1 :]
        assert_never(self.spec.strategy)

    def _from(self, key: Hashable, others: list[Hashable]) -> list[Hashable]:
        chosen = {key, *others}
        return [other for other in self.children if other in chosen] if others else [key]

    def _again(self, key: Hashable, *, first: bool) -> StartChild:
        child = self.children[key]
        if not first and (child.status == "stopping" or child.restarts or child.was is not None):
            child = replace(child, restarts=child.restarts + 1)
            self.children[key] = child
        return StartChild(key, child.spec, child.restarts)

    def _retry(self, event: RetryDue) -> list[Instruction]:
        child = self.children.get(event.key)
        if child is None or child.status != "restarting" or self.phase == "ending":
            return []  # terminated or started by hand meanwhile
        if self.paused:
            return self._postpone(replace(child, end=event), "start_failed")
        return self._restart(child, "start_failed", event.at, counts=event.counts)

    # -- A pause ----------------------------------------------------------------------------------

    def _pause(self) -> list[Instruction]:
        if self.paused:
            return []
        self.paused = True
        return [Record("supervision_paused")]

    def _postpone(self, child: Child, reason: Any) -> list[Instruction]:
        self.children[child.key] = replace(child, status="ended")
        return [Record("decision_postponed", child.key, reason)]

    def _unpause(self) -> list[Instruction]:
        if not self.paused:
            return []
        self.paused = False
        waiting = [Decide(key) for key, child in self.children.items() if child.status == "ended"]
        return [Record("supervision_resumed", detail={"decides_on": [w.key for w in waiting]}), *waiting]

    def _decide(self, event: DecisionDue) -> list[Instruction]:
        child = self.children.get(event.key)
        if child is None or child.status != "ended" or self.paused or self.phase == "ending":
            return []  # terminated, started with another one or by hand meanwhile, or it is paused again
        end = child.end
        # As it was when it ended: what follows is decided now, and counts now.
        self.children[event.key] = replace(
            child, status="restarting" if isinstance(end, RetryDue) else "running", end=None
        )
        assert end is not None
        return self.handle(replace(end, at=event.at))

    # -- Stops ------------------------------------------------------------------------------------

    def _stop_instruction(self, key: Hashable) -> StopChild:
        child = self.children[key]
        self.children[key] = replace(child, status="stopping")
        return StopChild(key, child.spec)

    def _stopped(self, event: ChildStopped) -> list[Instruction]:
        child = self._expect(event.key, event)
        if child.spec.restart == "temporary" or self.spec.kind == "dynamic" or event.key in self._going:
            del self.children[event.key]
        else:
            self.children[event.key] = replace(child, status="stopped", pid=None, end=None)
        return []

    def _end(self, last: End | GiveUp) -> list[Instruction]:
        self.phase = "ending"
        running = [c.key for c in reversed(self.children.values()) if c.status in {"running", "stopping"}]
        stops = [self._stop_instruction(key) for key in running]
        if self.spec.kind == "dynamic":
            return [StopTogether(tuple(stops)), last] if stops else [last]
        return [*stops, last]

    # -- Verbs ------------------------------------------------------------------------------------

    def _start(self, event: StartRequested) -> list[Instruction]:
        spec, key = event.spec, event.spec.id
        validate_significant(spec, self.spec.auto_shutdown)
        if self.spec.kind == "dynamic":
            limit = self.spec.max_children
            if limit is not None and len(self.children) >= limit:
                return [Refuse(MaxChildren(limit))]
            key = self._free_key(spec.id) if event.key is None else event.key
        elif (child := self.children.get(key)) is not None:
            known = AlreadyStarted(child.pid) if child.pid is not None else AlreadyPresent(key)
            return [Refuse(known)]
        self.children[key] = Child(key, spec, added=True)
        self._requested = {key}
        return [self._start_instruction(key)]

    def _free_key(self, id: Hashable) -> Hashable:
        if id not in self.children:
            return id
        while True:
            self._serial += 1
            key = f"{id}#{self._serial}"
            if key not in self.children:
                return key

    def _terminate(self, event: TerminateRequested) -> list[Instruction]:
        child = self.children.get(event.key)
        if child is None:
            return [Refuse(ChildNotFound(event.key))]
        if child.status == "running":
            return [self._stop_instruction(event.key)]
        return self._stopped(ChildStopped(event.key))

    def _restart_requested(self, event: RestartRequested) -> list[Instruction]:
        child = self.children.get(event.key)
        if child is None:
            return [Refuse(ChildNotFound(event.key))]
        if not child.at_rest:
            return [Refuse(ChildRunning(event.key))]
        self._requested = {event.key}
        self.children[event.key] = replace(child, restarts=child.restarts + 1, end=None)
        return [self._start_instruction(event.key)]

    def _delete(self, event: DeleteRequested) -> list[Instruction]:
        child = self.children.get(event.key)
        if child is None:
            return [Refuse(ChildNotFound(event.key))]
        if not child.at_rest:
            return [Refuse(ChildRunning(event.key))]
        del self.children[event.key]
        return []

    def _change_options(self, event: OptionsChanged) -> list[Instruction]:
        wanted = {name: value for name in _OPTIONS if (value := getattr(event, name)) is not None}
        before = self.options()
        try:
            self.spec = replace(self.spec, **wanted)
        except InvalidSpec as refused:
            return [Refuse(refused)]
        after = self.options()
        if after == before:
            return []
        # What was spent stays spent, as far as the new window reaches.
        self.intensity = Intensity(self.spec.max_restarts, self.spec.max_seconds, self.intensity.restarts)
        self.adjusted = True
        return [Record("supervisor_changed", detail={"before": before, "after": after})]

    def options(self) -> dict[str, Any]:
        """Return the options that may be changed while it runs, as `OptionsChanged` takes them."""
        return {name: getattr(self.spec, name) for name in _OPTIONS}

    def _change(self, event: SpecChanged) -> list[Instruction]:
        spec, old = event.spec, self.children
        self.adjusted = event.adjusted
        wanted = dict(initial_children(spec))
        self.intensity = Intensity(spec.max_restarts, spec.max_seconds, self.intensity.restarts)
        self.spec = spec
        self._going = {key for key, child in old.items() if key not in wanted and not child.added}
        new = {key: replace(old.get(key, Child(key, child)), spec=child) for key, child in wanted.items()}
        self.children = new | {key: child for key, child in old.items() if key not in wanted}
        missing = [key for key in wanted if key not in old]
        self._requested = set(missing)
        return [self._start_instruction(key) for key in missing]

    def _prune(self) -> list[Instruction]:
        going = [child for key, child in reversed(self.children.items()) if key in self._going]
        for child in going:
            if child.status != "running":
                del self.children[child.key]
        return [self._stop_instruction(child.key) for child in going if child.status == "running"]

    def _expect(self, key: Hashable, event: SupervisorEvent) -> Child:
        child = self.children.get(key)
        if child is None:
            raise InvalidTransition(
                f"{event} names a child that the supervisor {self.spec.id!r} does not have."
            )
        return child


def initial_children(spec: SupervisorSpec) -> list[tuple[Hashable, AnySpec]]:
    """Return the children that `spec` starts with, by key: a partition supervisor's are numbered from 0."""
    if spec.kind == "partition":
        return [(n, replace(spec.children[0], id=n)) for n in range(spec.partitions or 0)]
    return [(child.id, child) for child in spec.children]
