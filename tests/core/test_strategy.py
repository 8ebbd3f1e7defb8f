"""The supervisor machine: what stops and starts, in what order, and when it gives up."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategy_kit import World, worker

from superlearner.core.childspec import SupervisorSpec
from superlearner.core.strategy_events import (
    ChildExited,
    ChildStarted,
    ChildStartFailed,
    DeleteRequested,
    Prune,
    RestartRequested,
    RetryDue,
    SpecChanged,
    StartRequested,
    StopRequested,
    TerminateRequested,
)
from superlearner.core.strategy_instructions import Record, StartChild
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


def world(ids="abc", *, failing=(), extra=(), **options):
    specs = [worker(id) for id in ids]
    return World(SupervisorSpec([*specs, *extra], **options), failing)


class TestStart:
    def test_children_start_in_order_and_stop_in_reverse(self):
        w = world()
        assert w.took() == "+a +b +c"
        w.do(StopRequested("bye"))
        assert (w.took(), w.ended) == ("-c -b -a", "bye")

    def test_a_failed_start_stops_those_before_it(self):
        w = world(failing="c")
        assert w.took() == "+a +b !c -b -a"
        assert w.ended == ("shutdown", ("failed_to_start_child", "c", "no"))
        assert [r.kind for r in w.records] == ["start_failed"]

    def test_an_ignored_child_is_kept_and_a_temporary_one_is_not(self):
        w = world("")
        w.ignoring = {"p", "t"}
        w.do(StartRequested(worker("p"))).do(StartRequested(worker("t", restart="temporary")))
        assert w.statuses() == {"p": "stopped"}

    def test_an_empty_supervisor_runs_at_once(self):
        assert world("").state.phase == "running"
        assert world("a").state.phase == "running"

    def test_a_start_that_nobody_asked_for_is_a_bug(self):
        with pytest.raises(InvalidTransition):
            world().state.handle(ChildStarted("z", 1))


class TestRestart:
    @pytest.mark.parametrize(
        ("strategy", "expected"),
        [("one_for_one", "+b"), ("one_for_all", "-c -a +a +b +c"), ("rest_for_one", "-c +b +c")],
    )
    def test_each_strategy(self, strategy, expected):
        w = world(strategy=strategy)
        w.took()
        w.exit("b")
        assert w.took() == expected
        (record,) = w.records
        assert record.detail["budget_left"] == 2
        assert record.detail["restart"] == 1

    @pytest.mark.parametrize("strategy", ["one_for_all", "rest_for_one"])
    def test_temporary_siblings_are_stopped_and_forgotten_and_stopped_ones_started(self, strategy):
        extra = [worker("t", restart="temporary"), worker("s")]
        w = world("a", strategy=strategy, extra=extra)
        w.do(TerminateRequested("s"))
        w.took()
        w.exit("a")
        assert w.took() == "-t +a +s"
        assert list(w.state.children) == ["a", "s"]

    def test_a_normal_end_is_kept_by_transient_and_forgotten_by_temporary(self):
        w = world("", extra=[worker("t", restart="temporary"), worker("n", restart="transient")])
        w.exit("t").exit("n", "normal")
        assert w.statuses() == {"n": "stopped"}

    @pytest.mark.parametrize(
        ("strategy", "first", "second"),
        [
            ("one_for_one", "!b", "+b"),
            ("one_for_all", "-c -a +a !b", "-a +a +b +c"),
            ("rest_for_one", "-c !b", "+b +c"),
        ],
    )
    def test_a_failed_restart_is_tried_again_and_counted(self, strategy, first, second):
        w = world(strategy=strategy)
        w.took()
        w.failing = {"b"}
        w.exit("b")
        assert w.took() == first
        assert w.statuses()["b"] == "restarting"
        w.failing = set()
        w.retry()
        assert w.took() == second
        assert w.state.intensity.left(0.0) == 1
        assert set(w.statuses().values()) == {"running"}

    def test_a_retry_that_is_no_longer_wanted_does_nothing(self):
        w = world()
        w.failing = {"b"}
        w.exit("b").do(TerminateRequested("b"))
        w.took()
        w.retry()
        assert w.took() == ""
        assert w.statuses()["b"] == "stopped"

    def test_old_news_is_ignored(self):
        w = world()
        w.do(TerminateRequested("b"))
        w.took()
        assert w.state.handle(ChildExited("b", "crash")) == []
        assert w.state.handle(ChildExited("z", "crash")) == []
        assert w.state.handle(RetryDue("z")) == []


class TestIntensity:
    def test_one_too_many_gives_up_and_stops_all(self):
        w = world(max_restarts=1)
        w.exit("a").took()
        w.exit("a")
        assert (w.took(), w.ended) == ("-c -b", "shutdown")
        assert w.records[-1].kind == "supervisor_gave_up"

    def test_restarts_outside_of_the_window_do_not_count(self):
        w = world("a", max_restarts=1, max_seconds=5.0)
        for at in (0.0, 6.0, 12.0):
            w.exit("a", at=at)
        assert w.ended is None

    def test_after_giving_up_nothing_is_started(self):
        w = world("ab", max_restarts=0)
        w.state.handle(ChildExited("a", "crash"))
        assert w.state.handle(ChildExited("b", "crash")) == []
        assert w.state.handle(RetryDue("a")) == []


class TestSignificant:
    @pytest.mark.parametrize(
        ("auto_shutdown", "ends", "stopped"),
        [
            ("any_significant", "x", True),
            ("any_significant", "n", False),
            ("all_significant", "x", False),
            ("all_significant", "xy", True),
        ],
    )
    def test_when_the_supervisor_ends(self, auto_shutdown, ends, stopped):
        extra = [worker(id, restart="transient", significant=id != "n") for id in "xyn"]
        w = world("", extra=extra, auto_shutdown=auto_shutdown)
        for id in ends:
            w.exit(id, "normal")
        assert w.ended == ("shutdown" if stopped else None)

    def test_a_significant_child_needs_a_supervisor_that_looks(self):
        w = world("")
        with pytest.raises(InvalidSpec):
            w.do(StartRequested(worker("x", restart="transient", significant=True)))
        w.state.spec = SupervisorSpec(auto_shutdown="any_significant")
        w.do(StartRequested(worker("x", restart="transient", significant=True)))
        w.state.spec = SupervisorSpec()
        w.exit("x", "normal")
        assert w.ended is None


class TestVerbs:
    def test_each_refusal(self):
        w = world("a")
        assert w.do(StartRequested(worker("a"))).refused == AlreadyStartedLike(w.alive["a"])
        for event in (RestartRequested("a"), DeleteRequested("a")):
            assert isinstance(w.do(event).refused, ChildRunning)
        for event in (TerminateRequested("z"), RestartRequested("z"), DeleteRequested("z")):
            assert isinstance(w.do(event).refused, ChildNotFound)
        w.do(TerminateRequested("a"))
        assert isinstance(w.do(StartRequested(worker("a"))).refused, AlreadyPresent)
        w.do(TerminateRequested("a"))
        assert w.refused is None
        w.do(DeleteRequested("a"))
        assert w.statuses() == {}

    def test_a_terminated_child_can_be_started_again(self):
        w = world("a")
        w.do(TerminateRequested("a")).do(RestartRequested("a"))
        assert w.took() == "+a -a +a"

    def test_a_failed_start_child_leaves_nothing_and_a_failed_restart_child_leaves_it_stopped(self):
        w = world("a", failing="b")
        w.failing = {"a", "b"}
        assert isinstance(w.do(StartRequested(worker("b"))).refused, StartFailed)
        w.do(TerminateRequested("a"))
        assert isinstance(w.do(RestartRequested("a")).refused, StartFailed)
        assert w.statuses() == {"a": "stopped"}
        assert not w.retries


class TestDynamic:
    def test_ids_may_repeat_and_the_limit_holds(self):
        w = World(SupervisorSpec(kind="dynamic", max_children=3))
        for _ in range(4):
            w.do(StartRequested(worker("job")))
        assert isinstance(w.refused, MaxChildren)
        assert w.took() == "+job +job#2 +job#3"
        w.exit("job#2", "crash")
        w.do(TerminateRequested("job"))
        w.do(StartRequested(worker("job"), key="job#9"))
        assert list(w.alive) == ["job#3", "job#2", "job#9"]
        w.do(StopRequested())
        assert (w.alive, w.state.children, w.ended) == ({}, {}, "shutdown")

    def test_a_kept_key_is_not_given_twice(self):
        w = World(SupervisorSpec(kind="dynamic"))
        for key in ("job", "job#2"):
            w.do(StartRequested(worker("job"), key=key))
        w.do(StartRequested(worker("job")))
        assert list(w.alive) == ["job", "job#2", "job#3"]

    def test_children_that_end_or_ignore_are_forgotten(self):
        w = World(SupervisorSpec(kind="dynamic"))
        w.do(StartRequested(worker("a", restart="transient"))).exit("a", "normal")
        w.ignoring = {"i"}
        w.do(StartRequested(worker("i")))
        assert w.statuses() == {}
        w.do(StopRequested())
        assert w.ended == "shutdown"


class TestPartition:
    def test_its_child_runs_once_per_partition(self):
        w = World(SupervisorSpec([worker("shard")], kind="partition", partitions=3))
        assert list(w.state.children) == [0, 1, 2]
        assert w.state.children[2].spec.id == 2


class TestReload:
    def test_new_children_start_before_old_ones_stop(self):
        w = world("ab")
        w.do(StartRequested(worker("added")))
        before = dict(w.alive)
        w.took()
        w.do(SpecChanged(SupervisorSpec([worker("b"), worker("c")], strategy="one_for_all", max_restarts=7)))
        assert w.took() == "+c"
        w.do(Prune())
        assert w.took() == "-a"
        assert list(w.state.children) == ["b", "c", "added"]
        assert w.alive["b"] == before["b"]
        assert w.state.intensity.max_restarts == 7

    def test_a_stopped_child_that_is_not_wanted_any_more_is_forgotten(self):
        w = world("ab")
        w.do(TerminateRequested("a")).do(SpecChanged(SupervisorSpec([worker("b")]))).do(Prune())
        assert w.statuses() == {"b": "running"}

    def test_a_child_that_cannot_start_is_refused_and_the_old_spec_can_come_back(self):
        w = world("a")
        old = w.state.spec
        w.failing = {"c"}
        assert isinstance(w.do(SpecChanged(SupervisorSpec([worker("b"), worker("c")]))).refused, StartFailed)
        w.do(SpecChanged(old)).do(Prune())
        assert w.statuses() == {"a": "running"}
        assert w.took() == "+a +b !c -b"


class AlreadyStartedLike:
    def __init__(self, pid):
        self.pid = pid

    def __eq__(self, other):
        return isinstance(other, AlreadyStarted) and other.pid == self.pid

    __hash__ = None


ids = st.sampled_from("abcd")
steps = st.one_of(
    st.tuples(st.just("exit"), ids, st.sampled_from(["normal", "crash", "shutdown"])),
    st.tuples(st.just("terminate"), ids, st.none()),
    st.tuples(st.just("restart"), ids, st.none()),
    st.tuples(st.just("delete"), ids, st.none()),
    st.tuples(st.just("start"), ids, st.none()),
    st.tuples(st.just("fail"), ids, st.none()),
    st.tuples(st.just("mend"), ids, st.none()),
    st.tuples(st.just("retry"), ids, st.none()),
)


@settings(max_examples=300, deadline=None)
@given(
    strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
    restarts=st.lists(st.sampled_from(["permanent", "transient", "temporary"]), min_size=3, max_size=3),
    max_restarts=st.integers(0, 4),
    moves=st.lists(steps, max_size=30),
)
def test_whatever_happens_the_books_agree_with_the_world(strategy, restarts, max_restarts, moves):
    specs = [worker(id, restart=r) for id, r in zip("abc", restarts, strict=True)]
    w = World(SupervisorSpec(specs, strategy=strategy, max_restarts=max_restarts, max_seconds=10.0))
    for at, (what, id, reason) in enumerate(moves):
        if w.ended is not None:
            break
        match what:
            case "exit" if id in w.alive:
                w.exit(id, reason, at=float(at))
            case "terminate":
                w.do(TerminateRequested(id))
            case "restart":
                w.do(RestartRequested(id))
            case "delete":
                w.do(DeleteRequested(id))
            case "start":
                w.do(StartRequested(worker(id, restart="transient")))
            case "fail":
                w.failing.add(id)
            case "mend":
                w.failing.discard(id)
            case "retry" if w.retries:
                w.retry(at=float(at))
        known = {key for key, child in w.state.children.items() if child.status == "running"}
        assert known == set(w.alive)
        assert {k: w.state.children[k].pid for k in known} == w.alive
        restarting = {k for k, c in w.state.children.items() if c.status == "restarting"}
        assert restarting <= set(w.retries)
        times = [t for t, r in zip(w.times, w.records, strict=True) if r.kind == "restart_scheduled"]
        assert all(sum(t - 10.0 <= other <= t for other in times) <= max_restarts for t in times)
        if w.ended is not None:
            assert not w.alive


def test_a_restart_that_is_nobodys_fault_takes_nothing_from_the_budget():
    w = World(SupervisorSpec((worker("a"),), max_restarts=0))
    out = w.state.handle(ChildExited("a", "noconnection", counts=False))
    assert [type(i) for i in out] == [Record, StartChild]
    assert out[0].detail["budget_left"] == 0
    w.state.handle(ChildStartFailed("a", "no node"))
    assert [type(i) for i in w.state.handle(RetryDue("a", counts=False))] == [Record, StartChild]


def test_a_try_of_its_own_is_void_when_a_child_is_started_with_others():
    w = World(SupervisorSpec((worker("a"), worker("b")), strategy="rest_for_one", max_restarts=9))
    w.failing.add("b")
    w.exit("b", "boom", at=1.0)
    assert w.state.children["b"].status == "restarting"
    w.failing.add("a")
    w.exit("a", "boom", at=2.0)
    assert (w.state.children["a"].status, w.state.children["b"].status) == ("restarting", "stopped")
    assert w.state.handle(RetryDue("b")) == [], "a comes first"
