"""Paths with ``{parameters}``: which there are, and which of them a request means. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar
from urllib.parse import quote, unquote_to_bytes

T = TypeVar("T")
_PART = re.compile(r"[a-z][a-z0-9_.-]*|\{[a-z][a-z0-9_]*\}")
#: The part of a path that reads as a parameter, whatever its name.
_ANY = "{}"


class InvalidPath(ValueError):
    """A path that no operation can have; its text says why."""


@dataclass(frozen=True, slots=True)
class Route:
    """One path, such as ``/distributed/sandboxes/{id}``.

    >>> route = Route.parse("/distributed/processes/{node}/{pid}")
    >>> route.parameters
    ('node', 'pid')
    >>> route.fill({"node": "alpha", "pid": "<alpha.shop.1>"})
    '/distributed/processes/alpha/%3Calpha.shop.1%3E'
    """

    path: str
    parts: tuple[str, ...]

    @classmethod
    def parse(cls, path: str) -> Route:
        """Read a path; raise `InvalidPath` where it cannot be one.

        >>> Route.parse("/Sandboxes")
        Traceback (most recent call last):
            ...
        superlearner.arsenal.routes.InvalidPath: 'Sandboxes' in '/Sandboxes' is neither small letters nor a {parameter}
        """
        if not path.startswith("/") or path.endswith("/"):
            raise InvalidPath(f"{path!r} does not begin with a slash, or ends with one")
        parts = tuple(path[1:].split("/"))
        for part in parts:
            if not _PART.fullmatch(part):
                raise InvalidPath(f"{part!r} in {path!r} is neither small letters nor a {{parameter}}")
        route = cls(path, parts)
        if len(set(route.parameters)) != len(route.parameters):
            raise InvalidPath(f"{path!r} has a parameter twice")
        return route

    @property
    def parameters(self) -> tuple[str, ...]:
        """The names of its parameters, in order."""
        return tuple(part[1:-1] for part in self.parts if part.startswith("{"))

    @property
    def shape(self) -> tuple[str, ...]:
        """What two routes have in common that nobody could tell apart."""
        return tuple(_ANY if part.startswith("{") else part for part in self.parts)

    def match(self, parts: tuple[str, ...]) -> dict[str, str] | None:
        """Return the values of the parameters in a split path, None when it is another path."""
        if len(parts) != len(self.parts):
            return None
        found = {}
        for mine, given in zip(self.parts, parts, strict=True):
            if mine.startswith("{"):
                found[mine[1:-1]] = given
            elif mine != given:
                return None
        return found

    def fill(self, values: Mapping[str, object]) -> str:
        """Return the path with values in place of its parameters."""
        filled = (
            quote(str(values[part[1:-1]]), safe="") if part.startswith("{") else part for part in self.parts
        )
        return "/" + "/".join(filled)


def split(path: str) -> tuple[str, ...] | None:
    """Return the decoded parts of a request's path; None when it cannot be decoded, or leads out of its place.

    A slash that is written as ``%2F`` belongs to a value.

    >>> split("/distributed/sandboxes/a%2Fb")
    ('distributed', 'sandboxes', 'a/b')
    >>> split("/distributed/../secrets"), split("/a//b"), split("/%ff"), split("/a%00")
    (None, None, None, None)
    """
    parts = []
    for raw in path.removeprefix("/").split("/"):
        try:
            part = unquote_to_bytes(raw).decode()
        except UnicodeDecodeError:
            return None
        if part in {"", ".", ".."} or not part.isprintable():
            return None
        parts.append(part)
    return tuple(parts)


@dataclass(frozen=True, slots=True)
class Match(Generic[T]):
    """What a request means: the target with the values in the path, or the methods that there are for the path."""

    target: T | None
    values: Mapping[str, str]
    allowed: tuple[str, ...] = ()


def find(routes: Iterable[tuple[str, Route, T]], method: str, parts: tuple[str, ...]) -> Match[T]:
    """Return what a request means among ``(method, route, target)``; words in a path go before parameters.

    >>> routes = [("GET", Route.parse("/a/{id}"), 1), ("GET", Route.parse("/a/all"), 2)]
    >>> find(routes, "GET", ("a", "all")).target, find(routes, "GET", ("a", "b")).target
    (2, 1)
    >>> find(routes, "PUT", ("a", "b")).allowed, find(routes, "GET", ("b",)).allowed
    (('GET',), ())
    """
    fitting = [
        (route, name, target, values)
        for name, route, target in routes
        if (values := route.match(parts)) is not None
    ]
    if not fitting:
        return Match(None, {})
    allowed = tuple(sorted({name for _, name, *_ in fitting}))
    meant = [(route.shape, target, values) for route, name, target, values in fitting if name == method]
    if not meant:
        return Match(None, {}, allowed)
    # Of two that fit, the one whose first difference is a word is meant: "{" sorts after every letter.
    _, target, values = min(meant, key=lambda one: one[0])
    return Match(target, values, allowed)
