"""How a process breaks the links at its end: what is held, in order, and what lets it go.

An `Endpoint` knows its own name and the rules of all links. A `Way` is one link as seen from here, and a
`Lane` one direction of one connection on it: a queue that is empty, and not even looked at, as long as no
fault concerns its link. Everything happens on rule changes and timers; nothing polls.

Who enforces what: the sender delays, slows and drops; both ends cut, so that bytes already on their way
are held too. Clients are told no rules (one client may hold several clusters whose nodes have the same
names): towards a client, the other end enforces both directions.
"""

from __future__ import annotations

import asyncio
import random
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from superlearner.core.faults import CLEAR, CLIENT, Link, LinkRule, Shaper


def _chance(seed: str) -> Callable[[], float]:
    return random.Random(seed).random


class Way:
    """One link: its rule, and the connections that use it."""

    def __init__(self, link: Link, *, shaped: bool) -> None:
        self._shaped = shaped
        self.shaper = Shaper(link, _chance)
        self.lanes: weakref.WeakSet[Lane] = weakref.WeakSet()

    @property
    def rule(self) -> LinkRule:
        """What it does now."""
        return self.shaper.rule

    def set(self, rule: LinkRule) -> None:
        """Follow `rule`: all of it, or where the other end shapes, only whether it is cut."""
        self.shaper.set(rule if self._shaped else LinkRule(cut=rule.cut))


class Lane:
    """One direction of one connection, in order.

    Parameters
    ----------
    way
        The link that it is on.
    """

    def __init__(self, way: Way) -> None:
        self._way = way
        self._loop = asyncio.get_running_loop()
        #: What came while the link was cut, each with its size and what lets it go, in order.
        self._waiting: deque[tuple[int, Callable[[], None]]] = deque()
        #: What came before that, each with its time of arrival.
        self._travelling: deque[tuple[float, Callable[[], None]]] = deque()
        self._last = 0.0
        self._timer: asyncio.TimerHandle | None = None
        #: Whether everything passes at once: the only thing that is looked at while there is no fault.
        self.open = way.rule.clear

    def push(self, size: int, release: Callable[[], None]) -> bool:
        """Call `release` when a message of `size` bytes may pass, now or later; return False if it is lost."""
        if self.open:
            release()
            return True
        if self._way.shaper.lost():
            return False
        self._waiting.append((size, release))
        self._depart()
        return True

    async def passed(self) -> bool:
        """Wait until one small message has passed; return False if it was lost."""
        done: asyncio.Future[None] = self._loop.create_future()

        def arrive() -> None:
            if not done.done():  # whoever waits may have given up
                done.set_result(None)

        if not self.push(1, arrive):
            return False
        await done
        return True

    def refresh(self) -> None:
        """Follow the way's new rule; one that is clear lets go of everything, in order."""
        self._disarm()
        self.open = self._way.rule.clear
        if not self.open:
            self._depart()
            return
        while self._travelling:
            self._travelling.popleft()[1]()
        while self._waiting:
            self._waiting.popleft()[1]()

    def refresh_soon(self) -> None:
        """Refresh on the loop that the connection lives on: at once, if that is the running one."""
        try:
            here = asyncio.get_running_loop()
        except RuntimeError:
            here = None
        if self._loop is here:
            self.refresh()
        elif not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.refresh)

    def clear(self) -> None:
        """Forget what is held: the connection is closed."""
        self._disarm()
        self._travelling.clear()
        self._waiting.clear()

    def _depart(self) -> None:
        """Let what waits begin to travel, unless the link is cut, and set the timer for the next arrival."""
        if self._way.rule.cut:
            return
        now = self._loop.time()
        while self._waiting:
            size, release = self._waiting.popleft()
            self._last = max(self._last, self._way.shaper.due(now, size))
            self._travelling.append((self._last, release))
        if self._timer is None and self._travelling:
            self._timer = self._loop.call_at(self._travelling[0][0], self._arrive)

    def _arrive(self) -> None:
        self._timer = None
        now = self._loop.time()
        while self._travelling and self._travelling[0][0] <= now:
            self._travelling.popleft()[1]()
        self._depart()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


class Endpoint:
    """One end of links: this process, as a rule.

    Parameters
    ----------
    name
        Its name among the links' endpoints.
    deaf
        Whether it follows no rules, since nobody will tell it when they end.
    """

    def __init__(self, name: str = CLIENT, *, deaf: bool = False) -> None:
        self.name = name
        self._deaf = deaf
        #: When the rules were made: older ones are not followed any more.
        self.version = 0
        self._rules: dict[Link, LinkRule] = {}
        self._ways: dict[tuple[Link, bool], Way] = {}
        self._lock = threading.Lock()  # connections of several loops may meet here

    def way(self, source: str, target: str, *, shaped: bool) -> Way:
        """Return the link from `source` to `target`; `shaped`: this end delays, slows and drops on it."""
        link = (source, target)
        with self._lock:
            if (way := self._ways.get((link, shaped))) is None:
                way = self._ways[link, shaped] = Way(link, shaped=shaped)
                way.set(self._rules.get(link, CLEAR))
            return way

    def lane(self, source: str, target: str, *, shaped: bool) -> Lane:
        """Return a new connection's lane on a link."""
        way = self.way(source, target, shaped=shaped)
        with self._lock:
            lane = Lane(way)
            way.lanes.add(lane)
        return lane

    def adopt(self, version: int, rules: Iterable[Iterable[Any]]) -> None:
        """Follow the rules of that version from now on, unless newer ones are known."""
        if version <= self.version or self._deaf:
            return
        self.version = version
        with self._lock:
            self._rules = {(source, target): LinkRule(*rule) for source, target, *rule in rules}
            for (link, _), way in self._ways.items():
                way.set(self._rules.get(link, CLEAR))
            lanes = [lane for way in self._ways.values() for lane in way.lanes]
        for lane in lanes:
            lane.refresh_soon()

    def rule(self, source: str, target: str) -> LinkRule:
        """Return what a link does now."""
        return self._rules.get((source, target), CLEAR)

    def plain(self) -> list[list[Any]]:
        """Return the rules as they travel, for `adopt`."""
        return plain_rules(self._rules)


def plain_rules(rules: Mapping[Link, LinkRule]) -> list[list[Any]]:
    """Return rules as they travel, for `Endpoint.adopt`."""
    return [[source, target, *rule.plain()] for (source, target), rule in rules.items()]


#: This process.
HERE = Endpoint()
