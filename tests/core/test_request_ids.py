"""Requests with ids: each has its effect once, and the memory of that goes with the state."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from superlearner.core.request_ids import Kept, RequestMemory, validate_request_id
from superlearner.errors import InvalidSpec

IDS = st.sampled_from(("a", "b", "c", "d"))


class Server(RuleBasedStateMachine):
    """A state with its memory of ids, checkpointed together, lost and restored; and clients that repeat themselves."""

    def __init__(self):
        super().__init__()
        self.memory = RequestMemory(limit=100, age=1000.0)
        #: What the clock shows; after a crash it is another machine's.
        self.now = 0.0
        self.state: list[str] = []
        self.running: set[str] = set()
        self.owed: set[str] = set()
        self.checkpoint = pickle.dumps((self.state, self.memory.snapshot(self.now)))

    @rule(id=IDS)
    def ask(self, id):
        match self.memory.ask(id, id.encode(), self.now):
            case "new":
                assert id not in self.state, "it would be carried out twice"
                self.running.add(id)
            case "running":
                assert id in self.running | self.owed
            case Kept(body=body):
                assert body == id.encode()
                assert self.state.count(id) == 1
            case verdict:
                raise AssertionError(verdict)

    @rule(id=IDS)
    def answer(self, id):
        if id in self.running:
            self.running.remove(id)
            self.state.append(id)
            self.memory.answered(id, 0, id.encode(), self.now)

    @rule(id=IDS)
    def take_over(self, id):
        if id in self.running:
            self.running.remove(id)
            self.state.append(id)
            self.owed.add(id)
            self.memory.owed(id, self.now)

    @rule(id=IDS)
    def answer_later(self, id):
        if id in self.owed:
            self.owed.remove(id)
            self.memory.answered(id, 0, id.encode(), self.now)

    @rule(id=IDS)
    def give_up(self, id):
        if id in self.running:
            self.running.remove(id)
            self.memory.undone(id)

    @rule()
    def save(self):
        self.checkpoint = pickle.dumps((self.state, self.memory.snapshot(self.now)))

    @rule()
    def crash(self):
        self.state, kept = pickle.loads(self.checkpoint)
        self.now += 5000.0
        self.memory = RequestMemory(limit=100, age=1000.0)
        self.memory.restore(kept, self.now)
        kept = kept[1]
        self.running = set()
        self.owed = {id for id, one in kept.items() if Kept(*one).status is None}

    @invariant()
    def each_has_its_effect_at_most_once(self):
        assert len(self.state) == len(set(self.state))


TestServer = Server.TestCase
TestServer.settings = settings(max_examples=80, stateful_step_count=40, deadline=None)


def answered(memory, *ids, now=0.0):
    for id in ids:
        memory.ask(id, b"", now)
        memory.answered(id, 0, b"", now)


def test_the_oldest_are_forgotten_first():
    memory = RequestMemory(limit=2, age=60.0)
    answered(memory, "a", "b", "c")
    assert (list(memory.snapshot(0.0)[1]), len(memory)) == (["b", "c"], 2)
    assert memory.ask("a", b"", 0.0) == "new"


def test_none_is_remembered_for_longer_than_its_time():
    memory = RequestMemory(limit=9, age=60.0)
    answered(memory, "a", now=0.0)
    answered(memory, "b", now=50.0)
    assert isinstance(memory.ask("a", b"", 60.0), Kept)
    assert memory.ask("a", b"", 61.0) == "new"
    assert isinstance(memory.ask("b", b"", 61.0), Kept)


def test_another_clock_makes_nothing_older():
    memory = RequestMemory(limit=9, age=60.0)
    answered(memory, "a", now=1000.0)
    later = RequestMemory(limit=9, age=60.0)
    later.restore(memory.snapshot(1010.0), 77_000.0)
    assert isinstance(later.ask("a", b"", 77_050.0), Kept)
    assert later.ask("a", b"", 77_051.0) == "new"


def test_what_is_owed_is_forgotten_by_the_same_bounds():
    memory = RequestMemory(limit=1, age=60.0)
    memory.ask("a", b"", 0.0)
    memory.owed("a", 0.0)
    answered(memory, "b")
    assert list(memory.snapshot(0.0)[1]) == ["b"]
    memory.answered("a", 0, b"late", 0.0)
    assert list(memory.snapshot(0.0)[1]) == ["b"]


def test_what_is_owed_counts_from_its_answer_and_the_first_one_counts():
    memory = RequestMemory(limit=9, age=60.0)
    memory.ask("a", b"x", 0.0)
    memory.owed("a", 1.0)
    answered(memory, "b", now=2.0)
    assert memory.ask("a", b"x", 2.0) == "running"
    memory.answered("a", 0, b"first", 3.0)
    memory.answered("a", 0, b"second", 4.0)
    assert memory.ask("a", b"x", 4.0) == Kept(b"x", 3.0, 0, b"first")
    assert list(memory.snapshot(4.0)[1]) == ["b", "a"]


def test_one_under_way_is_not_forgotten_and_the_first_answer_counts():
    memory = RequestMemory(limit=1, age=1.0)
    assert memory.ask("a", b"x", 0.0) == "new"
    answered(memory, "b", "c", now=5.0)
    assert memory.ask("a", b"x", 9.0) == "running"
    assert memory.ask("a", b"y", 9.0) == "another"
    memory.answered("a", 0, b"first", 9.0)
    memory.answered("a", 0, b"second", 9.0)
    memory.owed("a", 9.0)
    assert memory.ask("a", b"x", 9.0) == Kept(b"x", 9.0, 0, b"first")
    assert memory.ask("a", b"y", 9.0) == "another"


@pytest.mark.parametrize("id", ["", "x" * 201, 7, None, b"bytes"])
def test_an_id_is_a_text_of_some_length(id):
    with pytest.raises(InvalidSpec, match="nothing was sent"):
        validate_request_id(id)
