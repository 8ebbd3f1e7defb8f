"""What a request carries becomes what the model takes, or is refused with the place that is wrong."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any, Literal
from urllib.parse import parse_qs, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from superlearner.arsenal import Field, Params, Result, operation
from superlearner.arsenal.arguments import from_body, from_texts, validated
from superlearner.arsenal.refusals import BadRequest, InvalidParameters


class Inner(Params):
    size: int = 1


class Everything(Params):
    id: str
    number: int = 0
    share: float = 0.0
    yes: bool = False
    word: str | None = None
    kind: Literal["a", "b"] = "a"
    maybe: int | None = None
    many: list[int] = Field(default_factory=list)
    words: list[str] = Field(default_factory=list)
    inner: Inner = Field(default_factory=Inner)
    anything: Any = None


class Nothing(Result):
    """Nothing."""


@operation("GET", "/things/{id}", access="read", timeout=1.0)
async def look(cluster, params: Everything) -> Nothing:
    """Look."""


@operation("POST", "/things/{id}", access="operate", timeout=1.0)
async def change(cluster, params: Everything) -> Nothing:
    """Change."""


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=10)
whole = st.integers(-(2**60), 2**60)
parts = st.fixed_dictionaries(
    {},
    optional={
        "number": whole,
        "share": st.floats(allow_nan=False, allow_infinity=False),
        "yes": st.booleans(),
        "word": texts,
        "kind": st.sampled_from("ab"),
        "maybe": whole,
        "many": st.lists(whole, min_size=1, max_size=3),
        "words": st.lists(texts, min_size=1, max_size=3),
    },
)


def as_texts(value):
    """Return what is written in a query for a value."""
    return [
        v if isinstance(v, str) else json.dumps(v) for v in (value if isinstance(value, list) else [value])
    ]


@given(texts, parts)
def test_a_query_says_what_json_says(id, values):
    query = [(name, text) for name, value in values.items() for text in as_texts(value)]
    read = parse_qs(urlencode(query), keep_blank_values=True)
    by_query = validated(look, from_texts(look, {"id": id}, read), strict=True)
    by_body = validated(change, {"id": id} | from_body(change, json.dumps(values).encode()), strict=True)
    assert by_query == by_body == Everything(id=id, **values)


@given(st.binary(max_size=60))
def test_any_body_is_read_or_refused(raw):
    with suppress(BadRequest, InvalidParameters):
        assert validated(change, {"id": "x"} | from_body(change, raw), strict=True).id == "x"


@pytest.mark.parametrize(
    ("body", "where"),
    [
        ({"number": "5"}, "number"),
        ({"number": 1.5}, "number"),
        ({"yes": 1}, "yes"),
        ({"word": 5}, "word"),
        ({"kind": "c"}, "kind"),
        ({"many": ["1"]}, "many.0"),
        ({"inner": {"size": "1"}}, "inner.size"),
        ({"inner": {"sise": 1}}, "inner.sise"),
        ({"nothing": 1}, "nothing"),
    ],
)
def test_a_wrong_type_is_named_by_its_place_and_never_by_its_value(body, where):
    with pytest.raises(InvalidParameters) as caught:
        validated(change, {"id": "x", **body}, strict=True)
    assert caught.value.problems[0][0] == where


def test_a_whole_number_may_be_written_with_a_point_where_one_is_wanted():
    body = from_body(change, b'{"number": 3.0, "many": [1.0], "inner": {"size": 2.0}, "anything": 4.0}')
    found = validated(change, {"id": "x", **body}, strict=True)
    assert (found.number, found.many, found.inner.size, found.anything) == (3, [1], 2, 4.0)
    assert isinstance(found.anything, float)


@pytest.mark.parametrize("query", [{"number": ["1", "2"]}, {"nothing": ["1"]}, {"id": ["x"]}])
def test_a_query_is_refused_that_says_something_twice_or_what_is_not_known(query):
    with pytest.raises(InvalidParameters):
        from_texts(look, {"id": "x"}, query)


def test_what_is_in_the_path_is_not_in_the_body_too():
    with pytest.raises(InvalidParameters, match="in the path already"):
        from_body(change, b'{"id": "y"}')
