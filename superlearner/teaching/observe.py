"""Run an exercise's script on what the learner made, and keep what happened.

The one part of a check that does something. A script runs in this process (`observe_here`) or on a real
cluster, in a sandbox of its own that is destroyed afterwards (`observe_on`). What the learner's code raises
becomes part of the observation; it never reaches the notebook's cell.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Protocol

from superlearner.core.history import Event
from superlearner.errors import NoSandbox
from superlearner.teaching.check import Observation, Raised, Step

#: Seconds that one step may take before it counts as unanswered.
STEP_TIMEOUT = 5.0
#: Seconds that are waited for events which a sandbox has sent and the cluster has not yet recorded.
EVENTS_TIMEOUT = 3.0
#: Reasons with which processes end when an observation is over.
_ENDINGS = ("shutdown", "destroyed")


class Target(Protocol):
    """What a script runs on: a runtime or a sandbox."""

    def call(self, target: Any, request: Any, *, timeout: float) -> Any:
        """Ask and wait for the answer."""

    def cast(self, target: Any, message: Any) -> Any:
        """Tell."""

    def kill(self, target: Any) -> Any:
        """End a process from outside."""

    def get_state(self, target: Any) -> Any:
        """Read a state."""

    def which_children(self, supervisor: Any) -> Any:
        """List a supervisor's children."""


class Recorder:
    """Collects events from whatever thread reports them, and lets a script wait for one."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._changed = threading.Condition()

    def add(self, event: Event) -> None:
        """Take one event."""
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    @property
    def events(self) -> tuple[Event, ...]:
        """All events so far."""
        with self._changed:
            return tuple(self._events)

    def wait(self, wanted: Callable[[Event], bool], *, since: int, timeout: float) -> bool:
        """Wait for an event that is `wanted`, counted from number `since` on; tell whether it came in time."""
        with self._changed:
            return self._changed.wait_for(lambda: any(map(wanted, self._events[since:])), timeout)


def observe_here(app: Callable[[], Any], script: Iterable[Step]) -> Observation:
    """Run `script` on the application that `app` makes, in a runtime in this process."""
    from superlearner.otp import Runtime

    recorder = Recorder()
    answers: dict[str, Any] = {}
    try:
        with Runtime(app(), on_event=recorder.add) as runtime:
            run(runtime, script, recorder, answers)
    except Exception as error:
        return Observation(before_the_end(recorder.events), answers, Raised.of(error))
    return Observation(before_the_end(recorder.events), answers)


def observe_on(cluster: Any, sandbox: str, app: Callable[[], Any], script: Iterable[Step]) -> Observation:
    """Run `script` on `cluster`, in a sandbox of its own that is destroyed afterwards."""

    def mine(event: Event) -> None:
        if event.sandbox == sandbox:
            recorder.add(event)

    recorder = Recorder()
    answers: dict[str, Any] = {}
    crash: Raised | None = None
    unsubscribe = cluster.subscribe(mine)
    try:
        # A kernel that was ended in the middle of a check may have left one behind.
        with contextlib.suppress(NoSandbox):
            cluster.destroy_sandbox(sandbox)
        box = cluster.create_sandbox(sandbox, app())
        run(box, script, recorder, answers)
    except Exception as error:
        crash = Raised.of(error)
    finally:
        # There is none when its specification was refused.
        with contextlib.suppress(NoSandbox):
            cluster.destroy_sandbox(sandbox)
        unsubscribe()
    return Observation(before_the_end(recorder.events), answers, crash)


def before_the_end(events: tuple[Event, ...]) -> tuple[Event, ...]:
    """Return `events` without the orderly shutdown that ends every observation and tells nothing.

    >>> died, ended = Event("process_exited", reason="killed"), Event("process_exited", reason="shutdown")
    >>> [event.reason for event in before_the_end((ended, died, ended, Event("sandbox_destroyed")))]
    ['shutdown', 'killed']
    """
    last = len(events)
    while last and (events[last - 1].reason in _ENDINGS or events[last - 1].kind == "sandbox_destroyed"):
        last -= 1
    return events[:last]


def observe_events(
    cluster: Any, sandbox: str | None, values: Mapping[str, Any], enough: Callable[[Observation], bool]
) -> Observation:
    """Read what `cluster` has recorded, of one sandbox where given; wait a moment for what is still on its way."""
    news = threading.Event()
    unsubscribe = cluster.subscribe(lambda _event: news.set())
    deadline = time.monotonic() + EVENTS_TIMEOUT
    try:
        while True:
            news.clear()
            seen = Observation(tuple(cluster.events(sandbox=sandbox)), values)
            if enough(seen) or not news.wait(max(0.0, deadline - time.monotonic())):
                return seen
    finally:
        unsubscribe()


def run(target: Target, script: Iterable[Step], recorder: Recorder, answers: dict[str, Any]) -> None:
    """Do each step of `script` on `target`; keep the labelled answers in `answers`."""
    for step in script:
        before = len(recorder.events)
        try:
            answer = _do(target, step)
        except Exception as error:
            answer = Raised.of(error)
        if step.label is not None:
            answers[step.label] = answer
        if (step.ends or step.verb == "kill") and not isinstance(answer, Raised):
            recorder.wait(_exit_of(step.target), since=before, timeout=STEP_TIMEOUT)
            # A supervisor handles one thing at a time: when it answers, it has decided about that exit.
            target.which_children("root")


def _do(target: Target, step: Step) -> Any:
    match step.verb:
        case "call":
            return target.call(step.target, step.message, timeout=STEP_TIMEOUT)
        case "cast":
            return target.cast(step.target, step.message)
        case "kill":
            return target.kill(step.target)
        case "state":
            return target.get_state(step.target)


def _exit_of(name: str) -> Callable[[Event], bool]:
    return lambda event: event.kind == "process_exited" and event.name == name
