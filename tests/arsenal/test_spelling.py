"""User values as JSON, and back."""

from __future__ import annotations

import json
from enum import IntEnum
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superlearner.arsenal.spelling import meant, spelled

plain = (
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
)
values = st.recursive(
    plain,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(values)
def test_what_json_can_spell_comes_back_the_same(value):
    told = spelled(value)
    text = json.dumps(told.value)
    if not told.in_words:
        assert meant(json.loads(text)) == value
        assert repr(meant(json.loads(text))) == repr(value)


class Colour(IntEnum):
    RED = 1


class Shy:
    def __repr__(self):
        raise ValueError


class Pair(NamedTuple):
    a: int
    b: int


cycle: list = []
cycle.append(cycle)


@pytest.mark.parametrize(
    ("value", "told", "places"),
    [
        ({1, 2}, "{1, 2}", ["$"]),
        ([b"x", float("nan")], ["b'x'", "nan"], ["$[0]", "$[1]"]),
        ({"a": {1: 2}}, {"a": "{1: 2}"}, ["$.a"]),
        ({"tuple": [1]}, "{'tuple': [1]}", ["$"]),
        ({"tuple": (1,)}, {"tuple": {"tuple": [1]}}, []),
        ({"tuple": [1], "b": 2}, {"tuple": [1], "b": 2}, []),
        ("\ud800", "\\ud800", ["$"]),
        ((Pair(1, 2),), {"tuple": ["Pair(a=1, b=2)"]}, ["$[0]"]),
        ([ValueError("boom")], ["ValueError: boom"], ["$[0]"]),
    ],
)
def test_what_json_does_not_know_is_told_in_words_and_where(value, told, places):
    found = spelled(value)
    assert (found.value, found.in_words) == (told, places)


@pytest.mark.parametrize("value", [Colour.RED, Shy(), cycle, [[[]]] * 3, lambda: 0])
def test_nothing_breaks_it(value):
    json.dumps(spelled(value).value)
