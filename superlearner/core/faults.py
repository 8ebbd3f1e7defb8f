"""Faults of links: what is asked for, what it means for each link, and when a message may pass.

A *link* is an ordered pair of endpoints ``(source, target)``: messages that `source` sends to `target`.
An endpoint is a node, the ``"scheduler"``, or ``"client"``, which is every client together. Rules of several
faults on one link add up. Nothing here waits or sends: see `superlearner.cluster.lanes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from superlearner.errors import InvalidSpec, UnknownNode

Link = tuple[str, str]
#: The endpoints that are not nodes.
SCHEDULER = "scheduler"
CLIENT = "client"
RESERVED = frozenset({SCHEDULER, CLIENT})
#: The faults of links.
LINK_FAULTS = ("cut", "delay", "drop", "flap", "partition", "slow")


def number(name: str, value: Any, wanted: str, *, low: float, high: float = float("inf")) -> None:
    """Refuse what is not a finite number between `low` and `high`."""
    fits = isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
    if not fits or value == float("inf"):
        raise InvalidSpec(f"{name}={value!r} must be {wanted}; nothing was broken.")


@dataclass(frozen=True, slots=True)
class LinkRule:
    """What a link does to messages; all times are seconds."""

    #: Nothing passes: what is sent waits.
    cut: bool = False
    #: How long each message travels.
    delay: float = 0.0
    #: Up to how much longer, by chance; messages do not overtake each other.
    jitter: float = 0.0
    #: Bytes per second, None without a limit.
    rate: float | None = None
    #: The probability that a message is lost, and with it its connection.
    drop: float = 0.0
    #: Seeds the chances above, together with the link's name.
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("delay", "jitter"):
            number(name, getattr(self, name), "seconds, 0 or more", low=0.0)
        if self.rate is not None:
            number("bytes_per_second", self.rate, "1 or more; cut() stops everything", low=1.0)
        number("probability", self.drop, "a number from 0 to 1", low=0.0, high=1.0)

    @property
    def clear(self) -> bool:
        """Whether everything passes at once."""
        return not (self.cut or self.delay or self.jitter or self.rate or self.drop)

    def plain(self) -> list[Any]:
        """Return it as it travels."""
        return [self.cut, self.delay, self.jitter, self.rate, self.drop, self.seed]


CLEAR = LinkRule()


def combined(first: LinkRule, second: LinkRule) -> LinkRule:
    """Return what a link does that is under both rules.

    >>> combined(LinkRule(delay=1.0), LinkRule(cut=True, delay=0.5))
    LinkRule(cut=True, delay=1.5, jitter=0.0, rate=None, drop=0.0, seed=0)
    """
    rates = [rate for rate in (first.rate, second.rate) if rate is not None]
    return LinkRule(
        cut=first.cut or second.cut,
        delay=first.delay + second.delay,
        jitter=first.jitter + second.jitter,
        rate=min(rates, default=None),
        drop=1 - (1 - first.drop) * (1 - second.drop),
        seed=first.seed ^ second.seed,
    )


def rules_of(faults: Iterable[tuple[Iterable[Link], LinkRule]]) -> dict[Link, LinkRule]:
    """Return the rule of each link that some fault concerns.

    >>> rules_of([([("alpha", "beta")], LinkRule(cut=True))])[("alpha", "beta")].cut
    True
    """
    rules: dict[Link, LinkRule] = {}
    for links, rule in faults:
        for link in links:
            rules[link] = combined(rules.get(link, CLEAR), rule)
    return rules


def partition_links(groups: Sequence[Sequence[str]], nodes: Iterable[str]) -> tuple[Link, ...]:
    """Return the links between endpoints of different groups, in order.

    Nodes that no group names form one more group. The scheduler is in the group that names it, else in the
    one with most nodes (of equals, the first); clients are where the scheduler is, unless a group names ``"client"``.

    >>> sorted({target for source, target in partition_links([["a"], ["b"]], ["a", "b"]) if source == "b"})
    ['a', 'client', 'scheduler']
    """
    sides = [list(group) for group in groups]
    named = [name for side in sides for name in side]
    for name in named:
        if named.count(name) > 1:
            raise InvalidSpec(f"partition: {name!r} is named twice; nothing was broken.")
    if rest := [name for name in nodes if name not in named]:
        sides.append(rest)
    if SCHEDULER not in named:
        max(sides, key=lambda side: len(set(side) - RESERVED), default=[]).append(SCHEDULER)
    home = next((side for side in sides if SCHEDULER in side), [])
    if CLIENT not in named:
        home.append(CLIENT)
    if len([side for side in sides if side]) < 2:
        raise InvalidSpec(
            f'partition({groups!r}) leaves all on one side; nothing was broken. Write [["alpha"], ["beta", "gamma"]].'
        )
    return tuple(
        sorted((a, b) for here in sides for there in sides if here is not there for a in here for b in there)
    )


def link_fault(
    kind: str, detail: Mapping[str, Any], nodes: Sequence[str]
) -> tuple[tuple[Link, ...], LinkRule]:
    """Return the links that a fault concerns and what it does to them; it is refused unless all is right.

    `nodes` are the names there are. ``"*"`` for an end stands for every other one.

    >>> link_fault("delay", {"a": "alpha", "b": "beta", "seconds": 0.2, "one_way": True}, ["alpha", "beta"])[0]
    (('alpha', 'beta'),)
    """
    seed = detail.get("seed", 0)
    match kind:
        case "partition":
            groups = detail["groups"]
            _known([name for group in groups for name in group], nodes)
            return partition_links(groups, nodes), LinkRule(cut=True)
        case "cut" | "flap":
            rule = LinkRule(cut=True)
        case "delay":
            rule = LinkRule(delay=detail["seconds"], jitter=detail.get("jitter", 0.0), seed=seed)
        case "slow":
            rule = LinkRule(rate=detail["bytes_per_second"])
        case "drop":
            rule = LinkRule(drop=detail["probability"], seed=seed)
        case _:
            raise InvalidSpec(
                f"There is no fault {kind!r}; nothing was broken. There are: {', '.join(LINK_FAULTS)}."
            )
    if kind == "flap":
        for name in ("cut_for", "open_for"):
            number(name, detail[name], "seconds above 0", low=1e-3)
    return between(detail["a"], detail["b"], nodes, one_way=detail.get("one_way", False)), rule


def between(a: str, b: str, nodes: Sequence[str], *, one_way: bool = False) -> tuple[Link, ...]:
    """Return the links between two ends, both ways unless `one_way`; ``"*"`` is every other end.

    >>> between("alpha", "*", ["alpha", "beta"], one_way=True)
    (('alpha', 'beta'), ('alpha', 'client'), ('alpha', 'scheduler'))
    """
    _known([name for name in (a, b) if name != "*"], nodes)
    if a == b != "*":
        raise InvalidSpec(f"There is no link from {a!r} to itself; nothing was broken. Name two ends.")
    ends = sorted({*nodes, *RESERVED})
    pairs = [(x, y) for x in (ends if a == "*" else [a]) for y in (ends if b == "*" else [b]) if x != y]
    return tuple(pairs if one_way else dict.fromkeys(way for x, y in pairs for way in ((x, y), (y, x))))


def _known(names: Iterable[str], nodes: Sequence[str]) -> None:
    for name in names:
        if name not in nodes and name not in RESERVED:
            raise UnknownNode(name, (*nodes, *sorted(RESERVED)))


def _never() -> float:
    """Draw nothing that happens, before a rule has begun a sequence."""
    return 1.0


@dataclass(slots=True)
class Shaper:
    """Decides when each message of one link may pass; its chances follow from the rule's seed."""

    link: Link
    #: Begins a sequence of numbers from 0 to 1 that follows from a text: chance is given from outside.
    begin: Callable[[str], Callable[[], float]]
    rule: LinkRule = CLEAR
    _free: float = 0.0
    _chance: Callable[[], float] = _never

    def set(self, rule: LinkRule) -> None:
        """Follow another rule from now on."""
        if rule.seed != self.rule.seed or self.rule.clear:
            self._chance = self.begin(f"{rule.seed} {self.link[0]} {self.link[1]}")
            self._free = 0.0
        self.rule = rule

    def lost(self) -> bool:
        """Draw whether the next message is lost."""
        return self.rule.drop > 0 and self._chance() < self.rule.drop

    def due(self, now: float, size: int) -> float:
        """Return when a message of `size` bytes that is sent now arrives."""
        sent = max(now, self._free)
        if self.rule.rate is not None:
            sent += size / self.rule.rate
            self._free = sent
        late = self._chance() * self.rule.jitter if self.rule.jitter else 0.0
        return sent + self.rule.delay + late


@dataclass(frozen=True, slots=True)
class FaultRecord:
    """A fault as the control plane keeps it: recorded before it acts."""

    #: Such as ``"cut-3"``.
    id: str
    #: ``cut``, ``partition``, ``delay``, ``slow``, ``drop``, ``flap``, ``pause_node``, ``pause_sandbox`` or ``run``.
    kind: str
    #: What it was asked with.
    detail: dict[str, Any]
    #: When it was made, as `time.time` tells it.
    at: float
