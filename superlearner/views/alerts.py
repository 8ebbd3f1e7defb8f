"""What is wrong now and who knows of it, beside how well the cluster is: a score with its reason and its advice.

>>> from datetime import UTC
>>> from superlearner.core.alerts import Alert
>>> gone = Alert("node_failure-1", "node_failure", "critical", "firing", "Node beta cannot be reached.", 43_384.12)
>>> health = ClusterScore(50, "It is the mean of its nodes: 2 of 2 are scored.", (), (), ("Start node beta again.",))
>>> print(alerts([gone], health, real=True, tz=UTC).text())
1 alert, health 50 of 100 (real)
It is the mean of its nodes: 2 of 2 are scored.
→ Start node beta again.
✕ critical since 12:03:04.120: Node beta cannot be reached. [node_failure-1]
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import tzinfo
from typing import Any

from superlearner.core.alerts import Alert
from superlearner.core.scores import ClusterScore
from superlearner.views import format as fmt
from superlearner.views.marks import Tone, mark, origin

#: How much advice is shown; the rest is counted.
ADVICE = 3


@dataclass(frozen=True, slots=True)
class AlertRow:
    """One alert that is firing, or pending; every field is ready-made text."""

    key: str
    symbol: str
    #: How bad it is, and whether it is only pending.
    word: str
    tone: Tone
    #: One sentence.
    what: str
    #: The time of day since when its cause holds.
    since: str
    #: Who knows of it, and since when; empty for nobody.
    known: str


@dataclass(frozen=True, slots=True)
class AlertsView:
    """The alerts that are not over, those that fire first, and the health of the cluster."""

    real: bool
    rows: tuple[AlertRow, ...]
    #: From 0 to 100, as text; a dash where nothing was measured.
    score: str
    tone: Tone
    #: How the score came about.
    why: str
    advice: tuple[str, ...]
    note: str = ""

    def text(self) -> str:
        """Return all of it as lines of text."""
        heading = f"{fmt.count(len(self.rows), 'alert')}, health {self.score} of 100 ({origin(self.real)})"
        lines = [
            f"{row.symbol} {row.word} since {row.since}: {row.what} [{row.key}]"
            + (f" {row.known}." if row.known else "")
            for row in self.rows
        ]
        notes = [note for note in (self.note, self.why) if note]
        return "\n".join([heading, *notes, *(f"→ {text}" for text in self.advice), *lines])

    def as_dict(self) -> dict[str, Any]:
        """Return the view as plain data, for a widget's trait."""
        return {
            "real": self.real,
            "note": self.note,
            "score": self.score,
            "tone": self.tone,
            "why": self.why,
            "advice": list(self.advice),
            "rows": [asdict(row) for row in self.rows],
            "text": self.text(),
        }


def alerts(
    known: Iterable[Alert],
    health: ClusterScore | None,
    *,
    real: bool,
    tz: tzinfo | None = None,
    note: str = "",
) -> AlertsView:
    """Turn ``cluster.alerts()`` and ``cluster.health()`` into rows and a score.

    Parameters
    ----------
    known
        The alerts; those that are resolved are left out: the feed tells of them.
    health
        The scores; None: they were not asked for yet.
    real
        Whether they are of a real cluster. There is no default: a picture must know.
    tz
        The time zone of the clock; the reader's own unless given.
    note
        A remark on the picture itself, shown with it.
    """
    rows = tuple(_row(alert, tz) for alert in active(known))
    score = None if health is None else health.score
    advice = () if health is None else health.advice
    shown = list(advice[:ADVICE])
    if len(advice) > ADVICE:
        shown.append(f"And {len(advice) - ADVICE} more: cluster.health() tells all.")
    why = "" if health is None else health.why
    return AlertsView(real, rows, fmt.number(score), _tone(score), why, tuple(shown), note)


def active(known: Iterable[Alert]) -> list[Alert]:
    """Return the alerts that are not over: first those that fire, the oldest first."""
    wrong = [alert for alert in known if alert.state != "resolved"]
    return sorted(wrong, key=lambda alert: (alert.state != "firing", alert.since, alert.id))


def _row(alert: Alert, tz: tzinfo | None) -> AlertRow:
    symbol, word, tone = mark(alert.severity)
    if alert.state == "pending":
        word, tone = f"{word}, pending", "quiet"
    who = alert.acknowledged
    known = "" if who is None else f"{who.by} knows since {fmt.clock(who.at, tz)}"
    if who is not None and who.note:
        known += f" ({who.note})"
    return AlertRow(alert.id, symbol, word, tone, alert.summary, fmt.clock(alert.since, tz), known)


def _tone(score: int | None) -> Tone:
    """Return the tone of a score: at 50 the figure that it comes from is at its limit."""
    if score is None:
        return "quiet"
    return "bad" if score < 50 else "warn" if score < 80 else "good"
