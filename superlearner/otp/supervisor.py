"""Supervisors as they are written down: `child`, `supervisor` and the module-based `Supervisor`."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from superlearner.core.childspec import (
    ChildSpec,
    SupervisorSpec,
    refuse_unknown,
)
from superlearner.errors import InvalidSpec
from superlearner.otp.genserver import GenServer
from superlearner.otp.task import Task

_CHILD_OPTIONS = ("id", "name", "restart", "shutdown", "significant")


class Supervisor:
    """A module-based supervisor: a subclass whose `init` returns a supervisor spec.

    It serves wherever a spec does, and computes its children when it starts.

    >>> class Pool(Supervisor):
    ...     def init(self, size):
    ...         return supervisor([child(GenServer, id=n) for n in range(size)])
    >>> spec = child(Pool, 3)
    >>> spec.type, spec.shutdown
    ('supervisor', 'infinity')
    """

    def init(self, *args: Any) -> Any:
        """Return ``supervisor([...], ...)``, or ``Ignore()``."""
        raise NotImplementedError(f"{type(self).__name__} has no init: return supervisor([...]) from it")


def child(target: Any, *args: Any, **options: Any) -> Any:
    """Describe one child: a behaviour class or a function, with the arguments of its start.

    Options and defaults, as in OTP:

    - ``id``: unique in its supervisor; the class or function name;
    - ``name``: the name it is registered under; none;
    - ``restart``: ``"permanent"`` (default), ``"transient"`` or ``"temporary"`` (the default of a `Task`);
    - ``shutdown``: ``"brutal_kill"``, seconds, or ``"infinity"``; 5.0, and ``"infinity"`` for supervisors;
    - ``significant``: whether its end may end the supervisor; False.

    A spec is taken too: ``child(spec, id="other")`` is the same with other options. Raises `InvalidSpec`.

    >>> child(GenServer, id="counter").restart
    'permanent'
    >>> child(GenServer, nmae="counter")
    Traceback (most recent call last):
        ...
    superlearner.errors.InvalidSpec: child has no option 'nmae': did you mean 'name'? ...
    """
    refuse_unknown("child", {k: v for k, v in options.items() if k not in _CHILD_OPTIONS}, _CHILD_OPTIONS)
    if isinstance(target, ChildSpec | SupervisorSpec):
        if args:
            raise InvalidSpec(
                "A spec has its arguments already: write child(spec, id=...) to change options."
            )
        return replace(target, **options)
    defaults: dict[str, Any] = {"id": getattr(target, "__name__", type(target).__name__)}
    if isinstance(target, type) and issubclass(target, Supervisor):
        defaults |= {"type": "supervisor", "shutdown": "infinity"}
    elif target is Task:
        defaults |= {"restart": "temporary"}
        if not args or not callable(args[0]):
            raise InvalidSpec("A Task needs the function that it runs: write child(Task, fn, *args).")
    elif not (isinstance(target, type) and issubclass(target, GenServer)) and (
        isinstance(target, type) or not callable(target)
    ):
        raise InvalidSpec(
            f"{target!r} cannot be a child: write a GenServer or Supervisor class, Task and a function, or a function."
        )
    return ChildSpec(start=target, args=args, **(defaults | options))


_SUPERVISOR_OPTIONS = tuple(f.name for f in fields(SupervisorSpec) if f.init and f.name != "children")


def supervisor(children: Any = (), **options: Any) -> SupervisorSpec:
    """Describe a supervisor with its children, in start order.

    Options and defaults, as in OTP:

    - ``strategy``: ``"one_for_one"`` (default), ``"one_for_all"`` or ``"rest_for_one"``;
    - ``max_restarts`` within ``max_seconds``: 3 in 5.0 s, then it gives up;
    - ``auto_shutdown``: ``"never"`` (default, and all that a dynamic one knows), ``"any_significant"`` or
      ``"all_significant"``;
    - ``kind``: ``"static"`` (default), ``"dynamic"`` with ``max_children`` (None: no limit), or
      ``"partition"`` with ``partitions``, addressed as ``(name, key)``;
    - ``id``, ``name``, ``restart``, ``shutdown`` (``"infinity"``), ``significant``: as of any child.

    Raises `InvalidSpec`.

    >>> supervisor([], id="jobs", kind="dynamic", max_children=100).kind
    'dynamic'
    """
    unknown = {k: v for k, v in options.items() if k not in _SUPERVISOR_OPTIONS}
    refuse_unknown("supervisor", unknown, _SUPERVISOR_OPTIONS)
    if isinstance(children, list | tuple):
        children = tuple(_as_child(item) for item in children)
    return SupervisorSpec(children, **options)


def is_behaviour(value: Any) -> bool:
    """Tell whether a value is a GenServer or Supervisor class."""
    return isinstance(value, type) and issubclass(value, GenServer | Supervisor)


def _as_child(item: Any) -> Any:
    return child(item) if is_behaviour(item) and item is not Supervisor else item
