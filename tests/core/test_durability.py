"""Which answers may leave, and when the next checkpoint is to be taken."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from superlearner.core.durability import Copies, GroupCommit, Holders, ReplyGate, why_not_durable
from superlearner.core.spec import Checkpoint
from superlearner.errors import InvalidSpec


class Gate(RuleBasedStateMachine):
    """A host that answers and takes checkpoints, some of which are stored, in any order, and some never."""

    def __init__(self):
        super().__init__()
        self.gate: ReplyGate[int] = ReplyGate()
        self.answers = 0
        #: How many answers each checkpoint, by mark, has the effects of.
        self.has: dict[int, int] = {}
        self.stored = 0
        self.frozen = False
        self.left: list[int] = []
        self.refused: list[int] = []

    @rule()
    def answer(self):
        self.gate.hold(self.answers)
        self.answers += 1

    @rule()
    def take(self):
        self.has[self.gate.mark()] = self.answers

    @precondition(lambda self: self.has)
    @rule(data=st.data())
    def store(self, data):
        mark = data.draw(st.sampled_from(sorted(self.has)))
        self.gate.stored(mark)
        self.stored = max(self.stored, self.has[mark])
        self._leave()

    @precondition(lambda self: self.has)
    @rule(data=st.data())
    def lose(self, data):
        mark = data.draw(st.sampled_from(sorted(self.has)))
        lost = self.gate.lost(mark)
        assert all(answer < self.has[mark] for answer in lost)
        self.refused += lost

    @rule()
    def freeze(self):
        self.gate.freeze()
        self.frozen = True

    @rule()
    def thaw(self):
        self.gate.thaw()
        self.frozen = False
        self._leave()

    def _leave(self):
        due = self.gate.due()
        assert not (due and self.frozen)
        self.left += due

    @invariant()
    def nothing_leaves_before_its_effect_is_stored(self):
        assert all(answer < self.stored for answer in self.left)

    @invariant()
    def everything_leaves_or_is_refused_once_and_in_order(self):
        assert self.left == sorted(set(self.left))
        assert not set(self.left) & set(self.refused)
        if not self.frozen:
            assert set(range(self.stored)) <= set(self.left) | set(self.refused)


TestGate = Gate.TestCase
TestGate.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_what_is_cleared_never_leaves():
    gate = ReplyGate()
    gate.hold("one")
    mark = gate.mark()
    gate.hold("two")
    assert gate.wants_more
    gate.clear()
    gate.stored(mark + 1)
    assert (gate.due(), gate.wants_more) == ([], False)


@given(st.lists(st.sampled_from(("answer", "turn", "stored")), max_size=60))
def test_no_answer_is_left_without_a_checkpoint_and_no_two_are_under_way(steps):
    commit = GroupCommit()
    asked = under_way = False
    waiting = 0

    def take():
        nonlocal asked, under_way, waiting
        assert not under_way
        commit.taken()
        asked, under_way, waiting = False, True, 0

    for step in [*steps, "turn", "stored", "turn", "stored"]:
        if step == "answer":
            waiting += 1
            if commit.answered():
                assert not asked
                asked = True
        elif step == "turn" and asked:
            take()
        elif step == "stored":
            was, under_way = under_way, False
            if commit.ended():
                assert was
                take()
    assert waiting == 0


@pytest.mark.parametrize(
    ("peers", "copies", "durable"),
    [
        ([], Copies(), True),
        (["beta", "gamma"], Copies(("beta", "gamma")), True),
        (["beta", "gamma"], Copies(("gamma",)), True),
        (["beta", "gamma"], Copies(), False),
        (["beta", "gamma"], Copies(in_directory=True), True),
        (["beta"], Copies(("beta",), in_directory=False, trouble="the disk is full"), False),
        ([], Copies(in_directory=False, trouble="the disk is full"), False),
        (["beta", "gamma"], Copies(("beta",), in_directory=True, stale=True), False),
    ],
)
def test_when_a_checkpoint_counts_as_stored(peers, copies, durable):
    assert (why_not_durable(peers, copies) is None) is durable


NODES = st.sets(st.sampled_from("abcd"))


@given(
    st.lists(
        st.tuples(NODES, NODES, NODES, st.booleans(), st.booleans()).map(
            # The owner is always among those asked, and always has it; of the others each may have it, and may say so.
            lambda t: (t[0] | {"a"}, (t[1] & t[0]) | {"a"}, (t[2] & t[1] & t[0]) | {"a"}, *t[3:])
        ),
        max_size=20,
    )
)
def test_whichever_node_the_next_instance_starts_from_it_has_what_was_answered(checkpoints):
    holders = Holders()
    newest = dict.fromkeys("abcd", 0)
    seq = known = answered = 0
    for asked, have_it, say_so, reported, once_more in checkpoints:
        if not once_more or not seq:  # else the same one goes to other peers
            seq += 1
        newest.update(dict.fromkeys(have_it, seq))
        if holders.must_tell(seq, asked, say_so):
            known = seq
            holders.told(seq)
        elif reported:  # a report that nobody waits for
            known = seq
        answered = seq
        # The registry refuses to start from anything older than it knows of.
        assert all(has >= answered for has in newest.values() if has >= known)


def test_the_durability_is_one_of_two():
    assert Checkpoint().durability == "interval"
    with pytest.raises(InvalidSpec, match=r"durability='always' must be \"interval\" .* or \"reply\""):
        Checkpoint(durability="always")
