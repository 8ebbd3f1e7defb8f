"""The server refuses what it must, answers in one body, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import http.client
import json
import re
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from arsenal_kit import Running, fetch
from openapi_spec_validator import validate

from superlearner.arsenal import Params, Registry, Result, operation
from superlearner.arsenal.access import Token
from superlearner.arsenal.http.house import Limits
from superlearner.arsenal.http.tokens import TokenFile, TokenFileBroken, read, write
from superlearner.arsenal.registry import load
from superlearner.cli import demo_app
from superlearner.errors import ClusterNotFound

STATUS = "/api/v1/distributed/cluster/status"
SANDBOXES = "/api/v1/distributed/sandboxes"
CODES = {400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 500, 503, 504}


def is_failure(answer, status: int, code: str) -> None:
    assert (answer.status, answer.code) == (status, code), answer.body
    error = answer.json["error"]
    assert set(error) == {"code", "message", "definite", "details", "advice"}
    assert error["message"].endswith(".")
    assert error["advice"]
    assert "Traceback" not in answer.body.decode()
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


# -- Who is let in


PATHS = [STATUS, SANDBOXES, "/api/v1/openapi.json", "/api/v1/", "/", "/x", "/api/v1/events/stream"]


@pytest.mark.parametrize("path", PATHS)
def test_nobody_is_let_in_without_a_token(server, path):
    is_failure(fetch(server.url + path), 401, "unauthenticated")
    is_failure(fetch(server.url + path, token="forged"), 401, "unauthenticated")
    # One header for each: Chromium asks for no password where both stand in one.
    assert [told.split()[0] for told in fetch(server.url + path).headers.get_all("WWW-Authenticate")] == [
        "Basic",
        "Bearer",
    ]


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "WHATEVER"])
def test_no_verb_is_a_way_in(server, method):
    for path in PATHS:
        assert fetch(server.url + path, method=method).status == 401
    if method != "GET":
        for path in ("/api/v1/openapi.json", "/api/v1/", STATUS):
            wrong = fetch(server.url + path, method=method, token=server.tokens["admin"])
            is_failure(wrong, 405, "method_not_allowed")


def test_a_browser_may_show_the_token_as_a_password(server):
    word = base64.b64encode(f"me:{server.tokens['read']}".encode()).decode()
    answer = fetch(f"{server.url}/api/v1/", headers={"Authorization": f"Basic {word}"})
    assert answer.status == 200
    page = answer.body.decode()
    assert "list_sandboxes" in page
    assert not re.search("https?://", page.replace(server.url, ""))


def test_another_sites_page_and_another_name_are_refused(server):
    token = server.tokens["admin"]
    for headers in (
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example"},
        {"Host": f"evil.example:{server.served.port}"},
        {"Host": "127.0.0.1:1"},
        {"Host": "127.0.0.1:x"},
    ):
        is_failure(fetch(server.url + STATUS, token=token, headers=headers), 403, "wrong_origin")
    own = {"Origin": server.url, "Sec-Fetch-Site": "same-origin"}
    assert fetch(server.url + STATUS, token=token, headers=own).status == 200
    local = {"Host": f"localhost:{server.served.port}"}
    assert fetch(server.url + STATUS, token=token, headers=local).status == 200


def test_an_expired_token_and_one_that_was_removed_are_refused(server):
    path = server.served.tokens.path
    before = read(path)
    until = time.time() + 3600
    write(path, [*before, Token("late", "admin", "x" * 40, 1.0), Token("early", "read", "y" * 40, until)])
    try:
        assert fetch(server.url + STATUS, token="x" * 40).status == 401
        assert fetch(server.url + STATUS, token="y" * 40).status == 200
    finally:
        write(path, before)
    assert fetch(server.url + STATUS, token="y" * 40).status == 401


def test_a_token_file_is_for_its_owner_alone(tmp_path):
    path = tmp_path / "tokens.json"
    file = TokenFile(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(token.access for token in read(path)) == ["admin", "operate", "read"]
    (first, *_) = read(path)
    assert file.vouched(first.secret) == first
    path.chmod(0o644)
    with pytest.raises(TokenFileBroken, match="open to others"):
        TokenFile(path)
    path.unlink()
    assert file.vouched(first.secret) is None


NO_ACCESS = '{"tokens": [{"name": "a", "access": "root", "secret": "s"}]}'


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"tokens": 1}', '{"tokens": [{}]}', NO_ACCESS])
def test_a_broken_token_file_lets_nobody_in(tmp_path, text):
    path = tmp_path / "tokens.json"
    path.touch(0o600)
    path.write_text(text)
    with pytest.raises(TokenFileBroken):
        TokenFile(path)


# -- What is refused


def test_each_refusal_has_its_status(server):
    url, token = server.url, server.tokens["admin"]
    is_failure(fetch(f"{url}/api/v1/nothing", token=token), 404, "no_route")
    is_failure(fetch(f"{url}/nothing", token=token), 404, "no_route")
    for trick in (
        "/api/v1/../v1/x",
        "/api/v1//distributed",
        "/api/v1/%2e%2e/x",
        "/api/v1/%ff",
        "/api/v1/a%00",
    ):
        assert fetch(url + trick, token=token).status == 404
    wrong = fetch(url + SANDBOXES, token=token, method="DELETE")
    is_failure(wrong, 405, "method_not_allowed")
    assert wrong.headers["Allow"] == "GET, POST"
    is_failure(fetch(f"{url}{SANDBOXES}/nobody", token=token), 404, "no_sandbox")
    is_failure(fetch(f"{url}{SANDBOXES}?limit=many", token=token), 422, "invalid_parameters")
    is_failure(fetch(f"{url}{SANDBOXES}?limit=1&limit=2", token=token), 422, "invalid_parameters")
    is_failure(fetch(f"{url}{SANDBOXES}?limit=5000", token=token), 422, "invalid_parameters")
    is_failure(fetch(f"{url}{SANDBOXES}?status=happy", token=token), 422, "invalid_parameters")
    is_failure(fetch(f"{url}{SANDBOXES}?node=nowhere", token=token), 404, "unknown_node")
    is_failure(fetch(f"{url}{SANDBOXES}?%ff=1", token=token), 400, "bad_request")


@pytest.mark.parametrize(
    ("raw", "kind", "status", "code"),
    [
        (b"{", "application/json", 400, "bad_request"),
        (b"\xff\xfe", "application/json", 400, "bad_request"),
        (b'{"id": NaN}', "application/json", 400, "bad_request"),
        (b"[" * 100_000, "application/json", 400, "bad_request"),
        (b'{"id": "\\ud800"}', "application/json", 400, "bad_request"),
        (b"[]", "application/json", 422, "invalid_parameters"),
        (b'"text"', "application/json", 422, "invalid_parameters"),
        (b"{}", "application/json", 422, "invalid_parameters"),
        (b'{"id": "a", "application": "os:system"}', "application/json", 409, "start_failed"),
        (b'{"id": "a", "application": "no path"}', "application/json", 422, "invalid_parameters"),
        (b'{"id": "a", "application": "__import__(\'os\')"}', "application/json", 422, "invalid_parameters"),
        (b'{"id": 5, "application": "a:b"}', "application/json", 422, "invalid_parameters"),
        (b'{"id": "a", "application": "a:b", "max_restarts": "3"}', "application/json", 422, "invalid_parameters"),
        (b'{"id": "a/b", "application": "a:b"}', "application/json", 422, "invalid_parameters"),
        (b"{}", "text/plain", 415, "unknown_content"),
        (b"{}", "application/x-www-form-urlencoded", 415, "unknown_content"),
        (b"{}", "application/json; charset=utf-16", 415, "unknown_content"),
        (b"x" * 2_000_000, "application/json", 413, "too_large"),
    ],
)  # fmt: skip
def test_a_body_that_is_wrong_is_refused(small_server, raw, kind, status, code):
    answer = fetch(
        small_server.url + SANDBOXES,
        token=small_server.tokens["admin"],
        method="POST",
        raw=raw,
        headers={"Content-Type": kind},
    )
    is_failure(answer, status, code)
    assert answer.json["error"]["definite"]


@pytest.fixture(scope="module")
def small_server(cluster, tmp_path_factory):
    """A server that takes little, slowly."""
    limits = Limits(body=1_000_000, body_time=0.3)
    running = Running(tmp_path_factory.mktemp("tokens") / "tokens.json", limits=limits)
    try:
        yield running
    finally:
        running.close()


def test_a_body_in_chunks_that_grows_too_large_is_refused(small_server):
    connection = http.client.HTTPConnection("127.0.0.1", small_server.served.port, timeout=10)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {small_server.tokens['admin']}"}
    connection.request(
        "POST", SANDBOXES, body=iter([b"x" * 100_000] * 20), headers=headers, encode_chunked=True
    )
    assert connection.getresponse().status == 413
    connection.close()


def test_a_body_that_does_not_come_ends_its_connection_and_nothing_else(small_server):
    token = small_server.tokens["admin"]
    with socket.create_connection(("127.0.0.1", small_server.served.port), timeout=10) as slow:
        head = f"POST {SANDBOXES} HTTP/1.1\r\nHost: 127.0.0.1:{small_server.served.port}\r\n"
        head += (
            f"Authorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{{"
        )
        slow.sendall(head.encode())
        assert fetch(small_server.url + STATUS, token=token).status == 200
        assert slow.recv(100) == b""


def test_who_asks_too_fast_waits_and_others_do_not(cluster, tmp_path):
    running = Running(tmp_path / "tokens.json", limits=Limits(rate=0.01, burst=3, stranger_burst=2))
    try:
        url, tokens = running.url + STATUS, running.tokens
        assert [fetch(url, token=tokens["read"]).status for _ in range(4)] == [200, 200, 200, 429]
        refused = fetch(url, token=tokens["read"])
        is_failure(refused, 429, "too_many_requests")
        assert int(refused.headers["Retry-After"]) > 1
        assert fetch(url, token=tokens["admin"]).status == 200
        assert [fetch(url).status for _ in range(3)] == [401, 401, 429]
    finally:
        running.close()


# -- What fails


class Nothing(Params):
    """Nothing."""


class Told(Result):
    number: int


@operation("GET", "/broken", access="read", timeout=5.0)
async def broken(cluster, params: Nothing) -> Told:
    """Fail in an unforeseen way."""
    raise RuntimeError("the key is s3cret, in /etc/shadow")


@operation("GET", "/wrong", access="read", timeout=5.0)
async def wrong(cluster, params: Nothing) -> Told:
    """Return what it does not declare."""
    return {"number": "s3cret"}


@operation("POST", "/slow", access="operate", timeout=0.05)
async def slow(cluster, params: Nothing) -> Told:
    """Take too long."""
    await asyncio.Event().wait()


@pytest.fixture(scope="module")
def odd_server(cluster, tmp_path_factory):
    """A server with operations that fail."""
    registry = load(Registry())
    for one in (broken, wrong, slow):
        registry.add(one)
    running = Running(tmp_path_factory.mktemp("tokens") / "tokens.json", registry=registry)
    try:
        yield running
    finally:
        running.close()


def test_what_nobody_has_foreseen_is_logged_and_not_told(odd_server, caplog):
    for path in ("broken", "wrong"):
        answer = fetch(f"{odd_server.url}/api/v1/{path}", token=odd_server.tokens["read"])
        is_failure(answer, 500, "internal_error")
        assert "s3cret" not in answer.body.decode()
        assert answer.json["error"]["details"]["id"] in caplog.text
    assert "the key is s3cret" in caplog.text


def test_what_takes_too_long_is_broken_off(odd_server):
    answer = fetch(f"{odd_server.url}/api/v1/slow", token=odd_server.tokens["operate"], method="POST")
    is_failure(answer, 504, "operation_timeout")
    assert not answer.json["error"]["definite"]


def test_an_operation_that_is_added_is_routed_at_once(odd_server):
    @operation("GET", "/added/{word}", access="read", timeout=5.0)
    async def added(cluster, params: Word) -> Told:
        """Count the letters."""
        return Told(number=len(params.word))

    url = f"{odd_server.url}/api/v1/added/three"
    token = odd_server.tokens["read"]
    assert fetch(url, token=token).status == 404
    odd_server.served.house.registry.add(added)
    assert fetch(url, token=token).json == {"number": 5}
    assert "added" in fetch(f"{odd_server.url}/api/v1/openapi.json", token=token).body.decode()
    odd_server.served.house.registry.remove("added")
    assert fetch(url, token=token).status == 404


class Word(Params):
    word: str


def test_without_a_cluster_it_says_so_and_finds_one_that_comes(cluster, tmp_path):
    there = threading.Event()

    async def connect():
        from superlearner.arsenal.local import connect as to_local

        if not there.is_set():
            raise ClusterNotFound("No local cluster is running.")
        return await to_local()

    running = Running(tmp_path / "tokens.json", connect=connect)
    try:
        is_failure(fetch(running.url + STATUS, token=running.tokens["read"]), 503, "cluster_not_found")
        there.set()
        assert fetch(running.url + STATUS, token=running.tokens["read"]).status == 200
    finally:
        running.close()


# -- What is told


def test_the_document_is_valid(server):
    answer = fetch(f"{server.url}/api/v1/openapi.json", token=server.tokens["read"])
    validate(answer.json)
    assert answer.json["openapi"].startswith("3.1")
    for path in answer.json["paths"].values():
        for entry in path.values():
            statuses = {int(status) for status in entry["responses"] if status != "default"}
            assert statuses <= CODES | {200, 201, 204, 304}
    made = answer.json["paths"][SANDBOXES]["post"]["responses"]["201"]
    assert made["links"]["restart_sandbox"]["parameters"] == {"path.id": "$response.body#/id"}


def test_what_has_not_changed_is_not_sent_again(server):
    for path in ("/api/v1/openapi.json", STATUS):
        first = fetch(server.url + path, token=server.tokens["read"])
        again = fetch(
            server.url + path, token=server.tokens["read"], headers={"If-None-Match": first.headers["Etag"]}
        )
        assert (again.status, again.body) == (304, b"")


def test_a_list_is_told_in_pages(server, world):
    ids = {world.sandbox().id for _ in range(3)}
    seen, cursor = [], ""
    while True:
        answer = fetch(f"{server.url}{SANDBOXES}?limit=2{cursor}", token=server.tokens["read"]).json
        seen += [row["id"] for row in answer["sandboxes"]]
        if answer["next"] is None:
            break
        cursor = f"&cursor={answer['next']}"
    assert ids <= set(seen)
    assert len(seen) == len(set(seen)) == answer["total"]


def test_every_call_leaves_an_event(server, cluster):
    newest = cluster.events()[-1].seq
    token = server.tokens["operate"]
    fetch(f"{server.url}{SANDBOXES}/nobody/restarts", token=token, method="POST")
    cluster.ops.cluster_status()
    told = [event.detail for event in cluster.events(newest, kind="operation_called")]
    assert [(one["operation"], one["face"], one["outcome"]) for one in told] == [
        ("restart_sandbox", "rest", "no_sandbox"),
        ("cluster_status", "python", "ok"),
    ]
    assert told[0]["who"] == "operate"
    assert told[0]["parameters"] == {"id": "nobody"}
    assert told[0]["seconds"] > 0


def test_numbers_beyond_64_bits_break_nothing(server, cluster):
    body = {"id": "huge", "application": "no.such:thing", "arguments": [2**70, -(2**70)]}
    answer = fetch(server.url + SANDBOXES, token=server.tokens["admin"], method="POST", body=body)
    is_failure(answer, 409, "start_failed")
    told = cluster.events(kind="operation_called")[-1].detail
    assert told["parameters"]["arguments"] == [hex(2**70), hex(-(2**70))]


# -- Live


def lines(answer, number):
    """Return the next events of a stream."""
    found = []
    while len(found) < number:
        event = {}
        while line := answer.readline().decode().rstrip("\n"):
            name, _, text = line.partition(": ")
            event[name] = text
        if "id" in event:
            found.append(event)
    return found


def stream(server, query="", **headers):
    connection = http.client.HTTPConnection("127.0.0.1", server.served.port, timeout=20)
    sent = {"Authorization": f"Bearer {server.tokens['read']}", **headers}
    connection.request("GET", f"/api/v1/events/stream{query}", headers=sent)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    assert answer.headers["Content-Type"] == "text/event-stream"
    return connection, answer


def test_events_are_told_as_they_happen_and_again_from_where_one_left_off(server, world):
    connection, answer = stream(server, "?kind=sandbox_created")
    first, second = world.sandbox().id, world.sandbox().id
    told = lines(answer, 2)
    assert [json.loads(event["data"])["sandbox"] for event in told] == [first, second]
    connection.close()
    third = world.sandbox().id
    connection, answer = stream(server, "?kind=sandbox_created", **{"Last-Event-ID": told[0]["id"]})
    assert [json.loads(event["data"])["sandbox"] for event in lines(answer, 2)] == [second, third]
    connection.close()


@pytest.mark.parametrize("query", ["?since=x", "?since=-1", "?nonsense=1", "?kind=a&kind=b"])
def test_a_stream_refuses_what_it_does_not_know(server, query):
    answer = fetch(f"{server.url}/api/v1/events/stream{query}", token=server.tokens["read"])
    is_failure(answer, 422, "invalid_parameters")


# -- Many


CLIENTS = 200


def test_two_hundred_clients_at_once_get_each_their_own_answers(server, world):
    sandbox = world.cluster.create_sandbox(world.fresh(), demo_app.application())
    together = threading.Barrier(CLIENTS)
    headers = {
        "Authorization": f"Bearer {server.tokens['operate']}",
        "Content-Type": "application/json",
    }

    def client(number: int) -> tuple[str, list[int]]:
        connection = http.client.HTTPConnection("127.0.0.1", server.served.port, timeout=60)

        def reply(process: str, message: str):
            path = f"{SANDBOXES}/{sandbox.id}/processes/{process}/messages"
            connection.request("POST", path, json.dumps({"message": message, "timeout": 60}), headers)
            answer = connection.getresponse()
            told = answer.read()
            assert answer.status == 200, told
            return json.loads(told)["reply"]

        with contextlib.closing(connection):
            connection.connect()
            together.wait(timeout=60)
            return reply("greeter", str(number)), [reply("counter", "increment") for _ in range(3)]

    with ThreadPoolExecutor(CLIENTS) as pool:
        told = list(pool.map(client, range(CLIENTS)))
    assert [greeting for greeting, _ in told] == [f"hello {number}" for number in range(CLIENTS)]
    counts = [count for _, counted in told for count in counted]
    assert sorted(counts) == list(range(1, 3 * CLIENTS + 1)), "each counted once, and nothing twice"
    assert all(counted == sorted(counted) for _, counted in told)
    assert sandbox.get_state("counter") == 3 * CLIENTS
    sandbox.stop()
