"""One look for each status: a symbol, a word and a tone, so that no meaning hangs on colour alone.

Processes, sandboxes, nodes, health and alerts share this one table; text, SVG and widgets all read it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

Tone = Literal["good", "busy", "warn", "bad", "quiet"]


class Mark(NamedTuple):
    """How one status looks."""

    symbol: str
    #: The word that a learner reads.
    word: str
    tone: Tone


_MARKS: dict[str, Mark] = {
    # processes; "waiting" is the healthy rest of a process whose mailbox is empty
    "waiting": Mark("●", "waiting", "good"),
    "running": Mark("▶", "running", "good"),
    "starting": Mark("◔", "starting", "busy"),
    "suspended": Mark("‖", "suspended", "warn"),
    "restarting": Mark("↻", "restarting", "warn"),
    "stopping": Mark("◌", "stopping", "quiet"),
    "exited": Mark("✕", "exited", "bad"),
    # sandboxes
    "migrating": Mark("⇄", "migrating", "busy"),
    "stopped": Mark("■", "stopped", "quiet"),
    "failed": Mark("✕", "failed", "bad"),
    "lost": Mark("?", "lost", "bad"),
    # nodes
    "joining": Mark("◔", "joining", "busy"),
    "up": Mark("●", "up", "good"),
    "suspected": Mark("?", "suspected", "warn"),
    "draining": Mark("⇄", "draining", "busy"),
    "down": Mark("✕", "down", "bad"),
    # health
    "healthy": Mark("●", "healthy", "good"),
    "degraded": Mark("▲", "degraded", "warn"),
    "warning": Mark("▲", "warning", "warn"),
    "critical": Mark("✕", "critical", "bad"),
}


def mark(status: str) -> Mark:
    """Return the look of `status`; a status unknown to the table keeps its own word, in a quiet tone.

    >>> mark("restarting")
    Mark(symbol='↻', word='restarting', tone='warn')
    >>> mark("dreaming")
    Mark(symbol='·', word='dreaming', tone='quiet')
    """
    return _MARKS.get(status, Mark("·", str(status), "quiet"))


def origin(real: bool) -> str:
    """Say where a picture comes from.

    >>> origin(True), origin(False)
    ('real', 'simulated')
    """
    return "real" if real else "simulated"
