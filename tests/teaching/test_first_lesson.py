"""The predictions of lesson 1, compared with records written by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from superlearner.core.history import Event
from superlearner.teaching.check import Observation, compare
from superlearner.teaching.lesson import Lesson

LESSON = Lesson(Path(__file__).parents[2] / "lessons" / "01_a_process_that_dies")
QUESTIONS = LESSON.questions()
S = "lesson-01"

CREATED = Event("sandbox_started", sandbox=S, node="alpha", epoch=1)
DIED = Event("process_exited", sandbox=S, name="counter", reason="killed")
AGAIN = Event("process_restarted", sandbox=S, name="counter", pid="<alpha.lesson-01.3>")
STORED = Event("checkpoint_stored", sandbox=S, node="alpha")
REBORN = Event("sandbox_restarted", sandbox=S, node="alpha", epoch=1, reason="killed (SIGKILL)")
LOST = Event("node_lost", node="alpha", reason="connection closed")
MOVED = Event("sandbox_restarted", sandbox=S, node="beta", epoch=2)
NEIGHBOUR = Event("sandbox_restarted", sandbox="other", node="beta", epoch=2)


@pytest.mark.parametrize(
    ("about", "events", "values", "happened", "evidence"),
    [
        ("process", [CREATED, DIED, AGAIN], {"value": 0}, "fresh", [DIED, AGAIN]),
        ("process", [CREATED, DIED, AGAIN], {"value": 5}, "kept", [DIED, AGAIN]),
        ("process", [CREATED, DIED], {}, "gone", [DIED]),
        ("program", [CREATED, STORED, REBORN], {"value": 3}, "checkpoint", [STORED, REBORN]),
        ("program", [CREATED, STORED, REBORN], {"value": 5}, "kept", [STORED, REBORN]),
        ("program", [CREATED, REBORN], {"value": 0}, "fresh", [REBORN]),
        (
            "node",
            [CREATED, LOST, MOVED],
            {"value": 4, "before": "alpha", "after": "beta"},
            "elsewhere",
            [LOST, MOVED],
        ),
        (
            "node",
            [CREATED, LOST, MOVED],
            {"value": 0, "before": "alpha", "after": "beta"},
            "fresh",
            [LOST, MOVED],
        ),
        ("node", [CREATED, LOST], {"before": "alpha"}, "gone", [LOST]),
    ],
)
def test_what_happened_is_read_from_the_record(about, events, values, happened, evidence):
    verdict = compare(QUESTIONS[about], happened, Observation(tuple(events), values))
    assert verdict.outcome == "passed"
    assert list(verdict.evidence) == evidence


@pytest.mark.parametrize(
    ("about", "events", "values"),
    [
        ("process", [CREATED], {"value": 5}),
        ("process", [CREATED, DIED], {"value": 0}),
        ("process", [CREATED, DIED, AGAIN, CREATED], {"value": 5}),
        ("program", [CREATED, STORED], {"value": 5}),
        ("program", [CREATED, REBORN, CREATED], {"value": 5}),
        ("node", [CREATED, LOST, NEIGHBOUR], {"value": 4, "before": "alpha", "after": "beta"}),
        ("node", [CREATED, LOST, MOVED], {"value": 4, "before": "gamma", "after": "beta"}),
    ],
)
def test_what_is_not_yet_recorded_or_belongs_to_an_earlier_run_does_not_count(about, events, values):
    anything = next(iter(QUESTIONS[about].choices))
    assert compare(QUESTIONS[about], anything, Observation(tuple(events), values)).outcome == "not tried"
