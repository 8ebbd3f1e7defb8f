"""The event log: what is kept, and what is found again."""

from __future__ import annotations

from superlearner.core.history import Event, EventLog


def test_events_are_found_by_kind_sandbox_and_node_and_no_more_than_wanted():
    log = EventLog()
    for kind, node, sandbox in (("a", "x", None), ("b", "x", "s"), ("a", "y", "s"), ("a", "x", "t")):
        log.append(Event(kind, node=node, sandbox=sandbox))
    assert [event.seq for event in log.since(1)] == [2, 3, 4]
    assert [event.seq for event in log.since(kind="a", node="x")] == [1, 4]
    assert [event.seq for event in log.since(sandbox="s")] == [2, 3]
    assert [event.seq for event in log.since(limit=2)] == [1, 2]
