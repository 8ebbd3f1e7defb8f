"""The pure decisions: which route is meant, whose token it is, who may, and how often."""

from __future__ import annotations

import string
from typing import Annotated, Any
from urllib.parse import quote

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from superlearner.arsenal import Hidden, Params, audit
from superlearner.arsenal.access import LEVELS, Rate, Token, may, vouched
from superlearner.arsenal.failures import told
from superlearner.arsenal.routes import Route, find, split

words = st.text(string.ascii_lowercase, min_size=1, max_size=4)
values = st.text(min_size=1, max_size=20).filter(lambda t: t.isprintable() and t not in {".", ".."})
paths = st.lists(words | st.just("{}"), min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(f"{{p{n}}}" if part == "{}" else part for n, part in enumerate(parts))
)


@given(paths, st.data())
def test_what_was_filled_in_is_found_again(path, data):
    route = Route.parse(path)
    given_values = {name: data.draw(values) for name in route.parameters}
    assert route.match(split(route.fill(given_values))) == given_values


@given(st.lists(st.text(max_size=8), max_size=6))
def test_a_path_leads_nowhere_else(parts):
    found = split("/" + "/".join(quote(part, safe="./%") for part in parts))
    assert found is None or not {"", ".", ".."} & set(found)


@given(st.lists(paths, min_size=1, max_size=6), st.lists(words, min_size=1, max_size=4))
def test_a_request_means_a_route_that_fits_it_or_none(declared, parts):
    routes = [("GET", Route.parse(path), path) for path in declared]
    match = find(routes, "GET", tuple(parts))
    fits = [path for path in declared if Route.parse(path).match(tuple(parts)) is not None]
    assert (match.target is None) == (not fits)
    if fits:
        assert Route.parse(match.target).shape == min(Route.parse(path).shape for path in fits)
    assert find(routes, "PUT", tuple(parts)).allowed == (("GET",) if fits else ())


@given(st.sampled_from(LEVELS), st.sampled_from(LEVELS), st.sampled_from(LEVELS))
def test_access_is_an_order(a, b, c):
    assert may(a, a)
    assert may(a, b) or may(b, a)
    assert not (may(a, b) and may(b, c)) or may(a, c)


secrets = st.text(min_size=1, max_size=12)


@given(st.dictionaries(words, secrets, max_size=5), st.text(max_size=12), st.floats(0, 100))
def test_only_a_secret_that_is_there_and_good_is_vouched_for(known, shown, now):
    tokens = [Token(name, "read", secret, expires=50.0) for name, secret in known.items()]
    found = vouched(tokens, shown, now)
    assert (found is not None) == (shown in known.values() and now < 50)
    assert found is None or found.secret == shown


def test_a_token_does_not_show_its_secret():
    assert "s3cret" not in repr(Token("ci", "read", "s3cret"))


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 3)), max_size=60))
def test_nobody_gets_more_than_the_rate_allows(requests):
    limit, now, begun = Rate(rate=2.0, burst=3), 0.0, {}
    taken = {"a": 0, "b": 0}
    for who, wait in requests:
        now += wait
        begun.setdefault(who, now)
        refused = limit.take(who, now)
        taken[who] += refused == 0
        assert 0 <= refused <= 0.5
        assert taken[who] <= 3 + 2 * (now - begun[who]) + 1e-6


def test_who_waits_as_long_as_told_is_let_in():
    limit = Rate(rate=0.5, burst=1)
    limit.take("a", 0.0)
    assert limit.take("a", limit.take("a", 0.0)) == 0


def test_a_crowd_of_strangers_is_forgotten():
    limit = Rate(rate=1, burst=1, callers=10)
    for number in range(1000):
        limit.take(str(number), 0.0)
    assert len(limit._left) == 10


@given(st.lists(st.tuples(st.sampled_from("ab"), st.floats(0, 5)), max_size=100))
def test_every_call_that_reads_is_told_or_waits_to_be(calls):
    readers, now, told_calls = audit.Readers(rate=0.5, burst=3), 0.0, 0
    for who, wait in calls:
        now += wait
        told_calls += readers.due((who,), now)
    assert told_calls + sum(readers.waiting().values()) == len(calls)


class Given(Params):
    key: SecretStr
    request: Annotated[Any, Hidden()]
    settings: dict[str, Any]
    text: str
    many: list[int]


def test_secrets_are_hidden_by_type_by_name_and_by_mark():
    params = Given(
        key="k3y",
        request={"any": "thing"},
        settings={"api_key": "k3y", "deep": {"Authorization": "k3y", "size": 3}},
        text="x" * 1000,
        many=list(range(1000)),
    )
    shown = audit.redacted(params)
    assert "k3y" not in str(shown)
    assert "thing" not in str(shown)
    assert shown["settings"]["deep"]["size"] == 3
    assert len(str(shown)) < 600


anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters(), max_size=5)
    | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(), max_size=3), inner),
    max_leaves=20,
)


@given(anything)
def test_every_log_can_hold_what_is_told_of_a_call(value):
    assert msgpack.packb(audit.redacted(Anything(value=value)))


def test_a_huge_number_and_what_is_deep_are_told_short():
    deep: Any = 10**5000
    for _ in range(50):
        deep = [deep]
    assert len(str(audit.redacted(Anything(value=[10**5000, deep])))) < 600


class Anything(Params):
    value: Any


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("cannot read /root/.ssh/id_rsa: denied", "cannot read <path>: denied"),
        ("'sandbox/process' and GET /x are fine", "'sandbox/process' and GET /x are fine"),
        ("ask http://127.0.0.1:8000/api/v1/x", "ask http://127.0.0.1:8000/api/v1/x"),
        ('x\nTraceback (most recent call last):\n  File "/a/b.py"', "x <traceback>"),
    ],
)
def test_what_leaves_has_no_paths_and_no_tracebacks(text, kept):
    assert told(text) == kept
