"""The logic of the buttons: which of them work, which ask twice, and which click counts."""

from __future__ import annotations

from dataclasses import replace

from superlearner.core.snapshots import NodeInfo, ProcessInfo, SandboxInfo
from superlearner.views.actions import Action, Chosen, Desk, Press, StatusLine, actions, as_dict
from superlearner.views.tree import tree

ALPHA = NodeInfo("alpha", "tls://a", 1, "up", "healthy")
BETA = NodeInfo("beta", "tls://b", 2, "up", "healthy")
SHOP = SandboxInfo("shop", "running", node="alpha", epoch=1)
CHILDREN = (
    ProcessInfo("counter", "<alpha.shop.2>", "counter", "worker", "waiting"),
    ProcessInfo("broken", None, None, "worker", "restarting"),
)
TREE = tree(
    ProcessInfo("root", "<alpha.shop.1>", None, "supervisor", "waiting", children=CHILDREN), real=True
)
COUNTER, BROKEN = TREE.find("root/counter"), TREE.find("root/broken")


def reasons(chosen: Chosen, *nodes: NodeInfo, unreachable: str = "") -> dict[str, str]:
    return {action.name: action.reason for action in actions(chosen, nodes, unreachable=unreachable)}


def test_with_everything_selected_and_well_all_buttons_work():
    assert not any(reasons(Chosen(COUNTER, SHOP, BETA), ALPHA, BETA).values())


def test_with_nothing_selected_only_create_works_and_the_others_say_what_to_select():
    said = reasons(Chosen(), ALPHA)
    assert said.pop("create") == ""
    assert said.pop("kill_node") == "Select a node first."
    assert set(said.values()) == {"Select a sandbox first."}


def test_a_process_that_does_not_run_cannot_be_killed():
    assert reasons(Chosen(BROKEN, SHOP), ALPHA)["kill_process"] == "broken does not run: it is restarting."


def test_a_sandbox_needs_another_node_to_move_to():
    assert reasons(Chosen(sandbox=SHOP), ALPHA)["move"] == "There is no other node that is up."


def test_a_failed_sandbox_can_be_restarted_and_destroyed_but_not_killed_or_moved():
    said = reasons(Chosen(sandbox=replace(SHOP, status="failed")), ALPHA, BETA)
    assert (said["restart"], said["destroy"]) == ("", "")
    assert said["kill_sandbox"] == said["move"] == "shop is failed."


def test_a_node_that_is_down_cannot_be_killed_again():
    down = replace(BETA, status="down")
    assert reasons(Chosen(node=down), ALPHA, down)["kill_node"] == "beta is down already."


def test_while_the_cluster_cannot_be_asked_no_button_works_and_each_says_why():
    assert set(reasons(Chosen(COUNTER, SHOP, BETA), ALPHA, BETA, unreachable="gone").values()) == {"gone"}


KILL = Action("kill_process", "Process", "Kill", "<a.b.2>", "Killing process counter", "It ends")
KILL_NODE = Action("kill_node", "Node", "Kill", "beta", "Killing node beta", "Its OS process ends at once")


def test_a_click_is_carried_out_once_however_often_it_arrives():
    click = Press("kill_process", "<a.b.2>", turn=0)
    desk, todo = Desk().press(click, [KILL])
    assert todo == KILL
    assert desk.status == StatusLine("Killing process counter …", "busy")
    desk, todo = desk.press(click, [KILL])
    assert todo is None
    desk = desk.done(StatusLine("done", "good"))
    assert desk.press(click, [KILL])[1] is None


def test_while_something_runs_no_other_click_counts():
    desk, _ = Desk().press(Press("kill_process", "<a.b.2>", turn=0), [KILL, KILL_NODE])
    assert desk.press(Press("kill_node", "beta", turn=desk.turn), [KILL, KILL_NODE]) == (desk, None)


def test_a_dangerous_action_asks_first_and_runs_on_yes():
    desk, todo = Desk().press(Press("kill_node", "beta", turn=0), [KILL_NODE])
    assert todo is None
    assert desk.status.text == "Kill node beta? Its OS process ends at once."
    assert desk.press(Press("kill_node", "beta", turn=1, answer="yes"), [KILL_NODE])[1] == KILL_NODE


def test_a_refused_question_does_nothing():
    desk, _ = Desk().press(Press("kill_node", "beta", turn=0), [KILL_NODE])
    desk, todo = desk.press(Press("kill_node", "beta", turn=1, answer="no"), [KILL_NODE])
    assert (todo, desk.armed, desk.status.text) == (None, None, "Killing node beta: not done.")


def test_a_yes_that_nobody_asked_for_only_asks():
    desk, todo = Desk().press(Press("kill_node", "beta", turn=0, answer="yes"), [KILL_NODE])
    assert todo is None
    assert desk.armed == KILL_NODE


def test_a_click_on_what_has_gone_says_so():
    desk, todo = Desk().press(Press("kill_process", "<a.b.1>", turn=0), [KILL])
    assert todo is None
    assert "no longer there" in desk.status.text


def test_a_button_that_cannot_work_says_why_when_it_is_clicked_all_the_same():
    desk, todo = Desk().press(Press("kill_node", "beta", turn=0), [replace(KILL_NODE, reason="It is down.")])
    assert (todo, desk.status.text) == (None, "It is down.")


def test_messages_that_are_no_clicks_are_not_read_as_such():
    click = {"press": "restart", "target": "shop", "turn": 3, "to": "auto", "answer": ""}
    assert Press.from_message(click) == Press("restart", "shop", 3)
    assert Press.from_message({"press": "restart"}) is None
    assert Press.from_message("restart") is None


def test_the_buttons_have_a_twin_in_text():
    shown = as_dict(Desk(), [KILL, replace(KILL_NODE, reason="It is down.")], [], real=True)
    assert shown["text"].splitlines() == [
        "[Process: Kill <a.b.2>]",
        "[Node: Kill beta] not now: It is down.",
        "Ready.",
    ]
