"""A lesson proves itself: starters are not tried, solutions pass, each likely mistake earns its own hint.

>>> from superlearner.teaching.lesson import find_lesson
>>> complaints(find_lesson("01"))       # doctest: +SKIP
[]
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from superlearner.teaching.check import Exercise, Observation, Outcome, Raised, Verdict, judge
from superlearner.teaching.lesson import Lesson
from superlearner.teaching.observe import observe_here, observe_on
from superlearner.teaching.program import run_source, standalone


@dataclass(frozen=True)
class Case:
    """One cell that a learner might have written, and the verdict that it must get."""

    exercise: Exercise
    #: ``starter``, ``solution`` or the id of a mistake.
    name: str
    source: str = field(repr=False)
    outcomes: tuple[Outcome, ...]
    mistake: str | None = None

    def observe(self, cluster: Any = None) -> Observation:
        """Run the cell, and the exercise's script on what it defines: here, or on `cluster`."""
        try:
            given = run_source(self.source, f"<{self.exercise.id}: {self.name}>")[self.exercise.defines]
        except Exception as error:
            return Observation(crash=Raised.of(error))
        if cluster is None:
            return observe_here(lambda: self.exercise.app(given), self.exercise.script)
        return observe_on(
            cluster, f"prove-{self.exercise.id}", lambda: self.exercise.app(given), self.exercise.script
        )

    def complaint(self, verdict: Verdict) -> str | None:
        """Say what is wrong with `verdict` on this case; None when it is the right one."""
        if verdict.outcome in self.outcomes and verdict.mistake == self.mistake:
            return None
        wanted = f"{' or '.join(self.outcomes)} (mistake: {self.mistake})"
        return f"{self.exercise.id}, {self.name}: {wanted} was expected, got {verdict}"


def cases(lesson: Lesson) -> Iterator[Case]:
    """Yield every case by which `lesson` proves its exercises, in order."""
    for exercise in lesson.questions().values():
        if not isinstance(exercise, Exercise) or not exercise.script:
            continue
        yield Case(exercise, "starter", standalone(lesson, exercise.id, solution=False), ("not tried",))
        yield Case(exercise, "solution", standalone(lesson, exercise.id), ("passed",))
        for mistake in exercise.mistakes:
            yield Case(exercise, mistake.id, mistake.example, ("wrong", "crashed"), mistake.id)


def complaints(lesson: Lesson, cluster: Any = None) -> list[str]:
    """Return a sentence for each case of `lesson` that gets a wrong verdict; an empty list is good."""
    found = (case.complaint(judge(case.exercise, case.observe(cluster))) for case in cases(lesson))
    return [complaint for complaint in found if complaint is not None]
