"""Events as a feed: one line each, in order, with the time of day.

>>> from datetime import UTC
>>> from superlearner.core.history import Event
>>> died = Event("process_exited", seq=1, at=43_384.12, sandbox="shop", name="counter", reason="killed")
>>> print(feed([died], real=True, tz=UTC).text())
What happened (real)
12:03:04.120 ✕ shop/counter died (killed).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import tzinfo
from typing import Any

from superlearner.core.history import Event
from superlearner.views.format import clock
from superlearner.views.marks import Tone, origin
from superlearner.views.sentences import joined, told, worth_telling

#: How many lines a feed keeps; the whole log stays in ``cluster.events()``.
LIMIT = 200


@dataclass(frozen=True, slots=True)
class FeedEntry:
    """One line of the feed."""

    #: The event's number as text; for two events told as one, the first one's.
    key: str
    kind: str
    time: str
    symbol: str
    tone: Tone
    sentence: str
    #: What else is known: node, epoch, pid and cause, for the tool tip.
    more: str


@dataclass(frozen=True, slots=True)
class FeedView:
    """The newest lines, oldest first."""

    title: str
    real: bool
    entries: tuple[FeedEntry, ...]
    note: str = ""

    def text(self) -> str:
        """Return the feed as lines of text."""
        lines = [f"{self.title} ({origin(self.real)})", *([self.note] if self.note else [])]
        lines += [f"{entry.time} {entry.symbol} {entry.sentence}" for entry in self.entries]
        return "\n".join(lines if self.entries else [*lines, "Nothing has happened yet."])

    def as_dict(self) -> dict[str, Any]:
        """Return the view as plain data, for a widget's trait."""
        return {
            "title": self.title,
            "real": self.real,
            "note": self.note,
            "entries": [asdict(entry) for entry in self.entries],
            "text": self.text(),
        }


def feed(
    events: Iterable[Event],
    *,
    real: bool,
    title: str = "What happened",
    limit: int = LIMIT,
    tz: tzinfo | None = None,
    note: str = "",
) -> FeedView:
    """Turn events, oldest first, into sentences; an exit and the restart it led to are told as one.

    Parameters
    ----------
    events
        What ``cluster.events()`` or ``rt.events()`` returned.
    real
        Whether these things really happened. There is no default: a picture must know.
    title
        The heading.
    limit
        How many lines are kept, the newest ones.
    tz
        The time zone of the clock; the reader's own unless given.
    note
        A remark on the picture itself, shown with it.
    """
    entries = [
        FeedEntry(
            # A log numbers its events from 1; those that no log has numbered are told apart by their place.
            key=str(event.seq or f"at{place}"),
            kind=event.kind,
            time=clock(event.at, tz),
            symbol=said.symbol,
            tone=said.tone,
            sentence=said.text,
            more=_more(event),
        )
        for place, (event, companion) in enumerate(joined(filter(worth_telling, events)))
        for said in [told(event, companion)]
    ]
    return FeedView(title, real, tuple(entries[-limit:]), note)


def _more(event: Event) -> str:
    facts = [event.kind.replace("_", " ")]
    facts += [f"node {event.node}"] if event.node else []
    facts += [f"epoch {event.epoch}"] if event.epoch is not None else []
    facts += [f"pid {event.pid}"] if event.pid else []
    facts += [f"because of {event.cause}"] if event.cause else []
    return ", ".join(facts)
