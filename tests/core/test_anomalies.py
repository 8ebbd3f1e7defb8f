"""Jumps, drifts and bottlenecks: found where they are, and nowhere else."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from superlearner.core.alert_rules import NodeFacts, SandboxFacts
from superlearner.core.anomalies import NEEDED, RECENT, anomalies, drift, jump
from superlearner.core.bottlenecks import Bottlenecks, Resource, bottlenecks, of_node, of_sandbox
from superlearner.core.health import Thresholds
from superlearner.core.scores import SAMPLES

values = st.lists(st.floats(-1e6, 1e6), min_size=NEEDED, max_size=100)


def series(values):
    return [(float(at), float(value)) for at, value in enumerate(values)]


def noise(seed: int, count: int = 100, center: float = 50.0):
    chance = random.Random(seed)
    return [chance.gauss(center, 1.0) for _ in range(count)]


@given(st.lists(st.floats(-1e6, 1e6), max_size=NEEDED - 1))
def test_too_few_samples_have_no_answer(drawn):
    assert anomalies(series(drawn), least=1.0) is None


@given(st.floats(-1e6, 1e6), st.integers(NEEDED, 100), st.floats(0.1, 100.0))
def test_what_never_changes_is_like_before(value, count, least):
    assert anomalies(series([value] * count), least) == []


@given(values, st.floats(0.1, 1e3))
@settings(max_examples=150, deadline=None)
def test_no_change_below_the_least_is_told_and_each_is_above_its_limit(drawn, least):
    found = anomalies(series(drawn), least)
    assert found is not None
    for one in found:
        assert abs(one.value - one.expected) > least * 0.999999
        assert one.score > one.limit


@given(values, st.floats(-1e5, 1e5))
@settings(max_examples=100, deadline=None)
def test_where_the_zero_is_makes_no_difference(drawn, shift):
    rounded = [float(round(value)) for value in drawn]
    moved = [value + round(shift) for value in rounded]
    kinds = [one.kind for one in anomalies(series(rounded), 1.0)]
    assert [one.kind for one in anomalies(series(moved), 1.0)] == kinds


def test_a_jump_is_found_while_it_is_new():
    steady = noise(1)
    for age in range(RECENT + 2):
        shown = [*steady, 90.0, *noise(2, age)]
        found = jump(series(shown), least=10.0)
        assert (found is not None) == (age < RECENT)
        assert found is None or (found.at, found.value) == (100.0, 90.0)


def test_a_jump_among_outliers_is_still_one():
    """They would inflate a standard deviation, so that nothing stood out any more."""
    steady = noise(3)
    steady[10] = steady[40] = 900.0
    assert jump(series([*steady, 90.0]), least=10.0) is not None


def test_a_small_change_that_lasts_is_a_drift_and_no_jump():
    shown = series([*noise(4, 50), *noise(5, 50, center=52.0)])
    assert jump(shown, least=1.0) is None
    found = drift(shown, least=1.0)
    assert found is not None
    assert 49.5 < found.expected < 50.5
    assert 51.0 < found.value < 53.0


def test_noise_alone_is_hardly_ever_anything():
    """3 sigma and 3.5 are crossed by chance in a few of a thousand."""
    told = sum(bool(anomalies(series(noise(seed)), least=0.1)) for seed in range(200))
    assert told <= 10


# -- Bottlenecks


def test_what_was_not_measured_often_enough_is_not_judged():
    few = [{"cpu": 99.0, "network": 1.0, "memory_used": 90, "memory_total": 100, "mailbox": 5}] * (
        SAMPLES - 1
    )
    resources = of_node(NodeFacts("a"), few, full_network=10.0) + of_sandbox(
        SandboxFacts("s", "running"), few
    )
    assert bottlenecks(resources, Thresholds()) == Bottlenecks((), 0, 6)


def test_what_is_in_use_or_waited_for_is_told_the_worst_first():
    node = [{"cpu": 71.0, "network": 9.0, "memory_used": 50, "memory_total": 100}] * SAMPLES
    box = [{"cpu": 0.99, "mailbox": count} for count in (9, 3, 4, 8, 7)]
    resources = of_node(NodeFacts("a"), node, full_network=10.0)
    resources += of_sandbox(SandboxFacts("s", "running", memory=0.2), box)
    found = bottlenecks(resources, Thresholds())
    assert [(one.name, one.resource, one.queue) for one in found.found] == [
        ("s", "mailboxes", 3),
        ("s", "cpu", None),
        ("a", "network of its machine", None),
        ("a", "cpu", None),
    ]
    assert (found.judged, found.unjudged) == (6, 0)


def test_a_mailbox_that_was_empty_once_is_no_queue():
    (_, _, mail) = of_sandbox(SandboxFacts("s", "running"), [{"mailbox": n} for n in (9, 9, 0, 9, 9)])
    assert mail == Resource("s", "sandbox", "mailboxes", None, 0)
    assert bottlenecks([mail], Thresholds()).found == ()


def test_what_is_not_there_has_no_resources():
    assert of_node(NodeFacts("a", reachable=False), [], 1.0) == []
    assert of_sandbox(SandboxFacts("s", "migrating"), []) == []
