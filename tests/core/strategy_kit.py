"""A world that carries out what a supervisor machine decides, as a runtime does."""

from __future__ import annotations

from collections import deque

from superlearner.core.childspec import ChildSpec
from superlearner.core.strategy import SupervisorState
from superlearner.core.strategy_events import (
    Begin,
    ChildExited,
    ChildStarted,
    ChildStartFailed,
    ChildStopped,
    DecisionDue,
    RetryDue,
)
from superlearner.core.strategy_instructions import (
    Decide,
    End,
    GiveUp,
    Record,
    Refuse,
    Retry,
    StartChild,
    StopChild,
    StopTogether,
)


def worker(id, **options):
    return ChildSpec(id=id, start=int, **options)


class World:
    """Carries instructions out as a runtime does, and notes what it did."""

    def __init__(self, spec, failing=()):
        self.state = SupervisorState(spec)
        self.alive: dict = {}
        self.failing = set(failing)
        self.ignoring: set = set()
        self.done: list[str] = []
        self.retries: deque = deque()
        self.decisions: deque = deque()
        self.records: list[Record] = []
        self.times: list[float] = []
        self.refused = None
        self.ended = None
        self.pids = 0
        self.at = 0.0
        self.do(Begin(at=0.0))

    def do(self, event):
        assert self.ended is None
        self.refused = None
        self.carry_out(self.state.handle(event))
        return self

    def carry_out(self, instructions):
        queue = deque(instructions)
        while queue:
            match queue.popleft():
                case StartChild(key):
                    assert key not in self.alive
                    if key in self.failing:
                        self.done.append(f"!{key}")
                        queue = deque(self.state.handle(ChildStartFailed(key, "no", at=self.at)))
                    elif key in self.ignoring:
                        assert self.state.handle(ChildStarted(key, None)) == []
                    else:
                        self.pids += 1
                        self.alive[key] = self.pids
                        self.done.append(f"+{key}")
                        assert self.state.handle(ChildStarted(key, self.pids)) == []
                case StopChild(key):
                    self.stop(key)
                case StopTogether(children):
                    for child in children:
                        self.stop(child.key)
                case Retry(key):
                    self.retries.append(key)
                case Decide(key):
                    self.decisions.append(key)
                case Record() as record:
                    self.records.append(record)
                    self.times.append(self.at)
                case Refuse(error):
                    self.refused = error
                case GiveUp(reason) | End(reason):
                    self.ended = reason
                    assert not queue

    def stop(self, key):
        del self.alive[key]
        self.done.append(f"-{key}")
        self.carry_out(self.state.handle(ChildStopped(key)))

    def exit(self, key, reason="crash", at=0.0):
        del self.alive[key]
        self.at = at
        return self.do(ChildExited(key, reason, at=at))

    def retry(self, at=0.0):
        self.at = at
        return self.do(RetryDue(self.retries.popleft(), at=at))

    def decide(self, at=0.0):
        self.at = at
        while self.decisions and self.ended is None:
            self.do(DecisionDue(self.decisions.popleft(), at=at))
        return self

    def took(self):
        done, self.done = " ".join(self.done), []
        return done

    def statuses(self):
        return {key: child.status for key, child in self.state.children.items()}
