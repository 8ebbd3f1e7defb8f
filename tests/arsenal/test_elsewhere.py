"""Operations that another process has registered: every face has them, and they are carried out there."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from arsenal_kit import Answer, fetch
from click.testing import CliRunner
from pydantic import RootModel

from superlearner.arsenal import AwaitedCluster, Params, operation, shared
from superlearner.arsenal.elsewhere import offer_of, stand_in
from superlearner.arsenal.examples import example
from superlearner.arsenal.openapi import document
from superlearner.arsenal.pages import reference
from superlearner.arsenal.refusals import FailedElsewhere, InvalidOperation, InvalidParameters, NoOperation
from superlearner.cli.app import main
from superlearner.cluster.offers import OfferTaken

PATH = "/greetings/{name}"


class Whom(Params):
    whom: str


class Names(RootModel[list[str]]):
    pass


async def say_names(cluster: AwaitedCluster, params: Whom) -> Names:
    """List names."""
    return Names([params.whom])


same_name = operation("GET", "/elsewhere/{whom}", access="read", timeout=1.0, name="greet")(say_names)
same_route = operation("GET", "/greetings/{whom}", access="read", timeout=1.0)(say_names)


class Guest:
    """The process of `guest.py`, which is started again where a test has killed it."""

    def __init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("guest.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def tell(self, line: str) -> None:
        """Have it register `greet` at a path, or take it away; returns when it has."""
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "done\n"

    def close(self) -> None:
        self.process.communicate(timeout=30)


@pytest.fixture(scope="module")
def lasting_guest(cluster) -> Iterator[Guest]:
    running = Guest()
    try:
        yield running
    finally:
        running.close()


@pytest.fixture
def guest(lasting_guest) -> Guest:
    """A process that has registered `greet` at `PATH`."""
    if lasting_guest.process.poll() is not None:
        lasting_guest.start()
    lasting_guest.tell(PATH)
    return lasting_guest


@pytest.fixture(params=["server", pytest.param("jupyter", marks=pytest.mark.slow)])
def ask(request, guest):
    """Ask a server: our own, or Jupyter's."""
    served = request.getfixturevalue(request.param)

    def ask(path: str, *, access: str = "admin", **options) -> Answer:
        if request.param == "jupyter":
            return served.fetch(f"/api/v1{path}", **options)
        return fetch(f"{served.url}/api/v1{path}", token=served.tokens[access], **options)

    return ask


# -- Everywhere ----------------------------------------------------------------------------------------


def test_it_is_routed_at_once_and_carried_out_where_it_was_registered(ask, guest, world):
    world.sandbox()
    answer = ask("/greetings/ann%2Fe?times=2&words=Welcome&words=back")
    assert (answer.status, answer.json) == (
        200,
        {
            "name": {"first": "ann/e", "friends": [{"first": "bob", "friends": []}]},
            "text": "Good day! Good day! Welcome back",
            "sandboxes": 1,
        },
    )
    guest.tell("/welcomes/{name}")
    assert ask("/greetings/ann").code == "no_route"
    assert ask("/welcomes/ann").status == 200
    guest.tell("-")
    assert ask("/welcomes/ann").code == "no_route"
    kinds = [
        e.kind for e in world.cluster.events() if e.kind.startswith("operation_re") and e.name == "greet"
    ]
    assert kinds[-3:] == ["operation_registered", "operation_registered", "operation_removed"]


def test_what_is_declared_is_enforced(ask):
    assert ask("/greetings/ann?times=4").code == "invalid_parameters"
    assert "times" in ask("/greetings/ann?times=4").json["error"]["message"]
    assert ask("/greetings/ann?often=4").code == "invalid_parameters"
    assert ask("/greetings/ann", method="PUT").code == "method_not_allowed"
    body = {"name": "carol"}
    assert ask("/guests", method="POST", body=body).code == "not_confirmed"
    made = ask("/guests?confirm=true", method="POST", body=body)
    assert (made.status, made.json) == (201, body)
    assert made.headers["Location"].endswith("/api/v1/guests/carol")
    gone = ask("/guests/carol", method="DELETE")
    assert (gone.status, gone.body) == (204, b"")


def test_who_may_not_does_not(guest, server):
    url = f"{server.url}/api/v1/guests?confirm=true"
    refused = fetch(url, token=server.tokens["operate"], method="POST", body={"name": "mallory"})
    assert (refused.status, refused.code) == (403, "forbidden")
    assert fetch(f"{server.url}/api/v1/greetings/ann").status == 401


def test_it_fails_in_its_own_words(ask, guest):
    failed = ask("/greetings/nobody")
    assert failed.status == 404
    assert failed.json["error"] == {
        "code": "nobody_there",
        "message": "Nobody is there; nobody was greeted.",
        "definite": True,
        "details": {},
        "advice": "Greet somebody else.",
    }
    late = ask("/greetings/sleeper")
    assert guest.process.stdout.readline() == "asleep\n"
    assert (late.status, late.code) == (504, "operation_timeout")
    wrong = ask("/greetings/bug")
    assert (wrong.status, wrong.code) == (500, "internal_error")
    assert "cell.py" not in wrong.body.decode()


def test_secrets_stay_out_of_the_events(ask, world):
    assert ask("/greetings/ann?key=s3cret&pin=1234").status == 200
    told = world.cluster.events(kind="operation_called")[-1].detail["parameters"]
    assert told == {"name": "ann", "key": "<hidden>", "pin": "<hidden>"}


def test_the_document_and_the_page_have_it(ask):
    told = ask("/openapi.json").json["paths"]["/api/v1/greetings/{name}"]["get"]
    assert (told["operationId"], told["summary"]) == ("greet", "Say good day.")
    assert set(told["responses"]) >= {"200", "404", "422"}
    assert "invite" in ask("/").body.decode()


def test_a_command_runs_it(guest):
    done = CliRunner().invoke(main, ["op", "greet", "ann", "--times", "2"])
    assert json.loads(done.stdout)["text"] == "Good day! Good day!"
    assert "Whom to greet." in CliRunner().invoke(main, ["op", "greet", "--help"]).stdout
    listed = CliRunner().invoke(main, ["op", "--list", "--json"]).stdout
    assert {"greet", "invite", "create_sandbox"} <= {row["name"] for row in json.loads(listed)}
    assert "Say good day" in CliRunner().invoke(main, ["op", "--list"]).stdout
    assert "/greetings/{name}" in CliRunner().invoke(main, ["openapi"]).stdout
    wrong = CliRunner().invoke(main, ["op", "greeet", "ann"])
    assert "'greet'" in wrong.stderr


def test_another_python_process_has_it_as_a_method(guest, cluster):
    assert cluster.ops.greet("ann", times=2).text == "Good day! Good day!"
    assert cluster.ops.invite(name="carol", confirm=True).name == "carol"
    assert cluster.ops.send_home("carol") is None
    assert "greet" in dir(cluster.ops)
    with pytest.raises(FailedElsewhere, match="Nobody is there") as caught:
        cluster.ops.greet("nobody")
    assert caught.value.code == "nobody_there"
    with pytest.raises(InvalidParameters, match="serialize"):
        cluster.ops.greet("ann", words=object())
    guest.tell("-")
    with pytest.raises(AttributeError, match="no operation 'greet'"):
        cluster.ops.greet("ann")


# -- Who it belongs to -----------------------------------------------------------------------------------


def test_it_is_gone_with_its_process_and_who_waits_for_it_is_told(guest, server):
    def get(name: str) -> Answer:
        return fetch(f"{server.url}/api/v1/greetings/{name}", token=server.tokens["read"])

    with ThreadPoolExecutor() as threads:
        waiting = threads.submit(get, "sleeper")
        assert guest.process.stdout.readline() == "asleep\n"
        guest.process.kill()
        lost = waiting.result(timeout=20)
    guest.close()
    assert (lost.status, lost.code, lost.json["error"]["definite"]) == (503, "no_connection", False)
    assert get("ann").code == "no_route"


@pytest.mark.parametrize("declared", [same_name, same_route], ids=lambda one: one.name)
def test_what_another_process_has_taken_is_refused_and_nothing_changes(guest, cluster, declared):
    with pytest.raises(OfferTaken, match="nother process"):
        cluster.ops.register(declared)
    assert declared.name not in shared()
    with pytest.raises(NoOperation):
        cluster.ops.remove(declared.name)
    assert cluster.ops.greet("ann").text == "Good day!"


def test_what_is_no_operation_is_refused(cluster):
    with pytest.raises(InvalidOperation, match="is no operation"):
        cluster.ops.register("greet")


# -- The stand-in -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("real", list(shared()), ids=lambda one: one.name)
def test_a_stand_in_reads_as_the_operation_does(real):
    other = stand_in(offer_of(real))
    for name in ("name", "method", "route", "summary", "description", "access", "idempotent", "dangerous"):
        assert getattr(other, name) == getattr(real, name)
    for name in ("timeout", "status", "in_path", "beside_path", "takes_body", "reads", "creates", "group"):
        assert getattr(other, name) == getattr(real, name)
    assert example(other) == example(real)
    told, before = document([other]), document([real])
    assert told["paths"].keys() == before["paths"].keys()
    assert real.name in reference([other], told)
    needed = {name: field.is_required() for name, field in real.params.model_fields.items()}
    assert {name: field.is_required() for name, field in other.params.model_fields.items()} == needed


def test_a_result_without_fields_passes_as_it_is():
    other = stand_in(offer_of(same_route))
    assert other.result.model_validate(["ann"]).model_dump_json() == '["ann"]'
    assert other.result.model_json_schema() == Names.model_json_schema()
