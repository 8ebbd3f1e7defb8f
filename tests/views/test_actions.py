"""The logic of the buttons: which of them work, which ask twice, and which click counts."""

from __future__ import annotations

from dataclasses import replace

from superlearner.core.alerts import Acknowledgement, Alert
from superlearner.core.faults import FaultRecord
from superlearner.core.rebalance import Suggestion
from superlearner.core.snapshots import MoveInfo, NodeInfo, ProcessInfo, SandboxInfo
from superlearner.views.actions import Action, Chosen, actions, groups, plan, progress, sides
from superlearner.views.desk import Desk, Press, StatusLine, as_dict
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


PAUSE = FaultRecord("pause_node-1", "pause_node", {"node": "beta", "seconds": 5.0}, at=0.0)


def reasons(chosen: Chosen, *nodes: NodeInfo, faults=(), unreachable: str = "") -> dict[str, str]:
    offered = actions(chosen, nodes, faults=faults, unreachable=unreachable)
    return {action.name: action.reason for action in offered}


def test_with_everything_selected_and_well_all_buttons_work_save_that_there_is_nothing_to_heal():
    said = reasons(Chosen(COUNTER, SHOP, BETA), ALPHA, BETA)
    assert said.pop("heal") == "No fault is in force."
    assert not any(said.values())


def test_with_nothing_selected_only_what_needs_no_target_works_and_the_others_say_what_to_select():
    said = reasons(Chosen(), ALPHA, BETA)
    said.pop("heal")
    assert said.pop("create") == said.pop("rebalance") == ""
    node = {said.pop(name) for name in ("pause_node", "partition", "drain", "kill_node")}
    assert node == {"Select a node first."}
    assert set(said.values()) == {"Select a sandbox first."}


def test_a_fault_can_be_ended_alone_or_with_all_others_and_a_paused_node_is_not_paused_again():
    said = reasons(Chosen(node=BETA), ALPHA, BETA, faults=[PAUSE])
    assert said["heal"] == said["revert"] == said["partition"] == ""
    assert said["pause_node"] == "beta is paused already."
    (revert,) = [action for action in actions(Chosen(), [BETA], faults=[PAUSE]) if action.name == "revert"]
    assert (revert.target, revert.title) == ("pause_node-1", "What ends: node beta is frozen for 5 s")


def test_an_alert_can_be_acknowledged_once_at_any_time_while_it_is_not_over():
    firing = Alert("flapping-1", "flapping", "warning", "firing", "Node beta has failed.", since=1.0)
    known = replace(firing, id="flapping-2", acknowledged=Acknowledgement("ann", at=2.0))
    over = replace(firing, id="flapping-3", state="resolved")
    offered = actions(Chosen(), [BETA], alerts=[over, known, firing], unreachable="gone")
    (one,) = [action for action in offered if action.name == "acknowledge"]
    assert (one.target, one.reason, one.urgent, one.dangerous) == ("flapping-1", "", True, False)
    shown = as_dict(Desk(), offered, real=True)
    assert "acknowledge" not in {button["name"] for button in shown["buttons"]}
    assert "[Alert: Acknowledge flapping-1]" in shown["text"]


def test_the_only_node_is_not_cut_off_drained_or_evened_out():
    said = reasons(Chosen(node=BETA), BETA)
    assert {said[name] for name in ("partition", "drain", "rebalance")} == {
        "There is no other node that is up."
    }
    assert reasons(Chosen(node=replace(BETA, status="draining")), ALPHA, BETA)["drain"] == (
        "beta is being drained already."
    )


def test_draining_asks_first_and_says_what_moves():
    full = replace(BETA, sandboxes=("shop", "till"))
    offered = actions(Chosen(node=full), [ALPHA, full])
    desk, todo = Desk().press(Press("drain", "beta", turn=0), offered)
    assert todo is None
    assert desk.status.text == (
        "Drain node beta? shop, till move to other nodes; then its worker retires for good."
    )
    assert desk.press(Press("drain", "beta", turn=1, answer="yes"), offered)[1].name == "drain"


def test_what_was_confirmed_is_asked_again_when_it_has_become_something_else():
    full = replace(BETA, sandboxes=("shop",))
    desk, _ = Desk().press(Press("drain", "beta", turn=0), actions(Chosen(node=full), [ALPHA, full]))
    fuller = replace(BETA, sandboxes=("shop", "till"))
    desk, todo = desk.press(
        Press("drain", "beta", turn=1, answer="yes"), actions(Chosen(node=fuller), [ALPHA, fuller])
    )
    assert todo is None
    assert "shop, till move" in desk.status.text


def test_the_partition_that_is_offered_first_cuts_the_node_off_and_leaves_the_scheduler_with_the_rest():
    (cut,) = [action for action in actions(Chosen(node=BETA), [ALPHA, BETA]) if action.name == "partition"]
    assert cut.choices[0] == ("alone", "beta | the rest")
    assert groups(cut.choices[0][0], "beta", ["alpha", "beta"]) == [["beta"], ["scheduler", "alpha"]]
    assert [groups(side, "beta", ["alpha", "beta"])[0] for side, _ in sides("beta")[1:]] == [
        ["beta", "scheduler"]
    ] * 2


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


def test_while_the_cluster_cannot_be_asked_no_button_works_but_those_that_heal():
    said = reasons(Chosen(COUNTER, SHOP, BETA), ALPHA, BETA, faults=[PAUSE], unreachable="gone")
    assert said.pop("heal") == said.pop("revert") == "", "what is broken can be healed all the same"
    assert set(said.values()) == {"gone"}


KILL = Action("kill_process", "Process", "Kill", "<a.b.2>", "Killing process counter", "It ends")
KILL_NODE = Action("kill_node", "Node", "Kill", "beta", "Killing node beta", "Its OS process ends at once")


def test_a_click_is_carried_out_once_however_often_it_arrives():
    click = Press("kill_process", "<a.b.2>", turn=0)
    desk, todo = Desk().press(click, [KILL])
    assert todo == KILL
    assert desk.status == StatusLine("Killing process counter …", "busy")
    desk, todo = desk.press(click, [KILL])
    assert todo is None
    desk = desk.done(KILL, StatusLine("done", "good"))
    assert desk.press(click, [KILL])[1] is None


def test_while_something_runs_no_other_click_counts():
    desk, _ = Desk().press(Press("kill_process", "<a.b.2>", turn=0), [KILL, KILL_NODE])
    assert desk.press(Press("kill_node", "beta", turn=desk.turn), [KILL, KILL_NODE]) == (desk, None)


HEAL = Action("heal", "Cluster", "Heal", "", "Healing", "Ends every fault")


def test_what_heals_is_taken_while_something_else_runs_and_on_any_turn():
    desk, _ = Desk().press(Press("kill_process", "<a.b.2>", turn=0), [KILL, HEAL])
    desk, todo = desk.press(Press("heal", "", turn=0), [KILL, HEAL])
    assert todo == HEAL
    assert desk.running == (KILL, HEAL)
    desk = desk.done(HEAL, StatusLine("2 faults ended.", "good"))
    assert desk.status == StatusLine("2 faults ended. Killing process counter …", "busy")
    assert desk.done(KILL, StatusLine("done", "good")).status == StatusLine("done", "good")


REBALANCE = Action("rebalance", "Cluster", "Rebalance", "", "Planning moves", "Shows the moves")
SUGGESTED = [Suggestion("shop", "alpha", "beta", "alpha is 20% full and beta 0%")]


def test_a_plan_is_shown_before_it_is_carried_out():
    desk, todo = Desk().press(Press("rebalance", "", turn=0), [REBALANCE])
    asked = plan(todo, SUGGESTED)
    assert asked.text == "Move shop from alpha to beta? alpha is 20% full and beta 0%."
    desk = desk.done(todo, StatusLine(asked.text, "warn"), then=asked.then)
    desk, todo = desk.press(Press("rebalance_now", "", turn=2, answer="yes"), [REBALANCE])
    assert (todo.name, desk.status.text) == ("rebalance_now", "Rebalancing …")


def test_a_plan_without_moves_says_so_and_asks_nothing():
    assert plan(REBALANCE, []) == "The nodes carry equal shares; nothing needs to move."


def test_how_far_a_long_action_is_can_be_seen():
    drain = Action("drain", "Node", "Drain", "beta", "Draining node beta", "")
    assert progress(drain, [replace(BETA, sandboxes=("shop", "till"))], []) == "2 sandboxes still there"
    assert progress(drain, [ALPHA], []) == "its worker is gone"
    moving = replace(SHOP, status="migrating", move=MoveInfo("alpha", "beta", "quiesce", 0.0))
    move = Action("move", "Sandbox", "Move", "shop", "Moving shop", "")
    assert progress(move, [], [moving, replace(SHOP, id="till")]) == "to beta: quiesce (step 1 of 4)"
    now = replace(REBALANCE, name="rebalance_now")
    assert progress(now, [], [moving, SHOP]) == "shop to beta: quiesce (step 1 of 4)"
    assert progress(KILL, [], []) == ""
    desk, _ = Desk().press(Press("kill_process", "<a.b.2>", turn=0), [KILL])
    assert as_dict(desk, [], real=True, so_far="half")["status"]["text"] == "Killing process counter … half"


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
    click = {"press": "restart", "target": "shop", "turn": 3, "choice": "", "answer": ""}
    assert Press.from_message(click) == Press("restart", "shop", 3)
    assert Press.from_message({"press": "restart"}) is None
    assert Press.from_message("restart") is None


def test_the_buttons_have_a_twin_in_text():
    shown = as_dict(Desk(), [KILL, replace(KILL_NODE, reason="It is down.")], real=True)
    assert shown["text"].splitlines() == [
        "[Process: Kill <a.b.2>]",
        "[Node: Kill beta] not now: It is down.",
        "Ready.",
    ]
