"""The operations as methods in Python: ``cluster.ops.NAME(...)``."""

from __future__ import annotations

import getpass
import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from superlearner.arsenal import registry as registries
from superlearner.arsenal.access import Caller
from superlearner.arsenal.elsewhere import Table, answer, offer_of
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
    asynchronous. An operation that another process has registered is looked up when it is asked for; where the
    cluster is asynchronous, `learn` does that.

    >>> cluster.ops.list_sandboxes(node="alpha").total        # doctest: +SKIP
    0
    >>> print(cluster.ops)                                    # doctest: +SKIP
    """

    def __init__(self, cluster: Manager) -> None:
        self._cluster = cluster
        self._table = Table(registries.shared())

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("_"):
            raise AttributeError(name)
        if name not in self._table.own and not self._cluster.asynchronous:
            self.learn()
        try:
            return method(self._table.all.get(name), self._cluster)
        except NoOperation as error:
            raise AttributeError(str(error)) from None

    def __dir__(self) -> list[str]:
        return sorted([*super().__dir__(), *(operation.name for operation in self)])

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._table.all)

    def __repr__(self) -> str:
        lines = [f"{o.name:<28} {o.access:<8} {o.summary}" for o in self]
        return "\n".join(["Operations of this cluster; help(cluster.ops.NAME) tells more.", *lines])

    def learn(self) -> Any:
        """Look which operations other processes have registered in the cluster, and return them with our own."""
        return self._cluster.run(self._learn())

    async def _learn(self) -> Ops:
        await self._table.learn(self._cluster.awaited())
        return self

    def register(self, operation: Operation, *, replace: bool = False) -> Any:
        """Add an operation to this process, and to every face of the cluster: it is routed when this returns.

        It is carried out here, whoever asks: code of a notebook cell is run in no other process. So it is there until
        `remove`, or until this cluster object is closed. Packages have their operations in every process by the entry
        point ``superlearner.operations``; a server has others by ``superlearner serve --operations MODULE``, and
        prefers its own to those of other processes.

        Parameters
        ----------
        operation
            Made by ``@operation(...)``.
        replace
            Whether it takes the place of one with the same name, as when a cell is run again.

        Returns
        -------
        Operation
            The same; or an awaitable of it where the cluster is asynchronous.

        Raises
        ------
        InvalidOperation, OfferTaken
            Its name or its route is taken, here or by another process; nothing was changed.
        """
        return self._cluster.run(self._register(operation, replace=replace))

    async def _register(self, operation: Operation, *, replace: bool) -> Operation:
        own, cluster = registries.shared(), self._cluster.awaited()
        before = own.get(operation.name) if getattr(operation, "name", None) in own else None
        own.add(operation, replace=replace)
        try:
            await cluster.offers.add(
                offer_of(operation), partial(answer, operation, cluster), replace=replace
            )
        except BaseException:
            own.remove(operation.name)
            if before is not None:
                own.add(before)
            raise
        return operation

    def remove(self, name: str) -> Any:
        """Take away an operation that was registered here; no face knows it when this returns.

        Raises
        ------
        NoOperation
            There is none by that name in this process.
        """
        return self._cluster.run(self._remove(name))

    async def _remove(self, name: str) -> None:
        registries.shared().remove(name)
        await self._cluster.awaited().offers.withdraw(name)


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
