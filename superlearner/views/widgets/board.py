"""What the panel of one sandbox and the dashboard of a cluster have in common."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Self

import ipywidgets

from superlearner.core.history import Event
from superlearner.errors import InvalidSpec, SuperlearnerError
from superlearner.views.live import Live, Subscribe
from superlearner.views.widgets.base import Picture

#: How many events a board remembers; the log itself stays in the cluster.
EVENTS = 400

#: The boards that are live, by what they show. A cell that is run again takes over from its older self,
#: which would otherwise ask the cluster for ever, for pictures that nobody can see.
_LIVE: dict[tuple[str, str], Board] = {}
_LIVE_LOCK = threading.Lock()


class Board:
    """Pictures of one thing, kept up to date until `close`.

    A subclass says what to ask (`look`, on the looker's thread; `peek`, on the peeker's, what may take long)
    and what to show (`draw`, on the writer's).
    A board is displayed like any value in a notebook; elsewhere `text` is the same thing.
    """

    def __init__(
        self, subject: tuple[str, str], pictures: Iterable[Picture], subscribe: Subscribe | None
    ) -> None:
        self._subject = subject
        self._pictures = tuple(pictures)
        self._box = self.arrange()
        self._lock = threading.Lock()
        self._trouble = ""
        self._read: deque[Event] = deque(maxlen=EVENTS)
        self._live = Live(self.look, self.draw, self._remember_trouble, subscribe, peek=self.peek)

    # -- For the subclass ------------------------------------------------------------------------------

    def arrange(self) -> ipywidgets.Widget:
        """Return the pictures in one box."""
        raise NotImplementedError

    def look(self) -> None:
        """Ask, and remember the answers."""
        raise NotImplementedError

    def peek(self) -> None:
        """Ask what may take long, after each look, and remember the answer; nothing unless a subclass says so."""

    def draw(self) -> None:
        """Show what is remembered."""
        raise NotImplementedError

    def text(self) -> str:
        """Return everything that is shown, as text."""
        return "\n\n".join(picture.text() for picture in self._pictures)

    # -- Its life --------------------------------------------------------------------------------------

    def begin(self) -> None:
        """Take over from an older board of the same thing, look and draw once, then stay live."""
        with _LIVE_LOCK:
            older, _LIVE[self._subject] = _LIVE.get(self._subject), self
        if older is not None:
            older.retire("This picture stands still: the same one was opened again below.")
        try:
            self.look()
            self.peek()
        except SuperlearnerError as error:
            self._remember_trouble(error)
        self.draw()
        # Only now are there other threads: this one has been the only writer so far.
        self._live.start()
        self._live.look()

    def retire(self, note: str) -> None:
        """Stop being live, but leave the pictures where they are, with a note."""
        self._end()
        for picture in self._pictures:
            if picture.comm is not None:
                picture.view = {**picture.view, "note": note}

    def close(self) -> None:
        """End the threads, the subscription and the widgets. Safe to call twice."""
        self._end()
        _close(self._box)

    @property
    def closed(self) -> bool:
        """Whether it has stopped being live."""
        return self._live.closed

    def _end(self) -> None:
        self._live.close()
        with _LIVE_LOCK:
            if _LIVE.get(self._subject) is self:
                del _LIVE[self._subject]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # -- What it remembers -----------------------------------------------------------------------------

    @property
    def events(self) -> list[Event]:
        """The newest events that it has read, in the order of the log."""
        with self._lock:
            return list(self._read)

    def catch_up(self, log: Callable[[int], list[Event]]) -> None:
        """Read what is new in the log; the subscription only says when to look, so that nothing is missed."""
        with self._lock:
            last = self._read[-1].seq if self._read else 0
        new = [event for event in log(last) if event.seq > last]
        with self._lock:
            self._read.extend(new)

    def _remember_trouble(self, error: BaseException) -> None:
        self._trouble = explain(error)
        self._live.draw()

    # -- Showing it ------------------------------------------------------------------------------------

    def _repr_mimebundle_(self, **kwargs: Any) -> dict[str, Any]:
        bundle: dict[str, Any] = dict(self._box._repr_mimebundle_(**kwargs))
        bundle["text/plain"] = self.text()
        still = next((svg for picture in self._pictures if (svg := picture.svg())), None)
        return bundle | {"image/svg+xml": still} if still else bundle

    def __repr__(self) -> str:
        return self.text()


def _close(widget: ipywidgets.Widget) -> None:
    """Close a widget with all that it holds: its children, and the layouts that ipywidgets makes for each."""
    for child in getattr(widget, "children", ()):
        _close(child)
    if getattr(widget, "layout", None) is not None:
        widget.layout.close()
    widget.close()


def explain(error: BaseException) -> str:
    """Say what an error means for the reader: what happened, whether it took effect, what to do."""
    if not isinstance(error, SuperlearnerError):
        return f"{type(error).__name__}: {error}"
    what = error.what()
    effect = " Nothing was changed." if error.definite else " It may have taken effect."
    if "nothing was " in what:
        effect = ""  # it has said so itself
    return f"{what}{effect} {error.advice}".rstrip()


def origin_of(source: Any) -> bool:
    """Tell whether `source` shows real processes.

    A source may say so itself, with ``real``. One that does not is real when it is superlearner's own
    cluster, sandbox or runtime, and counts as simulated otherwise.
    """
    said = getattr(source, "real", None)
    if isinstance(said, bool):
        return said
    return type(source).__module__.startswith(
        ("superlearner.cluster", "superlearner.sandbox", "superlearner.otp")
    )


def refuse_async(source: Any, what: str) -> None:
    """Refuse an object whose methods must be awaited: boards ask from threads of their own."""
    if getattr(source, "asynchronous", False):
        raise InvalidSpec(
            f"{what} needs a cluster whose methods block: write superlearner.connect() without asynchronous=True."
        )
