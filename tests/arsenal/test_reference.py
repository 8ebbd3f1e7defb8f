"""The reference page: whole by itself, true, and its examples say the same three times."""

from __future__ import annotations

import ast
import functools
import json
import shlex
import subprocess
from html.parser import HTMLParser
from urllib.parse import parse_qsl, urlsplit

import pytest
from arsenal_kit import fetch

from superlearner.arsenal import Field, Params, Registry, Result, examples, operation, shared
from superlearner.arsenal.arguments import from_texts, validated
from superlearner.arsenal.openapi import document
from superlearner.arsenal.pages import POLICY, reference
from superlearner.arsenal.registry import load
from superlearner.cli.op import command_of, from_words

REGISTRY = load(Registry())
PAGE = reference(REGISTRY, document(REGISTRY), origin="http://127.0.0.1:8765")
each_operation = pytest.mark.parametrize("one", list(REGISTRY), ids=lambda one: one.name)
#: Elements without an end.
VOID = {"meta", "input", "wbr", "link", "br"}


class Told(Result):
    text: str


class Sly(Params):
    name: str = Field(description="</dd><script>alert(1)</script>", examples=["<b>&'\""])


@operation("GET", "/sly/{name}", access="read", timeout=1.0)
async def sly(cluster, params: Sly) -> Told:
    """Say <img src=x onerror=alert(1)> and `code`."""


class Odd(Params):
    first_name: str
    count: int = Field(ge=3)
    flag: bool
    tags: list[str]
    note: str = Field("", examples=["it's"])


@operation("POST", "/odd/{first_name}", access="operate", timeout=1.0)
async def odd(cluster, params: Odd) -> Told:
    """Be odd."""


class Reader(HTMLParser):
    """Reads a page strictly: what begins must end, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.foreign: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)
        given = dict(attrs)
        self.ids += [given["id"]] if "id" in given else []
        self.links += [given["href"]] if tag == "a" else []
        self.foreign += [name for name in ("src", "srcset", "style", "onclick", "data") if name in given]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def read():
    reader = Reader()
    reader.feed(PAGE)
    assert reader.open == []
    return reader


def test_it_is_well_formed_and_needs_nothing_from_elsewhere(read):
    assert len(read.ids) == len(set(read.ids))
    assert read.foreign == []
    assert "@import" not in PAGE
    assert "url(" not in PAGE
    assert {link for link in read.links if not link.startswith("#")} == {"/api/v1/openapi.json"}


def test_every_link_leads_somewhere_and_every_operation_has_one(read):
    inner = {link.removeprefix("#") for link in read.links if link.startswith("#")}
    assert inner <= set(read.ids)
    assert {one.name for one in REGISTRY} <= inner


def test_everything_that_is_declared_is_told():
    for one in REGISTRY:
        body = PAGE.partition(f'<div class="body" id="{one.name}">')[2].partition('<details class="op"')[0]
        for name in one.params.model_fields:
            assert f"<dt><code>{name}</code>" in body, (one.name, name)
        for name in () if one.result is None else one.result.model_fields:
            assert f"<dt><code>{name}</code>" in body, (one.name, name)
        for error, status in one.errors.items():
            assert f'<th scope="row">{status}</th><td><code>{error.code}</code>' in body, (one.name, error)
        assert f"{one.timeout:g} s" in body
        assert ("not_confirmed" in body) == one.dangerous


def test_what_another_package_writes_cannot_break_out_of_the_page():
    registry = Registry()
    registry.add(sly)
    page = reference(registry, document(registry), origin='http://"><script>')
    Reader().feed(page)
    assert page.count("<script>") == 1
    assert "<img" not in page
    assert "<code>code</code>" in page


def test_it_may_run_its_own_script_and_nothing_else():
    assert "unsafe" not in POLICY
    assert POLICY.startswith("default-src 'none'; ")


# -- The examples -------------------------------------------------------------------------------------


def of_curl(text, one):
    """Return what a request asks for, as a server reads it: the operation, its parameters, whether it is confirmed."""
    words = shlex.split(
        text.replace("$URL", "http://x/api/v1").replace("$AUTH", "A: b").replace("$JSON", "C: d")
    )
    body, method = None, None
    if "-d" in words:
        body, method = json.loads(words[words.index("-d") + 1]), "POST"
    method = words[words.index("-X") + 1] if "-X" in words else method or "GET"
    (url,) = (urlsplit(word) for word in words if word.startswith("http://x/"))
    match = REGISTRY.find(method, url.path.removeprefix("/api/v1"))
    assert match.target is one
    query: dict[str, list[str]] = {}
    for name, value in parse_qsl(url.query):
        query.setdefault(name, []).append(value)
    confirmed = query.pop("confirm", None) == ["true"]
    return from_texts(one, match.values, query) | (body or {}), confirmed


def of_command(text, one):
    program, group, name, *words = shlex.split(text.replace("\\\n", " "))
    assert (program, group, name) == ("superlearner", "op", one.name)
    context = command_of(one).make_context(name, words)
    return from_words(one, context.params), context.params.get("confirm", False)


def of_python(text, one):
    call = ast.parse(text, mode="eval").body
    assert ast.unparse(call.func) == f"cluster.ops.{one.name}"
    given = dict(zip(one.in_path, map(ast.literal_eval, call.args), strict=True))
    given |= {word.arg: ast.literal_eval(word.value) for word in call.keywords}
    return given, given.pop("confirm", False)


@each_operation
def test_the_three_examples_are_valid_and_ask_for_the_same(one):
    given = examples.example(one)
    validated(one, given, strict=True)
    for text, read in (
        (examples.with_curl(one, given), of_curl),
        (examples.as_command(one, given), of_command),
        (examples.in_python(one, given), of_python),
    ):
        assert read(text, one) == (given, one.dangerous)
        assert max(map(len, text.splitlines())) <= 120


def test_an_operation_that_nobody_knows_has_examples_too():
    given = examples.example(odd)
    assert given == {"first_name": "FIRST_NAME", "count": 3, "flag": True, "tags": [], "note": "it's"}
    assert examples.as_command(odd, given).endswith("""--note 'it'"'"'s'""")


# -- As it is served ----------------------------------------------------------------------------------


def test_it_is_served_with_its_policy_and_no_secret(server):
    for path in ("/", "/api/v1", "/api/v1/"):
        page = fetch(server.url + path, token=server.tokens["read"])
        assert page.headers["Content-Security-Policy"] == POLICY
        assert f"<span data-origin>{server.url}</span>/api/v1" in page.body.decode()
        assert not any(secret in page.body.decode() for secret in server.tokens.values())


def test_an_operation_that_is_registered_is_on_the_page_at_once(server):
    token = server.tokens["read"]
    before = fetch(server.url, token=token).body.decode()
    shared().add(sly)
    try:
        assert 'id="sly"' in fetch(server.url, token=token).body.decode()
    finally:
        shared().remove("sly")
    assert fetch(server.url, token=token).body.decode() == before


#: Examples that name what only a run knows, such as an id: the answer says that there is no such thing.
NOT_THERE = {
    "acknowledge_alert": "no_alert",
    "get_fault": "no_fault",
    "read_trace": "no_trace",
    "rebalance": "invalid_spec",
    "restore_sandbox": "checkpoint_failed",
    "revert_fault": "no_fault",
    "stop_trace": "no_trace",
    "terminate_process": "process_not_found",
}


def as_on_the_page(world, one):
    """Make what the examples are about."""
    world.afterwards(world.cluster.chaos.heal)
    for id in ("shop", "shop-2"):
        if (one.name, id) not in {("create_sandbox", "shop"), ("create_sandboxes", "shop-2")}:
            made = world.cluster.create_sandbox(id, "superlearner.cli.demo_app:shop", node="alpha")
            made.checkpoint()
        world.afterwards(functools.partial(destroyed, world.cluster, id))
    match one.name:
        case "add_node":
            world.afterwards(lambda: world.cluster.remove_node("delta"))
        case "drain_node" | "remove_node":
            world.afterwards(lambda: world.cluster.add_node("gamma"))
        case "roll_back_sandbox":
            world.cluster.ops.reload_sandbox("shop", application="superlearner.cli.demo_app:shop")
        case "delete_child" | "restart_child":
            world.cluster.ops.terminate_child("shop", "root", "counter", confirm=True)


def destroyed(cluster, id):
    if id in {info.id for info in cluster.sandboxes()}:
        cluster.destroy_sandbox(id)


@pytest.mark.slow
@each_operation
def test_the_example_with_curl_does_it(one, world, server):
    as_on_the_page(world, one)
    lines = [
        f"URL={server.url}/api/v1",
        f'AUTH="Authorization: Bearer {server.tokens[one.access]}"',
        'JSON="Content-Type: application/json"',
        examples.with_curl(one, examples.example(one)),
    ]
    done = subprocess.run(["bash", "-c", "\n".join(lines)], capture_output=True, text=True, check=True)
    told = json.loads(done.stdout) if done.stdout else {}
    assert told.get("error", {}).get("code") == NOT_THERE.get(one.name), told
