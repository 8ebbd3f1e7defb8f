"""The control plane's alarms: what is known of nodes and sandboxes is judged, and what that changes is told.

Judged at once when something happens that may matter, and every 30 s: see ``superlearner.core.alerts``. An alert
that fires or ends is an event in the log (``alert_firing``, ``alert_resolved``, ``alert_acknowledged``), a message
under Dask's topic ``alerts``, and a line in the log file of its process at the level INFO. With `subscribe` any
function is called with these events, and with the setting ``superlearner.alerts.webhook`` they are posted to a URL.
A control plane that takes over from one that was killed goes on with its alerts.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from superlearner import config
from superlearner.cluster.webhook import Webhook
from superlearner.core.alert_rules import Flaps, NodeFacts, SandboxFacts, conditions
from superlearner.core.alerts import Alert, AlertBook
from superlearner.core.bottlenecks import Bottlenecks, Resource, bottlenecks, of_node, of_sandbox
from superlearner.core.control_records import SandboxRecord
from superlearner.core.health import Thresholds
from superlearner.core.history import Event
from superlearner.core.scores import ClusterScore, cluster_score, node_score, sandbox_score
from superlearner.errors import in_words

if TYPE_CHECKING:
    from superlearner.cluster.pump import Pump

logger = logging.getLogger(__name__)
#: What is judged at once, beside the failures that `Flaps` counts.
_MATTERS = frozenset({"sandbox_failed", "sandbox_lost"})
#: What may end an alert of the same node or sandbox.
_MENDS = frozenset(
    {
        "node_joined",
        "node_recovered",
        "node_forgotten",
        "sandbox_started",
        "sandbox_restarted",
        "sandbox_responsive",
        "sandbox_destroyed",
    }
)
#: Seconds between an event and its judgement: what happens together is judged together.
TOGETHER = 0.02
#: Bytes per second that count as a full network: 1 Gbit/s.
FULL_NETWORK = 125_000_000


class Alarms:
    """The alerts and scores of one control plane."""

    def __init__(self, plane: Pump, prefix: str = "") -> None:
        self._plane = plane
        self.thresholds = Thresholds(
            **{name.replace("-", "_"): value for name, value in config.get("health").items()}
        )
        self._interval = float(config.get("alerts.interval"))
        waits = {"resource_exhaustion": float(config.get("alerts.resource-wait"))}
        self.book = AlertBook(waits, config.get("alerts.keep"), prefix=prefix)  # type: ignore[arg-type]
        self.book.recall(plane.log)
        self._flaps = Flaps(config.get("alerts.flapping-most"), float(config.get("alerts.flapping-window")))
        self._why_down: dict[str, str] = {}
        url = config.get("alerts.webhook")
        self._webhook = None if url is None else Webhook(url, self._not_sent)
        self._loop = asyncio.get_running_loop()
        self._timer = self._loop.call_later(self._interval, self.judge)

    def note(self, event: Event) -> None:
        """Take note of an event, and judge soon where it matters."""
        if event.kind == "node_lost" and event.node is not None:
            self._why_down[event.node] = in_words(event.reason)
        failed = self._flaps.note(event)
        if failed or event.kind in _MATTERS or (event.kind in _MENDS and self._concerns(event)):
            self._judge_within(TOGETHER)

    def judge(self) -> None:
        """Judge everything now."""
        self._timer.cancel()
        now = self._plane.now()
        found = conditions(self.nodes(), self.sandboxes(), self._flaps.conditions(now), self.thresholds)
        fired, resolved, due = self.book.judge(found, now)
        wait = self._interval if due is None else max(TOGETHER, min(self._interval, due - now))
        self._timer = self._loop.call_later(wait, self.judge)
        for alert in fired:
            self._tell(alert, "alert_firing")
        for alert in resolved:
            self._tell(alert, "alert_resolved")

    def acknowledge(self, id: str, by: str, note: str | None) -> Alert:
        """Note that somebody knows of an alert."""
        alert = self.book.acknowledge(id, by, self._plane.now(), note)
        self._tell(alert, "alert_acknowledged")
        return alert

    def score(self, *, quorum: bool) -> ClusterScore:
        """Score the cluster from the newest samples."""
        samples = self._plane.samples
        return cluster_score(
            [node_score(node, list(samples.get(node.name, ())), self.thresholds) for node in self.nodes()],
            [sandbox_score(box, self._samples_of(box), self.thresholds) for box in self.sandboxes()],
            quorum=quorum,
        )

    def bottlenecks(self) -> Bottlenecks:
        """Return which resources hold others up, by the newest samples."""
        samples = self._plane.samples
        resources: list[Resource] = []
        for node in self.nodes():
            resources += of_node(node, list(samples.get(node.name, ())), FULL_NETWORK)
        for box in self.sandboxes():
            resources += of_sandbox(box, self._samples_of(box))
        return bottlenecks(resources, self.thresholds)

    async def close(self) -> None:
        """Judge no more."""
        self._timer.cancel()
        if self._webhook is not None:
            await self._webhook.close()

    # -- What is known -------------------------------------------------------------------------------

    def nodes(self) -> list[NodeFacts]:
        """Return what is known of the nodes, by name."""
        return [self._node(name, facts) for name, facts in sorted(self._plane.known.items())]

    def sandboxes(self) -> list[SandboxFacts]:
        """Return what is known of the sandboxes, by id."""
        return [self._sandbox(record) for _, record in sorted(self._plane.state.sandboxes.items())]

    def _node(self, name: str, facts: dict[str, Any]) -> NodeFacts:
        if not facts["up"]:
            return NodeFacts(name, reachable=False, reason=self._why_down.get(name))
        lease = self._plane.state.lease_of(name)
        samples = self._plane.samples.get(name)
        newest = samples[-1] if samples else {}
        return NodeFacts(
            name,
            suspected=lease is not None and lease.suspected,
            processes=newest.get("processes"),
            memory=newest.get("memory"),
            machine=newest["memory_used"] / newest["memory_total"] if newest else None,
        )

    def _sandbox(self, record: SandboxRecord) -> SandboxFacts:
        samples = self._plane.samples.get(record.node or "")
        figures = samples[-1]["sandboxes"].get(record.id, {}) if samples else {}
        running, limit = record.status == "running", record.spec.resources.memory_bytes
        used = figures.get("memory")
        return SandboxFacts(
            record.id,
            record.status,
            node=record.node,
            reason=None if record.reason is None else in_words(record.reason),
            responsive=figures.get("responsive") if running else None,
            memory=used / limit if running and limit and used is not None else None,
        )

    def _samples_of(self, box: SandboxFacts) -> list[dict[str, Any]]:
        """Return the samples of a sandbox where it lives now, oldest first."""
        samples = self._plane.samples.get(box.node or "", ())
        return [figures for sample in samples if (figures := sample["sandboxes"].get(box.id)) is not None]

    # -- How -----------------------------------------------------------------------------------------

    def _concerns(self, event: Event) -> bool:
        """Tell whether an alert is about what an event is about."""
        return any(
            alert.sandbox == event.sandbox if event.sandbox else alert.node == event.node
            for alert in self.book.active
        )

    def _judge_within(self, seconds: float) -> None:
        when = self._loop.time() + seconds
        if self._timer.when() > when:
            self._timer.cancel()
            self._timer = self._loop.call_at(when, self.judge)

    def _tell(self, alert: Alert, kind: str) -> None:
        event = alert.as_event(kind, self._plane.now())
        self._plane.record(event)
        self._plane.publish("alerts", asdict(alert))
        if self._webhook is not None:
            self._webhook.send(kind, alert)
        logger.info("superlearner: %s: %s", kind.replace("_", " "), alert.summary)

    def _not_sent(self, alert: Alert, why: str) -> None:
        event = alert.as_event("alert_not_sent", self._plane.now())
        self._plane.record(replace(event, reason=why))
