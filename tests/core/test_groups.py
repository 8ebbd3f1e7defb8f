"""Groups in the control machine: who stops and starts, in what order, and what may come between."""

from dataclasses import replace

import pytest
from core_sim import Sim

from superlearner.core.control import (
    Answer,
    ControlPolicy,
    ControlState,
    InstanceExited,
    InstanceStartFailed,
    KeptGroup,
    KeptSandbox,
    NodeJoined,
    Record,
    RestartRequested,
    RunRemembered,
    SetTimer,
    StartInstance,
    StopInstance,
)
from superlearner.core.restart import Backoff
from superlearner.core.snapshots import GroupInfo
from superlearner.core.spec import GroupSpec, Resources, SandboxSpec
from superlearner.errors import (
    GroupExists,
    GroupFailed,
    InvalidSpec,
    InvalidTransition,
    NoGroup,
    NoPlacement,
    StartFailed,
)

WHY = {"cause": "test", "at": 100.0}
IDS = ("db", "web", "mail")


def group(strategy="rest_for_one", nodes=("alpha", "beta"), ids=IDS, members=None, policy=None, **options):
    """A cluster with a group ``shop`` of three running members."""
    sim = Sim(ControlState(policy or ControlPolicy()))
    for name in nodes:
        sim.join(name)
    sim.group("shop", strategy=strategy, **options)
    for id in ids:
        sim.create(id, group="shop", **(members or {}).get(id, {}))
    sim.rest()
    return sim


def info(sim):
    return sim.state.groups["shop"]


def epochs(sim):
    return {id: record.epoch for id, record in sim.state.sandboxes.items()}


def statuses(sim):
    return {id: record.status for id, record in sim.state.sandboxes.items()}


def steps(sim):
    """Let everything happen, and return the stops and starts in their order."""
    taken = []
    while sim.orders or sim.reports:
        for order in sim.orders:
            id = order.spec.id if isinstance(order, StartInstance) else order.sandbox
            taken.append((type(order).__name__.removesuffix("Instance").lower(), id))
        while sim.orders:
            sim.perform(0)
        while sim.reports:
            sim.deliver(0)
    return taken


def end(sim, id, reason="crash"):
    sim.tell(InstanceExited(id, sim.state.sandboxes[id].epoch, reason, gave_up=True, **WHY))


def kinds(sim):
    return [event.kind for event in sim.records]


# -- Strategies -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "taken"),
    [
        ("one_for_one", [("stop", "web"), ("start", "web")]),
        ("rest_for_one", [("stop", "web"), ("stop", "mail"), ("start", "web"), ("start", "mail")]),
        (
            "one_for_all",
            [("stop", "web"), ("stop", "mail"), ("stop", "db"), ("start", "db"), ("start", "web"), ("start", "mail")],
        ),
    ],
)  # fmt: skip
def test_the_others_stop_in_reverse_order_and_all_start_in_order(strategy, taken):
    sim = group(strategy)
    end(sim, "web")
    exited = next(event for event in sim.records if event.kind == "sandbox_exited")
    assert exited.detail == {"gave_up": False}, "it did as it was told"
    assert steps(sim) == taken
    assert set(statuses(sim).values()) == {"running"}
    assert info(sim) == GroupInfo("shop", strategy, 3, 60.0, "running", IDS, restarts=1)


def test_a_member_reports_its_end_instead_of_starting_again_by_itself():
    sim = Sim()
    sim.join("alpha")
    sim.group("shop")
    sim.create("db", group="shop", max_restarts=7)
    assert sim.orders[0].spec.max_restarts == 0
    assert sim.state.sandboxes["db"].spec.max_restarts == 7, "what was asked for is remembered"


def test_members_come_back_on_their_nodes_with_the_next_epoch():
    sim = group("one_for_all", nodes=("alpha", "beta", "gamma"))
    before = {id: record.node for id, record in sim.state.sandboxes.items()}
    end(sim, "db")
    sim.rest()
    assert {id: record.node for id, record in sim.state.sandboxes.items()} == before
    assert epochs(sim) == dict.fromkeys(IDS, 2)


def test_members_start_one_after_the_other_and_those_of_one_for_one_together():
    sim = Sim()
    sim.join("alpha")
    for strategy in ("one_for_one", "rest_for_one"):
        sim.group(strategy, strategy=strategy)
        for id in IDS:
            sim.create(f"{id}-{strategy}", group=strategy)
    assert [order.spec.id for order in sim.orders] == [f"{id}-one_for_one" for id in IDS] + [
        "db-rest_for_one"
    ]
    assert sim.state.sandboxes["web-rest_for_one"].status == "starting"


def test_what_happens_while_a_group_acts_waits_for_its_turn_or_is_over_by_then():
    sim = group("one_for_all")
    end(sim, "mail")
    assert statuses(sim)["web"] == "restarting"
    sim.perform(0)  # mail is stopped
    end(sim, "db")
    assert steps(sim)[-3:] == [("start", "db"), ("start", "web"), ("start", "mail")]
    assert info(sim).restarts == 1, "db had to start again anyway"


# -- Nodes ------------------------------------------------------------------------------------------


def test_members_that_are_lost_with_one_node_start_again_once_and_take_nothing_from_the_budget():
    on = {"db": {"node": "alpha"}, "web": {"node": "beta"}, "mail": {"node": "alpha"}}
    sim = group("one_for_all", members=on, max_restarts=0)
    sim.lose("alpha")
    assert steps(sim) == [("stop", "web"), ("start", "db"), ("start", "web"), ("start", "mail")]
    assert epochs(sim) == dict.fromkeys(IDS, 2)


def test_a_member_that_no_node_can_take_is_lost_until_one_can_and_the_rest_waits():
    on = {id: {"node_selector": {"zone": "a"}} if id == "db" else {} for id in IDS}
    sim = Sim()
    sim.tell(NodeJoined("alpha", "a", labels={"zone": "a"}, **WHY))
    sim.nodes["alpha"] = "a"
    sim.join("beta")
    sim.group("shop", strategy="rest_for_one", max_restarts=0)
    for id in IDS:
        sim.create(id, group="shop", node="alpha" if id == "db" else "beta", **on[id])
    sim.rest()
    sim.lose("alpha")
    sim.rest()
    assert statuses(sim) == {"db": "lost", "web": "restarting", "mail": "restarting"}
    sim.restart("db")
    assert isinstance(sim.values[sim.asked[-1]], NoPlacement)
    sim.join("gamma")
    assert statuses(sim)["db"] == "lost", "gamma is in no zone"
    sim.tell(NodeJoined("alpha", "a2", labels={"zone": "a"}, **WHY))
    sim.nodes["alpha"] = "a2"
    assert steps(sim) == [("start", id) for id in IDS]


def test_a_lost_member_that_is_restarted_by_hand_starts_when_a_node_can_take_it():
    sim = Sim()
    for name in ("alpha", "beta"):
        sim.tell(NodeJoined(name, name, memory=1000, **WHY))
        sim.nodes[name] = name
    sim.group("shop")
    sim.create("db", group="shop", node="alpha", resources=Resources(memory=800))
    sim.create("other", node="beta", resources=Resources(memory=800))
    sim.rest()
    sim.lose("alpha")
    assert statuses(sim)["db"] == "lost"
    sim.tell(NodeJoined("beta", "beta", memory=2000, **WHY))  # more room, but nothing tells the lost
    sim.restart("db")
    sim.rest()
    assert sim.values[sim.asked[-1]].status == "running"


def test_a_start_under_way_whose_node_is_lost_goes_on_elsewhere():
    sim = group("rest_for_one")
    end(sim, "db")
    while not any(isinstance(order, StartInstance) for order in sim.orders):
        (sim.perform if sim.orders else sim.deliver)(0)
    sim.lose(sim.state.sandboxes["db"].node)
    sim.rest()
    assert set(statuses(sim).values()) == {"running"}
    assert info(sim).restarts <= 2


def test_a_move_whose_source_is_lost_is_given_up_as_the_group_comes_first():
    sim = group("one_for_all", members={"web": {"node": "alpha"}}, nodes=("alpha", "beta", "gamma"))
    sim.move("web", "beta")
    sim.perform(0)
    sim.deliver(0)
    end(sim, "web")
    assert sim.values[sim.asked[-1]].code == "move_failed"
    sim.rest()
    assert set(statuses(sim).values()) == {"running"}
    assert not any(living.on_trial for living in sim.instances.values())


@pytest.mark.parametrize("until", ["rest", "start"])
def test_a_member_that_is_moving_when_its_group_restarts_is_called_back(until):
    sim = group("one_for_all", ids=("db", "web"), members={"web": {"node": "alpha"}})
    sim.move("web", "beta")
    if until == "start":
        sim.perform(0)
        sim.deliver(0)
    end(sim, "db")
    sim.rest()
    assert sim.values[sim.asked[-1]].code == "move_failed"
    assert set(statuses(sim).values()) == {"running"}


def test_a_member_that_has_moved_is_the_same_member():
    sim = group("one_for_all", members={"web": {"node": "alpha"}})
    sim.move("web", "beta")
    sim.rest()
    end(sim, "web")
    sim.rest()
    assert sim.state.sandboxes["web"].node == "beta"
    assert info(sim).restarts == 1


# -- Giving up --------------------------------------------------------------------------------------


def failed(**options):
    sim = group("one_for_one", max_restarts=0, **options)
    end(sim, "web")
    sim.rest()
    return sim


def test_past_its_intensity_a_group_stops_all_and_stays_down_until_it_is_restarted():
    sim = failed()
    assert set(statuses(sim).values()) == {"failed"}
    assert info(sim).status == "failed"
    assert info(sim).reason == "'web' ended once more than 0 restarts in 60 s allow: crash"
    assert "restart_group('shop')" in sim.state.sandboxes["db"].reason
    assert kinds(sim).count("group_failed") == 1
    sim.restart("db")
    assert isinstance(sim.values[sim.asked[-1]], GroupFailed)
    sim.create("late", group="shop")
    assert isinstance(sim.values[sim.asked[-1]], GroupFailed)
    assert "late" not in sim.state.sandboxes
    sim.restart_group("shop")
    assert steps(sim) == [("start", id) for id in IDS]
    assert sim.values[sim.asked[-1]] == info(sim)
    assert (info(sim).status, info(sim).reason) == ("running", None)


def test_a_group_that_gives_up_takes_along_what_is_starting_and_refuses_what_is_new():
    sim = group("one_for_one", max_restarts=1)
    end(sim, "web")
    sim.create("late", group="shop")
    end(sim, "db")
    while sim.reports or [order for order in sim.orders if order != StartInstance.match()]:
        if sim.reports:
            sim.deliver(0)
        else:
            sim.perform(next(i for i, order in enumerate(sim.orders) if order != StartInstance.match()))
    assert isinstance(sim.values[sim.asked[-1]], GroupFailed)
    assert statuses(sim) == dict.fromkeys(IDS, "failed")
    assert not sim.instances


def test_a_group_that_runs_is_restarted_as_a_whole_when_asked():
    sim = group("one_for_one")
    sim.restart_group("shop")
    sim.restart_group("shop")
    assert steps(sim) == [
        *[("stop", id) for id in reversed(IDS)],
        *[("start", id) for id in IDS],
    ]
    assert all(sim.answers[cause] for cause in sim.asked)


def test_without_a_majority_a_group_that_runs_is_not_stopped_to_be_restarted():
    sim = group(nodes=("alpha", "beta"), policy=ControlPolicy(partition="quorum"))
    sim.lose("beta")
    sim.restart_group("shop")
    assert sim.values[sim.asked[-1]].code == "no_quorum"
    sim.join("beta")
    sim.rest()
    assert set(statuses(sim).values()) == {"running"}


def test_a_restart_in_which_one_cannot_start_fails_the_group_and_says_who():
    sim = failed()
    sim.restart_group("shop")
    sim.perform(0)
    sim.deliver(0)
    sim.perform(0, well=False)
    sim.rest()
    error = sim.values[sim.asked[-1]]
    assert isinstance(error, GroupFailed)
    assert error.reason == "'web' could not start: no luck"
    assert set(statuses(sim).values()) == {"failed"}


# -- Starts that fail -------------------------------------------------------------------------------


def fail_the_start(sim):
    while not isinstance(sim.orders[0] if sim.orders else None, StartInstance):
        (sim.perform if sim.orders else sim.deliver)(0)
    sim.perform(0, well=False)
    sim.deliver(0)


def test_a_start_that_fails_is_tried_again_with_back_off_before_the_rest_starts():
    sim = group("rest_for_one", policy=ControlPolicy(backoff=Backoff(first=1.0)))
    end(sim, "web")
    fail_the_start(sim)  # tried again at once
    fail_the_start(sim)
    assert len(sim.timers) == 1
    assert statuses(sim) == {"db": "running", "web": "restarting", "mail": "restarting"}
    assert kinds(sim)[-1] == "restart_scheduled"
    sim.fire(0)
    assert steps(sim) == [("start", "web"), ("start", "mail")]
    assert info(sim).restarts == 3


def test_when_the_one_that_cannot_start_is_destroyed_the_rest_starts_without_it():
    sim = group("rest_for_one")
    end(sim, "web")
    fail_the_start(sim)
    fail_the_start(sim)
    sim.destroy("web")
    assert ("start", "mail") in steps(sim)
    assert statuses(sim) == {"db": "running", "mail": "running"}
    assert info(sim).members == ("db", "mail")


def test_in_a_group_without_order_nobody_waits_for_another_one():
    sim = group("one_for_one", nodes=("alpha",), ids=("db", "web"), max_restarts=9)
    end(sim, "db")
    end(sim, "web")
    started = {order.spec.id: order for order in sim.orders if isinstance(order, StartInstance)}
    sim.orders.clear()
    sim.tell(InstanceStartFailed("web", "alpha", started["web"].epoch, "no luck", **WHY))
    assert len(sim.timers) == 1, "web waits for its next try"
    work = sim.state._work["db"]
    sim.state._set(work, spec=replace(work.record.spec, node_selector={"zone": "a"}))
    sim.tell(InstanceStartFailed("db", "alpha", started["db"].epoch, "no luck", **WHY))
    while sim.timers:
        sim.fire(0)
    sim.rest()
    assert statuses(sim) == {"db": "lost", "web": "running"}


def test_a_new_member_that_cannot_start_or_be_placed_is_refused_and_never_a_member():
    sim = group()
    sim.create("late", group="shop")
    sim.perform(0, well=False)
    sim.rest()
    assert isinstance(sim.values[sim.asked[-1]], StartFailed)
    sim.create("slow", group="shop")
    sim.create("picky", group="shop", node_selector={"zone": "a"})
    assert isinstance(sim.values[sim.asked[-1]], NoPlacement), "at once"
    sim.tell(NodeJoined("gamma", "c", labels={"zone": "a"}, **WHY))
    sim.nodes["gamma"] = "c"
    sim.create("picky", group="shop", node_selector={"zone": "a"})
    sim.lose("gamma")  # while it waits for its turn
    sim.rest()
    assert isinstance(sim.values[sim.asked[-1]], NoPlacement)
    assert info(sim).members == (*IDS, "slow")


# -- Restart types ----------------------------------------------------------------------------------


def test_a_transient_member_that_is_done_stays_down_and_starts_with_the_others_again():
    sim = group("one_for_all", members={"web": {"restart": "transient"}})
    end(sim, "web", "normal")
    sim.rest()
    assert statuses(sim) == {"db": "running", "web": "stopped", "mail": "running"}
    sim.tell(RestartRequested("web", cause="again", at=100.0))
    sim.rest()
    assert sim.values["again"].status == "running"
    end(sim, "web", "normal")
    end(sim, "db")
    sim.rest()
    assert set(statuses(sim).values()) == {"running"}


def test_a_temporary_member_that_is_down_belongs_to_the_group_no_longer():
    temporary = {"web": {"restart": "temporary"}}
    sim = group("one_for_all", members=temporary)
    end(sim, "web")
    sim.rest()
    assert statuses(sim)["web"] == "failed"
    assert (info(sim).members, sim.state.sandboxes["web"].spec.group) == (("db", "mail"), None)
    sim = group("one_for_all", members=temporary)
    end(sim, "db")
    sim.rest()
    assert statuses(sim) == {"db": "running", "web": "stopped", "mail": "running"}


def test_a_restart_by_hand_that_fails_leaves_the_member_down():
    sim = group("rest_for_one", members={"mail": {"restart": "transient"}})
    end(sim, "mail", "normal")
    sim.rest()
    sim.restart("mail")
    fail_the_start(sim)
    assert statuses(sim)["mail"] == "failed"
    sim.restart("mail")
    sim.rest()
    assert statuses(sim)["mail"] == "running"


def test_a_restart_by_hand_that_the_group_has_done_meanwhile_is_answered_with_it():
    sim = group("one_for_all", members={"mail": {"restart": "transient"}})
    end(sim, "mail", "normal")
    sim.rest()
    end(sim, "db")
    sim.restart("mail")
    sim.rest()
    assert sim.values[sim.asked[-1]].status == "running"
    assert epochs(sim)["mail"] == 2, "it was started once"


# -- Leaving and ending -----------------------------------------------------------------------------


def test_a_member_may_be_destroyed_while_its_group_waits_for_it():
    sim = group("one_for_all")
    end(sim, "db")
    sim.destroy("mail")  # the group waits for its end
    sim.rest()
    assert info(sim).members == ("db", "web")
    assert set(statuses(sim).values()) == {"running"}


def test_a_group_is_destroyed_in_reverse_order_whatever_it_was_doing():
    sim = group("rest_for_one")
    sim.create("late", group="shop")
    sim.destroy_group("shop")
    sim.destroy_group("shop")
    sim.create("later", group="shop")
    assert isinstance(sim.values[sim.asked[-1]], NoGroup)
    sim.restart_group("shop")
    assert isinstance(sim.values[sim.asked[-1]], NoGroup)
    end(sim, "db")
    sim.rest()
    gone = [event.sandbox for event in sim.records if event.kind == "sandbox_destroyed"]
    assert gone == ["late", "mail", "web", "db"]
    assert not sim.state.groups
    assert all(sim.answers[cause] for cause in sim.asked)
    assert kinds(sim)[-1] == "group_destroyed"


def test_a_restart_that_is_under_way_is_refused_when_the_group_is_destroyed():
    sim = group()
    sim.restart_group("shop")
    waiting = sim.asked[-1]
    sim.destroy_group("shop")
    assert isinstance(sim.values[waiting], NoGroup)
    sim.rest()
    assert not sim.state.sandboxes


def test_an_empty_group_is_made_restarted_and_destroyed_at_once():
    sim = Sim()
    sim.group("shop", strategy="one_for_all")
    assert sim.values[sim.asked[-1]] == GroupInfo("shop", "one_for_all", 3, 60.0, "running")
    sim.group("shop")
    assert isinstance(sim.values[sim.asked[-1]], GroupExists)
    sim.restart_group("shop")
    sim.destroy_group("shop")
    assert all(sim.answers[cause] for cause in sim.asked)
    sim.destroy_group("shop")
    assert isinstance(sim.values[sim.asked[-1]], NoGroup)


def test_a_group_that_is_spelt_wrong_is_refused():
    with pytest.raises(InvalidSpec, match="did you mean 'one_for_all'"):
        GroupSpec("shop", strategy="one_for_al")
    with pytest.raises(InvalidSpec, match="group id"):
        GroupSpec("a/b")


# -- The next run of the control plane ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("strategy", "taken"),
    [
        ("one_for_one", [("stop", "db"), ("start", "db")]),
        ("rest_for_one", [("stop", "db"), ("stop", "mail"), ("start", "db"), ("start", "mail")]),
        (
            "one_for_all",
            [("stop", "db"), ("stop", "mail"), ("stop", "web"), ("start", "web"), ("start", "db"), ("start", "mail")],
        ),
    ],
)  # fmt: skip
def test_a_group_goes_on_in_the_next_run_with_its_order_and_its_options(strategy, taken):
    ids = ("web", "db", "mail")
    sim = group(strategy, ids=ids, max_restarts=1, members={"db": {"max_restarts": 7}})
    sim.crash()
    assert steps(sim) == [("start", id) for id in ids]
    assert epochs(sim) == dict.fromkeys(ids, 2)
    assert info(sim) == GroupInfo("shop", strategy, 1, 60.0, "running", ids)
    assert sim.state.sandboxes["db"].spec.max_restarts == 7
    assert "group_restored" in kinds(sim)
    end(sim, "db")
    assert steps(sim) == taken
    end(sim, "db")
    steps(sim)
    assert info(sim).status == "failed"


def test_members_of_an_earlier_run_start_one_after_the_other_and_one_that_cannot_is_tried_again():
    sim = group("rest_for_one")
    sim.crash()
    assert [order.spec.id for order in sim.orders] == ["db"]
    sim.perform(0, well=False)
    sim.deliver(0)
    assert statuses(sim)["db"] == "restarting", "it is a restart that failed, not a creation"
    sim.settle()
    assert set(statuses(sim).values()) == {"running"}
    started = [event.sandbox for event in sim.records if event.kind == "sandbox_restarted"]
    assert started == list(IDS)


def test_members_of_an_earlier_run_that_no_node_can_take_wait_for_one():
    sim = group("one_for_all")
    sim.nodes.clear()
    sim.crash()
    assert statuses(sim) == {"db": "lost", "web": "restarting", "mail": "restarting"}
    sim.join("gamma")
    assert steps(sim) == [("start", id) for id in IDS]


def test_a_group_that_had_given_up_stays_so_in_the_next_run_until_it_is_restarted():
    sim = group("one_for_all", max_restarts=0, members={"mail": {"restart": "transient"}})
    end(sim, "mail", "normal")
    end(sim, "web")
    sim.rest()
    assert statuses(sim) == {"db": "failed", "web": "failed", "mail": "stopped"}
    before = info(sim)
    sim.crash()
    assert (steps(sim), info(sim)) == ([], before)
    assert statuses(sim) == {"db": "failed", "web": "failed", "mail": "stopped"}
    sim.restart("db")
    assert isinstance(sim.values[sim.asked[-1]], GroupFailed)
    sim.restart_group("shop")
    assert steps(sim) == [("start", id) for id in IDS]
    assert info(sim).status == "running"


def test_a_run_that_ends_while_a_group_gives_up_leaves_no_member_running_in_the_next():
    sim = group(ids=())
    known = (
        KeptSandbox(SandboxSpec("db", group="back"), 3),
        KeptSandbox(SandboxSpec("web", group="gone"), 5),
    )
    groups = (
        KeptGroup(GroupSpec("back"), ("db",), failed=True, reason="'db' ended"),
        KeptGroup(GroupSpec("shop")),
    )
    sim.tell(RunRemembered(known, groups, **WHY))
    assert statuses(sim) == {"db": "failed", "web": "restarting"}
    assert "restart_group('back')" in sim.state.sandboxes["db"].reason
    assert sim.state.sandboxes["web"].spec.group is None, "its group is not known"
    assert info(sim).members == (), "a group that is there stays as it is"


def test_a_member_that_had_ended_stays_down_in_the_next_run_and_is_still_a_member():
    sim = group("rest_for_one", members={"web": {"restart": "transient"}})
    end(sim, "web", "normal")
    sim.rest()
    sim.crash()
    assert steps(sim) == [("start", "db"), ("start", "mail")]
    assert (statuses(sim)["web"], info(sim).members) == ("stopped", IDS)
    sim.restart("web")
    sim.rest()
    assert statuses(sim)["web"] == "running"


def test_a_temporary_member_ends_with_its_run():
    sim = group(members={"web": {"restart": "temporary"}})
    sim.crash()
    assert steps(sim) == [("start", "db"), ("start", "mail")]
    assert info(sim).members == ("db", "mail")
    record = sim.state.sandboxes["web"]
    assert (record.status, record.reason, record.spec.group) == ("failed", "the control plane ended", None)


def test_nothing_of_a_group_that_was_destroyed_is_kept():
    sim = group()
    sim.destroy_group("shop")
    sim.rest()
    assert (sim.kept, sim.kept_groups) == ({}, {})


# -- Labels -----------------------------------------------------------------------------------------


def test_labels_must_be_texts():
    with pytest.raises(InvalidSpec, match="must map texts to texts"):
        SandboxSpec("shop", anti_affinity={"app": 1})


def apart(sim, id, **options):
    sim.create(id, labels={"app": "db"}, anti_affinity={"app": "db"}, **options)


def test_those_that_keep_apart_are_spread_and_one_more_is_refused_with_the_reason():
    sim = group(ids=())
    for id in ("one", "two", "three"):
        apart(sim, id)
    assert sorted(sim.state.carried(name) for name in ("alpha", "beta")) == [["one"], ["two"]]
    assert "it carries 'one', and their labels keep the two apart" in str(sim.values[sim.asked[-1]])
    sim.create("innocent", labels={"app": "db"})
    assert isinstance(sim.values[sim.asked[-1]], NoPlacement), "whoever came first"
    sim.create("other", labels={"app": "web"}, anti_affinity={"app": "db", "tier": "back"})
    assert "other" in sim.state.sandboxes, "only one of the two labels is there"
    sim.create("similar", labels={"app": "web", "tier": "back"}, anti_affinity={"app": "db", "tier": "front"})
    sim.create("third", labels={"app": "db", "tier": "front"})
    assert isinstance(sim.values[sim.asked[-1]], NoPlacement)


def test_one_that_finds_no_node_of_its_own_is_lost_until_the_other_leaves():
    sim = group(ids=())
    for id in ("one", "two"):
        apart(sim, id)
    sim.rest()
    sim.lose(sim.state.sandboxes["one"].node)
    assert statuses(sim)["one"] == "lost"
    sim.destroy("two")
    sim.rest()
    assert statuses(sim) == {"one": "running"}


def test_a_move_keeps_apart_too():
    sim = group(ids=())
    for id in ("one", "two"):
        apart(sim, id)
    sim.rest()
    sim.move("one")
    assert isinstance(sim.values[sim.asked[-1]], NoPlacement)


def test_the_table_says_why_a_node_is_not_selected():
    sim = group(ids=())
    sim.tell(NodeJoined("alpha", sim.nodes["alpha"], labels={"zone": "b"}, **WHY))
    rows = sim.state.explain(SandboxSpec("shop", node_selector={"zone": "a"})).rows
    assert [row.reason for row in rows] == [
        "its zone is 'b', and zone='a' is selected",
        "it has no zone, and zone='a' is selected",
    ]


# -- What the machine checks ------------------------------------------------------------------------


def of(state):
    return state._groups["shop"]


def phase(state, id, phase):
    work = state._work[id]
    work.phase = phase
    state.sandboxes[id] = work.record = replace(work.record, status=work.status)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda s: of(s).members.pop("web"), "names the group 'shop'"),
        (lambda s: of(s).members.update(nobody=None), "members that are not there"),
        (lambda s: of(s).todo.append(None), "something to do and does not do it"),
        (lambda s: of(s).starts.update(web=None), "starts that are not under way"),
        (lambda s: of(s).restarters.append("x"), "owes answers"),
        (lambda s: setattr(of(s), "status", "failed"), "members that are not down"),
        (lambda s: of(s).sup.children.pop("web"), "supervises"),
        (lambda s: of(s).sup.children.update(web=replace(of(s).sup.children["web"], status="stopped")), "thinks"),
        (lambda s: s._labels.add("alpha", s.sandboxes["db"].spec.__class__("x", labels={"a": "b"})), "carries labels"),
        (lambda s: s._labels.add("nowhere", s.sandboxes["db"].spec.__class__("x", labels={"a": "b"})), "not there"),
    ],
)  # fmt: skip
def test_each_broken_invariant_of_a_group_is_found(spoil, says):
    sim = group(nodes=("alpha",))
    spoil(sim.state)
    with pytest.raises(InvalidTransition, match=says):
        sim.state.validate()


def test_one_that_waits_for_a_group_and_is_in_none_is_found():
    sim = Sim()
    sim.join("alpha")
    sim.create("db")
    sim.rest()
    work = sim.state._work["db"]
    sim.state._disown(work)
    sim.state._set(work, "held", node=None, address=None, pid=None)
    with pytest.raises(InvalidTransition, match="waits for a group that it is not in"):
        sim.state.validate()


def test_the_story_of_a_group_has_one_cause():
    sim = group("one_for_all")
    sim.tell(InstanceExited("web", 1, "crash", gave_up=True, cause="the crash", at=100.0))
    sim.rest()
    of_it = {event.kind for event in sim.records if event.cause == "the crash"}
    assert {"group_restarting", "sandbox_exited", "sandbox_restarting", "sandbox_restarted"} <= of_it
    assert Record not in map(type, sim.orders)
    assert not [order for order in sim.orders if isinstance(order, StopInstance | SetTimer | Answer)]
