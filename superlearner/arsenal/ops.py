"""The operations as methods in Python: ``cluster.ops.NAME(...)``."""

from __future__ import annotations

import getpass
import inspect
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from superlearner.arsenal import registry as registries
from superlearner.arsenal.access import Caller
from superlearner.arsenal.operation import Operation
from superlearner.arsenal.pipeline import carry_out
from superlearner.arsenal.refusals import InvalidParameters, NoOperation

if TYPE_CHECKING:
    from superlearner.cluster.cluster import Manager


def user() -> str:
    """Return the name of the person who runs this process."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container's user may have no name
        return "somebody"


class Ops:
    """Every operation as a method, with its parameters by name; those in its path may be given by position.

    As everything else of a cluster the methods return what they return, or an awaitable where the cluster is
    asynchronous.

    >>> cluster.ops.list_sandboxes(node="alpha").total        # doctest: +SKIP
    0
    >>> print(cluster.ops)                                    # doctest: +SKIP
    """

    def __init__(self, cluster: Manager) -> None:
        self._cluster = cluster

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return method(registries.shared().get(name), self._cluster)
        except NoOperation as error:
            raise AttributeError(str(error)) from None

    def __dir__(self) -> list[str]:
        return sorted([*super().__dir__(), *(operation.name for operation in registries.shared())])

    def __iter__(self) -> Iterator[Operation]:
        return iter(registries.shared())

    def __repr__(self) -> str:
        lines = [f"{o.name:<28} {o.access:<8} {o.summary}" for o in registries.shared()]
        return "\n".join(["Operations of this cluster; help(cluster.ops.NAME) tells more.", *lines])

    def register(self, operation: Operation, *, replace: bool = False) -> Operation:
        """Add an operation to this process: to `ops`, and to a server that runs in it.

        Servers in other processes have the operations of installed packages (entry point
        ``superlearner.operations``) and of ``superlearner serve --operations MODULE``: code of a notebook cell
        is not run where nobody asked for it.
        """
        return registries.shared().add(operation, replace=replace)


def method(operation: Operation, cluster: Manager) -> Callable[..., Any]:
    """Return an operation as a method of a cluster, with its signature and its text."""
    signature = signature_of(operation)

    def call(*args: Any, **kwargs: Any) -> Any:
        try:
            bound = signature.bind(*args, **kwargs).arguments
        except TypeError as error:
            raise InvalidParameters(operation.name, (("", str(error)),)) from None
        confirm = bound.pop("confirm", False) is True
        caller = Caller(user(), "admin", "python")
        work = carry_out(operation, cluster.awaited(), bound, caller, confirm=confirm, strict=False)
        return cluster.run(work)

    call.__name__ = operation.name
    call.__qualname__ = f"ops.{operation.name}"
    call.__doc__ = text_of(operation)
    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


def signature_of(operation: Operation) -> inspect.Signature:
    """Return how the method is called: what is in the path first, then the others by name."""
    kinds = inspect.Parameter
    fields = operation.params.model_fields
    names = [*operation.in_path, *sorted(operation.beside_path, key=lambda n: not fields[n].is_required())]
    parameters = []
    for name in names:
        kind = kinds.POSITIONAL_OR_KEYWORD if name in operation.in_path else kinds.KEYWORD_ONLY
        given = fields[name]
        default = kinds.empty if given.is_required() else given.get_default(call_default_factory=True)
        parameters.append(kinds(name, kind, default=default, annotation=given.annotation))
    if operation.dangerous:
        parameters.append(kinds("confirm", kinds.KEYWORD_ONLY, default=False, annotation=bool))
    return inspect.Signature(parameters, return_annotation=operation.result)


def text_of(operation: Operation) -> str:
    """Return the docstring of the method."""
    lines = [operation.summary, ""]
    if operation.description:
        lines += [operation.description, ""]
    if operation.params.model_fields:
        lines += ["Parameters", "----------"]
        for name, given in operation.params.model_fields.items():
            lines += [name, f"    {given.description or 'See the reference.'}"]
        lines.append("")
    if operation.errors:
        lines += ["Raises", "------", ", ".join(error.__name__ for error in operation.errors)]
    return "\n".join(lines).rstrip()
