"""Child and supervisor specs: what is to be kept running, and how; refused at construction when they cannot be.

>>> ChildSpec(id="counter", start=int, restart="permanant")
Traceback (most recent call last):
    ...
superlearner.errors.InvalidSpec: restart='permanant' is not known: did you mean 'permanent'? ...
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Literal, TypeAlias, TypeVar, get_args

from superlearner.core.restart import Restart
from superlearner.core.times import is_seconds
from superlearner.errors import InvalidSpec

ChildType = Literal["worker", "supervisor"]
Strategy = Literal["one_for_one", "one_for_all", "rest_for_one"]
AutoShutdown = Literal["never", "any_significant", "all_significant"]
SupervisorKind = Literal["static", "dynamic", "partition"]
#: ``"brutal_kill"``, ``"infinity"``, or the seconds that a child has to stop by itself.
Shutdown: TypeAlias = str | float


def nearest(word: Any, known: Iterable[str]) -> str:
    """Return ``"did you mean ...? "`` with the nearest right spelling, or nothing when none is near.

    >>> nearest("max_restart", ["max_restarts", "max_seconds"])
    "did you mean 'max_restarts'? "
    """
    found = get_close_matches(str(word), list(known), n=1, cutoff=0.5)
    return f"did you mean {found[0]!r}? " if found else ""


T = TypeVar("T")


def refusing_unknown(cls: type[T]) -> type[T]:
    """Let a dataclass refuse options that it does not have with the nearest right spelling of theirs."""
    names = [f.name for f in fields(cls)]  # type: ignore[arg-type]
    made = cls.__init__

    @functools.wraps(made)
    def init(self: T, *args: Any, **options: Any) -> None:
        refuse_unknown(cls.__name__, {k: v for k, v in options.items() if k not in names}, names)
        made(self, *args, **options)

    cls.__init__ = init  # type: ignore[assignment, method-assign]
    return cls


def refuse_unknown(what: str, unknown: Mapping[str, Any], known: Iterable[str]) -> None:
    """Refuse options that `what` does not have, naming the nearest right spelling of the first."""
    known = list(known)
    for option in unknown:
        raise InvalidSpec(
            f"{what} has no option {option!r}: {nearest(option, known)}The options are {', '.join(known)}."
        )


def choice(value: Any, option: str, allowed: tuple[str, ...]) -> None:
    """Refuse a `value` that is none of `allowed`, naming the option and the nearest right spelling."""
    if value not in allowed:
        listed = ", ".join(repr(name) for name in allowed)
        raise InvalidSpec(f"{option}={value!r} is not known: {nearest(value, allowed)}Write one of {listed}.")


def _validate_child(spec: ChildSpec | SupervisorSpec) -> None:
    try:
        hash(spec.id)
    except TypeError:
        raise InvalidSpec(f"id={spec.id!r} must be hashable: write a text such as 'counter'.") from None
    if spec.id is None:
        raise InvalidSpec("id=None names nobody: write a text such as 'counter'.")
    if spec.name is not None:
        validate_name(spec.name)
    choice(spec.restart, "restart", get_args(Restart))
    if (
        spec.shutdown not in ("brutal_kill", "infinity")
        and not is_seconds(spec.shutdown)
        and (isinstance(spec.shutdown, bool) or spec.shutdown != 0)
    ):
        hint = nearest(spec.shutdown, ("brutal_kill", "infinity")) if isinstance(spec.shutdown, str) else ""
        raise InvalidSpec(
            f"shutdown={spec.shutdown!r} is not known: {hint}Write 'brutal_kill', 'infinity' or seconds, 0 or more."
        )
    if not isinstance(spec.significant, bool):
        raise InvalidSpec(f"significant={spec.significant!r} must be True or False.")
    if spec.significant and spec.restart == "permanent":
        raise InvalidSpec(
            f"significant=True with restart='permanent' (child {spec.id!r}) can never end by itself: "
            "write restart='transient' or restart='temporary'."
        )


def validate_name(name: Any) -> str:
    """Return `name` if a process may be registered under it, else raise `InvalidSpec`.

    Any text that is not empty, does not start like a pid (``<``) and holds no ``/``, which would read as
    ``sandbox/process``.

    >>> validate_name("counter")
    'counter'
    """
    if not isinstance(name, str) or not name or name.startswith("<") or "/" in name:
        raise InvalidSpec(f"name={name!r} cannot be registered: write a text such as 'counter', without '/'.")
    return name


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """One child: what runs, under which id and name, and what happens when it ends.

    Options and defaults are OTP's: ``restart="permanent"``, ``shutdown=5.0`` seconds for workers and
    ``"infinity"`` for supervisors, ``significant=False``.
    """

    id: Hashable
    #: A behaviour class, or a function.
    start: Callable[..., Any]
    args: tuple[Any, ...] = ()
    name: str | None = None
    restart: Restart = "permanent"
    shutdown: Shutdown = 5.0
    significant: bool = False
    type: ChildType = "worker"

    def __post_init__(self) -> None:
        if not callable(self.start):
            raise InvalidSpec(f"start={self.start!r} cannot run: write a GenServer class or a function.")
        choice(self.type, "type", get_args(ChildType))
        _validate_child(self)


@dataclass(frozen=True, slots=True)
class SupervisorSpec:
    """One supervisor with its children; itself a child wherever it is listed as one.

    Options and defaults are OTP's: ``strategy="one_for_one"``, ``max_restarts=3`` within
    ``max_seconds=5.0``, ``auto_shutdown="never"``; as a child ``restart="permanent"`` and
    ``shutdown="infinity"``. ``kind="dynamic"`` starts empty and takes ``max_children`` (None: no limit);
    ``kind="partition"`` runs its one child ``partitions`` times.
    """

    children: tuple[ChildSpec | SupervisorSpec, ...] = ()
    id: Hashable = "supervisor"
    name: str | None = None
    strategy: Strategy = "one_for_one"
    max_restarts: int = 3
    max_seconds: float = 5.0
    auto_shutdown: AutoShutdown = "never"
    restart: Restart = "permanent"
    shutdown: Shutdown = "infinity"
    significant: bool = False
    kind: SupervisorKind = "static"
    max_children: int | None = None
    partitions: int | None = None
    type: ChildType = field(default="supervisor", init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "children", _children(self.children))
        _validate_child(self)
        choice(self.strategy, "strategy", get_args(Strategy))
        choice(self.auto_shutdown, "auto_shutdown", get_args(AutoShutdown))
        choice(self.kind, "kind", get_args(SupervisorKind))
        _whole(self.max_restarts, "max_restarts", least=0)
        if not is_seconds(self.max_seconds):
            raise InvalidSpec(f"max_seconds={self.max_seconds!r} must be a number of seconds above 0.")
        self._validate_kind()
        seen: set[Hashable] = set()
        for child in self.children:
            if child.id in seen:
                raise InvalidSpec(
                    f"Two children have the id {child.id!r}: give one of them another, such as id='{child.id}2'."
                )
            seen.add(child.id)
            validate_significant(child, self.auto_shutdown)

    def _validate_kind(self) -> None:
        if self.kind == "dynamic":
            if self.children:
                raise InvalidSpec("A dynamic supervisor starts empty: add its children with start_child().")
            if self.max_children is not None:
                _whole(self.max_children, "max_children", least=0)
        elif self.max_children is not None:
            raise InvalidSpec("max_children is an option of kind='dynamic' alone.")
        if self.kind == "dynamic" and self.strategy != "one_for_one":
            raise InvalidSpec("kind='dynamic' knows strategy='one_for_one' alone.")
        if self.kind == "dynamic" and self.auto_shutdown != "never":
            raise InvalidSpec("kind='dynamic' knows auto_shutdown='never' alone: its children come and go.")
        if self.kind == "partition":
            self._validate_partitions()
        elif self.partitions is not None:
            raise InvalidSpec("partitions is an option of kind='partition' alone.")

    def _validate_partitions(self) -> None:
        if len(self.children) != 1:
            raise InvalidSpec(
                "A partition supervisor takes exactly one child, which it runs `partitions` times."
            )
        if self.children[0].name is not None:
            raise InvalidSpec(
                "The child of a partition supervisor has no name of its own: address it by key."
            )
        _whole(self.partitions, "partitions", least=1)


#: Whatever may be a child.
AnySpec: TypeAlias = ChildSpec | SupervisorSpec


def _children(children: Any) -> tuple[ChildSpec | SupervisorSpec, ...]:
    if not isinstance(children, list | tuple):
        raise InvalidSpec(f"children={children!r} must be a list: write supervisor([child(Counter)]).")
    for item in children:
        if not isinstance(item, ChildSpec | SupervisorSpec):
            shown = getattr(item, "__name__", repr(item))
            raise InvalidSpec(f"{shown} is not a child spec: write child({shown}).")
    return tuple(children)


def _whole(value: Any, option: str, *, least: int) -> None:
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidSpec(f"{option}={value!r} must be a whole number, {least} or more.")


def validate_significant(child: ChildSpec | SupervisorSpec, auto_shutdown: AutoShutdown) -> None:
    """Refuse a significant child under a supervisor that would never look at it."""
    if child.significant and auto_shutdown == "never":
        raise InvalidSpec(
            f"significant=True (child {child.id!r}) has no effect with auto_shutdown='never': "
            "write auto_shutdown='any_significant' or 'all_significant'."
        )
