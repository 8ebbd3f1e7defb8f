"""Applications: whatever may be run is turned into a root supervisor's spec."""

from __future__ import annotations

import importlib
import pickle
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from superlearner.core.childspec import ChildSpec, SupervisorSpec
from superlearner.errors import InvalidSpec
from superlearner.otp.genserver import GenServer
from superlearner.otp.supervisor import Supervisor, child, is_behaviour, supervisor
from superlearner.otp.task import Task


@dataclass(frozen=True, slots=True)
class ByPath:
    """A GenServer or Supervisor class by its import path, with the arguments of its start.

    It is imported where it runs, and nowhere before.

    >>> as_application(ByPath("superlearner.otp:GenServer", (1,))).children[0].args
    (1,)
    """

    path: str
    args: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        check_path(self.path)

    def imported(self) -> SupervisorSpec:
        """Import it; only a class takes arguments."""
        found = _imported(self.path)
        if not self.args:
            return as_application(found)
        if not is_behaviour(found):
            raise InvalidSpec(
                f"{self.path!r} takes no arguments; nothing was started. Name a GenServer or Supervisor class."
            )
        return supervisor([child(found, *self.args, name=found.__name__)], id="root")


@dataclass(frozen=True, slots=True)
class ChildByPath:
    """A child by its import path, with the arguments of its start and its options, for `start_child`.

    It is imported where it runs, and nowhere before: a GenServer or Supervisor class, or a spec.

    >>> ChildByPath("superlearner.otp:GenServer", (1,), {"id": "one"}).imported().id
    'one'
    """

    path: str
    args: tuple[Any, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_path(self.path)

    def imported(self) -> ChildSpec | SupervisorSpec:
        """Import it and return its spec."""
        found = _imported(self.path)
        if not is_behaviour(found) and not isinstance(found, ChildSpec | SupervisorSpec):
            raise InvalidSpec(
                f"{self.path!r} is no child; nothing was started. Name a GenServer or Supervisor class, or a spec."
            )
        described: ChildSpec | SupervisorSpec = child(found, *self.args, **self.options)
        return described


@dataclass(frozen=True, slots=True)
class Packed:
    """An application as it was sent before: whoever only passes it on never runs its code."""

    data: bytes


def as_application(obj: Any) -> SupervisorSpec:
    """Return the supervisor spec that runs `obj`.

    A supervisor spec as it is; a GenServer or Supervisor class, or a ``child(...)``, below a one_for_one
    root; ``"package.module:name"`` is imported. Raises `InvalidSpec`.

    >>> as_application(child(GenServer, id="counter", name="counter")).children[0].id
    'counter'
    """
    if isinstance(obj, Packed):
        obj = pickle.loads(obj.data)
    if isinstance(obj, ByPath):
        return obj.imported()
    if isinstance(obj, str):
        obj = _imported(obj)
    if isinstance(obj, SupervisorSpec):
        return obj
    if is_behaviour(obj):
        # A class alone has no name yet; callers need one to reach it.
        return supervisor([child(obj, name=obj.__name__)], id="root")
    if isinstance(obj, ChildSpec):
        return supervisor([obj], id="root")
    raise InvalidSpec(_no_application(obj))


def _no_application(obj: Any) -> str:
    """Say why `obj` is none, and what to write in its place."""
    shown, write = repr(obj), "supervisor([...]), a GenServer or Supervisor class, or child(function)"
    if isinstance(obj, GenServer | Supervisor):
        name = type(obj).__name__
        shown, write = (
            f"An instance of {name}",
            f"the class itself, {name}, or child({name}, ...) for arguments",
        )
    elif obj is Task:
        shown, write = "Task alone", "child(Task, function)"
    elif isinstance(obj, type):
        shown = f"The class {obj.__name__}"
        write = f"class {obj.__name__}(GenServer), or any other GenServer or Supervisor class"
    elif callable(obj):
        name = getattr(obj, "__name__", "function").replace("<lambda>", "function")
        shown, write = f"The function {name}", f"child({name})"
    elif isinstance(obj, list | tuple):
        shown, write = f"A {type(obj).__name__}", "supervisor([...])"
    return f"{shown} is not an application; nothing was started. Write {write}."


def to_send(app: Any) -> Any:
    """Return an application as it travels: an import path is resolved where it runs, which may have what we lack.

    >>> to_send("shop:app"), to_send(GenServer).id
    ('shop:app', 'root')
    """
    if isinstance(app, ByPath):
        return app
    return check_path(app) if isinstance(app, str) else as_application(app)


def check_path(path: str) -> str:
    """Return `path` if it reads as ``"package.module:name"``, without importing it; else raise `InvalidSpec`."""
    module_name, colon, name = path.partition(":")
    if not colon or not all(part.isidentifier() for part in (*module_name.split("."), *name.split("."))):
        raise InvalidSpec(
            f'{path!r} is not an import path; nothing was started. Write "package.module:name".'
        )
    return path


def _imported(path: str) -> Any:
    module_name, _, name = check_path(path).partition(":")
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise InvalidSpec(f"The application {path!r} cannot be imported: {error}.") from error
    return found
