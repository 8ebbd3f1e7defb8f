"""What a learner reads of each event: who, what and why."""

from __future__ import annotations

from datetime import UTC

import pytest

from superlearner.core.history import Event
from superlearner.otp import Runtime
from superlearner.views import feed, story
from superlearner.views.samples import shop
from superlearner.views.sentences import told, worth_telling

BUDGET = {"supervisor": "root", "child": "counter", "budget_left": 2, "max_restarts": 3, "max_seconds": 5.0}
DIED = Event("process_exited", 7, 43_384.12, "shop", "alpha", 1, "<alpha.shop.2>", "counter", "killed")
AGAIN = Event(
    "restart_scheduled", 8, 43_384.12, "shop", "alpha", 1, "<alpha.shop.2>", "counter", detail=BUDGET
)


def test_an_exit_and_the_restart_it_led_to_are_one_sentence():
    view = feed([DIED, AGAIN], real=True, tz=UTC)
    assert view.text().splitlines()[1:] == [
        "12:03:04.120 ✕ shop/counter died (killed); its supervisor root starts it again (1 of 3 in 5 s)."
    ]


def test_what_happened_in_between_keeps_them_apart():
    other = Event("process_started", 8, 43_384.12, "shop", name="printer", pid="<alpha.shop.3>")
    sentences = [entry.sentence for entry in feed([DIED, other, AGAIN], real=True).entries]
    assert sentences[0] == "shop/counter died (killed)."
    assert len(sentences) == 3


def test_children_that_are_started_again_together_are_named():
    together = Event("restart_scheduled", name="counter", detail=BUDGET | {"starts": ["counter", "printer"]})
    assert "its supervisor root starts it again, with printer (1 of 3 in 5 s)." in told(together).text


CASES = {
    "node_joined": (Event("node_joined", node="alpha"), "Node alpha has joined."),
    "node_lost": (
        Event("node_lost", node="beta", reason="connection closed", detail={"sandboxes": 1}),
        "Node beta is lost (connection closed); it carried 1 sandbox.",
    ),
    "sandbox_started": (
        Event("sandbox_started", sandbox="shop", node="alpha", epoch=1),
        "shop runs on alpha (epoch 1).",
    ),
    "sandbox_restarted without a checkpoint": (
        Event("sandbox_restarted", sandbox="shop", node="beta", epoch=2, detail={"restored": None}),
        "shop runs again on beta (epoch 2), with a fresh state: there was no checkpoint.",
    ),
    "sandbox_kept_local": (
        Event("sandbox_kept_local", sandbox="shop", node="local", epoch=1, reason="no cluster answers"),
        "shop runs on this machine, outside of any cluster (no cluster answers).",
    ),
    "sandbox_not_restored": (
        Event("sandbox_not_restored", sandbox="shop", reason="the file is damaged"),
        "shop cannot be brought back (the file is damaged); its files are kept.",
    ),
    "sandbox_restarted": (
        Event("sandbox_restarted", sandbox="shop", node="beta", epoch=2, detail={"restored": [1, 14]}),
        "shop runs again on beta (epoch 2), with its state of checkpoint 1.14.",
    ),
    "host_exited": (
        Event(
            "host_exited",
            sandbox="shop",
            node="alpha",
            reason="exit code 3",
            detail={"output": "first\nno more ink\n\n"},
        ),
        "The OS process of shop ended on alpha (exit code 3); the last it wrote was 'no more ink'.",
    ),
    "host_exited in silence": (
        Event("host_exited", sandbox="shop", node="alpha", reason="killed (SIGKILL)", detail={"output": ""}),
        "The OS process of shop ended on alpha (killed (SIGKILL)).",
    ),
    "events_dropped": (
        Event("events_dropped", sandbox="shop", node="alpha", pid="<alpha.shop.9>", detail={"dropped": 812}),
        "shop tells of too much at once; 812 events of it on alpha were not recorded.",
    ),
    "journal_failed": (
        Event("journal_failed", reason="database or disk is full"),
        "The journal cannot be written (database or disk is full); events are kept in memory meanwhile.",
    ),
    "journal_recovered": (
        Event("journal_recovered", detail={"missing": 0}),
        "The journal is written again, and lacks nothing.",
    ),
    "journal_recovered with a gap": (
        Event("journal_recovered", detail={"missing": 7}),
        "The journal is written again; 7 events of its past are lost.",
    ),
    "sandbox_exited": (
        Event("sandbox_exited", sandbox="shop", node="alpha", reason="memory limit 64 MiB"),
        "The OS process of shop ended on alpha (memory limit 64 MiB).",
    ),
    "restart_scheduled": (
        Event("restart_scheduled", sandbox="shop", reason="killed (SIGKILL)", detail={"delay": 0.1, "left": 1}),
        "shop is started again in 100 ms (killed (SIGKILL)); 1 restart left.",
    ),
    "sandbox_copying": (
        Event("sandbox_copying", sandbox="shop", node="alpha", detail={"target": "beta", "bytes": 812}),
        "shop is at rest; 812 B of state go to beta, where it starts.",
    ),
    "node_suspected": (
        Event("node_suspected", node="beta", detail={"silent": 1.5}),
        "Node beta is silent for 1.5 s; it gets nothing new.",
    ),
    "node_lost in order": (
        Event("node_lost", node="beta", reason="it has left", detail={"sandboxes": 0}),
        "Node beta has left, with nothing on it.",
    ),
    "sandbox_moved": (
        Event(
            "sandbox_moved",
            sandbox="shop",
            node="beta",
            epoch=2,
            detail={"source": "alpha", "target": "beta", "bytes": 812, "pause": 0.012},
        ),
        "shop has moved from alpha to beta (epoch 2): 812 B of state, callers waited 12 ms.",
    ),
    "supervisor_gave_up": (
        Event("supervisor_gave_up", sandbox="shop", name="desk", detail=BUDGET | {"child": "printer"}),
        "shop/desk gave up: too many restarts, more than 3 in 5 s, last that of printer.",
    ),
    "supervisor_changed": (
        Event(
            "supervisor_changed",
            sandbox="shop",
            name="desk",
            detail={"before": {"max_restarts": 3}, "after": {"max_restarts": 9}},
        ),
        "shop/desk has other options: max_restarts 3 → 9.",
    ),
    "supervision_paused": (
        Event("supervision_paused", sandbox="shop", name="desk"),
        "shop/desk is paused: who ends below it stays down.",
    ),
    "decision_postponed": (
        Event("decision_postponed", sandbox="shop", name="printer", reason="boom", detail={"supervisor": "desk"}),
        "shop/printer ended (boom); its supervisor desk is paused and leaves it down.",
    ),
    "supervision_resumed": (
        Event("supervision_resumed", sandbox="shop", name="desk", detail={"decides_on": ["printer"]}),
        "shop/desk decides again, on 1 child first.",
    ),
    "group_restarting": (
        Event(
            "group_restarting",
            reason="killed (SIGKILL)",
            detail=BUDGET | {"group": "web", "member": "db", "starts": ["db", "cache"]},
        ),
        "Group web: db ended (killed (SIGKILL)); it starts db, cache (1 of 3 in 5 s).",
    ),
    "group_restarting by hand": (
        Event("group_restarting", reason="it was asked for", detail={"group": "web", "starts": ["db", "cache"]}),
        "Group web: all of it starts anew (it was asked for): db, cache.",
    ),
    "group_failed": (
        Event("group_failed", reason="'db' ended", detail={"group": "web"}),
        "Group web has given up, and all its sandboxes stay down ('db' ended).",
    ),
    "group_created": (
        Event("group_created", detail={"group": "web", "strategy": "one_for_all"}),
        "Group web is made; its strategy is one_for_all.",
    ),
    "group_restored": (
        Event("group_restored", detail={"group": "web", "strategy": "one_for_all", "status": "running"}),
        "Group web is back after the end of its control plane; its strategy is one_for_all.",
    ),
    "group_restored, though it had given up": (
        Event("group_restored", reason="'db' ended", detail={"group": "web", "status": "failed"}),
        "Group web is known again: it had given up ('db' ended), and stays down.",
    ),
    "group_not_restored": (
        Event("group_not_restored", reason="the file is damaged", detail={"group": "web"}),
        "Group web cannot be brought back (the file is damaged); its sandboxes go on alone.",
    ),
    "group_not_kept": (
        Event("group_not_kept", reason="the disk is full", detail={"group": "web"}),
        "Group web would not come back as it is if the whole cluster were killed (the disk is full).",
    ),
    "group_destroyed": (
        Event("group_destroyed", detail={"group": "web"}),
        "Group web was destroyed, with all its sandboxes.",
    ),
    "orderly end": (
        Event("process_exited", sandbox="shop", name="counter", reason=["shutdown", "scaled down"]),
        "shop/counter ended (shutdown: scaled down).",
    ),
    "killed from outside": (
        Event("process_exited", sandbox="shop", name="counter", reason="killed", detail={"who": "<alpha.shop.0>"}),
        "shop/counter died (killed, from outside).",
    ),
    "fault": (
        Event("fault_injected", node="beta", detail={"signal": "SIGKILL"}),
        "A fault on purpose: SIGKILL to node beta.",
    ),
    "frozen": (
        Event("fault_injected", node="beta", detail={"fault": "pause_node", "seconds": 2.0}),
        "A fault on purpose: node beta is frozen for 2 s.",
    ),
    "frozen sandbox": (
        Event("fault_injected", node="beta", sandbox="shop", detail={"fault": "pause_sandbox", "seconds": None}),
        "A fault on purpose: shop is frozen on beta.",
    ),
    "partition": (
        Event("fault_injected", detail={"fault": "partition", "groups": [["alpha"], ["beta", "gamma"]]}),
        "A fault on purpose: the cluster falls apart into alpha | beta, gamma.",
    ),
    "cut one way": (
        Event("fault_injected", detail={"fault": "cut", "a": "alpha", "b": "beta", "one_way": True}),
        "A fault on purpose: from alpha to beta nothing passes.",
    ),
    "delay": (
        Event("fault_injected", detail={"fault": "delay", "a": "alpha", "b": "beta", "seconds": 0.2}),
        "A fault on purpose: between alpha and beta messages travel 0.2 s longer.",
    ),
    "slow": (
        Event("fault_injected", detail={"fault": "slow", "a": "alpha", "b": "beta", "bytes_per_second": 2048}),
        "A fault on purpose: between alpha and beta only 2.0 KiB pass per second.",
    ),
    "drop": (
        Event("fault_injected", detail={"fault": "drop", "a": "alpha", "b": "beta", "probability": 0.1}),
        "A fault on purpose: between alpha and beta 10% of the messages break their connection.",
    ),
    "flap": (
        Event("fault_injected", detail={"fault": "flap", "a": "alpha", "b": "*", "cut_for": 1.0, "open_for": 0.5}),
        "A fault on purpose: between alpha and all others nothing passes for 1 s, then all for 0.5 s, and so on.",
    ),
    "partition reverted": (
        Event("fault_reverted", detail={"fault": "partition", "groups": [["alpha"], ["beta", "gamma"]]}),
        "The partition is over.",
    ),
    "cut reverted": (
        Event("fault_reverted", detail={"fault": "cut", "a": "alpha", "b": "beta"}),
        "The fault between alpha and beta is over (cut).",
    ),
    "thawed": (
        Event("fault_reverted", node="beta", detail={"fault": "pause_node"}), "Node beta is not frozen any more."
    ),
    "thawed sandbox": (
        Event("fault_reverted", sandbox="shop", detail={"fault": "pause_sandbox"}), "shop is not frozen any more."
    ),
    "healed": (Event("healed", detail={"faults": ["cut-1"]}), "All is healed: 1 fault ended."),
    "alert": (
        Event("alert_firing", node="beta", reason="Node beta cannot be reached.", detail={"severity": "critical"}),
        "Alert: Node beta cannot be reached.",
    ),
    "alert over": (
        Event("alert_resolved", sandbox="shop", reason="Sandbox shop does not answer."),
        "An alert is over: Sandbox shop does not answer.",
    ),
    "alert known": (
        Event("alert_acknowledged", reason="Sandbox shop does not answer.", detail={"by": "ann"}),
        "ann knows of an alert: Sandbox shop does not answer.",
    ),
    "alert not sent": (
        Event("alert_not_sent", reason="refused", detail={"id": "flapping-1"}),
        "Alert flapping-1 could not be posted (refused).",
    ),
    "unknown kind": (Event("moon_landed", sandbox="shop", reason="gravity"), "shop: moon landed (gravity)."),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_each_kind_of_event_has_its_sentence(case):
    event, sentence = CASES[case]
    assert told(event).text == sentence


def test_a_figure_that_is_missing_is_a_dash():
    moved = Event("sandbox_moved", sandbox="shop", detail={"source": "alpha", "target": "beta"})
    assert told(moved).text == "shop has moved from alpha to beta: – of state, callers waited –."


def test_a_long_reason_is_cut_to_its_first_line():
    event = Event("process_exited", name="counter", reason="ValueError: x\nTraceback" + "y" * 500)
    assert told(event).text == "counter died (ValueError: x)."


def test_the_rhythm_of_checkpoints_is_not_told():
    assert not worth_telling(Event("checkpoint_stored", sandbox="shop"))
    assert feed([Event("checkpoint_stored", sandbox="shop")], real=True).entries == ()


def test_a_feed_keeps_the_newest_lines_and_their_keys():
    events = [Event("node_joined", seq=n, at=float(n), node="alpha") for n in range(1, 11)]
    assert [entry.key for entry in feed(events, real=True, limit=3).entries] == ["8", "9", "10"]


def test_the_story_of_a_real_runtime_tells_why_and_by_whom_a_process_came_back():
    with Runtime(shop()) as runtime:
        assert runtime.call("counter", "increment") == 1
        runtime.kill("counter")
        assert runtime.call("counter", "value") == 0
        lines = story(runtime.events(), title="shop", real=True).splitlines()
    assert lines[0].startswith("The story of shop (real), from ")
    died = next(line for line in lines if "died" in line)
    assert "counter died (killed, from outside); its supervisor root starts it again (1 of 3 in 5 s)." in died
    assert "counter runs again as <" in lines[lines.index(died) + 1]


def test_a_story_without_events_says_so():
    assert story([], title="shop", real=False) == "The story of shop (simulated): nothing has happened yet."
