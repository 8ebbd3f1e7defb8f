"""Alerts: their rules as a table, their life against a model, and the scores beside them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from superlearner.core.alert_rules import Flaps, NodeFacts, SandboxFacts, conditions
from superlearner.core.alerts import AlertBook, Condition, Subject
from superlearner.core.health import Thresholds
from superlearner.core.history import Event
from superlearner.core.restart import ASKED, RESTART, RESTORED
from superlearner.core.scores import (
    SAMPLES,
    Score,
    cluster_score,
    node_score,
    points,
    sandbox_score,
    steady,
)
from superlearner.errors import NoAlert

LIMITS = Thresholds(processes=10, memory=100)

# -- Rules


@pytest.mark.parametrize(
    ("facts", "rule", "severity", "says"),
    [
        (NodeFacts("a", reachable=False), "node_failure", "critical", "cannot be reached."),
        (
            NodeFacts("a", reachable=False, reason="it has left.", memory=999),
            "node_failure",
            "critical",
            "reached (it has left).",
        ),
        (NodeFacts("a", suspected=True), "node_failure", "warning", "silent for half"),
        (NodeFacts("a", processes=11), "resource_exhaustion", "warning", "11 processes, more than 10"),
        (NodeFacts("a", memory=101), "resource_exhaustion", "warning", "101 bytes, more than 100"),
        (NodeFacts("a", machine=0.96), "resource_exhaustion", "critical", "has 96% of its memory"),
        (
            SandboxFacts("s", "failed", reason="it crashed"),
            "sandbox_failure",
            "critical",
            "given up (it crashed)",
        ),
        (SandboxFacts("s", "lost"), "sandbox_failure", "critical", "No node can take sandbox s."),
        (SandboxFacts("s", "running", responsive=False), "sandbox_failure", "warning", "does not answer"),
        (
            SandboxFacts("s", "running", memory=0.91),
            "resource_exhaustion",
            "warning",
            "91% of its memory limit",
        ),
    ],
)
def test_each_thing_that_is_wrong_is_one_condition(facts, rule, severity, says):
    nodes, boxes = ([facts], []) if isinstance(facts, NodeFacts) else ([], [facts])
    (found,) = conditions(nodes, boxes, thresholds=LIMITS)
    assert (found.subject.rule, found.severity) == (rule, severity)
    assert says in found.summary


def test_what_is_at_its_limit_or_was_not_measured_is_not_wrong():
    nodes = [NodeFacts("a"), NodeFacts("b", processes=10, memory=100, machine=0.95)]
    boxes = [SandboxFacts("s", "running"), SandboxFacts("t", "migrating", memory=0.9, responsive=True)]
    assert conditions(nodes, boxes, thresholds=LIMITS) == []


def test_flapping_counts_failures_and_nothing_that_was_asked_for():
    flaps = Flaps(most=2, window=10.0)
    for at in (0.0, 1.0):
        flaps.note(Event("sandbox_restarting", at=at, sandbox="s", reason="its node was lost"))
    flaps.note(Event("sandbox_restarted", at=1.5, sandbox="s"))
    for asked in (ASKED, RESTART, f"{RESTORED} 3 of epoch 1"):
        assert not flaps.note(Event("sandbox_restarted", at=1.6, sandbox="s", reason=asked))
    flaps.note(Event("sandbox_moved", at=1.7, sandbox="s"))
    assert flaps.conditions(2.0) == []
    flaps.note(Event("sandbox_restarted", at=2.0, sandbox="s", node="a", reason="killed"))
    (found,) = flaps.conditions(2.0)
    assert (found.subject, found.summary) == (
        Subject("flapping", sandbox="s"),
        "Sandbox s has failed more than 2 times within 10 s.",
    )
    assert flaps.conditions(10.0) == []
    assert flaps.conditions(12.0) == []
    assert flaps._times == {}
    for _ in range(3):
        assert flaps.note(Event("sandbox_unresponsive", at=13.0, sandbox="s"))
    assert flaps.conditions(13.0)
    assert not flaps.note(Event("sandbox_destroyed", at=13.0, sandbox="s"))
    assert flaps.conditions(13.0) == []


@given(st.lists(st.floats(0, 50), max_size=30), st.integers(1, 4), st.floats(1, 20))
@settings(max_examples=100, deadline=None)
def test_flapping_is_more_than_so_many_failures_within_the_window(times, most, window):
    flaps, times = Flaps(most, window), sorted(times)
    for index, at in enumerate(times):
        flaps.note(Event("node_lost", at=at, node="a"))
        lately = sum(at - window < earlier for earlier in times[: index + 1])
        assert bool(flaps.conditions(at)) == (lately > most)


# -- Life


def wrong(node="a", severity="warning", says="It is.", rule="resource_exhaustion"):
    return Condition(Subject(rule, node, resource="memory"), severity, says)


def test_an_alert_waits_fires_and_is_resolved():
    book = AlertBook({"resource_exhaustion": 10.0}, prefix="local-")
    assert book.judge([wrong()], 0.0) == ((), (), 10.0)
    assert [alert.state for alert in book.active] == ["pending"]
    assert book.judge([wrong(says="Still.")], 9.9).fired == ()
    (fired,) = book.judge([wrong(severity="critical", says="Worse.")], 10.0).fired
    assert (fired.id, fired.since, fired.fired_at) == ("local-resource_exhaustion-1", 0.0, 10.0)
    assert (fired.severity, fired.summary) == ("critical", "Worse.")
    assert book.judge([wrong()], 20.0) == ((), (), None)
    (over,) = book.judge([], 30.0).resolved
    assert (over.state, over.resolved_at) == ("resolved", 30.0)
    assert (book.active, book.over) == ([], [over])


def test_one_that_was_only_pending_is_forgotten():
    book = AlertBook({"resource_exhaustion": 10.0})
    book.judge([wrong()], 0.0)
    assert book.judge([], 5.0) == ((), (), None)
    assert (book.active, book.over) == ([], [])


def test_who_acknowledges_an_alert_does_not_acknowledge_the_next_one():
    book = AlertBook()
    (fired,) = book.judge([wrong()], 0.0).fired
    known = book.acknowledge(fired.id, "ann", 1.0, "I am on it.")
    assert (known.state, known.acknowledged.by) == ("firing", "ann")
    assert known.as_event("alert_acknowledged", 1.0).detail["note"] == "I am on it."
    assert "by" not in fired.as_event("alert_firing", 0.0).detail
    (over,) = book.judge([], 2.0).resolved
    assert over.acknowledged == known.acknowledged
    with pytest.raises(NoAlert):
        book.acknowledge(fired.id, "ann", 3.0)
    (again,) = book.judge([wrong()], 4.0).fired
    assert (again.id != fired.id, again.acknowledged) == (True, None)
    with pytest.raises(NoAlert) as caught:
        book.acknowledge("nothing-1", "ann", 5.0)
    assert caught.value.active == (again.id,)


def test_an_event_of_a_sandbox_says_where_it_is():
    book = AlertBook()
    (fired,) = book.judge(
        [Condition(Subject("sandbox_failure", sandbox="s"), "critical", "No.", "beta")], 0.0
    ).fired
    event = fired.as_event("alert_firing", 0.0)
    assert (event.sandbox, event.node, event.reason) == ("s", "beta", "No.")
    assert "resource" not in event.detail


def test_another_book_goes_on_from_the_events_of_the_first():
    """But for what was only pending, which no event tells: such a one is forgotten, also when it is acknowledged."""
    book, events = AlertBook({"flapping": 10.0}), [Event("node_lost", node="a")]

    def judge(found, at):
        judged = book.judge(found, at)
        events.extend(alert.as_event("alert_firing", at) for alert in judged.fired)
        events.extend(alert.as_event("alert_resolved", at) for alert in judged.resolved)

    box = Condition(Subject("sandbox_failure", sandbox="s"), "critical", "No.", "beta")
    judge([wrong("a"), wrong("b"), wrong("c", rule="flapping"), box], 1.0)
    for alert in list(book.active):
        known = book.acknowledge(alert.id, "ann", 2.0)
        events.append(known.as_event("alert_acknowledged", 2.0))
    judge([wrong("b"), wrong("c", rule="flapping"), box], 3.0)
    other = AlertBook()
    other.recall(events)
    assert other.active == [alert for alert in book.active if alert.state == "firing"]
    assert other.over == book.over
    assert other.judge([wrong("b"), wrong("d")], 4.0).fired[0].id == "resource_exhaustion-5"
    lost = AlertBook()
    lost.recall([event for event in events if event.kind != "alert_firing"])
    assert (lost.active, lost.over) == ([], [])


steps = st.lists(st.tuples(st.floats(0.1, 9.0), st.sets(st.sampled_from("abc"))), max_size=30)


@given(steps, st.floats(0.0, 10.0), st.integers(1, 5))
@settings(max_examples=150, deadline=None)
def test_an_alert_fires_when_its_condition_has_held_without_a_gap_for_the_wait(steps, wait, kept):
    book, now = AlertBook({"resource_exhaustion": wait}, kept), 0.0
    began: dict[str, float] = {}
    firing: set[str] = set()
    for step, names in steps:
        now += step
        judged = book.judge([wrong(name) for name in sorted(names)], now)
        assert {alert.node for alert in judged.resolved} == firing - names
        firing &= names
        began = {name: began.get(name, now) for name in names}
        new = {name for name in names - firing if now >= began[name] + wait}
        assert {alert.node for alert in judged.fired} == new
        firing |= new
        waiting = [began[name] + wait for name in names - firing]
        assert judged.due == min(waiting, default=None)
        assert {alert.node for alert in book.active} == names
        assert len(book.over) <= kept
    ids = [alert.id for alert in [*book.active, *book.over]]
    assert len(set(ids)) == len(ids)


# -- Scores


@given(st.floats(0, 10), st.floats(0, 10), st.floats(0.1, 5), st.floats(0.1, 5))
def test_more_of_it_never_scores_higher(one, other, limit, above):
    less, more = sorted((one, other))
    assert 100 >= points(less, limit, limit + above) >= points(more, limit, limit + above) >= 0


def test_too_few_samples_are_no_figure():
    few = [{"cpu": 90.0}] * (SAMPLES - 1)
    assert steady(few, "cpu") is None
    assert node_score(NodeFacts("a"), few, LIMITS).score is None
    enough = node_score(NodeFacts("a"), [*few, {"cpu": 90.0}], LIMITS)
    assert (enough.score, enough.advice) == (
        17,
        ("Node a is busy: spread its work over more sandboxes or nodes.",),
    )


def test_a_node_is_as_well_as_its_worst_figure():
    score = node_score(NodeFacts("a", memory=10, processes=1, machine=0.1, suspected=True), [], LIMITS)
    assert score.score == 50
    assert [one.score for one in score.checks] == [100, 100, 100, None, 50]
    assert "silent" in score.advice[0]


@pytest.mark.parametrize(
    ("facts", "score"),
    [
        (SandboxFacts("s", "failed"), 0),
        (SandboxFacts("s", "running", responsive=False), 0),
        (SandboxFacts("s", "running"), None),
        (SandboxFacts("s", "running", memory=0.2), 100),
    ],
)
def test_a_sandbox_is_scored(facts, score):
    assert sandbox_score(facts, [], LIMITS).score == score


def test_the_cluster_is_as_well_as_its_nodes_or_its_sandboxes():
    well, down = Score("a", 100), Score("b", 0, advice=("Mend b.",))
    assert cluster_score([well, down], [well], quorum=True).score == 50
    assert cluster_score([well], [well, down, Score("c", None)], quorum=True).why.endswith(
        "2 of 3 are scored."
    )
    assert cluster_score([Score("a", None)], [], quorum=True).score is None
    without = cluster_score([well, down], [], quorum=False)
    assert (without.score, without.why, without.advice[1:]) == (0, "There is no quorum.", ("Mend b.",))
