"""The network: connections that keep their order, delay, stall while their two ends are cut apart, and break."""

from __future__ import annotations

import random
from collections import Counter, deque
from collections.abc import Callable
from functools import partial
from typing import Any

from superlearner.testing.engine import Engine, Process, Promise, Timer

#: Seconds that a connection may take to be made, as with Dask.
CONNECT_TIMEOUT = 5.0
#: Seconds until an end that lives notices that its connection broke.
_NOTICE = 0.01
#: How often a message is slow, and how slow in seconds.
_SLOW = (0.03, 0.4)


def _ignore(*_: Any) -> None:
    """Do nothing."""


class _Close:
    """The last thing that comes from an end that has died."""


class End:
    """One end of a connection."""

    def __init__(self, network: Network, process: Process, rng: random.Random) -> None:
        self.network, self.process, self._rng = network, process, rng
        self.other: End
        self.closed = False
        self.on_message: Callable[[Any], object] = _ignore
        self.on_close: Callable[[], object] = lambda: None
        #: What is under way from here to the other end.
        self._under_way: deque[Any] = deque()
        self._last = 0.0
        #: Arrivals that a cut keeps back.
        self._stalled = 0

    @property
    def pair(self) -> frozenset[str]:
        """The names of the two processes."""
        return frozenset((self.process.name, self.other.process.name))

    def send(self, message: Any, *, twice: bool = False) -> None:
        """Send something; nothing comes of it if the connection is broken. `twice`: it may be doubled."""
        if self.closed:
            return
        self._post(message)
        if twice and self._rng.random() < self.network.doubling:
            self._post(message)

    def _post(self, message: Any) -> None:
        self._under_way.append(message)
        self._schedule()

    def _schedule(self) -> None:
        network = self.network
        delay = self._rng.uniform(0.0005, 0.01) + network.slowness(self.process.name, self.other.process.name)
        if self._rng.random() < _SLOW[0] * (network.doubling > 0):
            delay += self._rng.uniform(0.0, _SLOW[1])
        self._last = max(self._last, network.engine.now + delay)
        network.engine.at(self._last, self._arrive)

    def _arrive(self) -> None:
        if self.network.is_cut(self.process.name, self.other.process.name):
            self._stalled += 1
        elif self._under_way:
            message, other = self._under_way.popleft(), self.other
            other.process.run(other.take, message)

    def take(self, message: Any) -> None:
        """Take what arrives."""
        if self.closed:
            return
        if isinstance(message, _Close):
            self.close_here()
        else:
            self.on_message(message)

    def close_here(self) -> None:
        """Take note that the connection is no more."""
        if not self.closed:
            self.closed = True
            self.network.forget(self)
            self.on_close()

    def release(self) -> None:
        """Go on with what a cut has kept back."""
        stalled, self._stalled = self._stalled, 0
        for _ in range(stalled):
            self._schedule()

    def died(self) -> None:
        """Tell the other end, after what was sent before, that this process is dead."""
        if not self.closed:
            self._post(_Close())
            self.closed = True

    def lose(self) -> None:
        """Lose what is under way from here, and notice a little later that the connection broke."""
        self._under_way.clear()
        self.network.engine.at(self.network.engine.now + _NOTICE, partial(self.process.run, self.close_here))

    def abort(self) -> None:
        """Break with the other end at once."""
        self.other.lose()
        self._under_way.clear()
        self.close_here()


class Network:
    """Who listens where, who is connected with whom, and what is cut.

    Parameters
    ----------
    engine
        The true time.
    seed
        Where its delays come from. Each connection draws its own, so that a fault which is left out changes
        little elsewhere.
    """

    def __init__(self, engine: Engine, seed: int) -> None:
        self.engine, self._seed = engine, seed
        #: How often a report is doubled while there are faults.
        self.doubling = 0.02
        self._cuts: Counter[frozenset[str]] = Counter()
        self._slow: dict[str, float] = {}
        self._listening: dict[str, tuple[Process, Callable[[str, End], object]]] = {}
        #: Names of two processes -> one end of each connection between them -> its kind.
        self._ends: dict[frozenset[str], dict[End, str]] = {}
        self._waiting: dict[frozenset[str], list[Callable[[], None]]] = {}
        self._made: Counter[str] = Counter()

    def listen(self, address: str, process: Process, accept: Callable[[str, End], object]) -> None:
        """Take connections at an address, until the process dies."""
        self._listening[address] = (process, accept)
        process.on_death.append(lambda: self._listening.pop(address))
        process.on_death.append(lambda: self.died(process))

    def connect(self, process: Process, address: str, kind: str) -> Promise:
        """Return the end of a new connection, or fail with OSError."""
        promise = Promise()
        timer = process.call_later(CONNECT_TIMEOUT, promise.fail, TimeoutError("no connection in time"))
        delay = 0.002 + self.slowness(process.name, address)
        self.engine.at(self.engine.now + delay, self._try, process, address, kind, promise, timer)
        return promise

    def _try(self, process: Process, address: str, kind: str, promise: Promise, timer: Timer) -> None:
        target, accept = self._listening.get(address, (None, None))
        name = address.split(":", maxsplit=1)[0]
        if promise.done or not process.alive:
            return
        if self.is_cut(process.name, name):
            pair = frozenset((process.name, name))
            again = partial(self._try, process, address, kind, promise, timer)
            self._waiting.setdefault(pair, []).append(again)
            return
        timer.cancel()
        if target is None or accept is None:
            process.run(promise.fail, ConnectionRefusedError(address))
            return
        key = f"{process.name} {name} {kind}"
        self._made[key] += 1
        rng = random.Random(f"{self._seed} {key} {self._made[key]}")
        here, there = End(self, process, rng), End(self, target, rng)
        here.other, there.other = there, here
        self._ends.setdefault(here.pair, {}).update({here: kind, there: kind})
        target.run(accept, kind, there)
        process.run(promise.resolve, here)

    def forget(self, end: End) -> None:
        """Take note that an end is closed."""
        self._ends[end.pair].pop(end, None)

    def died(self, process: Process) -> None:
        """Close every connection of a process that has died."""
        for pair in [pair for pair in self._ends if process.name in pair]:
            for end in [end for end in self._ends[pair] if end.process is process]:
                end.died()
                self.forget(end)

    # -- Faults --

    def is_cut(self, one: str, other: str) -> bool:
        """Tell whether nothing passes between the two."""
        return bool(self._cuts) and self._cuts[frozenset((one, other))] > 0

    def cut(self, one: str, other: str) -> None:
        """Let nothing pass between the two until `heal`; what is sent meanwhile waits, as TCP sends it again."""
        self._cuts[frozenset((one, other))] += 1

    def heal(self, one: str, other: str) -> None:
        """Take one cut back."""
        pair = frozenset((one, other))
        self._cuts[pair] -= 1
        if self._cuts[pair] > 0:
            return
        del self._cuts[pair]
        for end in list(self._ends.get(pair, ())):
            end.release()
            end.other.release()
        for again in self._waiting.pop(pair, ()):
            again()

    def break_(self, one: str, other: str, kind: str) -> None:
        """Break the connections of a kind between the two: what is under way is lost."""
        for end, its in list(self._ends.get(frozenset((one, other)), {}).items()):
            if its == kind and end.process.name == one:
                end.lose()
                end.other.lose()

    def slow_down(self, name: str, seconds: float) -> None:
        """Delay everything from and to one name by that much; 0: no longer."""
        self._slow[name] = seconds

    def slowness(self, one: str, other: str) -> float:
        """Return by how much messages between the two are delayed."""
        return self._slow.get(one, 0.0) + self._slow.get(other.split(":", maxsplit=1)[0], 0.0)
