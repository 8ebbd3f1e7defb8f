"""What happens in a cluster: told as it happens, and waited for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from superlearner.cli.demo_tale import PATIENCE, DemoFailed
from superlearner.core.history import Event
from superlearner.views.sentences import told

if TYPE_CHECKING:
    from superlearner import Cluster

#: What is told while one waits; the rest is in the log.
TOLD = frozenset(
    {
        "fault_injected", "fault_reverted", "healed", "node_suspected", "node_recovered", "node_lost", "node_fenced",
        "node_joined", "sandbox_moving", "sandbox_copying", "sandbox_moved", "sandbox_restarting", "sandbox_restarted",
        "sandbox_lost",
    }
)  # fmt: skip


class Watch:
    """The events of a cluster since it was made."""

    def __init__(self) -> None:
        self._events: list[Event] = []
        self._changed = threading.Condition()
        self._closed = False

    def hear(self, event: Event) -> None:
        """Take an event, as a handler of ``cluster.subscribe``."""
        with self._changed:
            self._events.append(event)
            self._changed.notify_all()

    def mark(self) -> int:
        """Return a place in the events: what comes from now on is after it."""
        with self._changed:
            return len(self._events)

    def wait(self, after: int, kinds: str | tuple[str, ...], node: str | None = None) -> Event:
        """Wait for the first event of these kinds, of one node where given, after a place; return it.

        Raises
        ------
        DemoFailed
            It did not come in time.
        """
        wanted = (kinds,) if isinstance(kinds, str) else kinds

        def find() -> Event | None:
            events = self._events[after:]
            return next((e for e in events if e.kind in wanted and node in (None, e.node)), None)

        with self._changed:
            found = self._changed.wait_for(find, timeout=PATIENCE)
        if found is None:
            raise DemoFailed(f"no {' or '.join(wanted)} of {node or 'any node'} within {PATIENCE:g} s.")
        return found

    def close(self) -> None:
        """Tell nothing more."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def tell_on(self, tell: Callable[[str], None]) -> None:
        """Tell each event of interest as it comes, until `close`."""
        for event in self._coming():
            if event.kind in TOLD:
                said = told(event)
                tell(f"                  {said.symbol} {said.text}")

    def _coming(self) -> Iterator[Event]:
        at = 0
        while True:
            with self._changed:
                while len(self._events) == at and not self._closed:
                    self._changed.wait()
                if self._closed:
                    return
                new, at = self._events[at:], len(self._events)
            yield from new


@contextmanager
def watching(cluster: Cluster, tell: Callable[[str], None]) -> Iterator[Watch]:
    """Follow the events of a cluster within the block, and tell those of interest."""
    watch = Watch()
    stop = cluster.subscribe(watch.hear)
    teller = threading.Thread(target=watch.tell_on, args=(tell,), name="superlearner-teller", daemon=True)
    teller.start()
    try:
        yield watch
    finally:
        watch.close()
        teller.join(timeout=5.0)
        stop()
