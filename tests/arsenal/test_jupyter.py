"""The operations in a Jupyter server: under its URL, with its token, and with nothing that its own checks let pass."""

from __future__ import annotations

import http.cookiejar
import json
import urllib.request

import pytest
from arsenal_kit import BASE, JUPYTER_TOKEN, fetch
from strangers import OTHER_SITES, everywhere


def test_what_is_asked_is_done(jupyter, world):
    made = jupyter.fetch(
        "/api/v1/distributed/sandboxes",
        method="POST",
        body={"id": world.fresh(), "application": "superlearner.cli.demo_app:Counter"},
    )
    assert made.status == 201
    place = made.headers["Location"]
    assert place.startswith(f"{BASE}superlearner/api/v1/distributed/sandboxes/")
    path = place.removeprefix(f"{BASE}superlearner")
    assert jupyter.fetch(path).json["sandbox"]["status"] == "running"
    assert jupyter.fetch(f"{path}?confirm=true", method="DELETE").status == 204
    assert jupyter.fetch(path).code == "no_sandbox"
    done = [e.name for e in world.cluster.events(kind="operation_called") if e.detail["face"] == "jupyter"]
    assert done[-4:-1] == ["create_sandbox", "get_sandbox", "destroy_sandbox"]


def test_the_document_names_its_base_and_the_page_is_there(jupyter):
    document = jupyter.fetch("/api/v1/openapi.json")
    assert document.json["servers"] == [{"url": f"{BASE}superlearner"}]
    again = jupyter.fetch("/api/v1/openapi.json", headers={"If-None-Match": document.headers["ETag"]})
    assert again.status == 304
    page = jupyter.fetch("/api/v1/")
    assert page.headers["Content-Type"].startswith("text/html")
    assert "create_sandbox" in page.body.decode()


def test_a_person_who_is_not_logged_in_is_led_to_where_one_logs_in(jupyter):
    """And after that to the page; a program is refused."""
    jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
    opener = urllib.request.build_opener(jar)
    opener.addheaders = [("Accept", "text/html,*/*")]
    with opener.open(f"{jupyter.url}/") as answer:
        assert answer.url.startswith(f"{jupyter.origin}{BASE}login?next=")
        assert answer.url.endswith("superlearner%2F")
    with opener.open(f"{jupyter.url}/?token={JUPYTER_TOKEN}") as answer:
        assert "create_sandbox" in answer.read().decode()
    with opener.open(f"{jupyter.url}/") as answer:  # by the cookie
        page = answer.read().decode()
    assert f"{jupyter.origin}</span>{BASE}superlearner/api/v1" in page
    assert JUPYTER_TOKEN not in page


@pytest.mark.parametrize(
    "headers",
    [{}, {"Authorization": "token forged"}, {"Cookie": "_xsrf=1; username-localhost=admin"}],
    ids=["nothing", "forged", "cookie"],
)
def test_no_route_in_jupyter_lets_a_stranger_in(jupyter, headers):
    for verb, route, status, code in everywhere(jupyter.url, headers):
        assert status in {401, 403}, (verb, route)
        assert code in {"unauthenticated", "forbidden", None}, (verb, route)


@pytest.mark.parametrize("headers", OTHER_SITES)
def test_no_route_in_jupyter_serves_another_site(jupyter, headers):
    known = {"Authorization": f"token {JUPYTER_TOKEN}", **headers}
    for verb, route, status, code in everywhere(jupyter.url, known):
        assert (status, code or "wrong_origin") == (403, "wrong_origin"), (verb, route)


def test_its_own_pages_are_served(jupyter):
    path = "/api/v1/distributed/cluster/status"
    assert jupyter.fetch(path, headers={"Origin": jupyter.origin}).status == 200


def test_a_page_that_is_logged_in_by_its_cookie_needs_the_xsrf_token_to_change_anything(jupyter):
    jar = http.cookiejar.CookieJar()
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(jar))
    opener.open(f"{jupyter.origin}{BASE}api/status?token={JUPYTER_TOKEN}").close()
    opener.open(f"{jupyter.origin}{BASE}login").close()
    cookies = {cookie.name: cookie.value for cookie in jar}
    headers = {"Cookie": "; ".join(f"{name}={value}" for name, value in cookies.items())}
    url = f"{jupyter.url}/api/v1/distributed/sandboxes"
    assert fetch(url, headers=headers).status == 200
    assert fetch(url, headers=headers, method="POST", body={}).status == 403
    given = {**headers, "X-XSRFToken": cookies["_xsrf"]}
    assert fetch(url, headers=given, method="POST", body={}).code == "invalid_parameters"


def test_events_are_told_as_they_happen(jupyter, world):
    request = urllib.request.Request(
        f"{jupyter.url}/api/v1/events/stream?kind=sandbox_created",
        headers={"Authorization": f"token {JUPYTER_TOKEN}"},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:
        assert answer.headers["Content-Type"] == "text/event-stream"
        sandbox = world.sandbox()
        line = b""
        while not line.startswith(b"data: "):
            line = answer.readline()
        assert json.loads(line.removeprefix(b"data: "))["sandbox"] == sandbox.id
