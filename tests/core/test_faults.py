"""Which links a fault concerns, what it does to them, and when a message may pass."""

from __future__ import annotations

import random

import pytest

from superlearner.core.faults import CLEAR, LinkRule, Shaper, between, link_fault, partition_links, rules_of
from superlearner.errors import InvalidSpec, UnknownNode

NODES = ["alpha", "beta", "gamma"]


def begin(seed: str):
    return random.Random(seed).random


def side_of(links: tuple[tuple[str, str], ...], end: str) -> set[str]:
    """The ends that `end` still reaches."""
    ends = {*NODES, "scheduler", "client"}
    return {other for other in ends if (end, other) not in links and (other, end) not in links}


@pytest.mark.parametrize(
    ("groups", "with_scheduler"),
    [
        ([["alpha"], ["beta", "gamma"]], {"beta", "gamma", "scheduler", "client"}),
        ([["beta", "gamma"], ["alpha"]], {"beta", "gamma", "scheduler", "client"}),
        ([["alpha", "scheduler"], ["beta", "gamma"]], {"alpha", "scheduler", "client"}),
        ([["alpha", "client"], ["beta", "gamma"]], {"beta", "gamma", "scheduler"}),
        ([["alpha"]], {"beta", "gamma", "scheduler", "client"}),
        ([["alpha"], ["beta"], ["gamma"]], {"alpha", "scheduler", "client"}),
        ([["scheduler"], ["alpha", "beta", "gamma"]], {"scheduler", "client"}),
    ],
)
def test_the_scheduler_and_the_clients_are_on_the_larger_side_unless_they_are_named(groups, with_scheduler):
    assert side_of(partition_links(groups, NODES), "scheduler") == with_scheduler


@pytest.mark.parametrize("groups", [[], [["alpha", "beta", "gamma"]], [["alpha"], ["alpha", "beta"]]])
def test_what_is_no_partition_is_refused(groups):
    with pytest.raises(InvalidSpec, match="nothing was broken"):
        partition_links(groups, NODES)


def test_a_link_has_two_directions():
    assert between("alpha", "beta", NODES) == (("alpha", "beta"), ("beta", "alpha"))
    assert between("alpha", "beta", NODES, one_way=True) == (("alpha", "beta"),)
    assert len(between("*", "*", NODES)) == 5 * 4
    assert set(between("*", "alpha", NODES)) == set(between("alpha", "*", NODES))


@pytest.mark.parametrize(
    ("kind", "detail", "rule"),
    [
        ("cut", {}, LinkRule(cut=True)),
        ("flap", {"cut_for": 1.0, "open_for": 1.0}, LinkRule(cut=True)),
        ("delay", {"seconds": 0.5, "jitter": 0.1, "seed": 7}, LinkRule(delay=0.5, jitter=0.1, seed=7)),
        ("slow", {"bytes_per_second": 1000}, LinkRule(rate=1000)),
        ("drop", {"probability": 0.5}, LinkRule(drop=0.5)),
    ],
)
def test_each_kind_of_fault_has_its_rule(kind, detail, rule):
    links, got = link_fault(kind, {"a": "alpha", "b": "scheduler", **detail}, NODES)
    assert got == rule
    assert not got.clear
    assert links == (("alpha", "scheduler"), ("scheduler", "alpha"))


def test_a_partition_cuts():
    links, rule = link_fault("partition", {"groups": [["alpha"], ["beta", "gamma"]]}, NODES)
    assert rule == LinkRule(cut=True)
    assert ("alpha", "beta") in links


@pytest.mark.parametrize(
    ("kind", "detail", "word"),
    [
        ("melt", {}, "no fault 'melt'"),
        ("cut", {"b": "alpha"}, "to itself"),
        ("delay", {"seconds": -1}, "delay=-1"),
        ("delay", {"seconds": "soon"}, "delay='soon'"),
        ("delay", {"seconds": True}, "delay=True"),
        ("delay", {"seconds": float("inf")}, "delay=inf"),
        ("delay", {"seconds": float("nan")}, "delay=nan"),
        ("delay", {"seconds": 1, "jitter": -1}, "jitter=-1"),
        ("slow", {"bytes_per_second": 0}, "bytes_per_second=0"),
        ("drop", {"probability": 1.5}, "probability=1.5"),
        ("flap", {"cut_for": 0, "open_for": 1}, "cut_for=0"),
    ],
)
def test_what_cannot_be_is_refused_with_its_name(kind, detail, word):
    with pytest.raises(InvalidSpec, match=word) as refused:
        link_fault(kind, {"a": "alpha", "b": "beta", **detail}, NODES)
    assert refused.value.definite


def test_an_unknown_end_is_refused_with_those_there_are():
    with pytest.raises(UnknownNode, match="alpha, beta, gamma, client, scheduler"):
        link_fault("cut", {"a": "alpha", "b": "delta"}, NODES)


def test_faults_on_one_link_add_up():
    link = ("alpha", "beta")
    rules = rules_of(
        [([link], LinkRule(delay=1.0, rate=10, drop=0.5)), ([link], LinkRule(delay=0.5, drop=0.5))]
    )
    assert rules == {link: LinkRule(delay=1.5, rate=10, drop=0.75)}


def test_a_slow_link_carries_one_message_after_the_other():
    shaper = Shaper(("alpha", "beta"), begin)
    shaper.set(LinkRule(rate=100, delay=1.0))
    assert [shaper.due(0.0, 50), shaper.due(0.0, 50), shaper.due(10.0, 50)] == [1.5, 2.0, 11.5]


def test_the_same_seed_gives_the_same_chances_and_each_link_has_its_own():
    def draws(link, seed):
        shaper = Shaper(link, begin)
        shaper.set(LinkRule(drop=0.5, jitter=1.0, seed=seed))
        return [(shaper.lost(), shaper.due(0.0, 1)) for _ in range(20)]

    assert draws(("alpha", "beta"), 1) == draws(("alpha", "beta"), 1)
    assert draws(("alpha", "beta"), 1) != draws(("alpha", "beta"), 2)
    assert draws(("alpha", "beta"), 1) != draws(("beta", "alpha"), 1)


def test_another_fault_elsewhere_does_not_begin_the_chances_anew():
    rule = LinkRule(drop=0.5, seed=1)
    straight, disturbed = Shaper(("a", "b"), begin), Shaper(("a", "b"), begin)
    straight.set(rule)
    disturbed.set(rule)
    first = [straight.lost() for _ in range(20)]
    second = []
    for _ in range(20):
        disturbed.set(rule)
        second.append(disturbed.lost())
    assert first == second


def test_a_rule_travels_as_plain_values():
    rule = LinkRule(delay=0.5, rate=10)
    assert LinkRule(*rule.plain()) == rule


def test_a_link_without_a_fault_loses_nothing():
    assert CLEAR.clear
    assert not Shaper(("a", "b"), begin).lost()


def test_before_a_rule_has_begun_its_chances_nothing_happens_by_chance():
    shaper = Shaper(("a", "b"), begin, LinkRule(drop=0.9))
    assert not shaper.lost()
