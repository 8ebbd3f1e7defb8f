"""Alerts: what is wrong now, since when, and who knows of it.

The life of an alert is that of Prometheus: a condition that holds makes it ``pending``; one that has held for as
long as its rule waits makes it ``firing``; when it holds no more the alert is ``resolved``, and one that was only
pending is forgotten (https://prometheus.io/docs/prometheus/latest/configuration/alerting_rules/). Which conditions
hold is decided in ``alert_rules``; nothing here looks at a clock: each judgement is given its time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, NamedTuple

from superlearner.core.history import Event
from superlearner.errors import NoAlert

Rule = Literal["node_failure", "resource_exhaustion", "sandbox_failure", "flapping"]
Severity = Literal["warning", "critical"]
AlertState = Literal["pending", "firing", "resolved"]
#: How many alerts that are over are kept.
KEPT = 100


class Subject(NamedTuple):
    """What an alert is about; there is one alert for each at a time."""

    rule: Rule
    node: str | None = None
    sandbox: str | None = None
    #: Which of its resources, where there are several.
    resource: str | None = None


class Condition(NamedTuple):
    """Something that is wrong now."""

    subject: Subject
    severity: Severity
    #: One sentence.
    summary: str
    #: Where the sandbox is that it is about.
    at_node: str | None = None


@dataclass(frozen=True, slots=True)
class Acknowledgement:
    """Somebody knows."""

    by: str
    at: float
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """One alert, as it was last judged."""

    #: Such as ``"node_failure-3"``; a subject that fails again gets another.
    id: str
    rule: Rule
    severity: Severity
    state: AlertState
    summary: str
    #: Since when its condition has held: Unix time in seconds, as all times here.
    since: float
    node: str | None = None
    sandbox: str | None = None
    resource: str | None = None
    #: When it began to fire.
    fired_at: float | None = None
    resolved_at: float | None = None
    acknowledged: Acknowledgement | None = None

    def as_event(self, kind: str, at: float) -> Event:
        """Return what the event log tells of a change of it."""
        detail: dict[str, Any] = {
            "id": self.id,
            "rule": self.rule,
            "severity": self.severity,
            "since": self.since,
        }
        if self.resource is not None:
            detail["resource"] = self.resource
        if self.acknowledged is not None:
            detail |= {"by": self.acknowledged.by, "note": self.acknowledged.note}
        return Event(kind, at=at, node=self.node, sandbox=self.sandbox, reason=self.summary, detail=detail)


class Judgement(NamedTuple):
    """What a judgement has changed, and when the next one is due at the latest."""

    fired: tuple[Alert, ...] = ()
    resolved: tuple[Alert, ...] = ()
    #: When the next pending alert has waited long enough; None: none is pending.
    due: float | None = None


class AlertBook:
    """All alerts of a cluster.

    Parameters
    ----------
    waits
        How many seconds the condition of a rule must hold before its alert fires; 0 where nothing is given.
    kept
        How many resolved alerts are kept.
    prefix
        What their ids begin with.

    >>> book = AlertBook({"resource_exhaustion": 10.0})
    >>> full = Condition(Subject("resource_exhaustion", "beta", resource="memory"), "warning", "beta is full.")
    >>> book.judge([full], at=0.0)
    Judgement(fired=(), resolved=(), due=10.0)
    >>> [alert.state for alert in book.judge([full], at=10.0).fired]
    ['firing']
    >>> [alert.id for alert in book.judge([], at=12.0).resolved]
    ['resource_exhaustion-1']
    """

    def __init__(self, waits: Mapping[Rule, float] | None = None, kept: int = KEPT, prefix: str = "") -> None:
        self._waits = dict(waits or {})
        self._active: dict[Subject, Alert] = {}
        self._over: deque[Alert] = deque(maxlen=kept)
        self._prefix = prefix
        self._made = 0

    def recall(self, events: Iterable[Event]) -> None:
        """Go on from the events of a control plane before this one: what fires, and what somebody knows of.

        The next judgement says what of that still holds. The ids go on, too, so that each names one alert for ever.
        """
        for event in events:
            if event.kind not in {"alert_firing", "alert_resolved", "alert_acknowledged"}:
                continue
            detail = event.detail
            node = None if event.sandbox else event.node
            subject = Subject(detail["rule"], node, event.sandbox, detail.get("resource"))
            self._made = max(self._made, int(detail["id"].rpartition("-")[2]))
            match event.kind:
                case "alert_firing":
                    self._active[subject] = Alert(
                        detail["id"],
                        detail["rule"],
                        detail["severity"],
                        "firing",
                        str(event.reason),
                        since=detail["since"],
                        node=event.node,
                        sandbox=event.sandbox,
                        resource=detail.get("resource"),
                        fired_at=event.at,
                    )
                case "alert_acknowledged" if subject in self._active:
                    known = Acknowledgement(detail["by"], event.at, detail["note"])
                    self._active[subject] = replace(self._active[subject], acknowledged=known)
                case "alert_resolved" if subject in self._active:
                    self._resolve(subject, event.at)

    def judge(self, conditions: Iterable[Condition], at: float) -> Judgement:
        """Take note of all that is wrong at a time, and so of what is wrong no more."""
        wrong = {condition.subject: condition for condition in conditions}
        resolved = tuple(self._resolve(subject, at) for subject in list(self._active) if subject not in wrong)
        fired, due = [], []
        for condition in wrong.values():
            alert = self._noted(condition, at)
            if alert.state == "pending":
                ready = alert.since + self._waits.get(alert.rule, 0.0)
                if at >= ready:
                    alert = replace(alert, state="firing", fired_at=at)
                    fired.append(alert)
                else:
                    due.append(ready)
            self._active[condition.subject] = alert
        return Judgement(
            tuple(fired), tuple(alert for alert in resolved if alert is not None), min(due, default=None)
        )

    def _noted(self, condition: Condition, at: float) -> Alert:
        """Return the alert of a condition, a new one where there is none, as it is now."""
        subject, severity, summary, where = condition
        node = subject.node or where
        known = self._active.get(subject)
        if known is not None:
            return replace(known, severity=severity, summary=summary, node=node)
        self._made += 1
        return Alert(
            f"{self._prefix}{subject.rule}-{self._made}",
            subject.rule,
            severity,
            "pending",
            summary,
            since=at,
            node=node,
            sandbox=subject.sandbox,
            resource=subject.resource,
        )

    def _resolve(self, subject: Subject, at: float) -> Alert | None:
        """End an alert; None where it has never fired."""
        alert = self._active.pop(subject)
        if alert.state == "pending":
            return None
        over = replace(alert, state="resolved", resolved_at=at)
        self._over.append(over)
        return over

    def acknowledge(self, id: str, by: str, at: float, note: str | None = None) -> Alert:
        """Note that somebody knows of an active alert; raise `NoAlert` where none has that id.

        It goes on firing while its condition holds; the same subject failing again is a new alert.
        """
        for subject, alert in self._active.items():
            if alert.id == id:
                known = replace(alert, acknowledged=Acknowledgement(by, at, note))
                self._active[subject] = known
                return known
        raise NoAlert(id, tuple(alert.id for alert in self._active.values()))

    @property
    def active(self) -> list[Alert]:
        """Those that are pending or firing, the oldest first."""
        return sorted(self._active.values(), key=lambda alert: (alert.since, alert.id))

    @property
    def over(self) -> list[Alert]:
        """The newest of those that are resolved, in the order in which they were."""
        return list(self._over)
