"""Verdicts from observations written by hand: nothing runs here."""

from __future__ import annotations

import pytest

from superlearner.core.history import Event
from superlearner.teaching.check import Exercise, Mistake, Observation, Prediction, Raised, compare, judge

EXERCISE = Exercise(
    "two",
    "Say two",
    passed=lambda seen: seen.of("process_exited") if seen.answers.get("said") == 2 else None,
    praise="Two it is.",
    mistakes=(
        Mistake(
            "one", lambda seen: () if seen.answers.get("said") == 1 else None, "It said one.", "One more."
        ),
    ),
    hints=("Count.",),
)
EXIT = Event("process_exited", name="counter", reason="killed")


@pytest.mark.parametrize(
    ("seen", "outcome"),
    [
        (Observation((EXIT,), {"said": 2}), "passed"),
        (Observation((), {"said": 3}), "wrong"),
        (Observation((EXIT,), {"said": Raised("ProcessDied", "boom")}), "crashed"),
        (Observation((EXIT,), {}, crash=Raised("InvalidSpec", "strategy='one' is not known")), "crashed"),
        (Observation((), {"said": ...}), "not tried"),
        (Observation(crash=Raised("InvalidSpec", "strategy=Ellipsis is not known")), "not tried"),
    ],
)
def test_every_observation_has_one_of_four_outcomes(seen, outcome):
    assert judge(EXERCISE, seen).outcome == outcome


def test_a_known_mistake_is_told_and_earns_its_own_hint():
    verdict = judge(EXERCISE, Observation((), {"said": 1}))
    assert (verdict.outcome, verdict.mistake, verdict.hint) == ("wrong", "one", "One more.")


def test_a_crash_names_what_was_raised_and_shows_who_exited():
    verdict = judge(EXERCISE, Observation((EXIT,), {"said": Raised("ProcessDied", "boom")}))
    assert "said: ProcessDied: boom" in verdict.message
    assert verdict.evidence == (EXIT,)


def test_an_unknown_wrong_answer_is_shown_as_it_was_seen():
    assert "said = 'three'" in judge(EXERCISE, Observation((), {"said": "three"})).message


PREDICTION = Prediction(
    "next",
    "What next?",
    {"back": "It comes back.", "gone": "It is gone."},
    happened=lambda seen: ("back", seen.of("process_exited")) if seen.of("process_exited") else None,
    why="Its supervisor saw it.",
)


@pytest.mark.parametrize(
    ("predicted", "events", "outcome"),
    [
        ("back", (EXIT,), "passed"),
        ("gone", (EXIT,), "wrong"),
        (None, (EXIT,), "not tried"),
        (..., (EXIT,), "not tried"),
        ("back", (), "not tried"),
    ],
)
def test_a_prediction_is_compared_with_the_record(predicted, events, outcome):
    assert compare(PREDICTION, predicted, Observation(events)).outcome == outcome


def test_a_wrong_prediction_is_told_both_what_was_thought_and_what_came():
    verdict = compare(PREDICTION, "gone", Observation((EXIT,)))
    assert (
        verdict.message
        == "You predicted: “It is gone.” What happened: “It comes back.” Its supervisor saw it."
    )
    assert verdict.evidence == (EXIT,)


def test_what_came_after_an_event_leaves_it_out():
    later = Event("process_restarted", seq=2, name="counter")
    assert Observation((EXIT, later)).after(EXIT).events == (later,)
