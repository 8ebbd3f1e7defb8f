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
from superlearner.views.format import after
from superlearner.views.sentences import joined, told

_COLOURS = {"passed": "#2e7d32", "wrong": "#b26a00", "crashed": "#c62828", "not tried": "#5f6b7a"}
_PLAIN = "#3f6fb5"
_RECORDED = "What was recorded (real):"


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
    recorded = evidence_lines(verdict.evidence)
    remarks = list(notes)
    lines = [f"[{verdict.outcome}] {title}", f"  {verdict.message}"]
    if recorded:
        lines += [f"  {_RECORDED}", *(f"    {'  '.join(line)}" for line in recorded)]
    lines += [f"  {remark}" for remark in remarks]
    colour = _COLOURS[verdict.outcome]
    badge = f'<span style="background:{colour};color:#fff;border-radius:3px;padding:1px 7px">{verdict.outcome}</span>'
    body = f"<p style='margin:.5em 0'>{escape(verdict.message)}</p>" + _html_lines(recorded)
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


def evidence_lines(events: Sequence[Event]) -> list[tuple[str, str, str]]:
    """Turn events, oldest first, into lines of when (from the first on), a mark, and who, what and why.

    >>> evidence_lines([Event("process_exited", at=5.0, name="counter", reason="killed")])
    [('+0.000 s', '✕', 'counter died (killed).')]
    """
    told_events = [(event, told(event, companion)) for event, companion in joined(events)]
    return [(after(events[0].at, event.at), said.symbol, said.text) for event, said in told_events]


def _html_lines(lines: list[tuple[str, str, str]]) -> str:
    if not lines:
        return ""
    cell = "style='text-align:left;padding:1px 12px 1px 0;font-family:monospace;font-size:90%'"
    rows = "".join(
        "<tr>" + "".join(f"<td {cell}>{escape(text)}</td>" for text in line) + "</tr>" for line in lines
    )
    return (
        f"<div style='opacity:.85'>{_RECORDED}</div>"
        f"<table style='margin:.2em 0 .4em;border-collapse:collapse'>{rows}</table>"
    )


def _box(colour: str, head: str, body: str) -> str:
    return (
        f"<div style='border-left:4px solid {colour};padding:.4em .9em;margin:.4em 0;"
        f"color:var(--jp-content-font-color1, inherit)'>{head}{body}</div>"
    )
