"""A bad declaration is refused with a sentence that says what is wrong; a good one is routed at once."""

from __future__ import annotations

import inspect
import types

import pytest
from pydantic import BaseModel, ConfigDict

from superlearner.arsenal import Field, Params, Registry, Result, operation
from superlearner.arsenal import registry as registries
from superlearner.arsenal.refusals import InvalidOperation, NoOperation
from superlearner.errors import NoSandbox


class Greet(Params):
    name: str = Field(description="Whom.")
    times: int = Field(1, ge=1)


class Greeting(Result):
    text: str


class Loose(BaseModel):
    model_config = ConfigDict(extra="ignore")
    name: str


class Reserved(Params):
    confirm: bool = False


class TwoNames(Params):
    name: str = Field(alias="who")


GOOD = {"method": "GET", "path": "/greetings/{name}", "access": "read", "timeout": 1.0}


async def greet(cluster, params: Greet) -> Greeting:
    """Say good day.

    To anybody.
    """
    return Greeting(text=f"Good day, {params.name}! " * params.times)


def declared(execute=greet, **changes):
    words = GOOD | changes
    return operation(words.pop("method"), words.pop("path"), **words)(execute)


async def no_docstring(cluster, params: Greet) -> Greeting:
    return Greeting(text="")


async def no_model(cluster, params) -> Greeting:
    """Say."""


async def no_result(cluster, params: Greet):
    """Say."""


async def loose(cluster, params: Loose) -> Greeting:
    """Say."""


async def reserved(cluster, params: Reserved) -> Greeting:
    """Say."""


async def two_names(cluster, params: TwoNames) -> Greeting:
    """Say."""


async def one_argument(params: Greet) -> Greeting:
    """Say."""


def blocking(cluster, params: Greet) -> Greeting:
    """Say."""


async def unknown_names(cluster, params: Nowhere) -> Greeting:  # noqa: F821
    """Say."""


@pytest.mark.parametrize(
    ("changes", "execute", "why"),
    [
        ({"method": "FETCH"}, greet, "method='FETCH' must be one of GET"),
        ({"access": "root"}, greet, "access='root' must be one of read, operate, admin"),
        ({"timeout": 0}, greet, "timeout=0 must be seconds above 0"),
        ({"timeout": True}, greet, "timeout=True must be seconds"),
        ({"timeout": 1e9}, greet, "up to 600"),
        ({"access": "admin"}, greet, "GET changes nothing, so its access is read"),
        ({"dangerous": True}, greet, "GET changes nothing"),
        ({"method": "POST", "dangerous": True}, greet, "what only reads is not dangerous"),
        ({"method": "DELETE", "access": "admin", "idempotent": False}, greet, "must be idempotent: use POST"),
        ({"path": "greetings/{name}"}, greet, "does not begin with a slash"),
        ({"path": "/greetings/{name}/"}, greet, "ends with one"),
        ({"path": "/Greetings/{name}"}, greet, "neither small letters nor a {parameter}"),
        ({"path": "/{name}/{name}"}, greet, "a parameter twice"),
        ({"path": "/greetings/{who}"}, greet, "{who} in '/greetings/{who}' is no field of Greet"),
        ({"path": "/greetings/{times}"}, greet, "so it cannot have a default"),
        ({"name": "Greet"}, greet, "'Greet' is no name"),
        ({"errors": [ValueError]}, greet, "is no error of superlearner"),
        ({"errors": {NoSandbox: 302}}, greet, "has the status 302"),
        ({"creates": "/greetings/{nobody}"}, greet, "is no field of Greeting"),
        ({}, no_docstring, "no docstring"),
        ({}, no_model, "'params' has no model"),
        ({}, no_result, "says not what it returns"),
        ({}, loose, "would take anything"),
        ({"path": "/x"}, reserved, "'confirm' belongs to every operation"),
        ({}, two_names, "'name' has an alias"),
        ({}, one_argument, "write (cluster, params: YourParams)"),
        ({}, blocking, "write `async def`"),
        ({}, unknown_names, "not known at the top of its module"),
        ({}, lambda cluster, params: None, "is no name"),  # noqa: ARG005
    ],
)
def test_a_bad_declaration_is_refused(changes, execute, why):
    with pytest.raises(InvalidOperation) as caught:
        declared(execute, **changes)
    told = str(caught.value)
    assert why in told
    assert "was refused" in told


def test_access_and_timeout_have_no_default():
    signature = inspect.signature(operation).parameters
    assert signature["access"].default is signature["timeout"].default is inspect.Parameter.empty


def test_a_good_declaration_says_everything_once():
    found = declared(errors=[NoSandbox])
    assert (found.name, found.summary, found.description) == ("greet", "Say good day.", "To anybody.")
    assert (found.idempotent, found.dangerous, found.status) == (True, False, 200)
    assert (found.in_path, found.beside_path) == (("name",), ("times",))
    assert found.errors == {NoSandbox: 404}
    assert repr(found) == "<Operation greet: GET /greetings/{name}>"


def test_a_registry_routes_what_is_added_and_not_what_was_removed():
    registry = Registry()
    found = registry.add(declared())
    assert registry.find("GET", "/greetings/ann").target is found
    assert registry.find("POST", "/greetings/ann").allowed == ("GET",)
    assert registry.find("GET", "/greetings/a%2Fb").values == {"name": "a/b"}
    assert registry.find("GET", "/greetings/../x").target is None
    registry.remove("greet")
    assert registry.find("GET", "/greetings/ann").target is None
    with pytest.raises(NoOperation, match="no operation 'greet'"):
        registry.remove("greet")


def test_names_and_routes_are_given_once():
    registry = Registry()
    registry.add(declared())
    with pytest.raises(InvalidOperation, match="already; nothing was registered"):
        registry.add(declared())
    with pytest.raises(InvalidOperation, match=r"belongs to 'greet'; 'other' was not registered"):
        registry.add(declared(name="other", path="/greetings/{name}"))
    with pytest.raises(InvalidOperation, match="is no operation"):
        registry.add(greet)
    again = declared()
    assert registry.add(again, replace=True) is again
    assert registry.version == 2
    with pytest.raises(NoOperation, match="Did you mean 'greet'"):
        registry.get("gret")


class Point:
    """An entry point of another package."""

    def __init__(self, name, found):
        self.name, self.value, self._found = name, f"{name}:it", found

    def load(self):
        if isinstance(self._found, Exception):
            raise self._found
        return self._found


def test_packages_bring_operations_and_a_broken_one_hurts_no_other(monkeypatch, caplog):
    module = types.ModuleType("others")
    module.wave = declared(name="wave", path="/waves/{name}")
    points = [Point("a", ImportError("it is broken")), Point("b", declared()), Point("c", module)]
    monkeypatch.setattr(registries, "entry_points", lambda group: points if "operations" in group else [])
    registry = registries.load(Registry())
    assert {"greet", "wave", "list_sandboxes"} <= {operation.name for operation in registry}
    assert "a:it were not registered" in caplog.text
