"""Numbers as a learner reads them. What was not measured shows as "–", never as 0.

Each function takes the plain value in its base unit (bytes, seconds, a share) and returns text.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, tzinfo

#: What stands where a figure is missing.
UNKNOWN = "–"

_STEPS = ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB"))


def size(count: float | None) -> str:
    """Write a number of bytes with the largest unit that keeps it above 1.

    >>> size(67_108_864), size(1536), size(12), size(None)
    ('64.0 MiB', '1.5 KiB', '12 B', '–')
    """
    if count is None:
        return UNKNOWN
    for step, unit in _STEPS:
        if count >= step:
            return f"{count / step:.1f} {unit}"
    return f"{count:.0f} B"


def seconds(value: float | None) -> str:
    """Write a duration with the precision that matters at its scale.

    >>> seconds(0.000_42), seconds(0.1234), seconds(2.5), seconds(75), seconds(7_500), seconds(None)
    ('0.4 ms', '123 ms', '2.5 s', '1 min 15 s', '2 h 05 min', '–')
    """
    if value is None:
        return UNKNOWN
    if value < 0.010:
        return f"{value * 1000:.1f} ms"
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 59.95:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 172_800:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86_400} days"


def age(at: float | None, now: float) -> str:
    """Write how long before `now` something was; a time of 0 or None was never.

    >>> age(100.0, 103.24), age(100.0, 100.2), age(0.0, 100.0)
    ('3.2 s ago', 'just now', '–')
    """
    if not at:
        return UNKNOWN
    return "just now" if now - at < 1.0 else f"{seconds(now - at)} ago"


def percent(value: float | None) -> str:
    """Write a value that is in percent already.

    >>> percent(3.14), percent(42.0), percent(None)
    ('3.1 %', '42 %', '–')
    """
    if value is None:
        return UNKNOWN
    return f"{value:.1f} %" if value < 10 else f"{value:.0f} %"


def share(value: float | None) -> str:
    """Write a share, such as of one processor core, in percent.

    >>> share(0.5), share(None)
    ('50 %', '–')
    """
    return percent(None if value is None else value * 100)


def rate(value: float | None) -> str:
    """Write bytes per second.

    >>> rate(2048), rate(None)
    ('2.0 KiB/s', '–')
    """
    return UNKNOWN if value is None else f"{size(value)}/s"


def clock(at: float | None, tz: tzinfo | None = None) -> str:
    """Write the time of day with milliseconds; in the reader's own time zone unless `tz` is given.

    >>> from datetime import UTC
    >>> clock(43_384.12, UTC), clock(0.0)
    ('12:03:04.120', '–')
    """
    if not at:
        return UNKNOWN
    return datetime.fromtimestamp(at, tz).strftime("%H:%M:%S.%f")[:-3]


def after(start: float, at: float) -> str:
    """Write a time relative to the start of a story.

    >>> after(100.0, 100.0), after(100.0, 101.5)
    ('+0.000 s', '+1.500 s')
    """
    return f"{at - start:+.3f} s"


def number(value: int | None) -> str:
    """Write a whole number, with a thin gap between thousands.

    >>> number(1234567), number(3), number(None)
    ('1 234 567', '3', '–')
    """
    return UNKNOWN if value is None else f"{value:,}".replace(",", " ")


def count(value: int, one: str, many: str | None = None) -> str:
    """Write a number with its noun.

    >>> count(1, "node"), count(3, "node"), count(2, "process", "processes")
    ('1 node', '3 nodes', '2 processes')
    """
    return f"{number(value)} {one if value == 1 else many or one + 's'}"


def shorten(text: str, width: int) -> str:
    """Cut `text` to `width` characters, with an ellipsis for what is gone.

    >>> shorten("a_long_process_name", 10), shorten("short", 10)
    ('a_long_pr…', 'short')
    """
    return text if len(text) <= width else text[: width - 1] + "…"


def table(header: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    """Align columns with two spaces between them; the text twin of a drawn table.

    >>> print(table(("node", "cpu"), [("alpha", "3 %"), ("b", "–")]))
    node   cpu
    alpha  3 %
    b      –
    """
    widths = [max(len(row[at]) for row in [header, *rows]) for at in range(len(header))]
    lines = (
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        for row in (header, *rows)
    )
    return "\n".join(line.rstrip() for line in lines)
