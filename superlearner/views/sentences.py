"""One event, one sentence that a learner understands: who, what, and why.

The table `told` has a line per kind of event. A kind that it does not know is still told, in its own
words, so that nothing that happened is ever left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

from superlearner.core.history import Event
from superlearner.core.restart import is_normal
from superlearner.views import format as fmt
from superlearner.views.marks import Tone


class Said(NamedTuple):
    """A sentence, and how it looks."""

    symbol: str
    tone: Tone
    text: str


def joined(events: Iterable[Event]) -> Iterator[tuple[Event, Event | None]]:
    """Pair each exit of a process with the restart that its supervisor decided on, if that came next.

    >>> died, again = Event("process_exited", name="c", pid="<a.b.2>"), Event("restart_scheduled", name="c")
    >>> [(first.kind, second and second.kind) for first, second in joined([died, again])]
    [('process_exited', 'restart_scheduled')]
    """
    held: Event | None = None
    for event in events:
        if held is not None and event.kind == "restart_scheduled" and _same(held, event):
            yield held, event
            held = None
            continue
        if held is not None:
            yield held, None
            held = None
        if event.kind == "process_exited":
            held = event
        else:
            yield event, None
    if held is not None:
        yield held, None


def _same(first: Event, second: Event) -> bool:
    return (first.sandbox, first.name) == (second.sandbox, second.name)


def told(event: Event, companion: Event | None = None) -> Said:
    """Tell `event`; `companion` is the restart that it led to, see `joined`.

    >>> told(Event("process_exited", sandbox="shop", name="counter", reason="killed")).text
    'shop/counter died (killed).'
    >>> told(Event("moon_landed", sandbox="shop", reason="gravity")).text
    'shop: moon landed (gravity).'
    """
    line = _process(event, companion) or _sandbox(event) or _node(event)
    return line or Said("·", "quiet", f"{who(event)}: {event.kind.replace('_', ' ')}{why(event)}.")


def who(event: Event) -> str:
    """Name whom it happened to, as one would address it.

    >>> who(Event("x", sandbox="shop", name="counter")), who(Event("x", node="alpha")), who(Event("x"))
    ('shop/counter', 'node alpha', 'the cluster')
    """
    process = event.name or event.pid
    if process:
        return f"{event.sandbox}/{process}" if event.sandbox else str(process)
    if event.sandbox:
        return event.sandbox
    return f"node {event.node}" if event.node else "the cluster"


def why(event: Event) -> str:
    """Return the reason in brackets, as it follows a verb; empty when there is none."""
    return "" if event.reason is None else f" ({reason(event.reason)})"


def reason(value: Any) -> str:
    """Write an exit reason as a learner reads it.

    >>> reason("killed"), reason(("shutdown", "scaled down")), reason(["shutdown", "scaled down"])
    ('killed', 'shutdown: scaled down', 'shutdown: scaled down')
    """
    if isinstance(value, tuple | list) and len(value) == 2:
        return f"{value[0]}: {value[1]}"
    return fmt.shorten(str(value).splitlines()[0] if str(value) else "", 160)


def _process(event: Event, companion: Event | None) -> Said | None:
    name, detail = who(event), event.detail
    match event.kind:
        case "process_started":
            return Said("●", "good", f"{name} started{_as(event.pid)}.")
        case "process_exited":
            return _exited(event, companion)
        case "restart_scheduled":
            return Said("↻", "warn", f"{name} {_again(event)}.")
        case "process_restarted":
            return Said("↻", "good", f"{name} runs again{_as(event.pid)}{_which(detail)}.")
        case "start_failed":
            return Said("✕", "bad", f"{name} could not start{why(event)}.")
        case "supervisor_gave_up":
            budget = _budget(detail)
            over = f": more than {budget}" if budget else ""
            return Said("✕", "bad", f"{name} gave up and ended{over}{why(event)}.")
        case "name_registered":
            return Said("·", "quiet", f"{event.name!r} is now the name of {event.pid}.")
        case "name_freed":
            return Said("·", "quiet", f"{event.name!r} is free again; it was the name of {event.pid}.")
        case _:
            return None


def _exited(event: Event, companion: Event | None) -> Said:
    name = who(event)
    if companion is not None:
        return Said("✕", "bad", f"{name} died{why(event)}; it {_again(companion)}.")
    if is_normal(_plain(event.reason)):
        return Said("■", "quiet", f"{name} ended{why(event)}.")
    return Said("✕", "bad", f"{name} died{why(event)}.")


def _plain(value: Any) -> Any:
    """Undo what a journal does to tuples."""
    return tuple(value) if isinstance(value, list) else value


def _again(event: Event) -> str:
    """Say that, by whom and within which budget something is started again."""
    supervisor = event.detail.get("supervisor")
    by = f"its supervisor {supervisor}" if supervisor else "its supervisor"
    delay = event.detail.get("delay")
    wait = f" in {fmt.seconds(delay)}" if isinstance(delay, int | float) and delay > 0 else ""
    return f"is started again by {by}{wait}{_which(event.detail)}"


def _which(detail: Any) -> str:
    restart, budget = detail.get("restart"), _budget(detail)
    if not isinstance(restart, int):
        return ""
    return f" ({restart} of {budget})" if budget else f" (restart {restart})"


def _budget(detail: Any) -> str:
    most, window = detail.get("max_restarts"), detail.get("max_seconds")
    if not isinstance(most, int) or not isinstance(window, int | float):
        return ""
    return f"{most} in {window:g} s"


def _as(pid: str | None) -> str:
    return f" as {pid}" if pid else ""


def _sandbox(event: Event) -> Said | None:
    return None


def _node(event: Event) -> Said | None:
    return None
