"""What is asked for: specs, validated once, at construction, with messages that say what to write instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from superlearner.core.restart import Restart
from superlearner.errors import InvalidSpec

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

PlacementStrategy = Literal["least_loaded", "uniform"]
OnUnresponsive = Literal["report", "restart"]
#: A shorter silence is none: a garbage collection or a busy machine causes it.
SHORTEST_SILENCE = 0.5


def validate_id(id: Any, what: str = "id") -> str:
    """Return `id` if it may name a sandbox or a node, else raise `InvalidSpec`.

    Letters, digits, ``_`` and ``-``, at most 63 of them, not starting with ``-``: a ``/`` would read as
    ``sandbox/process`` and a ``.`` as part of a pid.

    >>> validate_id("shop")
    'shop'
    >>> validate_id("shop/counter", "sandbox id")
    Traceback (most recent call last):
        ...
    superlearner.errors.InvalidSpec: The sandbox id 'shop/counter' is not valid: use ...
    """
    if not isinstance(id, str) or not _ID.fullmatch(id):
        raise InvalidSpec(
            f"The {what} {id!r} is not valid: use 1 to 63 letters, digits, '_' or '-', such as 'shop-1'."
        )
    return id


def parse_bytes(text: int | str, option: str = "memory") -> int:
    """Turn ``"64 MiB"`` or a number of bytes into bytes.

    >>> parse_bytes("64 MiB"), parse_bytes("1.5GB"), parse_bytes(4096)
    (67108864, 1500000000, 4096)
    """
    if isinstance(text, int) and not isinstance(text, bool) and text > 0:
        return text
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", text) if isinstance(text, str) else None
    unit = _UNITS.get(match.group(2).upper()) if match else None
    if match is None or unit is None or float(match.group(1)) <= 0:
        raise InvalidSpec(
            f'{option}={text!r} is not an amount of {option}: write a number of bytes or e.g. "64 MiB".'
        )
    return int(float(match.group(1)) * unit)


def _seconds(value: Any, option: str, *, none_means: str) -> None:
    if value is None:
        return
    if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
        raise InvalidSpec(
            f"{option}={value!r} must be a number of seconds above 0, or None for {none_means}."
        )


def _count(value: Any, option: str, *, least: int = 1, none_means: str | None = None) -> None:
    if value is None and none_means is not None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        instead = f", or None for {none_means}" if none_means else ""
        raise InvalidSpec(f"{option}={value!r} must be a whole number, {least} or more{instead}.")


def choice(value: Any, option: str, allowed: tuple[str, ...]) -> None:
    """Refuse a `value` that is none of `allowed`, naming the option and the nearest right spelling."""
    if value not in allowed:
        listed = ", ".join(repr(name) for name in allowed)
        raise InvalidSpec(f"{option}={value!r} is not known: write one of {listed}.")


@dataclass(frozen=True, slots=True)
class Resources:
    """What one sandbox may use. Each limit is enforced; a limit that is hit is named in the exit reason.

    >>> Resources(memory="64 MiB", cpu=0.5).memory
    67108864
    """

    #: Bytes, or text such as ``"64 MiB"``. None: no limit of its own.
    memory: int | str | None = None
    #: Share of one core that placement reserves for it.
    cpu: float = 0.1
    #: Seconds of processor time in its life. None: no limit.
    cpu_time: float | None = None
    #: Seconds that it may live. None: no limit.
    wall_clock: float | None = None
    #: Open files and sockets.
    open_files: int = 256
    #: OS processes and threads that it may have beside its own first one. None: no limit, and a fork bomb in
    #: it is then a fork bomb in its machine.
    processes: int | None = 512
    #: Bytes that its temporary directory, or any one file that it writes, may have, or text such as
    #: ``"16 MiB"``; each file counts 4 KiB at least. None: no limit.
    disk: int | str | None = None

    def __post_init__(self) -> None:
        if self.memory is not None:
            object.__setattr__(self, "memory", parse_bytes(self.memory))
        if self.disk is not None:
            object.__setattr__(self, "disk", parse_bytes(self.disk, "disk"))
        if isinstance(self.cpu, bool) or not isinstance(self.cpu, int | float) or not self.cpu >= 0:
            raise InvalidSpec(f"cpu={self.cpu!r} must be a share of one core, such as 0.5.")
        _seconds(self.cpu_time, "cpu_time", none_means="no limit")
        _seconds(self.wall_clock, "wall_clock", none_means="no limit")
        _count(self.open_files, "open_files", least=32)
        _count(self.processes, "processes", least=0, none_means="no limit")

    @property
    def memory_bytes(self) -> int | None:
        """The memory limit in bytes."""
        return None if self.memory is None else int(self.memory)

    @property
    def disk_bytes(self) -> int | None:
        """The disk limit in bytes."""
        return None if self.disk is None else int(self.disk)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """When a sandbox's state is copied, and to how many other nodes.

    >>> Checkpoint(every=2.0).copies
    2
    """

    #: Seconds between checkpoints; one is taken only when messages were handled since. None: never by time.
    every: float | None = 1.0
    #: Messages between checkpoints. None: never by count.
    messages: int | None = None
    #: How many other nodes get a copy, beside the sandbox's own.
    copies: int = 2
    #: How many versions each node keeps, so that a bad one has one before it.
    keep: int = 3

    def __post_init__(self) -> None:
        _seconds(self.every, "every", none_means="no checkpoints by time")
        _count(self.messages, "messages", none_means="no checkpoints by count")
        _count(self.copies, "copies", least=0)
        _count(self.keep, "keep", least=1)


@dataclass(frozen=True, slots=True)
class SandboxSpec:
    """One sandbox as it was asked for: everything that is needed to start it anywhere.

    Options and defaults:

    - ``node``: ``"auto"`` (chosen by ``placement``) or a node's name;
    - ``placement``: ``"least_loaded"`` (default) or ``"uniform"``;
    - ``restart``: ``"permanent"`` (default), ``"transient"`` or ``"temporary"``, as for any child;
    - ``max_restarts`` within ``max_seconds``: how often its OS process is started again on one node before
      another node is tried (3 in 5 s);
    - ``start_timeout``: seconds until it must answer (30);
    - ``shutdown``: seconds that it has to stop by itself before it is killed (5);
    - ``on_unresponsive``: what happens when its OS process stops answering, as in a plain handler that never
      returns: ``"report"`` (default) records ``sandbox_unresponsive`` and waits, ``"restart"`` also kills it,
      and it starts again as after any other end, within ``max_restarts``;
    - ``unresponsive_after``: seconds without an answer until then (5; 0.5 at least). With ``"restart"`` choose
      it well above the longest that a plain handler may take.
    """

    id: str
    #: The application, serialised by the client; opaque to everything but the sandbox.
    application: bytes = field(default=b"", repr=False)
    node: str = "auto"
    placement: PlacementStrategy = "least_loaded"
    resources: Resources = field(default_factory=Resources)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    restart: Restart = "permanent"
    max_restarts: int = 3
    max_seconds: float = 5.0
    start_timeout: float = 30.0
    shutdown: float = 5.0
    labels: Mapping[str, str] = field(default_factory=dict)
    on_unresponsive: OnUnresponsive = "report"
    unresponsive_after: float = 5.0

    def __post_init__(self) -> None:
        validate_id(self.id, "sandbox id")
        if self.node != "auto":
            validate_id(self.node, "node")
        choice(self.placement, "placement", get_args(PlacementStrategy))
        choice(self.restart, "restart", get_args(Restart))
        choice(self.on_unresponsive, "on_unresponsive", get_args(OnUnresponsive))
        _count(self.max_restarts, "max_restarts", least=0)
        for option in ("max_seconds", "start_timeout", "shutdown"):
            value = getattr(self, option)
            if isinstance(value, bool) or not isinstance(value, int | float) or value <= 0:
                raise InvalidSpec(f"{option}={value!r} must be a number of seconds above 0.")
        silence = self.unresponsive_after
        if (
            isinstance(silence, bool)
            or not isinstance(silence, int | float)
            or not silence >= SHORTEST_SILENCE
        ):
            raise InvalidSpec(
                f"unresponsive_after={silence!r} must be a number of seconds, {SHORTEST_SILENCE} or more."
            )
        if not isinstance(self.resources, Resources):
            raise InvalidSpec(
                f'resources={self.resources!r} must be a Resources, such as Resources(memory="64 MiB").'
            )
        if not isinstance(self.checkpoint, Checkpoint):
            raise InvalidSpec(
                f"checkpoint={self.checkpoint!r} must be a Checkpoint, such as Checkpoint(every=2.0)."
            )
