"""The story of one sandbox: its events as readable text, with times counted from the first.

>>> from superlearner.core.history import Event
>>> events = [Event("process_started", seq=1, at=100.0, sandbox="shop", name="counter", pid="<alpha.shop.2>"),
...           Event("process_exited", seq=2, at=101.5, sandbox="shop", name="counter", reason="killed")]
>>> from datetime import UTC
>>> print(story(events, title="shop", real=True, tz=UTC))
The story of shop (real), from 00:01:40.000
  +0.000 s  ● shop/counter started as <alpha.shop.2>.
  +1.500 s  ✕ shop/counter died (killed).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo

from superlearner.core.history import Event
from superlearner.views.format import after, clock
from superlearner.views.marks import origin
from superlearner.views.sentences import joined, told, worth_telling


def story(events: Sequence[Event], *, title: str, real: bool, tz: tzinfo | None = None) -> str:
    """Tell `events`, oldest first, as text that reads from top to bottom.

    Parameters
    ----------
    events
        The events of one sandbox, process or node.
    title
        Whose story it is.
    real
        Whether these things really happened. There is no default: a story must know.
    tz
        The time zone of the first line; the reader's own unless given.
    """
    if not events:
        return f"The story of {title} ({origin(real)}): nothing has happened yet."
    start = events[0].at
    stamps = [
        (after(start, event.at), told(event, companion))
        for event, companion in joined(filter(worth_telling, events))
    ]
    width = max(len(stamp) for stamp, _ in stamps)
    lines = [f"  {stamp.rjust(width)}  {said.symbol} {said.text}" for stamp, said in stamps]
    return "\n".join([f"The story of {title} ({origin(real)}), from {clock(start, tz)}", *lines])
