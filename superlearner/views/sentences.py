"""One event, one sentence that a learner understands: who, what, and why.

The table `told` has a line per kind of event. A kind that it does not know is still told, in its own
words, so that nothing that happened is ever left out. The module is a little over the usual length because
the table is long: it has a line for each kind of event that any part of superlearner records.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from superlearner.core.history import Event
from superlearner.core.last_words import last_words
from superlearner.core.restart import is_normal
from superlearner.views import format as fmt
from superlearner.views.faults import ended, made
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
    line = _process(event, companion) or _alert(event) or _sandbox(event) or _node(event)
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
    return "" if event.reason is None else f" ({reason(event.reason).rstrip('.')})"


def reason(value: Any) -> str:
    """Write an exit reason as a learner reads it.

    >>> reason("killed"), reason(("shutdown", "scaled down")), reason(["shutdown", "scaled down"])
    ('killed', 'shutdown: scaled down', 'shutdown: scaled down')
    """
    if isinstance(value, tuple | list) and len(value) == 2:
        return f"{value[0]}: {value[1]}"
    return fmt.shorten(str(value).splitlines()[0] if str(value) else "", 160)


#: What happens all the time and changes nothing that a learner watches; a story may leave it out.
QUIET = frozenset({"name_registered", "name_freed", "checkpoint_stored"})


def worth_telling(event: Event) -> bool:
    """Tell whether an event belongs into a feed: not the rhythm of checkpoints, and no restart twice.

    >>> worth_telling(Event("process_exited")), worth_telling(Event("checkpoint_stored"))
    (True, False)
    """
    if event.kind == "process_started" and event.detail.get("restart"):
        return False  # told by the process_restarted that follows it
    return event.kind not in QUIET


def _options(detail: Mapping[str, Any]) -> str:
    """Say what has changed about a supervisor."""
    before, after = detail.get("before", {}), detail.get("after", {})
    return ", ".join(
        f"{name} {before.get(name)} → {after[name]}" for name in after if after[name] != before.get(name)
    )


def _process(event: Event, companion: Event | None) -> Said | None:
    name, detail = who(event), event.detail
    match event.kind:
        case "process_started":
            return Said("●", "good", f"{name} started{_as(event.pid)}.")
        case "process_exited":
            return _exited(event, companion)
        case "restart_scheduled" if event.name or event.pid:
            return Said("↻", "warn", f"{name} ended{why(event)}; {_again(event)}.")
        case "process_restarted":
            return Said("↻", "good", f"{name} runs again{_as(event.pid)}{_which(detail)}.")
        case "start_failed" if event.name or event.pid:
            return Said("✕", "bad", f"{name} could not start{why(event)}.")
        case "supervisor_gave_up":
            child = detail.get("child")
            last = f", last that of {child}" if child else ""
            over = f" more than {_budget(detail)}" if _budget(detail) else ""
            return Said("✕", "bad", f"{name} gave up: too many restarts,{over}{last}{why(event)}.")
        case "decision_postponed":
            text = f"{name} ended{why(event)}; its supervisor {detail.get('supervisor')} is paused and leaves it down."
            return Said("▲", "warn", text)
        case "supervision_paused":
            return Said("▲", "warn", f"{name} is paused: who ends below it stays down.")
        case "supervision_resumed":
            ended_meanwhile = len(detail.get("decides_on", ()))
            on = f", on {fmt.count(ended_meanwhile, 'child', 'children')} first" if ended_meanwhile else ""
            return Said("●", "good", f"{name} decides again{on}.")
        case "supervisor_changed":
            return Said("●", "quiet", f"{name} has other options: {_options(detail)}.")
        case "name_registered":
            return Said("·", "quiet", f"{event.name!r} is now the name of {event.pid}.")
        case "name_freed":
            return Said("·", "quiet", f"{event.name!r} is free again; it was the name of {event.pid}.")
        case "process_orphaned":
            return Said("▲", "warn", f"{name} did not let itself be ended; it was left behind.")
        case _:
            return None


def _exited(event: Event, companion: Event | None) -> Said:
    name = who(event)
    if companion is not None:
        return Said("✕", "bad", f"{name} died{_ended(event)}; {_again(companion)}.")
    if _wanted(_plain(event.reason)):
        return Said("■", "quiet", f"{name} ended{_ended(event)}.")
    return Said("✕", "bad", f"{name} died{_ended(event)}.")


def _wanted(value: Any) -> bool:
    """Tell whether an end was asked for: as OTP says it, or because its sandbox was to leave its place."""
    return is_normal(value) or value == "destroyed" or str(value).startswith("moved to ")


def _ended(event: Event) -> str:
    """Return the reason of an exit in brackets, and who asked for it."""
    by = event.detail.get("who")
    if event.reason is None or not by:
        return why(event)
    # Serial 0 is nobody's process: the request came through a handle, not from another process.
    whom = "from outside" if str(by).endswith(".0>") else f"by {by}"
    return f" ({reason(event.reason)}, {whom})"


def _plain(value: Any) -> Any:
    """Undo what a journal does to tuples."""
    return tuple(value) if isinstance(value, list) else value


def _again(event: Event) -> str:
    """Say by whom, with whom, when, and within which budget something is started again."""
    supervisor = event.detail.get("supervisor")
    by = f"its supervisor {supervisor}" if supervisor else "its supervisor"
    others = [str(child) for child in event.detail.get("starts") or () if child != event.detail.get("child")]
    them = f"it again, with {', '.join(others)}" if others else "it again"
    return f"{by} starts {them}{_in(event)}{_which(event.detail)}"


def _in(event: Event) -> str:
    delay = event.detail.get("delay")
    return f" in {fmt.seconds(delay)}" if isinstance(delay, int | float) and delay > 0 else ""


def _which(detail: Mapping[str, Any]) -> str:
    """Say how much of the budget is spent; the budget is the supervisor's, for all its children together."""
    restart, left, budget = detail.get("restart"), detail.get("budget_left"), _budget(detail)
    if budget and isinstance(left, int):
        return f" ({detail['max_restarts'] - left} of {budget})"
    return f" (restart {restart})" if isinstance(restart, int) else ""


def _budget(detail: Mapping[str, Any]) -> str:
    most, window = detail.get("max_restarts"), detail.get("max_seconds")
    if not isinstance(most, int) or not isinstance(window, int | float):
        return ""
    return f"{most} in {window:g} s"


def _as(pid: str | None) -> str:
    return f" as {pid}" if pid else ""


def _sandbox(event: Event) -> Said | None:
    if event.sandbox is None:
        return None
    id, detail, on = event.sandbox, event.detail, f" on {event.node}" if event.node else ""
    epoch = f" (epoch {event.epoch})" if event.epoch is not None else ""
    match event.kind:
        case "sandbox_created":
            return Said("◔", "busy", f"{id} is created{on}{epoch}.")
        case "sandbox_kept_local":
            return Said("●", "good", f"{id} runs on this machine, outside of any cluster{why(event)}.")
        case "sandbox_not_kept":
            text = (
                f"{event.sandbox} runs, but would not come back if the whole cluster were killed{why(event)}."
            )
            return Said("▲", "warn", text)
        case "sandbox_not_restored":
            return Said("✕", "bad", f"{id} cannot be brought back{why(event)}; its files are kept.")
        case "sandbox_started":
            return Said("●", "good", f"{id} runs{on}{epoch}.")
        case "sandbox_exited":
            more = " It ended there too often." if detail.get("gave_up") else ""
            return Said("✕", "bad", f"The OS process of {id} ended{on}{why(event)}.{more}")
        case "restart_scheduled":
            left = (
                f"; {fmt.count(detail['left'], 'restart')} left"
                if isinstance(detail.get("left"), int)
                else ""
            )
            return Said("↻", "warn", f"{id} is started again{_in(event)}{why(event)}{left}.")
        case "sandbox_restarting":
            return Said("↻", "warn", f"{id} starts again{on}{epoch}{why(event)}.")
        case "sandbox_restarted":
            return Said("↻", "good", f"{id} runs again{on}{epoch}{_restored(detail)}{why(event)}.")
        case "sandbox_moving":
            return Said(
                "⇄", "busy", f"{id} comes to rest, to move from {event.node} to {detail.get('target')}."
            )
        case "sandbox_copying":
            much, where = fmt.size(detail.get("bytes")), detail.get("target")
            return Said("⇄", "busy", f"{id} is at rest; {much} of state go to {where}, where it starts.")
        case "sandbox_moved":
            pause = fmt.seconds(detail.get("pause"))
            what = f"{fmt.size(detail.get('bytes'))} of state, callers waited {pause}"
            where = f"from {detail.get('source')} to {detail.get('target')}"
            return Said("⇄", "good", f"{id} has moved {where}{epoch}: {what}.")
        case "move_completed":
            went = f"calls sent on to {detail.get('target')}: {detail.get('buffered')}"
            return Said("⇄", "good", f"Nothing of {id} is left on {detail.get('source')}; {went}.")
        case "move_rolled_back":
            return Said(
                "▲",
                "warn",
                f"The move of {id} to {detail.get('target')} was given up{why(event)}; it serves on.",
            )
        case "sandbox_lost":
            return Said("?", "bad", f"{id} is lost for now{why(event)}; it starts when a node can take it.")
        case "sandbox_failed":
            return Said("✕", "bad", f"{id} has failed and stays down{why(event)}.")
        case "sandbox_stopped":
            return Said("■", "quiet", f"{id} has ended and stays down{why(event)}.")
        case "sandbox_destroyed":
            return Said("■", "quiet", f"{id} was destroyed; nothing of it is left.")
        case _:
            return _odd(event, on, epoch)


def _odd(event: Event, on: str, epoch: str) -> Said | None:
    """Tell what seldom happens to a sandbox."""
    id, detail = event.sandbox, event.detail
    match event.kind:
        case "start_failed":
            return Said("✕", "bad", f"{id} could not start{on}{why(event)}.")
        case "placement_refused":
            return Said("✕", "bad", f"No node can take {id}{why(event)}.")
        case "stale_instance":
            return Said("▲", "warn", f"An old instance of {id}{on}{epoch} was heard of, and is stopped.")
        case "stale_checkpoint":
            return Said("▲", "warn", f"A checkpoint of {id} from an epoch that is over{on} was refused.")
        case "checkpoint_stored":
            copies = fmt.count(len(detail.get("nodes") or ()), "node")
            return Said(
                "·", "quiet", f"A checkpoint of {id} is stored on {copies} ({fmt.size(detail.get('size'))})."
            )
        case "checkpoint_failed" | "checkpoint_refused" | "checkpoint_incomplete":
            how = event.kind.removeprefix("checkpoint_")
            verb = {"failed": "has", "refused": "was", "incomplete": "is"}[how]
            return Said("▲", "warn", f"A checkpoint of {id} {verb} {how}{why(event)}.")
        case "host_exited":
            return Said("✕", "bad", f"The OS process of {id} ended{on}{why(event)}{_last_line(detail)}.")
        case "events_dropped":
            number = fmt.count(detail.get("dropped") or 0, "event")
            return Said("▲", "warn", f"{id} tells of too much at once; {number} of it{on} were not recorded.")
        case "sandbox_unresponsive":
            return Said("▲", "warn", f"{id} does not answer{on}.")
        case "sandbox_responsive":
            return Said("●", "good", f"{id} answers again{on}.")
        case "fault_injected":
            return Said("▲", "warn", f"A fault on purpose: {made(detail, str(id))}{on}.")
        case "fault_reverted":
            return Said("●", "good", f"{id} is not frozen any more.")
        case _:
            return None


def _last_line(detail: Mapping[str, Any]) -> str:
    """Quote the last line that a process wrote before its end."""
    last = last_words(str(detail.get("output") or ""))
    return f"; the last it wrote was {fmt.shorten(last, 80)!r}" if last else ""


def _restored(detail: Mapping[str, Any]) -> str:
    """Say from which checkpoint a sandbox has its state back."""
    match detail.get("restored"):
        case [int(epoch), int(seq)] | (int(epoch), int(seq)):
            return f", with its state of checkpoint {epoch}.{seq}"
        case None if "restored" in detail:
            return ", with a fresh state: there was no checkpoint"
        case _:
            return ""


def _group(event: Event) -> Said | None:
    id, detail = event.detail.get("group"), event.detail
    names = ", ".join(map(str, detail.get("starts") or ()))
    match event.kind:
        case "group_created":
            return Said("◔", "busy", f"Group {id} is made; its strategy is {detail.get('strategy')}.")
        case "group_restarting" if "member" in detail:
            what = f"{detail['member']} ended{why(event)}; it starts {names}{_which(detail)}"
            return Said("↻", "warn", f"Group {id}: {what}.")
        case "group_restarting":
            return Said("↻", "warn", f"Group {id}: all of it starts anew{why(event)}: {names or 'nobody'}.")
        case "group_failed":
            return Said("✕", "bad", f"Group {id} has given up, and all its sandboxes stay down{why(event)}.")
        case "group_restored" if detail.get("status") == "failed":
            return Said(
                "✕", "bad", f"Group {id} is known again: it had given up{why(event)}, and stays down."
            )
        case "group_restored":
            text = f"Group {id} is back after the end of its control plane; its strategy is {detail.get('strategy')}."
            return Said("◔", "busy", text)
        case "group_not_restored":
            text = f"Group {id} cannot be brought back{why(event)}; its sandboxes go on alone."
            return Said("▲", "warn", text)
        case "group_not_kept":
            text = f"Group {id} would not come back as it is if the whole cluster were killed{why(event)}."
            return Said("▲", "warn", text)
        case "group_destroyed":
            return Said("■", "quiet", f"Group {id} was destroyed, with all its sandboxes.")
        case _:
            return None


def _alert(event: Event) -> Said | None:
    match event.kind:
        case "alert_firing":
            tone: Tone = "bad" if event.detail.get("severity") == "critical" else "warn"
            return Said("▲", tone, f"Alert: {event.reason}")
        case "alert_resolved":
            return Said("●", "good", f"An alert is over: {event.reason}")
        case "alert_acknowledged":
            return Said("·", "quiet", f"{event.detail.get('by')} knows of an alert: {event.reason}")
        case "alert_not_sent":
            return Said("▲", "warn", f"Alert {event.detail.get('id')} could not be posted{why(event)}.")
        case _:
            return None


def _node(event: Event) -> Said | None:
    if event.sandbox is not None:
        return None
    match event.kind:
        case "cluster_started":
            return Said("●", "good", "The cluster has started.")
        case "cluster_stopped":
            return Said("■", "quiet", "The cluster was stopped.")
        case "journal_failed":
            return Said(
                "▲",
                "warn",
                f"The journal cannot be written{why(event)}; events are kept in memory meanwhile.",
            )
        case "journal_recovered":
            missing = event.detail.get("missing")
            lacks = (
                f"; {fmt.count(missing, 'event')} of its past are lost" if missing else ", and lacks nothing"
            )
            return Said("●", "good", f"The journal is written again{lacks}.")
        case "operation_registered":
            return Said(
                "●", "good", f"The operation {event.name} was registered: {event.detail.get('route')}."
            )
        case "operation_removed":
            return Said("■", "quiet", f"The operation {event.name} is gone{why(event)}.")
        case "healed":
            number = fmt.count(len(event.detail.get("faults") or ()), "fault")
            return Said("●", "good", f"All is healed: {number} ended.")
        case "fault_injected":
            whom = who(event) if event.node else "the scheduler"
            return Said("▲", "warn", f"A fault on purpose: {made(event.detail, whom)}.")
        case "fault_reverted" if event.node is None:
            return Said("●", "good", ended(event.detail))
        case _ if event.node is None:
            return _group(event)
        case "node_joined":
            return Said("●", "good", f"Node {event.node} has joined.")
        case "node_lost" if event.reason == "it has left" and not event.detail.get("sandboxes"):
            return Said("■", "quiet", f"Node {event.node} has left, with nothing on it.")
        case "node_lost":
            carried = event.detail.get("sandboxes")
            with_it = (
                f"; it carried {fmt.count(carried, 'sandbox', 'sandboxes')}"
                if isinstance(carried, int)
                else ""
            )
            return Said("✕", "bad", f"Node {event.node} is lost{why(event)}{with_it}.")
        case "node_failed":
            return Said("✕", "bad", f"Node {event.node} cannot carry sandboxes{why(event)}.")
        case "node_suspected":
            silent = event.detail.get("silent")
            long = f" for {fmt.seconds(silent)}" if isinstance(silent, int | float) else ""
            return Said("?", "warn", f"Node {event.node} is silent{long}; it gets nothing new.")
        case "node_draining":
            return Said("▷", "warn", f"Node {event.node} gives its sandboxes away and gets no new ones.")
        case "node_drained":
            return Said("■", "good", f"Node {event.node} is empty and can be retired.")
        case "drain_failed":
            return Said("✕", "bad", f"Node {event.node} could not be drained{why(event)}.")
        case "node_recovered":
            return Said("●", "good", f"Node {event.node} is heard of again, within its lease.")
        case "node_fenced":
            return Said(
                "■", "warn", f"Node {event.node} has stopped all its sandboxes by itself{why(event)}."
            )
        case "node_forgotten":
            return Said("■", "quiet", f"Node {event.node} belongs to the cluster no longer.")
        case "fault_reverted":
            return Said("●", "good", f"Node {event.node} is not frozen any more.")
        case _:
            return None
