"""What can be changed about a supervisor while it runs: its options, and whether it decides at all."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategy_kit import World, worker

from superlearner.core.childspec import SupervisorSpec
from superlearner.core.strategy_events import (
    DecisionDue,
    DeleteRequested,
    OptionsChanged,
    Paused,
    RestartRequested,
    SpecChanged,
    StopRequested,
    TerminateRequested,
    Unpaused,
)
from superlearner.errors import InvalidSpec


def world(ids="abc", *, extra=(), failing=(), **options):
    specs = [worker(id) for id in ids]
    w = World(SupervisorSpec([*specs, *extra], **options), failing)
    w.took()
    return w


def kinds(w):
    return [record.kind for record in w.records]


class TestOptions:
    def test_the_next_decision_follows_another_strategy(self):
        w = world().do(OptionsChanged(strategy="rest_for_one"))
        w.exit("b")
        assert w.took() == "-c +b +c"
        assert w.records[0].detail == {
            "before": {"strategy": "one_for_one", "max_restarts": 3, "max_seconds": 5.0},
            "after": {"strategy": "rest_for_one", "max_restarts": 3, "max_seconds": 5.0},
        }

    def test_what_was_spent_stays_spent(self):
        w = world(max_restarts=3, max_seconds=5.0)
        w.exit("a", at=1.0).exit("a", at=2.0)
        w.do(OptionsChanged(max_restarts=1))
        w.exit("a", at=3.0)
        assert w.ended == "shutdown"

    def test_a_shorter_window_forgets_what_lies_before_it(self):
        w = world(max_restarts=1, max_seconds=60.0)
        w.exit("a", at=1.0)
        w.do(OptionsChanged(max_seconds=5.0))
        w.exit("a", at=10.0)
        assert w.ended is None

    def test_more_restarts_are_allowed_from_then_on(self):
        w = world(max_restarts=0)
        w.do(OptionsChanged(max_restarts=2))
        w.exit("a", at=1.0).exit("a", at=1.0)
        assert w.ended is None
        w.exit("a", at=1.0)
        assert w.ended == "shutdown"

    def test_what_no_supervisor_of_its_kind_can_have_is_refused_and_changes_nothing(self):
        w = World(SupervisorSpec([], kind="dynamic"))
        w.do(OptionsChanged(strategy="one_for_all", max_restarts=9))
        assert isinstance(w.refused, InvalidSpec)
        assert (w.state.spec.max_restarts, w.state.adjusted, w.records) == (3, False, [])

    def test_no_change_is_none(self):
        w = world().do(OptionsChanged(strategy="one_for_one"))
        assert (w.state.adjusted, w.records) == (False, [])

    def test_a_reload_brings_its_own_and_a_failed_one_puts_the_adjusted_back(self):
        w = world().do(OptionsChanged(max_restarts=9))
        adjusted = w.state.spec
        w.do(SpecChanged(SupervisorSpec([worker(id) for id in "abc"])))
        assert (w.state.spec.max_restarts, w.state.adjusted) == (3, False)
        w.do(SpecChanged(adjusted, adjusted=True))
        assert (w.state.spec.max_restarts, w.state.adjusted) == (9, True)


class TestPause:
    def test_nothing_is_decided_until_it_goes_on(self):
        w = world().do(Paused())
        w.exit("b", "crash")
        assert (w.took(), w.statuses()["b"]) == ("", "ended")
        assert w.state.children["b"].was == 2
        w.do(Unpaused())
        assert w.took() == ""
        w.decide(at=7.0)
        assert w.took() == "+b"
        assert kinds(w) == [
            "supervision_paused",
            "decision_postponed",
            "supervision_resumed",
            "restart_scheduled",
        ]
        assert w.records[2].detail == {"decides_on": ["b"]}
        assert w.records[3].reason == "crash"

    def test_each_child_is_decided_on_by_its_own_restart_type(self):
        extra = [worker("t", restart="transient"), worker("x", restart="temporary")]
        w = world("a", extra=extra).do(Paused())
        w.exit("x", "crash").exit("t", "normal").exit("a", "normal")
        w.do(Unpaused()).decide()
        assert w.took() == "+a"
        assert w.statuses() == {"a": "running", "t": "stopped"}

    def test_decisions_count_when_they_are_made(self):
        w = world(max_restarts=2, max_seconds=5.0).do(Paused())
        for at, key in enumerate("abc"):
            w.exit(key, at=at * 100.0)
        w.do(Unpaused()).decide(at=1000.0)
        assert w.ended == "shutdown"
        assert kinds(w)[-1] == "supervisor_gave_up"

    def test_who_is_started_with_another_one_is_not_decided_on_again(self):
        extra = [worker("x", restart="temporary")]
        w = world("abc", extra=extra, strategy="one_for_all").do(Paused())
        w.exit("a").exit("c").exit("x")
        w.do(Unpaused()).decide()
        assert w.took() == "-b +a +b +c"
        assert kinds(w).count("restart_scheduled") == 1
        assert {key: child.restarts for key, child in w.state.children.items()} == {"a": 1, "b": 1, "c": 1}

    def test_a_start_that_fails_is_not_tried_again_during_a_pause(self):
        w = world("a")
        w.failing = {"a"}
        w.exit("a")
        assert w.took() == "!a"
        w.do(Paused()).retry()
        assert (w.took(), w.statuses()) == ("", {"a": "ended"})
        w.failing = set()
        w.do(Unpaused()).decide()
        assert w.took() == "+a"

    def test_by_hand_all_can_be_done_meanwhile(self):
        w = world().do(Paused())
        w.exit("a").exit("b").exit("c")
        w.do(RestartRequested("a")).do(TerminateRequested("b")).do(DeleteRequested("c"))
        assert (w.took(), w.statuses()) == ("+a", {"a": "running", "b": "stopped"})
        w.do(Unpaused()).decide()
        assert w.took() == ""

    def test_a_pause_that_comes_before_the_decision_holds_it_again(self):
        w = world().do(Paused())
        w.exit("a")
        w.do(Unpaused()).do(Paused()).decide()
        assert w.took() == ""
        w.do(Unpaused()).decide()
        assert w.took() == "+a"

    def test_the_end_of_the_last_significant_child_is_decided_on_too(self):
        w = world(
            "", extra=[worker("s", significant=True, restart="transient")], auto_shutdown="any_significant"
        )
        w.do(Paused())
        w.exit("s", "normal")
        assert w.ended is None
        w.do(Unpaused()).decide()
        assert w.ended == "shutdown"

    def test_it_can_be_stopped(self):
        w = world().do(Paused())
        w.exit("b")
        w.do(StopRequested("bye"))
        assert (w.took(), w.ended) == ("-c -a", "bye")
        assert w.state.handle(DecisionDue("b")) == []

    @given(
        st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
        st.lists(st.tuples(st.sampled_from("xrtpu"), st.sampled_from("abct")), max_size=25),
    )
    @settings(max_examples=200)
    def test_nobody_starts_by_itself_during_a_pause_and_all_are_decided_on_after_it(self, strategy, steps):
        extra = [worker("t", restart="transient")]
        w = world("abc", extra=extra, strategy=strategy, max_restarts=1000)
        by_hand = set()
        for step, key in steps:
            known, paused = w.state.children[key].status, w.state.paused
            match step:
                case "x" if key in w.alive:
                    w.exit(key, "normal" if key == "t" else "crash")
                case "r" if known in {"stopped", "ended"}:
                    w.do(RestartRequested(key))
                    by_hand.discard(key)
                case "t":
                    w.do(TerminateRequested(key))
                    by_hand.add(key)
                case "p":
                    w.do(Paused())
                case "u":
                    w.do(Unpaused()).decide()
            did = w.took()
            assert "+" not in did or step in "ru" or (step == "x" and not paused)
            assert step != "r" or did in {"", f"+{key}"}
            running = {key for key, child in w.state.children.items() if child.status == "running"}
            assert running == set(w.alive)
        w.do(Unpaused()).decide()
        assert "ended" not in w.statuses().values()
        assert set("abc") - by_hand <= set(w.alive)

    @pytest.mark.parametrize("event", [Paused(), Unpaused()])
    def test_twice_is_as_good_as_once(self, event):
        w = world().do(Paused())
        if isinstance(event, Unpaused):
            w.do(event)
        before = kinds(w)
        w.do(event)
        assert kinds(w) == before
