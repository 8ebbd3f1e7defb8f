"""What keeps the pictures alive: five plain threads with one task each.

- the **looker** asks the cluster: after every event, and every two seconds for the telemetry;
- the **peeker** looks into one sandbox, which may be hurt and not answer for seconds;
- the **writer** is the only thread that writes to widgets. A task on the kernel's asyncio loop would
  freeze whenever a cell blocks, and with two writers updates are lost;
- the **worker** carries out what was clicked, in order. A widget's callback runs on whichever thread
  the kernel likes, so it only puts work onto the queue;
- the **medic** carries out what heals, which must not wait for the worker: that may wait for what is broken.

They are apart because asking a hurt cluster may take seconds, in which the status line must go on.
Nothing here knows a widget: `look`, `peek` and `draw` are given.
"""

from __future__ import annotations

import atexit
import queue
import threading
import time
from collections.abc import Callable

from superlearner.core.history import Event

#: Seconds between two looks when nothing happens, the rhythm of the telemetry.
EVERY = 2.0
#: Seconds in which events are gathered into one look: shorter than the eye, longer than a burst.
GATHER = 0.05
#: Seconds after which a look that has not come back is told to be late.
LATE = 1.0
#: Seconds that `close` waits for a thread that is in the middle of a call.
PATIENCE = 10.0

Subscribe = Callable[[Callable[[Event], None]], Callable[[], None]]


class Live:
    """Calls `look` when something happens and `draw` when something is to be shown, until closed.

    Parameters
    ----------
    look
        Asks the cluster and remembers what it said. Runs on the looker only; may block.
    draw
        Writes what is remembered to the widgets. Runs on the writer only; must not ask the cluster.
    peek
        Looks closer at something, after each `look`; it may block for long. None: there is nothing to.
    trouble
        Told the error of a `look`, a `draw` or a piece of work that raised. Must only remember it.
    subscribe
        Starts to feed events to a handler and returns what ends it, as ``cluster.subscribe`` does.
        None: there are no events to wait for, only the rhythm.
    every
        Seconds between two looks when nothing happens. Default 2.
    gather
        Seconds in which events are gathered into one look. Default 0.05.
    """

    def __init__(
        self,
        look: Callable[[], None],
        draw: Callable[[], None],
        trouble: Callable[[BaseException], None],
        subscribe: Subscribe | None = None,
        *,
        peek: Callable[[], None] | None = None,
        every: float = EVERY,
        gather: float = GATHER,
    ) -> None:
        self._look, self._draw, self._trouble, self._peek = look, draw, trouble, peek
        self._subscribe, self._every, self._gather = subscribe, every, gather
        self._unsubscribe: Callable[[], None] | None = None
        #: Since when the present look is under way, on the monotonic clock.
        self._since: float | None = None
        self._stop = threading.Event()
        self._news = threading.Event()
        self._seen = threading.Event()
        self._dirty = threading.Event()
        self._work: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._urgent: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._closing = threading.Lock()
        # Daemons: a kernel that exits must not wait for a cluster that does not answer.
        self._threads = [
            threading.Thread(target=run, name=f"superlearner-{name}", daemon=True)
            for name, run in (
                ("looker", self._look_on),
                ("peeker", self._peek_on),
                ("writer", self._write_on),
                ("worker", lambda: self._work_on(self._work)),
                ("medic", lambda: self._work_on(self._urgent)),
            )
        ]

    def start(self) -> None:
        """Subscribe and start the threads."""
        if self._subscribe is not None:
            self._unsubscribe = self._subscribe(self._heard)
        for thread in self._threads:
            thread.start()
        atexit.register(self.close)

    @property
    def closed(self) -> bool:
        """Whether `close` has been called."""
        return self._stop.is_set()

    @property
    def late(self) -> bool:
        """Whether the present look has not come back for long: what is remembered is old."""
        since = self._since
        return since is not None and time.monotonic() - since > LATE

    def look(self) -> None:
        """Ask for a look at the cluster soon; may be called from any thread."""
        self._news.set()

    def draw(self) -> None:
        """Ask for a drawing of what is remembered; may be called from any thread."""
        self._dirty.set()

    def do(self, work: Callable[[], None], *, urgent: bool = False) -> None:
        """Put work onto the worker's queue, or the medic's; may be called from any thread, also a widget's callback."""
        if not self.closed:
            (self._urgent if urgent else self._work).put(work)

    def close(self) -> None:
        """End the subscription and the threads. Safe to call twice, and from a piece of work."""
        with self._closing:
            if self._stop.is_set():
                return
            self._stop.set()
        atexit.unregister(self.close)
        self._news.set()
        self._seen.set()
        self._dirty.set()
        self._work.put(None)
        self._urgent.put(None)
        if self._unsubscribe is not None:
            self._guard(self._unsubscribe)
        for thread in self._threads:
            if thread.is_alive() and thread is not threading.current_thread():
                thread.join(timeout=PATIENCE)

    def _heard(self, _event: Event) -> None:
        self._news.set()

    def _look_on(self) -> None:
        while not self._stop.is_set():
            if self._news.wait(timeout=self._every):
                self._stop.wait(timeout=self._gather)
            self._news.clear()
            if not self._stop.is_set():
                self._since = time.monotonic()
                self._guard(self._look)
                self._since = None
                self._dirty.set()
                self._seen.set()

    def _peek_on(self) -> None:
        while not self._stop.is_set() and self._peek is not None:
            self._seen.wait()
            self._seen.clear()
            if not self._stop.is_set():
                self._guard(self._peek)
                self._dirty.set()

    def _write_on(self) -> None:
        while not self._stop.is_set():
            # That a look is late is nobody's news: only the clock tells it.
            told = self._dirty.wait(timeout=LATE)
            self._dirty.clear()
            if (told or self.late) and not self._stop.is_set():
                self._guard(self._draw)

    def _work_on(self, wanted: queue.SimpleQueue[Callable[[], None] | None]) -> None:
        while (work := wanted.get()) is not None and not self._stop.is_set():
            self._guard(work)

    def _guard(self, work: Callable[[], None]) -> None:
        """Run `work`; its error is told, and ends neither the thread nor the pictures."""
        try:
            work()
        except Exception as error:
            self._trouble(error)
