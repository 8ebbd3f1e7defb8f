"""What a learner sees: each answer is drawn in a notebook, and has a twin in plain text everywhere else.

The word always stands beside the colour, and every text that came from a learner's code is escaped.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

from superlearner.core.history import Event
from superlearner.teaching.check import Verdict
from superlearner.views.format import after, shorten, table

_COLOURS = {"passed": "#2e7d32", "wrong": "#b26a00", "crashed": "#c62828", "not tried": "#5f6b7a"}
_PLAIN = "#3f6fb5"
#: An event row is read at a glance; the whole reason stands in `cluster.events()`.
_WIDTH = 60


@dataclass(frozen=True, repr=False)
class Shown:
    """Something to look at. In a notebook it draws itself when it is the last line of a cell."""

    text: str
    html: str
    #: The verdict behind it, where it is one.
    verdict: Verdict | None = None

    @property
    def outcome(self) -> str | None:
        """``passed``, ``wrong``, ``crashed`` or ``not tried``; None where nothing was judged."""
        return None if self.verdict is None else self.verdict.outcome

    def __repr__(self) -> str:
        return self.text

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/plain": self.text, "text/html": self.html}


def show_verdict(verdict: Verdict, *, title: str, notes: Iterable[str] = ()) -> Shown:
    """Draw a verdict: the outcome, what broke, the evidence, and where to go from here."""
    rows = evidence_rows(verdict.evidence)
    remarks = list(notes)
    lines = [f"[{verdict.outcome}] {title}", f"  {verdict.message}"]
    if rows:
        lines += ["  What was recorded:", *(f"    {line}" for line in table(_HEADER, rows).splitlines())]
    lines += [f"  {remark}" for remark in remarks]
    colour = _COLOURS[verdict.outcome]
    badge = f'<span style="background:{colour};color:#fff;border-radius:3px;padding:1px 7px">{verdict.outcome}</span>'
    body = f"<p style='margin:.5em 0'>{escape(verdict.message)}</p>" + _html_table(rows)
    body += "".join(f"<p style='margin:.4em 0;opacity:.85'>{escape(remark)}</p>" for remark in remarks)
    return Shown("\n".join(lines), _box(colour, f"{badge} <b>{escape(title)}</b>", body), verdict)


def show_note(title: str, text: str, *, code: str | None = None, items: Sequence[str] = ()) -> Shown:
    """Draw a remark: a hint, a question with its choices, or a worked solution as `code`."""
    lines = [title, *(f"  {line}" for line in text.splitlines()), *(f"  {item}" for item in items)]
    body = f"<p style='margin:.5em 0'>{escape(text)}</p>"
    if items:
        body += "<ul style='margin:.3em 0'>" + "".join(f"<li>{escape(item)}</li>" for item in items) + "</ul>"
    if code is not None:
        lines += ["", *(f"    {line}".rstrip() for line in code.splitlines())]
        body += f"<pre style='margin:.5em 0;overflow-x:auto'>{escape(code)}</pre>"
    return Shown("\n".join(lines), _box(_PLAIN, f"<b>{escape(title)}</b>", body))


_HEADER = ("when", "who", "what", "why")


def evidence_rows(events: Sequence[Event]) -> list[tuple[str, ...]]:
    """Turn events into rows of when (from the first on), who, what and why.

    >>> evidence_rows([Event("process_exited", at=5.0, name="counter", reason="killed")])
    [('+0.000 s', 'counter', 'process exited', 'killed')]
    """
    if not events:
        return []
    start = events[0].at
    return [(after(start, e.at), _who(e), e.kind.replace("_", " "), shorten(_why(e), _WIDTH)) for e in events]


def _who(event: Event) -> str:
    if event.name or event.pid:
        return str(event.name or event.pid)
    place = [f"sandbox {event.sandbox}"] if event.sandbox else []
    place += [f"node {event.node}"] if event.node else []
    return " on ".join(place) or "the cluster"


def _why(event: Event) -> str:
    return "" if event.reason is None else str(event.reason).strip().splitlines()[0]


def _html_table(rows: list[tuple[str, ...]]) -> str:
    if not rows:
        return ""
    cell = "style='text-align:left;padding:1px 14px 1px 0;font-family:monospace;font-size:90%'"
    head = "".join(f"<th {cell}>{name}</th>" for name in _HEADER)
    lines = "".join(
        "<tr>" + "".join(f"<td {cell}>{escape(text)}</td>" for text in row) + "</tr>" for row in rows
    )
    return f"<table style='margin:.3em 0;border-collapse:collapse'><tr>{head}</tr>{lines}</table>"


def _box(colour: str, head: str, body: str) -> str:
    return (
        f"<div style='border-left:4px solid {colour};padding:.4em .9em;margin:.4em 0;"
        f"color:var(--jp-content-font-color1, inherit)'>{head}{body}</div>"
    )
