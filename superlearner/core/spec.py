"""What is asked for: specs, validated once, at construction, with messages that say what to write instead."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

from superlearner.core.childspec import Strategy, SupervisorSpec, choice, refusing_unknown
from superlearner.core.restart import Restart
from superlearner.core.times import is_seconds
from superlearner.errors import InvalidSpec

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}")
_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 2**10, "MIB": 2**20, "GIB": 2**30}

PlacementStrategy = Literal["least_loaded", "uniform"]
OnUnresponsive = Literal["report", "restart"]
Durability = Literal["interval", "reply"]
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
        example = "alpha" if what.startswith("node") else "shop-1"
        raise InvalidSpec(
            f"The {what} {id!r} is not valid: use 1 to 63 letters, digits, '_' or '-', such as {example!r}."
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
    if value is not None and not is_seconds(value):
        raise InvalidSpec(
            f"{option}={value!r} must be a number of seconds above 0, or None for {none_means}."
        )


def _count(value: Any, option: str, *, least: int = 1, none_means: str | None = None) -> None:
    if value is None and none_means is not None:
        return
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        instead = f", or None for {none_means}" if none_means else ""
        raise InvalidSpec(f"{option}={value!r} must be a whole number, {least} or more{instead}.")


def _made_of(value: Any, option: str, wanted: type, example: str) -> None:
    """Refuse a `value` that is no `wanted`; a dict is told how it would have to be written."""
    if isinstance(value, wanted):
        return
    if isinstance(value, dict):
        example = ", ".join(f"{name}={item!r}" for name, item in value.items()) or example
    raise InvalidSpec(
        f"{option}={value!r} must be a {wanted.__name__}: write {option}={wanted.__name__}({example})."
    )


@refusing_unknown
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
        if self.cpu != 0 and not is_seconds(self.cpu):  # a number as seconds are: finite, and none below 0
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


@refusing_unknown
@dataclass(frozen=True, slots=True)
class Checkpoint:
    """When a sandbox's state is copied, and to how many other nodes.

    With ``durability="reply"`` every answer of the sandbox waits until a checkpoint with its effect is stored: on
    its own node, on at least one of the nodes that get copies, where there are any, and in the state directory,
    where the cluster or manager has one. So what was answered survives the loss of its node at any instant. Where a
    sandbox has neither other nodes nor a state directory, it survives the loss of its OS process alone. When a
    checkpoint cannot be stored the call raises `superlearner.errors.NotDurable`: it was carried out, and may be lost.
    Answers that come close together share a checkpoint, which has the states of all processes: this is for small
    states. What a sandbox sends by itself, as a cast to another one, does not wait.

    >>> Checkpoint(every=2.0).copies
    2
    >>> Checkpoint(durability="reply", copies=1).durability
    'reply'
    """

    #: Seconds between checkpoints; one is taken only when messages were handled since. None: never by time.
    every: float | None = 1.0
    #: Messages between checkpoints. None: never by count.
    messages: int | None = None
    #: How many other nodes get a copy, beside the sandbox's own.
    copies: int = 2
    #: How many versions each node keeps, so that a bad one has one before it.
    keep: int = 3
    #: ``"interval"``: answers leave at once, and what came after the newest checkpoint may be lost. ``"reply"``: an
    #: answer leaves when its effect is stored.
    durability: Durability = "interval"

    def __post_init__(self) -> None:
        _seconds(self.every, "every", none_means="no checkpoints by time")
        if self.durability not in get_args(Durability):
            raise InvalidSpec(
                f'durability={self.durability!r} must be "interval" (answers leave at once; what came after the newest '
                'checkpoint may be lost) or "reply" (an answer leaves when its effect is stored).'
            )
        _count(self.messages, "messages", none_means="no checkpoints by count")
        _count(self.copies, "copies", least=0)
        _count(self.keep, "keep", least=1)


def validate_labels(labels: Any, option: str) -> dict[str, str]:
    """Return `labels` as a dict if they are a mapping of texts to texts, else raise `InvalidSpec`.

    >>> validate_labels({"zone": "a"}, "labels")
    {'zone': 'a'}
    """
    if not isinstance(labels, Mapping) or not all(
        isinstance(text, str) and text for pair in labels.items() for text in pair
    ):
        raise InvalidSpec(f'{option}={labels!r} must map texts to texts, such as {{"zone": "a"}}.')
    return dict(labels)


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
    - ``labels``: what it is, for the ``anti_affinity`` of others;
    - ``node_selector``: labels that its node must have (none);
    - ``anti_affinity``: it never shares a node with a sandbox whose labels include these (none);
    - ``group``: the group it is a member of (None); its restarts are then the group's to decide, so
      ``max_restarts`` and ``max_seconds`` are not looked at.
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
    node_selector: Mapping[str, str] = field(default_factory=dict)
    anti_affinity: Mapping[str, str] = field(default_factory=dict)
    group: str | None = None
    on_unresponsive: OnUnresponsive = "report"
    unresponsive_after: float = 5.0

    def __post_init__(self) -> None:
        validate_id(self.id, "sandbox id")
        if self.node is None:
            raise InvalidSpec("node=None names no node: write node='auto', or the name of a node.")
        if self.group is not None:
            validate_id(self.group, "group id")
        for option in ("labels", "node_selector", "anti_affinity"):
            object.__setattr__(self, option, validate_labels(getattr(self, option), option))
        if self.node != "auto":
            validate_id(self.node, "node")
        choice(self.placement, "placement", get_args(PlacementStrategy))
        choice(self.restart, "restart", get_args(Restart))
        choice(self.on_unresponsive, "on_unresponsive", get_args(OnUnresponsive))
        _count(self.max_restarts, "max_restarts", least=0)
        for option in ("max_seconds", "start_timeout", "shutdown"):
            value = getattr(self, option)
            if not is_seconds(value):
                raise InvalidSpec(f"{option}={value!r} must be a number of seconds above 0.")
        silence = self.unresponsive_after
        if not is_seconds(silence) or silence < SHORTEST_SILENCE:
            raise InvalidSpec(
                f"unresponsive_after={silence!r} must be a number of seconds, {SHORTEST_SILENCE} or more."
            )
        _made_of(self.resources, "resources", Resources, 'memory="64 MiB"')
        _made_of(self.checkpoint, "checkpoint", Checkpoint, "every=2.0")

    def alone(self) -> SandboxSpec:
        """Return the same sandbox without a group."""
        return replace(self, group=None)


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """Sandboxes that are supervised together.

    Options and defaults:

    - ``strategy``: ``"one_for_one"`` (default), ``"one_for_all"`` or ``"rest_for_one"``, as of any supervisor;
    - ``max_restarts`` within ``max_seconds``: how often the group restarts members before it gives up (3 in 60 s).

    >>> GroupSpec("web", strategy="rest_for_one").max_restarts
    3
    """

    id: str
    strategy: Strategy = "one_for_one"
    max_restarts: int = 3
    max_seconds: float = 60.0

    def __post_init__(self) -> None:
        validate_id(self.id, "group id")
        # A supervisor's spec knows what these may be, and says so.
        SupervisorSpec(
            strategy=self.strategy, max_restarts=self.max_restarts, max_seconds=self.max_seconds, id=self.id
        )
