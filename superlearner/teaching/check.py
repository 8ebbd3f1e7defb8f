"""A check: what was observed -> a verdict. Pure, so that a lesson proves itself without a cluster.

An `Exercise` is a table that can be read aloud: what is run on the learner's work (``script``), which
mistakes are likely (each with how it shows in the record, and its own hint), and what must hold to pass.
`judge` reads the table from top to bottom; it never runs anything. A `Prediction` is asked before something
is broken, and compared afterwards with what the record says.

>>> from superlearner.core.history import Event
>>> alive = Exercise("alive", "Start a process", passed=lambda seen: seen.of("process_started"), praise="It runs.")
>>> judge(alive, Observation(events=(Event("process_started", name="counter"),))).outcome
'passed'
>>> judge(alive, Observation(answers={"value": ...})).outcome
'not tried'
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from superlearner.core.history import Event

Outcome = Literal["passed", "wrong", "crashed", "not tried"]
Evidence = Sequence[Event]


@dataclass(frozen=True, slots=True)
class Raised:
    """An exception, kept as plain text so that an observation can be compared and written by hand."""

    #: The exception's class name, such as ``ProcessDied``.
    type: str
    #: Its message.
    message: str = ""

    @classmethod
    def of(cls, error: BaseException) -> Raised:
        """Keep what `error` says."""
        return cls(type(error).__name__, str(error))

    def __str__(self) -> str:
        return f"{self.type}: {self.message}".rstrip(": ")


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that is done to the learner's processes while they are observed.

    ``call``, ``cast`` and ``kill`` mean what they mean on a sandbox; ``state`` reads a process's state. After
    a ``kill`` the next step waits until its supervisor has decided what to do about it.
    """

    verb: Literal["call", "cast", "kill", "state"]
    #: The registered name.
    target: str
    message: Any = None
    #: Under which name the answer is kept; None: it is not kept.
    label: str | None = None
    #: Whether this message ends the process, so that the next step has to wait as after a ``kill``.
    ends: bool = False


@dataclass(frozen=True, slots=True)
class Observation:
    """All that a check may know: the recorded events, the answers that came, and what was raised on the way."""

    events: tuple[Event, ...] = ()
    #: The answer of each labelled step, or a `Raised`.
    answers: Mapping[str, Any] = field(default_factory=dict)
    #: What ended the observation early, such as a refused specification; None if it went to its end.
    crash: Raised | None = None

    def of(self, kind: str, name: str | None = None) -> list[Event]:
        """Return the events of one kind, and of one process where `name` is given, oldest first."""
        return [e for e in self.events if e.kind == kind and (name is None or e.name == name)]

    def after(self, event: Event) -> Observation:
        """Return what was seen later than `event`; of equal events the last one counts."""
        place = max(place for place, other in enumerate(self.events) if other == event)
        return Observation(self.events[place + 1 :], self.answers, self.crash)

    @property
    def untouched(self) -> bool:
        """Whether the starter's ``...`` is still in the place where the learner's answer belongs."""
        if self.crash is not None:
            return "Ellipsis" in self.crash.message
        return any(answer is ... for answer in self.answers.values())


#: Looks for something in an observation: its evidence (it may be empty) where it is found, None where not.
Finder = Callable[[Observation], Evidence | None]


@dataclass(frozen=True, slots=True)
class Mistake:
    """A likely mistake: how it shows, what to tell about it, and the hint that it alone earns."""

    id: str
    found: Finder
    #: What broke, in one or two sentences.
    message: str
    #: What to think about, without giving the answer away.
    hint: str
    #: Python source of an exercise cell that makes this mistake. The tests run it: it must earn this hint.
    example: str = ""


@dataclass(frozen=True, slots=True)
class Exercise:
    """One exercise of a lesson.

    Options:

    - ``passed``: finds the evidence that the work does what was asked, or None;
    - ``praise``: said when it does;
    - ``script``: the steps that are run on the learner's work before it is judged;
    - ``app``: makes the application to observe from what the learner handed in (default: it is one);
    - ``defines``: the name that the exercise's cell defines, for `Questions.use`;
    - ``mistakes``: the likely ones, the most telling first;
    - ``hints``: general hints, from a nudge to nearly the answer.
    """

    id: str
    title: str
    passed: Finder
    praise: str
    script: tuple[Step, ...] = ()
    app: Callable[[Any], Any] = lambda given: given
    defines: str = ""
    mistakes: tuple[Mistake, ...] = ()
    hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Prediction:
    """A question that is answered before something is broken.

    ``happened`` reads the record and returns ``(choice, evidence)``, or None when it has not happened yet.
    ``why`` is told once it has been seen.
    """

    id: str
    question: str
    choices: Mapping[str, str]
    happened: Callable[[Observation], tuple[str, Evidence] | None]
    why: str
    hints: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is told to the learner."""

    #: The exercise's or prediction's id.
    about: str
    outcome: Outcome
    message: str
    evidence: tuple[Event, ...] = ()
    #: The hint that this outcome has earned; empty where there is none of its own.
    hint: str = ""
    #: The id of the mistake that was recognised, if any.
    mistake: str | None = None


def judge(exercise: Exercise, seen: Observation) -> Verdict:
    """Return the verdict on `seen`: not tried, else a known mistake, else a crash, else passed or wrong."""
    if seen.untouched:
        text = "Nothing has been filled in yet: replace the ... in the cell above, run it, then run this cell again."
        return Verdict(exercise.id, "not tried", text)
    for mistake in exercise.mistakes:
        evidence = mistake.found(seen)
        if evidence is not None:
            outcome: Outcome = "crashed" if seen.crash is not None else "wrong"
            return Verdict(exercise.id, outcome, mistake.message, tuple(evidence), mistake.hint, mistake.id)
    if seen.crash is not None:
        return Verdict(
            exercise.id,
            "crashed",
            f"It broke before it could be tried to the end. {seen.crash}",
            _last_exits(seen),
        )
    proof = exercise.passed(seen)
    if proof is not None:
        return Verdict(exercise.id, "passed", exercise.praise, tuple(proof))
    raised = [f"{label}: {answer}" for label, answer in seen.answers.items() if isinstance(answer, Raised)]
    if raised:
        return Verdict(
            exercise.id, "crashed", f"A process broke while it was tried. {raised[0]}", _last_exits(seen)
        )
    got = ", ".join(f"{label} = {answer!r}" for label, answer in seen.answers.items())
    return Verdict(
        exercise.id, "wrong", f"It runs, but does not yet do what was asked. Seen: {got or 'no answers'}."
    )


def compare(prediction: Prediction, predicted: Any, seen: Observation) -> Verdict:
    """Return the verdict on a prediction, given what was seen afterwards."""
    happened = prediction.happened(seen)
    if predicted is None or predicted is ...:
        text = "You have not predicted anything yet. A guess is enough: it is what makes the answer stick."
        return Verdict(prediction.id, "not tried", text)
    if happened is None:
        text = "It has not happened yet, so there is nothing to compare with: run the cell that breaks something first."
        return Verdict(prediction.id, "not tried", text)
    choice, evidence = happened
    if choice == predicted:
        text = f"As you predicted. {prediction.choices[choice]} {prediction.why}"
        return Verdict(prediction.id, "passed", text, tuple(evidence))
    told, came = prediction.choices[predicted], prediction.choices[choice]
    text = f"You predicted: “{told}” What happened: “{came}” {prediction.why}"
    return Verdict(prediction.id, "wrong", text, tuple(evidence))


def _last_exits(seen: Observation) -> tuple[Event, ...]:
    wanted = ("process_exited", "start_failed", "supervisor_gave_up", "instance_exited")
    exits = [
        event for event in seen.events if event.kind in wanted and event.reason not in ("normal", "shutdown")
    ]
    return tuple(exits[-3:])
