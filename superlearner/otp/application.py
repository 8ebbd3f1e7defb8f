"""Applications: whatever may be run is turned into a root supervisor's spec."""

from __future__ import annotations

import importlib
from typing import Any

from superlearner.core.childspec import ChildSpec, SupervisorSpec
from superlearner.errors import InvalidSpec
from superlearner.otp.genserver import GenServer
from superlearner.otp.supervisor import Supervisor, child, supervisor


def as_application(obj: Any) -> SupervisorSpec:
    """Return the supervisor spec that runs `obj`.

    A supervisor spec as it is; a GenServer or Supervisor class, or a ``child(...)``, below a one_for_one
    root; ``"package.module:name"`` is imported. Raises `InvalidSpec`.

    >>> as_application(child(GenServer, id="counter", name="counter")).children[0].id
    'counter'
    """
    if isinstance(obj, str):
        obj = _imported(obj)
    if isinstance(obj, SupervisorSpec):
        return obj
    if isinstance(obj, type) and issubclass(obj, GenServer | Supervisor):
        # A class alone has no name yet; callers need one to reach it.
        return supervisor([child(obj, name=obj.__name__)], id="root")
    if isinstance(obj, ChildSpec):
        return supervisor([obj], id="root")
    raise InvalidSpec(
        f"{obj!r} is not an application: write supervisor([...]), child(...), a GenServer or Supervisor class, "
        'or its import path "package.module:name".'
    )


def _imported(path: str) -> Any:
    module_name, _, name = path.partition(":")
    if not module_name or not name:
        raise InvalidSpec(f'{path!r} is not an import path: write "package.module:name".')
    try:
        found: Any = importlib.import_module(module_name)
        for part in name.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise InvalidSpec(f"The application {path!r} cannot be imported: {error}.") from error
    return found
