"""Every operation works by REST, as a command and in Python, and answers what its declaration says.

A module of operations needs an ``examples_<group>.py`` beside this file, with an `Example` for each operation.
"""

from __future__ import annotations

import importlib
from pathlib import Path

import jsonschema
import pytest
from arsenal_kit import Example, by_command, by_python, by_rest, fetch

from superlearner.arsenal import Operation, Registry
from superlearner.arsenal.openapi import document
from superlearner.arsenal.registry import load

REGISTRY = load(Registry())
DOCUMENT = document(REGISTRY)
OPERATIONS = list(REGISTRY)
EXAMPLES: dict[str, Example] = {}
for _path in sorted(Path(__file__).parent.glob("examples_*.py")):
    EXAMPLES |= importlib.import_module(_path.stem).EXAMPLES

each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.name)
#: Those that start and end nodes are left to the slow tests where they are carried out.
done_by_each_face = pytest.mark.parametrize(
    "operation",
    [
        pytest.param(one, marks=[pytest.mark.slow] * one.name.endswith("_node"), id=one.name)
        for one in OPERATIONS
    ],
)


def test_every_operation_has_an_example_and_every_example_an_operation():
    assert sorted(EXAMPLES) == sorted(operation.name for operation in OPERATIONS)


def entry(operation: Operation):
    return DOCUMENT["paths"][f"/api/v1{operation.route.path}"][operation.method.lower()]


def fits(operation: Operation, status: int, body) -> None:
    """Fail when a result is not what the document says of it."""
    told = entry(operation)["responses"][str(status)]
    if body is None:
        assert "content" not in told
        return
    schema = {**told["content"]["application/json"]["schema"], "components": DOCUMENT["components"]}
    jsonschema.Draft202012Validator(schema).validate(body)


def rest(world, server, operation: Operation, given):
    url, token = server.url, server.tokens[operation.access]
    if (
        operation.dangerous
    ):  # nothing is done before it is confirmed: all that was given is still there afterwards
        asked = by_rest(url, token, operation, given, confirm=False)
        assert (asked.status, asked.code) == (409, "not_confirmed")
    answer = by_rest(url, token, operation, given)
    assert answer.status == operation.status, answer.body
    if operation.creates is not None:
        assert answer.headers["Location"].startswith("/api/v1/")
    return answer.json if answer.body else None


def command(world, server, operation: Operation, given):
    return by_command(operation, given)


def python(world, server, operation: Operation, given):
    return by_python(world, operation, given)


@done_by_each_face
def test_every_face_does_it_and_says_what_the_document_says(operation, world, server):
    example, given = EXAMPLES[operation.name], None
    for face in (rest, command, python):
        if given is None or not operation.reads:
            world.tidy()
            given = example.given(world)
        body = face(world, server, operation, given)
        fits(operation, operation.status, body)
        example.check(world, body, given)


@each_operation
def test_what_it_does_not_know_is_refused(operation, server):
    given = {**dict.fromkeys(operation.in_path, "nobody"), "no_such_parameter": 1}
    url = f"{server.url}/api/v1{operation.route.fill(given)}"
    token = server.tokens["admin"]
    if operation.takes_body:
        answer = fetch(url, token=token, method=operation.method, body={"no_such_parameter": 1})
    else:
        answer = fetch(f"{url}?no_such_parameter=1", token=token, method=operation.method)
    assert (answer.status, answer.code) == (422, "invalid_parameters")
    assert answer.json["error"]["details"]["problems"]
