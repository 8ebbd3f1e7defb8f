"""The search for an order of concurrent operations: it accepts what is right, and names what is not."""

from __future__ import annotations

import json

import pytest
from histories import COUNTER, MODELS, REGISTER, arbitrary, brute, changed, correct, one_after_the_other
from hypothesis import given, settings
from hypothesis import strategies as st

from superlearner.core.linearizable import Counter, Register, linearizable
from superlearner.core.operations import Operation

KINDS = st.sampled_from([REGISTER, COUNTER])


@given(st.data(), KINDS)
@settings(max_examples=200, deadline=None)
def test_what_an_object_did_one_after_the_other_is_linearizable(data: st.DataObject, kinds: tuple[str, ...]):
    verdict = linearizable(data.draw(correct(kinds)), MODELS[kinds])
    assert verdict.holds is True, verdict


@given(st.data(), KINDS)
@settings(max_examples=600, deadline=None)
def test_the_verdict_is_that_of_trying_every_order(data: st.DataObject, kinds: tuple[str, ...]):
    history = data.draw(arbitrary(kinds))
    assert linearizable(history, MODELS[kinds]).holds is brute(history, kinds)


@given(correct(("read", "increment"), most=12), st.integers(0, 100))
@settings(max_examples=150, deadline=None)
def test_an_answer_that_was_never_possible_is_refused(history: list[Operation], which: int):
    answered = [o for o in history if o.outcome == "ok"]
    if answered:
        history = changed(history, answered[which % len(answered)].number, value=100)
        assert linearizable(history, Counter()).holds is False


def test_a_lost_write_is_refused_and_named():
    history = one_after_the_other(("write", 1, None), ("write", 2, None), ("read", None, 1))
    verdict = linearizable(history, Register())
    assert str(verdict) == (
        "FALSE    operations take effect one after the other, each between its beginning and its end: no order has "
        "a place for ann: read() -> 1, 4.000 s to 5.000 s: by then the state can be 2"
    )


def test_a_stale_read_is_refused():
    history = one_after_the_other(("write", 1, None), ("read", None, 1), ("read", None, None))
    assert linearizable(history, Register()).holds is False


def test_a_doubled_increment_is_refused():
    history = one_after_the_other(("increment", None, 1), ("read", None, 2))
    assert linearizable(history, Counter()).holds is False
    lost = Operation("bob", "increment", invoked=0.0, outcome="unknown")
    assert linearizable([*history, lost], Counter()).holds is True, (
        "the one that was not answered explains it"
    )


def test_the_operation_that_has_no_place_is_the_first_that_nothing_explains():
    right = [("write", n, None) for n in range(20)]
    history = one_after_the_other(*right, ("read", None, 3), ("read", None, 4))
    assert "read() -> 3, 40.000 s" in linearizable(history, Register()).why


def test_an_operation_that_did_not_happen_has_no_effect():
    failed = Operation("bob", "write", 7, invoked=0.0, outcome="failed")
    read = Operation("ann", "read", value=7, invoked=1.0, completed=2.0)
    assert linearizable([failed, read], Register()).holds is False


def test_one_of_unknown_outcome_may_take_effect_much_later_but_once():
    late = Operation("bob", "write", 7, invoked=0.0, outcome="unknown")
    history = one_after_the_other(("write", 1, None), ("read", None, 1), ("read", None, 7))
    assert linearizable([late, *history], Register()).holds is True
    history = one_after_the_other(("read", None, 7), ("write", 1, None), ("read", None, 7))
    assert linearizable([late, *history], Register()).holds is False
    early = Operation("ann", "read", value=7, invoked=-2.0, completed=-1.0)
    assert linearizable([late, early], Register()).holds is False, "not before it began"


def test_a_long_history_with_many_unknown_outcomes_is_judged_in_few_steps():
    history = one_after_the_other(*[("increment", None, n + 1) for n in range(500)])
    lost = [Operation("bob", "increment", invoked=float(n), outcome="unknown") for n in range(40)]
    assert linearizable([*history, *lost], Counter(), steps=5_000).holds is True
    doubled = changed(history, 499, value=600)
    assert linearizable([*doubled, *lost], Counter(), steps=100_000).holds is False


def test_of_two_that_do_the_same_the_one_that_began_first_is_placed_first():
    lost = [Operation("bob", "write", 7, invoked=float(n), outcome="unknown") for n in (0, 2)]
    history = one_after_the_other(
        ("read", None, 7), ("write", 1, None), ("read", None, 7), ("write", 2, None)
    )
    assert linearizable([*history, *lost], Register()).holds is True
    third = Operation("ann", "read", value=7, invoked=20.0, completed=21.0)
    assert linearizable([*history, *lost, third], Register()).holds is False, (
        "two writes explain no third one"
    )


def test_a_search_that_takes_too_long_gives_no_verdict():
    history = one_after_the_other(*[("write", n, None) for n in range(20)])
    verdict = linearizable(history, Register(), steps=10)
    assert (verdict.holds, verdict.word) == (None, "unknown")
    assert linearizable(history, Register(), steps=20).holds is True


def test_nothing_answered_is_linearizable():
    assert linearizable([Operation("bob", "read", outcome="unknown")], Register()).holds is True


@pytest.mark.parametrize("model", [Register(), Counter()])
def test_an_unknown_kind_of_operation_is_refused(model: Register | Counter):
    with pytest.raises(ValueError, match="no operation 'append'"):
        linearizable([Operation("ann", "append", completed=1.0)], model)


@given(correct(REGISTER, most=8))
@settings(max_examples=50, deadline=None)
def test_a_history_can_be_written_as_json_and_read_again(history: list[Operation]):
    assert [Operation.from_dict(json.loads(json.dumps(o.as_dict()))) for o in history] == history
