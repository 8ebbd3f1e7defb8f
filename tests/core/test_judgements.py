"""What checkers find in a history, in its events, and in the state that is left at the end."""

from __future__ import annotations

from collections import Counter

from histories import REGISTER, correct
from hypothesis import given, settings
from hypothesis import strategies as st

from superlearner.core.history import Event
from superlearner.core.operations import Operation
from superlearner.core.verdicts import (
    Window,
    availability,
    effects,
    faults_in,
    median_and_worst,
    one_owner,
    recoveries,
    together,
)


def op(number: int, invoked: float, completed: float | None = None, **fields: object) -> Operation:
    fields = {"outcome": "ok" if completed is not None else "unknown", "subject": "shop", **fields}
    return Operation("ann", fields.pop("kind", "read"), None, invoked, completed, number=number, **fields)


# -- Owners


def test_incarnations_that_answer_in_turn_are_one_owner():
    turns = [op(n, n, n + 0.5, by=by) for n, by in enumerate(["a", "a", "b", "c"])]
    assert one_owner(turns).holds is True
    assert "3 incarnations" in one_owner(turns).why


def test_answers_that_overlap_while_a_lease_ends_are_no_second_owner():
    assert one_owner([op(1, 0, 5, by="a"), op(2, 1, 2, by="b"), op(3, 2.5, 6, by="b")]).holds is True


def test_an_owner_that_answers_again_after_the_next_one_is_a_second_owner():
    verdict = one_owner([op(1, 0, 1, by="a"), op(2, 2, 3, by="b"), op(3, 4, 5, by="a")])
    assert verdict.holds is False
    assert "shop was answered for by a (ann: read() on shop, 0.000 s to 1.000 s), then by b" in verdict.why
    unanswered = [op(1, 0, 1, by="a"), op(2, 2, 3, by="b"), op(3, 4, by="a")]
    assert one_owner(unanswered).holds is True
    elsewhere = [op(1, 0, 1, by="a"), op(2, 2, 3, by="b", subject="bank"), op(3, 4, 5, by="a")]
    assert one_owner(elsewhere).holds is True


@given(st.lists(st.tuples(st.integers(0, 20), st.integers(0, 5), st.sampled_from("abc")), max_size=8))
@settings(max_examples=200, deadline=None)
def test_owners_are_judged_as_by_looking_at_all_triples(drawn: list[tuple[int, int, str]]):
    operations = [op(n, at, at + length, by=by) for n, (at, length, by) in enumerate(drawn)]
    triples = (
        (x, y, z)
        for x in operations
        for y in operations
        for z in operations
        if x.by == z.by != y.by and x.completed < y.invoked and y.completed < z.invoked
    )
    assert one_owner(operations).holds is (next(triples, None) is None)


def test_epochs_never_go_down_and_each_has_one_node():
    def started(seq: int, epoch: int, node: str) -> Event:
        return Event("sandbox_restarted", seq=seq, sandbox="shop", epoch=epoch, node=node)

    assert (
        one_owner([], [started(1, 1, "alpha"), started(2, 1, "alpha"), started(3, 2, "beta")]).holds is True
    )
    down = one_owner([], [started(1, 2, "alpha"), started(2, 1, "beta")])
    assert (down.holds, down.why) == (False, "epoch 1 of shop began on beta after epoch 2")
    beside = [started(1, 2, "alpha"), Event("sandbox_exited", seq=2, sandbox="shop", epoch=1)]
    assert one_owner([], beside).holds is True, "only what starts counts"
    twice = one_owner([], [started(1, 2, "alpha"), started(2, 2, "beta")])
    assert (twice.holds, twice.why) == (False, "epoch 2 of shop began on beta and on alpha")


# -- Effects


@given(correct(REGISTER))
@settings(max_examples=100, deadline=None)
def test_the_effects_of_a_correct_object_are_all_there_once(history: list[Operation]):
    # Of those of unknown outcome any may have happened: the first half of them has.
    doubtful = [o.number for o in history if o.outcome == "unknown"]
    happened = set(doubtful[: len(doubtful) // 2])
    happened |= {o.number for o in history if o.outcome == "ok" and o.kind == "write"}
    happened |= {o.number for o in history if o.kind == "cas" and o.value is True}
    verdicts = effects(history, {"": sorted(happened)}, ["write", "cas"])
    assert [v.holds for v in verdicts] == [True, True, True]


def test_what_is_lost_doubled_or_done_against_its_word_is_named():
    history = [op(1, 0, 1, kind="increment"), op(2, 1, 2, kind="increment"), op(3, 2, kind="increment")]
    history += [
        op(4, 3, kind="increment", outcome="failed"),
        op(5, 4, 5, kind="cas", value=False),
        op(6, 5, 6),
    ]
    lost, doubled, refused = effects(history, {"shop": [2, 2, 3, 4]}, ["increment", "cas"])
    assert (lost.holds, doubled.holds, refused.holds) == (False, False, False)
    assert lost.why == "ann: increment() on shop, 0.000 s to 1.000 s is not in the final state"
    assert doubled.why == "ann: increment() on shop, 1.000 s to 2.000 s took effect more than once"
    assert "failed took effect all the same" in refused.why
    assert together([lost, doubled]) is False


def test_a_subject_whose_final_state_is_not_known_is_not_judged():
    assert [v.holds for v in effects([op(1, 0, 1, kind="increment")], {}, ["increment"])] == [True] * 3


def test_several_of_a_kind_are_counted():
    history = [op(n, n, n + 0.5, kind="increment") for n in range(3)]
    assert effects(history, {"shop": []}, ["increment"])[0].why.endswith(
        "is not in the final state, and 2 more"
    )


# -- Figures


def test_recovery_is_the_time_from_a_fault_to_the_first_answer_to_what_was_asked_after_it():
    history = [op(1, 0, 4), op(2, 2, None), op(3, 3, 5), op(4, 4, 4.5), op(5, 1, 2, subject="bank")]
    found = recoveries(history, [(1.0, "SIGKILL of beta")])
    assert [(r.subject, r.seconds) for r in found] == [("bank", 1.0), ("shop", 3.5)]
    assert median_and_worst(r.seconds for r in found) == (2.25, 3.5)


def test_availability_counts_by_the_window_in_which_an_operation_began():
    history = [op(1, 0.1, 0.2), op(2, 0.9, 5.0), op(3, 0.5), op(4, 2.0, 2.1)]
    assert availability(history) == [Window(0.0, 3, 2), Window(2.0, 1, 1)]
    windows = availability(history, window=0.5)
    assert Counter(w.asked for w in windows) == {1: 2, 2: 1}


def test_faults_are_told_by_what_was_broken_and_where():
    details = [{"signal": "SIGKILL"}, {"fault": "cut", "a": "alpha", "b": "beta"}, {"fault": "partition"}, {}]
    events = [Event("fault_injected", at=n, detail=detail) for n, detail in enumerate(details)]
    events.append(Event("fault_injected", at=9.0, sandbox="shop", node="alpha", detail={"signal": "SIGKILL"}))
    events.append(Event("healed", at=10.0))
    told = [what for _, what in faults_in(events)]
    assert told == ["SIGKILL", "cut between alpha and beta", "partition", "fault", "SIGKILL of shop"]
