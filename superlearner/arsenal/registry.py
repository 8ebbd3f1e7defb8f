"""Which operations there are: those of superlearner, of other packages, and of this process's notebook cells."""

from __future__ import annotations

import importlib
import logging
import pkgutil
import threading
from collections.abc import Iterable, Iterator
from importlib.metadata import entry_points
from itertools import groupby
from types import ModuleType
from typing import Any

from superlearner.arsenal.operation import METHODS, Operation
from superlearner.arsenal.refusals import InvalidOperation, NoOperation
from superlearner.arsenal.routes import Match, find, split

logger = logging.getLogger(__name__)
#: Where packages name their operations: an `Operation`, or a module of them.
ENTRY_POINTS = "superlearner.operations"


class Registry:
    """Operations by name; every face looks here at each request, so one that is added is there at once.

    It may be used from any thread: readers take the table as it is, writers put a new one in its place.
    """

    def __init__(self) -> None:
        self._table: dict[str, Operation] = {}
        self._lock = threading.Lock()
        #: Grows with every change, for those who keep what they have made of the table.
        self.version = 0

    def add(self, operation: Operation, *, replace: bool = False) -> Operation:
        """Add an operation and route it at once.

        Parameters
        ----------
        operation
            Made by ``@operation(...)``.
        replace
            Whether it takes the place of one with the same name, as when a cell is run again.

        Raises
        ------
        InvalidOperation
            Its name or its route is taken, or it is no operation; nothing was changed.
        """
        if not isinstance(operation, Operation):
            raise InvalidOperation(
                f"{operation!r} is no operation; nothing was registered. Declare one with @operation(...)."
            )
        with self._lock:
            if operation.name in self._table and not replace:
                raise InvalidOperation(
                    f"There is an operation {operation.name!r} already; nothing was registered. "
                    "Choose another name, or give replace=True."
                )
            if (other := self.in_place_of(operation)) is not None:
                raise InvalidOperation(
                    f"{operation.method} {operation.route.path} belongs to {other.name!r}; {operation.name!r} "
                    "was not registered. Choose another path."
                )
            self._table = {**self._table, operation.name: operation}
            self.version += 1
        return operation

    def remove(self, name: str) -> None:
        """Take an operation away; its route is gone at once."""
        with self._lock:
            if name not in self._table:
                raise NoOperation(name, tuple(self._table))
            self._table = {key: value for key, value in self._table.items() if key != name}
            self.version += 1

    def get(self, name: str) -> Operation:
        """Return an operation by its name, or raise `NoOperation`."""
        table = self._table
        if name not in table:
            raise NoOperation(name, tuple(table))
        return table[name]

    def in_place_of(self, operation: Operation) -> Operation | None:
        """Return the operation of another name that has the route of this one."""
        for other in self._table.values():
            if other.place == operation.place and other.name != operation.name:
                return other
        return None

    def find(self, method: str, path: str) -> Match[Operation]:
        """Return what a request to a path below ``/api/v1`` means."""
        parts = split(path)
        if parts is None:
            return Match(None, {})
        return find(((o.method, o.route, o) for o in self._table.values()), method, parts)

    def add_all(self, module: ModuleType) -> None:
        """Add every operation that a module has declared."""
        for value in list(vars(module).values()):
            if isinstance(value, Operation) and self._table.get(value.name) is not value:
                self.add(value)

    def __iter__(self) -> Iterator[Operation]:
        return iter(sorted(self._table.values(), key=lambda operation: (operation.group, operation.name)))

    def __contains__(self, name: object) -> bool:
        return name in self._table

    def __len__(self) -> int:
        return len(self._table)


#: The order in which people read of the groups; those of other packages come after them.
GROUPS = (
    "sandboxes",
    "batches",
    "processes",
    "messages",
    "traces",
    "supervisors",
    "children",
    "failures",
    "cluster",
    "nodes",
    "health",
    "chaos",
)


def by_group(operations: Iterable[Operation] | None = None) -> list[tuple[str, list[Operation]]]:
    """Return operations, by default all of this process, by what they are about, as people read of them."""
    place = {name: number for number, name in enumerate(GROUPS)}

    def order(one: Operation) -> tuple[int, str, str, int]:
        return place.get(one.group, len(GROUPS)), one.group, one.route.path, METHODS.index(one.method)

    ordered = sorted(shared() if operations is None else operations, key=order)
    return [(name, list(found)) for name, found in groupby(ordered, key=lambda one: one.group)]


def load(registry: Registry) -> Registry:
    """Add the operations of superlearner, and those of other packages; a package that is broken is logged."""
    from superlearner.arsenal import operations

    for found in pkgutil.iter_modules(operations.__path__, f"{operations.__name__}."):
        registry.add_all(importlib.import_module(found.name))
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        try:
            add(registry, point.load())
        except Exception:
            logger.exception("superlearner: the operations of %s were not registered", point.value)
    return registry


def add(registry: Registry, found: Any) -> None:
    """Add what an import path has led to: a module of operations, or one operation."""
    if isinstance(found, ModuleType):
        registry.add_all(found)
    else:
        registry.add(found)


_shared: Registry | None = None
_making = threading.Lock()


def shared() -> Registry:
    """Return the registry of this process, which every face here looks at."""
    global _shared  # noqa: PLW0603 - made when it is first needed: that imports every operation
    with _making:
        if _shared is None:
            _shared = load(Registry())
        return _shared
