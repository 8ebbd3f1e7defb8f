"""No route, by no verb, answers somebody whom nobody vouches for, or another site's page; for Jupyter, see there."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from arsenal_kit import BASE, Running
from strangers import OTHER_SITES, ROUTES, VERBS, asking, everywhere

from superlearner.arsenal import jupyter as jupyter_face
from superlearner.arsenal import shared
from superlearner.arsenal.access import LEVELS, Token
from superlearner.arsenal.http.house import Limits
from superlearner.arsenal.http.tokens import read, write


@pytest.fixture(scope="module")
def open_to_many(cluster, tmp_path_factory) -> Iterator[Running]:
    """A server that lets strangers ask as often as they like, with a token that has expired."""
    limits = Limits(stranger_rate=1e6, stranger_burst=1e6)
    running = Running(tmp_path_factory.mktemp("tokens") / "tokens.json", limits=limits)
    path = running.served.tokens.path
    write(path, [*read(path), Token("late", "admin", "x" * 40, time.time() - 1)])
    try:
        yield running
    finally:
        running.close()


def is_known(patterns: list[str], base: str = "") -> None:
    """Fail when a handler stands where none of the routes here leads: a stranger might get in there."""
    for pattern in patterns:
        assert any(re.fullmatch(pattern, base + route) for route in ROUTES), pattern


def test_every_handler_is_among_the_routes(open_to_many):
    rules = open_to_many.served._application.wildcard_router.rules
    is_known([rule.matcher.regex.pattern.removesuffix("$") for rule in rules])
    added = []
    web_app = SimpleNamespace(settings={"base_url": BASE}, add_handlers=lambda _, rules: added.extend(rules))
    jupyter_face._load_jupyter_server_extension(SimpleNamespace(web_app=web_app, log=SimpleNamespace()))
    is_known([pattern for pattern, *_ in added], f"{BASE}superlearner")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer forged"},
        {"Authorization": f"Bearer {'x' * 40}"},
        {"Authorization": "Basic YWRtaW46YWRtaW4="},
        {"Authorization": "token"},
        {"Cookie": "token=admin; _xsrf=1"},
    ],
    ids=["nothing", "forged", "expired", "password", "none", "cookie"],
)
def test_no_route_of_the_own_server_lets_a_stranger_in(open_to_many, headers):
    for verb, route, status, code in everywhere(open_to_many.url, headers, [*VERBS, "TRACE", "WHATEVER"]):
        assert (status, code or "unauthenticated") == (401, "unauthenticated"), (verb, route)


@pytest.mark.parametrize("headers", OTHER_SITES)
def test_no_route_of_the_own_server_serves_another_site(open_to_many, headers):
    known = {"Authorization": f"Bearer {open_to_many.tokens['admin']}", **headers}
    for verb, route, status, code in everywhere(open_to_many.url, known):
        assert (status, code or "wrong_origin") == (403, "wrong_origin"), (verb, route)


def test_every_operation_refuses_every_weaker_token(open_to_many):
    with asking(open_to_many.url) as ask:
        for operation in shared():
            for weaker in LEVELS[: LEVELS.index(operation.access)]:
                path = f"/api/v1{operation.route.fill(dict.fromkeys(operation.in_path, 'nobody'))}"
                known = {"Authorization": f"Bearer {open_to_many.tokens[weaker]}"}
                path += "?confirm=true" if operation.dangerous else ""
                assert ask(operation.method, path, known) == (403, "forbidden"), operation
