"""The pure views, asserted on the plain text and data that they return."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import replace
from datetime import UTC

import pytest

from superlearner.core.alerts import Acknowledgement, Alert
from superlearner.core.faults import FaultRecord, partition_links
from superlearner.core.scores import ClusterScore
from superlearner.core.snapshots import (
    CheckpointInfo,
    ClusterStatus,
    LeaseInfo,
    Migration,
    MoveInfo,
    NodeInfo,
    ProcessInfo,
    SandboxInfo,
)
from superlearner.views import alerts, faults, nodes, sandboxes, tree, tree_svg
from superlearner.views.marks import mark
from superlearner.views.nodes import cluster

PRINTER = ProcessInfo("printer", "<alpha.shop.4>", "printer", "worker", "running", mailbox=3)
BROKEN = ProcessInfo("broken", None, None, "worker", "restarting", restarts=2)
DESK = ProcessInfo(
    "desk",
    "<alpha.shop.3>",
    None,
    "supervisor",
    "waiting",
    children=(PRINTER, BROKEN),
    strategy="one_for_all",
)
COUNTER = ProcessInfo("counter", "<alpha.shop.2>", "counter", "worker", "waiting", restarts=1)
ROOT = ProcessInfo(
    "root",
    "<alpha.shop.1>",
    None,
    "supervisor",
    "waiting",
    children=(DESK, COUNTER),
    strategy="one_for_one",
    max_restarts=3,
    max_seconds=5.0,
)
ALPHA = NodeInfo(
    "alpha",
    "tls://127.0.0.1:1",
    41,
    "up",
    "healthy",
    cpu=12.5,
    memory=2**28,
    network=2048.0,
    uptime=75.0,
    sandboxes=("shop",),
    last_seen=99.9,
    memory_limit=2**30,
)
SHOP = SandboxInfo(
    "shop",
    "running",
    node="alpha",
    pid=77,
    epoch=2,
    created_at=40.0,
    restarts=1,
    memory=48 * 2**20,
    cpu=0.03,
    checkpoint=CheckpointInfo(2, 14, 812, at=98.0, nodes=("alpha", "beta")),
)


# -- The tree ----------------------------------------------------------------------------------------


def test_a_tree_reads_as_indented_text():
    assert tree(ROOT, real=True, title="shop").text().splitlines() == [
        "shop (real)",
        "● root  supervisor one_for_one, 3 restarts in 5 s  waiting  <alpha.shop.1>",
        "├─ ● desk  supervisor one_for_all  waiting  <alpha.shop.3>",
        "│  ├─ ▶ printer  worker  running  <alpha.shop.4>  3 messages waiting",
        "│  └─ ↻ broken  worker  restarting  no pid  2 restarts",
        "└─ ● counter  worker  waiting  <alpha.shop.2>  1 restart",
    ]


def test_a_deep_tree_keeps_its_stems_apart():
    leaf = ProcessInfo("leaf", "<a.b.4>", None, "worker", "waiting")
    low = ProcessInfo("low", "<a.b.3>", None, "supervisor", "waiting", children=(leaf,))
    mid = ProcessInfo("mid", "<a.b.2>", None, "supervisor", "waiting", children=(low,))
    last = ProcessInfo("last", "<a.b.5>", None, "worker", "waiting")
    top = ProcessInfo("top", "<a.b.1>", None, "supervisor", "waiting", children=(mid, last))
    stems = [line.split("●")[0] for line in tree(top, real=True).text().splitlines()[1:]]
    assert stems == ["", "├─ ", "│  └─ ", "│     └─ ", "└─ "]


def test_a_process_keeps_its_key_when_its_pid_changes():
    again = replace(ROOT, children=(DESK, replace(COUNTER, pid="<alpha.shop.9>")))
    before, after = (tree(root, real=True).find("root/counter") for root in (ROOT, again))
    assert before
    assert after
    assert (before.key, before.x, before.y) == (after.key, after.x, after.y)
    assert before.pid != after.pid


def test_children_of_a_dynamic_supervisor_with_one_id_have_keys_of_their_own():
    twins = tuple(ProcessInfo("job", f"<a.b.{n}>", None, "worker", "waiting") for n in (2, 3))
    root = ProcessInfo("root", "<a.b.1>", None, "supervisor", "waiting", children=twins)
    assert [node.key for node in tree(root, real=True).nodes] == ["root", "root/job", "root/job#1"]


def test_parents_stand_in_the_middle_of_their_children_and_no_two_boxes_meet():
    places = {node.key: node for node in tree(ROOT, real=True).nodes}
    desk, printer, broken = (places[key] for key in ("root/desk", "root/desk/printer", "root/desk/broken"))
    assert desk.y == (printer.y + broken.y) / 2
    assert desk.x < printer.x == broken.x
    assert len({(node.x, node.y) for node in places.values()}) == len(places)


def test_an_empty_tree_says_so():
    assert tree(None, real=True, title="shop").text() == "shop (real)\nno processes"


@pytest.mark.parametrize(("real", "word"), [(True, "real"), (False, "simulated")])
def test_each_picture_says_whether_it_is_real(real, word):
    pictures = (
        tree(ROOT, real=real, title="shop"),
        nodes([ALPHA], real=real, now=100.0),
        sandboxes([SHOP], real=real, now=100.0),
    )
    for picture in pictures:
        assert f"({word})" in picture.text().splitlines()[0]
        assert picture.as_dict()["real"] is real
    assert f"· {word}" in tree_svg(pictures[0])


def test_a_picture_cannot_be_made_without_saying_whether_it_is_real():
    with pytest.raises(TypeError, match="real"):
        tree(ROOT)  # type: ignore[call-arg]


def test_the_still_picture_is_valid_svg_with_a_box_and_a_title_for_each_process():
    odd = replace(COUNTER, name='<b>"&', behaviour="a < b")
    drawn = tree_svg(tree(replace(ROOT, children=(DESK, odd)), real=True, title="a & b"))
    titles = [element.text for element in ET.fromstring(drawn).iter("{http://www.w3.org/2000/svg}title")]
    assert len(titles) == 5
    assert any(title.startswith('<b>"&: worker') for title in titles)


# -- Nodes and sandboxes -----------------------------------------------------------------------------


def test_a_card_shows_each_figure_with_its_unit():
    (card,) = nodes([ALPHA], real=True, now=100.0).cards
    assert (card.cpu, card.memory, card.network, card.uptime) == (
        "12 %",
        "256.0 MiB",
        "2.0 KiB/s",
        "1 min 15 s",
    )
    assert (card.cpu_load, card.memory_load) == (0.125, 0.25)


def test_what_was_not_measured_is_a_dash_and_no_bar():
    fresh = replace(ALPHA, cpu=None, memory=None, network=None)
    (card,) = nodes([fresh], real=True, now=100.0).cards
    assert (card.cpu, card.memory, card.network) == ("–", "–", "–")
    assert (card.cpu_load, card.memory_load) == (None, None)


def test_a_dead_node_shows_none_of_its_last_figures():
    (card,) = nodes([replace(ALPHA, status="down", health="critical")], real=True, now=100.0).cards
    assert (card.cpu, card.memory, card.network, card.uptime) == ("–", "–", "–", "–")
    assert (card.symbol, card.status, card.tone) == ("✕", "down", "bad")


def test_a_healthy_node_that_drains_looks_busy_not_well():
    (card,) = nodes([replace(ALPHA, status="draining")], real=True, now=100.0).cards
    assert card.tone == "busy"


def test_cards_and_rows_keep_their_place_whatever_the_order_of_the_answer():
    beta = replace(ALPHA, name="beta")
    assert [card.key for card in nodes([beta, ALPHA], real=True, now=0.0).cards] == ["alpha", "beta"]
    zoo = replace(SHOP, id="zoo")
    assert [row.key for row in sandboxes([zoo, SHOP], real=True, now=0.0).rows] == ["shop", "zoo"]


def test_the_cluster_without_quorum_is_told_in_words():
    status = ClusterStatus(
        ("alpha", "beta"),
        2,
        1,
        "critical",
        quorum=False,
        control_plane="running",
        reachable_nodes=1,
        lease=3.0,
    )
    view = nodes([ALPHA], real=True, now=100.0, status=status)
    assert view.summary == (
        "✕ critical: 1 of 2 nodes healthy, NO quorum (1 of 2 reachable, policy quorum), lease 3 s, "
        "control plane running"
    )
    assert view.summary in view.text()
    assert "policy availability" in cluster(replace(status, partition="availability"))


HELD = LeaseInfo(heard_at=43_384.12, ends_at=43_387.245)


def test_a_silent_node_shows_since_when_and_when_its_lease_has_surely_ended():
    silent = replace(ALPHA, status="suspected", lease=replace(HELD, suspected=True))
    (card,) = nodes([silent], real=True, now=100.0, tz=UTC).cards
    assert (card.symbol, card.status, card.lease) == ("?", "suspected", "ends 12:03:07.245")
    assert card.trouble == "Silent since 12:03:04.120; its lease has surely ended at 12:03:07.245."
    assert f"alpha: {card.trouble}" in nodes([silent], real=True, now=100.0, tz=UTC).text()


def test_a_node_that_is_heard_of_holds_its_lease_and_has_no_trouble():
    (card,) = nodes([replace(ALPHA, lease=HELD)], real=True, now=100.0).cards
    assert (card.lease, card.trouble, card.flags) == ("held", "", ())


def test_a_node_that_is_down_says_why():
    down = replace(ALPHA, status="down", health="critical", reason="it was silent for 3.1 s")
    (card,) = nodes([down], real=True, now=100.0).cards
    assert (card.lease, card.trouble) == ("–", "Lost: it was silent for 3.1 s.")


PAUSE = FaultRecord("pause_node-1", "pause_node", {"node": "alpha", "seconds": 5.0}, at=43_384.12)
PARTITION = FaultRecord(
    "partition-2",
    "partition",
    {
        "groups": [["alpha"], ["scheduler", "beta"]],
        "links": [
            list(link) for link in partition_links([["alpha"], ["scheduler", "beta"]], ["alpha", "beta"])
        ],
    },
    at=43_385.0,
)


def test_what_is_done_to_a_node_on_purpose_stands_on_its_card():
    beta = replace(ALPHA, name="beta")
    view = nodes([ALPHA, beta], real=True, now=100.0, faults=[PAUSE, PARTITION])
    assert [card.flags for card in view.cards] == [("paused", "cut off"), ()]
    assert view.cards[0].trouble == "Cut off from beta, the clients and the scheduler."
    assert view.cards[1].trouble == "Cut off from alpha."
    assert "paused, cut off" in view.cards[0].description
    assert "● up, paused, cut off" in view.text()


def test_each_fault_in_force_tells_what_on_whom_and_since_when():
    view = faults([PAUSE, PARTITION], real=True, tz=UTC)
    assert view.text().splitlines() == [
        "2 faults in force (real)",
        "12:03:04.120 ▲ node alpha is frozen for 5 s [pause_node-1]",
        "12:03:05.000 ▲ the cluster falls apart into alpha | scheduler, beta [partition-2]",
    ]
    assert [row["key"] for row in view.as_dict()["rows"]] == ["pause_node-1", "partition-2"]
    assert faults([], real=False).text() == "0 faults in force (simulated)"
    frozen = FaultRecord("pause_sandbox-3", "pause_sandbox", {"sandbox": "shop", "seconds": None}, at=0.0)
    assert faults([frozen], real=True).rows[0].what == "shop is frozen"


GONE = Alert(
    "node_failure-1", "node_failure", "critical", "firing", "Node beta cannot be reached.", 43_384.12
)
FULL = Alert(
    "resource_exhaustion-2", "resource_exhaustion", "warning", "pending", "Node beta is full.", 43_000.0
)


def test_alerts_tell_how_bad_since_when_and_who_knows_beside_the_score_and_what_to_do():
    known = replace(GONE, id="node_failure-3", acknowledged=Acknowledgement("ann", 43_390.0, "on it"))
    over = replace(GONE, id="node_failure-4", state="resolved", resolved_at=43_400.0)
    health = ClusterScore(50, "It is the mean of its nodes.", (), (), tuple("abcde"))
    view = alerts([FULL, over, known, GONE], health, real=True, tz=UTC)
    assert view.text().splitlines() == [
        "3 alerts, health 50 of 100 (real)",
        "It is the mean of its nodes.",
        "→ a",
        "→ b",
        "→ c",
        "→ And 2 more: cluster.health() tells all.",
        "✕ critical since 12:03:04.120: Node beta cannot be reached. [node_failure-1]",
        (
            "✕ critical since 12:03:04.120: Node beta cannot be reached. [node_failure-3] "
            "ann knows since 12:03:10.000 (on it)."
        ),
        "▲ warning, pending since 11:56:40.000: Node beta is full. [resource_exhaustion-2]",
    ]
    assert [row["tone"] for row in view.as_dict()["rows"]] == ["bad", "bad", "quiet"]


def test_a_score_that_nobody_has_measured_is_a_dash_and_never_a_number():
    unknown = ClusterScore(None, "Nothing has been measured yet.", (), ())
    for health in (None, unknown):
        view = alerts([], health, real=False)
        assert (view.score, view.tone) == ("–", "quiet")
        assert view.text().startswith("0 alerts, health – of 100 (simulated)")
    tones = [
        alerts([], ClusterScore(score, "", (), ()), real=True).tone for score in (0, 49, 50, 79, 80, 100)
    ]
    assert tones == ["bad", "bad", "warn", "warn", "good", "good"]


def test_a_row_shows_the_lease_beside_its_epoch():
    (row,) = sandboxes([replace(SHOP, lease=replace(HELD, suspected=True))], real=True, now=0.0, tz=UTC).rows
    assert (row.epoch, row.lease) == ("2", "ends 12:03:07.245")


def test_a_row_shows_how_far_a_move_is_and_then_how_it_went():
    under_way = replace(SHOP, status="migrating", move=MoveInfo("alpha", "beta", "start", 99.0, bytes=812))
    (row,) = sandboxes([under_way], real=True, now=100.0).rows
    assert row.move == "to beta: copy (step 2 of 4), 812 B"
    assert row.move in row.description
    done = Migration("shop", "beta", "alpha", 2, {"quiesce": 0.01, "start": 0.03}, bytes=812, pause=0.04)
    view = sandboxes([replace(SHOP, moved=done)], real=True, now=100.0)
    assert view.rows[0].move == "from beta: 812 B, callers waited 40 ms"
    assert view.rows[0].move in view.text()


def test_a_row_tells_where_and_how_a_sandbox_lives():
    (row,) = sandboxes([SHOP], real=True, now=100.0).rows
    assert (row.status, row.node, row.epoch, row.restarts) == ("running", "alpha", "2", "1")
    assert (row.memory, row.cpu, row.age) == ("48.0 MiB", "3.0 %", "1 min 00 s")
    assert row.checkpoint == "2.14, 812 B, 2 copies, 2.0 s ago"


def test_a_failed_sandbox_shows_why_and_no_stale_figures():
    failed = replace(SHOP, status="failed", node=None, reason="killed (SIGKILL)")
    view = sandboxes([failed], real=True, now=100.0)
    assert (view.rows[0].memory, view.rows[0].cpu, view.rows[0].node) == ("–", "–", "–")
    assert "shop: killed (SIGKILL)" in view.text()


def test_no_two_statuses_of_one_kind_share_both_symbol_and_tone():
    kinds = (
        ("waiting", "running", "starting", "suspended", "restarting", "stopping", "exited"),
        ("starting", "running", "suspended", "migrating", "restarting", "stopped", "failed", "lost"),
        ("joining", "up", "suspected", "draining", "down"),
        ("healthy", "warning", "critical"),
    )
    for statuses in kinds:
        assert len({(mark(status).symbol, mark(status).tone) for status in statuses}) == len(statuses)
        assert all(mark(status).word == status for status in statuses)
