"""What the control machine answers, event by event."""

from dataclasses import replace

import pytest
from core_sim import Sim

from superlearner.core.checkpoints import CheckpointVersion
from superlearner.core.control import (
    Answer,
    ApplicationReplaced,
    CheckpointStored,
    ControlEvent,
    ControlPolicy,
    ControlState,
    CreateRequested,
    DropCheckpoints,
    GiveUpNode,
    InstanceExited,
    InstanceRestarted,
    InstanceStarted,
    InstanceStartFailed,
    InstanceStopped,
    KeptSandbox,
    MoveRequested,
    NodeJoined,
    NodeLost,
    NodeSampled,
    Quiesced,
    QuiesceFailed,
    QuiesceInstance,
    Record,
    Refuse,
    RestartInstance,
    RestartRequested,
    ResumeInstance,
    RunRemembered,
    SetPeers,
    SetTimer,
    StartInstance,
    StopInstance,
    TimerFired,
)
from superlearner.core.restart import Backoff
from superlearner.core.snapshots import CheckpointInfo, Migration, MoveInfo
from superlearner.core.spec import Checkpoint, Resources, SandboxSpec
from superlearner.errors import (
    InvalidTransition,
    MoveFailed,
    NodeDown,
    NoPlacement,
    NoSandbox,
    SandboxExists,
    SandboxFailed,
    StartFailed,
    UnknownNode,
)

WHY = {"cause": "test", "at": 100.0}
ONE_COPY = Checkpoint(copies=1)


def cluster(*nodes, policy=None):
    sim = Sim(ControlState(policy) if policy else ControlState())
    for name in nodes:
        sim.join(name)
    return sim


def running(*nodes, policy=None, **options):
    """A cluster with the sandbox ``shop`` running on its first node."""
    sim = cluster(*nodes[:1], policy=policy)
    sim.create("shop", **options)
    sim.rest()
    for name in nodes[1:]:
        sim.join(name)
    return sim


def shop(sim):
    return sim.state.sandboxes["shop"]


def errors(out):
    return [type(i.error) for i in out if isinstance(i, Refuse)]


def kinds(out):
    return [i.event.kind for i in out if isinstance(i, Record)]


def effects(out):
    return [i for i in out if not isinstance(i, Record | GiveUpNode)]


# -- Creating ---------------------------------------------------------------------------------------


def test_a_created_sandbox_is_answered_when_it_runs():
    sim = cluster("alpha", "beta", "gamma")
    cause = sim.create("shop")
    assert shop(sim).status == "starting"
    assert not sim.answers
    sim.rest()
    assert (shop(sim).status, shop(sim).epoch, sim.values[cause]) == ("running", 1, shop(sim))


def test_a_start_carries_epoch_sources_peers_and_serials():
    sim = cluster("alpha", "beta")
    sim.create("shop", node="beta")
    (order,) = sim.orders
    assert order == StartInstance.match(node="beta", epoch=1, sources=(), first_serial=1)
    assert order.peers == (("alpha", sim.nodes["alpha"]),) == sim.state.heirs("shop")
    assert order != StartInstance.match(node="alpha")
    assert repr(StartInstance.match(node="beta")) == "StartInstance.match(node='beta')"


@pytest.mark.parametrize(
    ("nodes", "options", "error"),
    [
        ((), {}, NoPlacement),
        (("alpha",), {"node": "beta"}, UnknownNode),
        (("alpha",), {"resources": Resources(memory=2000)}, NoPlacement),
        (("alpha",), {"node": "alpha", "resources": Resources(memory=2000)}, NoPlacement),
    ],
)
def test_a_creation_that_no_node_can_take_is_refused_and_leaves_nothing(nodes, options, error):
    sim = Sim()
    for name in nodes:
        sim.tell(NodeJoined(name, f"tcp://{name}", memory=1000, **WHY))
    cause = sim.create("shop", **options)
    assert isinstance(sim.values[cause], error)
    assert not sim.state.sandboxes
    assert sim.records[-1].kind == "placement_refused"


def test_an_id_in_use_is_refused():
    sim = running("alpha")
    assert isinstance(sim.values[sim.create("shop")], SandboxExists)


def test_a_creation_whose_start_fails_is_refused_and_forgotten():
    sim = cluster("alpha")
    cause = sim.create("shop")
    sim.perform(0, well=False)
    sim.deliver(0)
    assert isinstance(sim.values[cause], StartFailed)
    assert not sim.state.sandboxes
    sim.create("shop")
    assert shop(sim).epoch == 2, "epochs go on where they were"


def test_a_sandbox_created_from_a_checkpoint_has_it_stored_before_each_start_until_it_serves():
    sim = cluster("alpha", "beta")
    from_elsewhere = CheckpointVersion.of("shop", 7, 3, b"state", next_serial=9)
    event = CreateRequested(
        SandboxSpec("shop", node="alpha", checkpoint=ONE_COPY), from_elsewhere, cause="create", at=1.0
    )
    (start, _) = sim.tell(event)
    assert (start.node, start.epoch, start.seed) == ("alpha", 8, from_elsewhere)
    sim.tell(CheckpointStored("shop", 7, 3, 5, ("alpha", "beta"), **WHY))
    (again,) = [e for e in effects(sim.tell(NodeLost("alpha", start.address, **WHY))) if e]
    assert (again.node, again.epoch, again.seed) == ("beta", 9, from_elsewhere)
    assert [node for node, _ in again.sources] == ["beta"]
    sim.tell(InstanceStarted("shop", "beta", 9, pid=1, restored=(7, 3), **WHY))
    assert sim.state.sandboxes["shop"].checkpoint == CheckpointInfo(7, 3, 5, 100.0, ("beta",))
    stale = sim.tell(CheckpointStored("shop", 7, 4, 5, ("beta",), **WHY))
    assert kinds(stale) == ["stale_checkpoint"], "once it serves, only its own epoch counts"


def test_a_checkpoint_from_elsewhere_gets_an_epoch_that_no_store_here_takes_for_over():
    sim = running("alpha")
    sim.destroy("shop")
    sim.rest()
    (dropped,) = [e for e in sim.dropped if e.sandbox == "shop"]
    old = CheckpointVersion.of("shop", 1, 3, b"state")
    (start, _) = sim.tell(CreateRequested(SandboxSpec("shop"), old, cause="create", at=1.0))
    assert start.seed.epoch > dropped.epoch
    assert start.epoch == start.seed.epoch + 1


def remembered(epoch, **kept):
    return RunRemembered((KeptSandbox(SandboxSpec("shop"), epoch, **kept),), **WHY)


def test_a_sandbox_of_an_earlier_run_starts_again_above_its_last_epoch():
    sim = cluster("alpha")
    out = sim.tell(remembered(12))
    assert effects(out) == [StartInstance.match(node="alpha", epoch=13, seed=None)]
    assert kinds(out) == ["sandbox_restarting"]
    sim.tell(InstanceStarted("shop", "alpha", 13, pid=1, restored=(12, 4), **WHY))
    assert sim.state.sandboxes["shop"].status == "running"
    assert sim.tell(remembered(12)) == [], "it is there"


def test_a_sandbox_of_an_earlier_run_that_no_node_can_take_or_start_is_not_forgotten():
    sim = cluster()
    assert kinds(sim.tell(remembered(3))) == ["sandbox_lost"]
    (start, *_) = effects(sim.tell(NodeJoined("alpha", "tcp://a", **WHY)))
    assert start == StartInstance.match(node="alpha", epoch=4)
    sim.tell(InstanceStartFailed("shop", "alpha", 4, "a module is missing", **WHY))
    assert sim.state.sandboxes["shop"].status == "restarting"


@pytest.mark.parametrize("down", ["stopped", "failed"])
def test_a_sandbox_that_was_down_in_an_earlier_run_stays_so_until_it_is_restarted(down):
    sim = cluster("alpha")
    assert kinds(sim.tell(remembered(3, down=down, reason="enough"))) == [f"sandbox_{down}"]
    record = sim.state.sandboxes["shop"]
    assert (record.status, record.reason, record.epoch) == (down, "enough", 3)
    sim.restart("shop")
    sim.rest()
    assert (sim.state.sandboxes["shop"].status, sim.state.sandboxes["shop"].epoch) == ("running", 4)


def test_a_creation_whose_node_is_lost_is_made_elsewhere_else_refused():
    sim = cluster("alpha")
    cause = sim.create("shop", node="alpha")
    sim.join("beta")
    sim.lose("alpha")
    assert (shop(sim).node, shop(sim).status, shop(sim).epoch) == ("beta", "starting", 2)
    sim.lose("beta")
    assert isinstance(sim.values[cause], NoPlacement)
    assert not sim.state.sandboxes


def test_what_overtakes_the_report_of_a_start_waits_for_it():
    sim = cluster("alpha")
    cause = sim.create("shop", restart="temporary")
    exited = InstanceExited("shop", 1, "normal", **WHY)
    sim.tell(exited)
    sim.tell(exited)
    assert not sim.answers
    sim.perform(0)
    sim.deliver(0)
    assert sim.answers[cause]
    assert shop(sim).status == "stopped"


# -- Nodes ------------------------------------------------------------------------------------------


def test_the_sandboxes_of_a_lost_node_start_elsewhere_from_the_newest_surviving_copy():
    sim = running("alpha", "beta", "gamma", "delta")
    nodes = ("alpha", "beta", "gamma")
    sim.tell(CheckpointStored("shop", 1, 1, 10, nodes, **WHY))
    sim.tell(CheckpointStored("shop", 1, 2, 11, ("alpha", "gamma"), **WHY))
    assert shop(sim).checkpoint == CheckpointInfo(1, 2, 11, 100.0, ("alpha", "gamma"))
    sim.lose("alpha")
    (start,) = sim.orders
    assert start.epoch == 2
    assert start.first_serial == 1_000_001
    assert [node for node, _ in start.sources][:2] == ["gamma", "beta"]
    assert shop(sim).checkpoint.nodes == ("gamma",)
    sim.rest()
    assert (shop(sim).status, shop(sim).restarts) == ("running", 1)


def test_the_last_peers_are_asked_for_copies_whose_report_was_lost():
    sim = running("alpha", "beta", "gamma")
    sim.lose("alpha")
    assert {node for node, _ in sim.orders[0].sources} == {"beta", "gamma"}


def test_without_a_node_a_sandbox_is_lost_until_one_joins():
    sim = running("alpha")
    sim.lose("alpha")
    assert (shop(sim).status, shop(sim).node) == ("lost", None)
    sim.join("beta")
    sim.rest()
    assert (shop(sim).status, shop(sim).node) == ("running", "beta")


def test_a_pinned_sandbox_fails_over_to_any_node_and_the_event_says_so():
    sim = running("alpha", "beta", node="alpha")
    sim.lose("alpha")
    assert shop(sim).node == "beta"
    assert sim.records[-1].detail["note"] == "its own node 'alpha' cannot take it now, so it runs on 'beta'"


def test_a_pinned_sandbox_whose_node_is_full_starts_elsewhere():
    sim = Sim()
    sim.tell(NodeJoined("alpha", "a", memory=1000, **WHY))
    sim.create("shop", node="alpha", resources=Resources(memory=800))
    sim.rest()
    sim.tell(NodeLost("alpha", "a", **WHY))
    sim.tell(NodeJoined("beta", "b", **WHY))
    sim.create("other", node="beta")
    sim.rest()
    sim.tell(NodeJoined("alpha", "a2", memory=100, **WHY))
    sim.nodes = {"beta": "b"}
    out = sim.state.handle(NodeLost("beta", "b", **WHY))
    assert "sandbox_lost" in kinds(out), "100 bytes are too few for it"
    assert StartInstance.match(node="alpha") in out, "the other one fits"
    sim.state.validate()


def test_a_temporary_sandbox_stays_down_when_its_node_is_lost():
    sim = running("alpha", "beta", restart="temporary")
    sim.lose("alpha")
    assert (shop(sim).status, shop(sim).reason) == (
        "failed",
        "node 'alpha' was lost: its connection was closed",
    )


def test_a_known_name_with_a_new_address_is_lost_and_joined():
    sim = running("alpha", "beta")
    out = sim.tell(NodeJoined("alpha", "tcp://new", **WHY))
    assert kinds(out) == ["node_lost", "sandbox_restarting", "node_joined"]
    assert shop(sim).node == "beta"
    assert sim.tell(NodeLost("alpha", "tcp://old", **WHY)) == [], "late news of the former one"


def test_a_node_that_joins_again_under_its_address_is_only_brought_up_to_date():
    sim = running("alpha")
    assert sim.tell(NodeJoined("alpha", sim.nodes["alpha"], 77, 3.0, {"a": "b"}, **WHY)) == []
    node = sim.state.nodes["alpha"]
    assert (node.load.memory_limit, node.load.cpus, node.labels) == (77, 3.0, {"a": "b"})


def test_measurements_reach_placement_and_those_of_strangers_nobody():
    sim = running("alpha")
    assert sim.tell(NodeSampled("alpha", 5, 10, 0.1, 0.2, **WHY)) == []
    load = sim.state.nodes["alpha"].load
    assert (load.memory_used, load.memory_total, load.cpu, load.network) == (5, 10, 0.1, 0.2)
    assert sim.tell(NodeSampled("nowhere", 5, **WHY)) == []


def test_a_lost_sandbox_is_taken_up_when_another_frees_its_memory():
    sim = Sim()
    for name in ("alpha", "beta"):
        sim.tell(NodeJoined(name, f"tcp://{name}", memory=1000, **WHY))
    half = Resources(memory=600)
    sim.create("shop", node="alpha", resources=half)
    sim.create("bank", node="beta", resources=half)
    sim.rest()
    sim.tell(NodeLost("alpha", "tcp://alpha", **WHY))
    assert shop(sim).status == "lost"
    sim.destroy("bank")
    assert (shop(sim).status, shop(sim).node) == ("restarting", "beta")


def test_a_sandbox_that_still_fits_nowhere_stays_lost():
    sim = Sim()
    sim.tell(NodeJoined("alpha", "a", memory=1000, **WHY))
    sim.create("shop", resources=Resources(memory=600))
    sim.rest()
    sim.tell(NodeLost("alpha", "a", **WHY))
    out = sim.tell(NodeJoined("beta", "b", memory=100, **WHY))
    assert kinds(out) == ["node_joined"]
    assert shop(sim).status == "lost"


# -- Peers ------------------------------------------------------------------------------------------


def test_a_node_that_joins_becomes_a_peer_only_of_those_that_have_too_few():
    sim = running("alpha", checkpoint=ONE_COPY)
    out = sim.tell(NodeJoined("beta", "b", **WHY))
    assert effects(out) == [SetPeers("shop", "alpha", sim.nodes["alpha"], 1, (("beta", "b"),))]
    assert effects(sim.tell(NodeJoined("gamma", "g", **WHY))) == []


def test_the_loss_of_a_peer_concerns_only_those_that_had_it():
    sim = running("alpha", "beta", "gamma", checkpoint=ONE_COPY)
    (peer, _), *_ = sim.instances["shop", 1].peers
    other = next(name for name in ("beta", "gamma") if name != peer)
    sim.create("bank", node="alpha", checkpoint=Checkpoint(copies=0))
    sim.rest()
    out = sim.state.handle(NodeLost(peer, sim.nodes[peer], **WHY))
    assert effects(out) == [SetPeers.match(sandbox="shop", peers=((other, sim.nodes[other]),))]


def test_a_starting_instance_learns_of_new_peers_when_it_runs():
    sim = cluster("alpha")
    sim.create("shop")
    sim.join("beta")
    sim.perform(0)
    out = sim.tell(sim.reports.pop())
    assert SetPeers.match(peers=(("beta", sim.nodes["beta"]),)) in out


# -- Ends and restarts ------------------------------------------------------------------------------


def test_a_root_that_ends_starts_again_in_place_with_the_next_epoch():
    sim = running("alpha", "beta")
    out = sim.tell(InstanceExited("shop", 1, "normal", **WHY))
    assert effects(out) == [
        StopInstance.match(node="alpha", epoch=1),
        StartInstance.match(node="alpha", epoch=2),
    ]


def test_an_instance_that_gave_up_starts_on_another_node_and_alone_on_its_own():
    sim = running("alpha", "beta")
    sim.tell(InstanceExited("shop", 1, "killed", gave_up=True, **WHY))
    assert shop(sim).node == "beta"
    alone = running("alpha")
    alone.tell(InstanceExited("shop", 1, "killed", gave_up=True, **WHY))
    assert shop(alone).node == "alpha"


def test_each_node_is_tried_once_before_one_is_tried_again():
    sim = running("alpha", "beta", "gamma", policy=ControlPolicy(backoff=Backoff(first=0.001)))
    tried = []
    for epoch in range(1, 5):
        tried.append(shop(sim).node)
        sim.tell(InstanceExited("shop", epoch, "killed", gave_up=True, cause="test", at=100.0 + epoch))
        while sim.timers:
            sim.fire(0)
        sim.rest()
    assert tried[0] == "alpha"
    assert set(tried[:3]) == {"alpha", "beta", "gamma"}
    assert tried[3] in tried[:3], "where it failed is better than nowhere"


def test_what_spoke_against_a_node_is_over_when_the_sandbox_has_been_well_for_long():
    sim = running("alpha", "beta")
    sim.tell(InstanceExited("shop", 1, "killed", gave_up=True, **WHY))
    sim.rest()
    assert shop(sim).node == "beta"
    sim.tell(InstanceExited("shop", 2, "killed", gave_up=True, cause="test", at=1000.0))
    assert shop(sim).node == "alpha"


@pytest.mark.parametrize(
    ("restart", "reason", "status"),
    [
        ("transient", "normal", "stopped"),
        ("transient", ["shutdown", "enough"], "stopped"),
        ("transient", "crash", "restarting"),
        ("temporary", "normal", "stopped"),
        ("temporary", "crash", "failed"),
        ("permanent", "normal", "restarting"),
    ],
)
def test_the_restart_type_decides_what_becomes_of_an_ended_sandbox(restart, reason, status):
    sim = running("alpha", restart=restart)
    sim.tell(InstanceExited("shop", 1, reason, **WHY))
    assert shop(sim).status == status


def test_the_next_restarts_wait_longer_until_the_sandbox_is_given_up():
    policy = ControlPolicy(max_restarts=2, backoff=Backoff(first=1.0))
    sim = running("alpha", policy=policy)
    sim.tell(InstanceExited("shop", 1, "crash", **WHY))
    sim.rest()
    out = sim.tell(InstanceExited("shop", 2, "crash", **WHY))
    assert effects(out)[-1] == SetTimer.match(delay=1.0)
    assert (shop(sim).status, shop(sim).reason) == ("restarting", "crash")
    sim.fire(0)
    sim.rest()
    sim.tell(RestartRequested("shop", cause="again", at=100.0))
    out = sim.tell(InstanceExited("shop", 3, "crash", **WHY))
    assert shop(sim).status == "failed"
    assert kinds(out) == ["sandbox_exited", "sandbox_failed"]
    assert isinstance(sim.values["again"], SandboxFailed)


def test_a_restart_that_cannot_start_is_tried_elsewhere_and_then_anywhere():
    sim = running("alpha", "beta")
    sim.lose("alpha")
    sim.join("gamma")
    drain_one_failure(sim)
    assert shop(sim).node == "gamma"
    assert shop(sim).epoch == 3
    drain_one_failure(sim)
    sim.fire(0)
    assert shop(sim).node in ("beta", "gamma"), "where it failed is better than nowhere"


def drain_one_failure(sim):
    sim.perform(0, well=False)
    sim.deliver(0)


def test_a_failed_sandbox_starts_anew_from_its_checkpoint_when_asked():
    sim = running("alpha", restart="temporary")
    sim.tell(CheckpointStored("shop", 1, 3, 10, ("alpha",), **WHY))
    sim.tell(InstanceExited("shop", 1, "crash", **WHY))
    out = sim.tell(RestartRequested("shop", cause="again", at=100.0))
    assert effects(out) == [StartInstance.match(epoch=2, sources=(("alpha", sim.nodes["alpha"]),))]
    sim.rest()
    assert sim.values["again"].status == "running"


def test_a_running_sandbox_restarts_in_place_with_its_epoch():
    sim = running("alpha")
    out = sim.tell(RestartRequested("shop", cause="again", at=100.0))
    assert effects(out) == [RestartInstance.match(node="alpha", epoch=1)]
    sim.rest()
    assert (shop(sim).epoch, shop(sim).restarts, sim.values["again"].status) == (1, 1, "running")


def test_a_restart_in_place_that_fails_is_made_elsewhere():
    sim = running("alpha", "beta")
    sim.restart("shop")
    sim.tell(InstanceStartFailed("shop", "alpha", 1, "no", **WHY))
    assert (shop(sim).node, shop(sim).epoch) == ("beta", 2)


def test_a_restart_that_no_node_can_take_is_refused():
    sim = running("alpha")
    sim.lose("alpha")
    assert errors(sim.tell(RestartRequested("shop", **WHY))) == [NoPlacement]
    assert shop(sim).status == "lost"


def test_a_restart_that_is_told_twice_counts_once():
    sim = running("alpha")
    told = InstanceRestarted("shop", 1, 4711, "killed", **WHY)
    assert kinds(sim.tell(told)) == ["sandbox_restarted"]
    assert sim.tell(told) == []
    assert shop(sim).restarts == 1


def test_an_instance_that_somebody_else_stopped_comes_back_by_its_restart_type():
    sim = running("alpha")
    assert StartInstance.match(epoch=2) in sim.tell(InstanceStopped("shop", 1, **WHY))


# -- Destroying -------------------------------------------------------------------------------------


def test_a_destroyed_sandbox_is_answered_when_nothing_is_left():
    sim = running("alpha", "beta")
    sim.destroy("shop")
    sim.destroy("shop")
    assert not sim.answers[sim.asked[-1]]
    sim.perform(0)
    out = sim.tell(sim.reports.pop())
    assert [type(i) for i in out] == [DropCheckpoints, Record, Answer, Answer]
    assert out[0] == DropCheckpoints("shop", tuple(sim.nodes.values()), 1)
    assert not sim.state.sandboxes


@pytest.mark.parametrize("request_", ["destroy", "restart", "move"])
def test_nothing_can_be_done_to_what_is_not_there(request_):
    sim = cluster("alpha")
    getattr(sim, request_)("shop")
    assert isinstance(sim.values[sim.asked[0]], NoSandbox)


def test_whoever_waits_for_a_starting_sandbox_learns_of_its_destruction():
    sim = cluster("alpha")
    created = sim.create("shop")
    sim.restart("shop")
    sim.destroy("shop")
    assert isinstance(sim.values[created], StartFailed)
    assert isinstance(sim.values[sim.asked[1]], NoSandbox)
    sim.restart("shop")
    sim.move("shop")
    assert isinstance(sim.values[sim.asked[-1]], NoSandbox)
    sim.settle()
    assert not sim.state.sandboxes


def test_a_lost_sandbox_and_one_whose_node_goes_are_destroyed_too():
    sim = running("alpha")
    sim.destroy("shop")
    sim.lose("alpha")
    assert not sim.state.sandboxes
    sim = running("alpha")
    sim.lose("alpha")
    sim.destroy("shop")
    assert not sim.state.sandboxes


def test_epochs_go_on_after_destruction_even_when_its_tombstone_is_forgotten():
    sim = running("alpha", policy=ControlPolicy(tombstones=0))
    sim.tell(InstanceExited("shop", 1, "crash", **WHY))
    sim.rest()
    sim.destroy("shop")
    sim.rest()
    sim.create("shop")
    assert shop(sim).epoch == 3


# -- Moving -----------------------------------------------------------------------------------------


def moving(*nodes, until="start", **options):
    """``shop`` on its way from alpha to beta: told to rest, or its new instance being started."""
    sim = running(*(nodes or ("alpha", "beta")), **options)
    sim.tell(MoveRequested("shop", "beta", cause="move", at=100.0))
    if until == "start":
        sim.perform(0)
        sim.deliver(0)
    return sim


def test_a_move_rests_starts_flips_and_stops_the_old_instance():
    sim = moving(until="rest")
    assert shop(sim).status == "migrating"
    assert sim.orders == [QuiesceInstance.match(node="alpha", epoch=1)]
    out = sim.tell(Quiesced("shop", 1, 4, 77, cause="move", at=101.0))
    assert effects(out) == [StartInstance.match(node="beta", epoch=2, on_trial=True)]
    assert effects(out)[0].sources[0][0] == "alpha"
    assert shop(sim).node == "alpha", "the old one is the owner until the new one serves"
    out = sim.tell(InstanceStarted("shop", "beta", 2, 9, (1, 4), cause="move", at=103.5))
    assert effects(out) == [
        SetPeers.match(node="beta", epoch=2),
        StopInstance.match(node="alpha", epoch=1),
        Answer.match(cause="move"),
    ]
    assert sim.values["move"] == Migration(
        "shop", "alpha", "beta", 2, {"quiesce": 1.0, "start": 2.5}, bytes=77, pause=3.5
    )
    assert (shop(sim).node, shop(sim).epoch, shop(sim).pid, shop(sim).restarts) == ("beta", 2, 9, 0)
    assert shop(sim).moved == sim.values["move"]


def test_a_move_is_complete_when_nothing_is_left_of_the_old_instance():
    sim = moving(until="rest")
    sim.tell(Quiesced("shop", 1, 4, 77, cause="move", at=101.0))
    sim.tell(InstanceStarted("shop", "beta", 2, 9, (1, 4), cause="move", at=103.5))
    assert shop(sim).moved.buffered is None
    out = sim.tell(InstanceStopped("shop", 1, 3, cause="move", at=104.0))
    (complete,) = [i.event for i in out if isinstance(i, Record)]
    assert (complete.kind, complete.detail["buffered"]) == ("move_completed", 3)
    assert shop(sim).moved.phases == {"quiesce": 1.0, "start": 2.5, "resume": 0.5}
    assert shop(sim).moved.buffered == 3


def test_a_sandbox_that_was_started_again_since_its_move_does_not_tell_that_it_is_complete():
    sim = moving(until="rest")
    sim.tell(Quiesced("shop", 1, 4, 77, cause="move", at=101.0))
    sim.tell(InstanceStarted("shop", "beta", 2, 9, (1, 4), cause="move", at=103.5))
    sim.lose("beta")
    out = sim.tell(InstanceStopped("shop", 1, 3, cause="move", at=104.0))
    assert not [i.event for i in out if isinstance(i, Record) and i.event.kind == "move_completed"]


def test_how_far_a_move_is_can_be_seen_while_it_is_under_way():
    sim = moving(until="rest")
    assert sim.state.move_of("shop") == MoveInfo("alpha", "beta", "quiesce", since=100.0)
    out = sim.tell(Quiesced("shop", 1, 4, 77, cause="move", at=101.0))
    assert sim.state.move_of("shop") == MoveInfo("alpha", "beta", "start", since=101.0, bytes=77)
    (copying,) = [i.event for i in out if isinstance(i, Record)]
    assert (copying.kind, copying.detail) == ("sandbox_copying", {"target": "beta", "bytes": 77})
    sim.tell(InstanceStarted("shop", "beta", 2, 9, (1, 4), cause="move", at=103.5))
    assert sim.state.move_of("shop") is None
    assert sim.state.move_of("nowhere") is None


@pytest.mark.parametrize(
    ("node", "error"), [("alpha", MoveFailed), ("nowhere", UnknownNode), ("auto", NoPlacement)]
)
def test_a_move_that_cannot_begin_is_refused_and_changes_nothing(node, error):
    sim = running("alpha")
    sim.move("shop", node)
    assert type(sim.values[sim.asked[-1]]) is error
    assert shop(sim).status == "running"


def test_a_node_that_is_down_is_told_from_one_that_never_was():
    sim = running("alpha", "beta", "gamma")
    sim.lose("beta")
    sim.move("shop", "beta")
    refused = sim.values[sim.asked[-1]]
    assert type(refused) is NodeDown
    assert str(refused).startswith(
        "Node 'beta' is down; nothing was changed. There are: alpha, gamma. Name ano"
    )


def test_only_an_instance_that_is_started_for_a_move_is_on_trial_and_the_owner_is_told_that_it_is():
    sim = moving()
    sim.lose("alpha")
    sim.perform(0)
    assert sim.instances["shop", 2].on_trial
    assert SetPeers.match(epoch=2) in sim.tell(sim.reports.pop()), "also when the source was lost on the way"
    sim.tell(InstanceExited("shop", 2, "crash", **WHY))
    assert not next(order for order in sim.orders if isinstance(order, StartInstance)).on_trial


def test_a_move_under_way_refuses_another():
    sim = moving()
    sim.move("shop", "beta")
    assert isinstance(sim.values[sim.asked[-1]], MoveFailed)


@pytest.mark.parametrize(
    ("until", "failure"),
    [
        ("rest", QuiesceFailed("shop", 1, "busy", cause="move", at=101.0)),
        ("start", InstanceStartFailed("shop", "beta", 2, "no", cause="move", at=101.0)),
    ],
)
def test_a_move_that_fails_is_rolled_back_and_the_old_instance_serves_on(until, failure):
    sim = moving(until=until)
    out = sim.tell(failure)
    assert effects(out) == [ResumeInstance.match(node="alpha", epoch=1), Refuse.match(cause="move")]
    assert isinstance(sim.values["move"], MoveFailed)
    assert "and was rolled back" in str(sim.values["move"])
    assert "still runs where it was" in str(sim.values["move"])
    assert (shop(sim).status, shop(sim).node, shop(sim).epoch) == ("running", "alpha", 1)


@pytest.mark.parametrize("until", ["rest", "start"])
def test_a_move_whose_target_is_lost_is_rolled_back(until):
    sim = moving(until=until)
    sim.lose("beta")
    assert (shop(sim).status, shop(sim).node) == ("running", "alpha")
    assert isinstance(sim.values["move"], MoveFailed)


def test_a_move_whose_source_is_lost_at_rest_becomes_a_fail_over():
    sim = moving(until="rest")
    sim.lose("alpha")
    assert isinstance(sim.values["move"], MoveFailed)
    assert "still runs" not in str(sim.values["move"])
    assert "rolled back" not in str(sim.values["move"])
    sim.rest()
    assert (shop(sim).status, shop(sim).node) == ("running", "beta")


def test_a_move_whose_source_is_lost_during_the_start_goes_on():
    sim = moving()
    sim.lose("alpha")
    assert (shop(sim).status, shop(sim).node, shop(sim).epoch) == ("restarting", "beta", 2)
    sim.rest()
    assert isinstance(sim.values["move"], Migration)


@pytest.mark.parametrize("end", ["fail", "lose", "destroy"])
def test_a_move_that_goes_on_without_its_source_may_fail_in_the_end(end):
    sim = moving("alpha", "beta", "gamma")
    sim.lose("alpha")
    if end == "fail":
        drain_one_failure(sim)
    elif end == "lose":
        sim.lose("beta")
    else:
        sim.destroy("shop")
    assert isinstance(sim.values["move"], MoveFailed)
    sim.settle()


@pytest.mark.parametrize(
    ("until", "restart", "status"),
    [
        ("rest", "permanent", "restarting"),
        ("start", "permanent", "restarting"),
        ("start", "transient", "stopped"),
    ],
)
def test_a_source_that_ends_during_a_move_is_treated_by_its_restart_type(until, restart, status):
    sim = moving(until=until, restart=restart)
    sim.tell(InstanceExited("shop", 1, "normal", **WHY))
    assert shop(sim).status == status
    sim.settle()


def test_an_answer_to_an_earlier_move_is_late():
    sim = moving(until="rest")
    assert sim.tell(Quiesced("shop", 1, 1, cause="earlier", at=101.0)) == []
    assert sim.tell(QuiesceFailed("shop", 1, "no", cause="earlier", at=101.0)) == []


def test_a_restart_asked_for_during_a_move_is_done_by_it_or_after_its_roll_back():
    sim = moving()
    sim.tell(RestartRequested("shop", cause="again", at=100.0))
    sim.rest()
    assert sim.values["again"].node == "beta"
    sim = moving()
    sim.tell(RestartRequested("shop", cause="again", at=100.0))
    drain_one_failure(sim)
    sim.rest()
    assert sim.values["again"].node == "alpha"


def test_a_destroyed_move_stops_both_instances():
    sim = moving()
    sim.destroy("shop")
    assert [type(o) for o in sim.orders] == [StartInstance, StopInstance, StopInstance]
    sim.settle()
    assert not sim.state.sandboxes


# -- Late news --------------------------------------------------------------------------------------


def test_an_instance_of_an_epoch_that_is_over_is_stopped():
    sim = running("alpha", "beta")
    sim.tell(InstanceExited("shop", 1, "crash", **WHY))
    sim.rest()
    late = InstanceStarted("shop", "alpha", 1, **WHY)
    assert effects(sim.tell(late)) == [StopInstance.match(epoch=1)]
    assert effects(sim.tell(late)) == [], "once is enough while it is being stopped"
    assert effects(sim.tell(InstanceStarted("bank", "alpha", 1, **WHY))) == [
        StopInstance.match(sandbox="bank")
    ]
    assert sim.tell(InstanceStarted("bank", "nowhere", 1, **WHY)) == []
    assert sim.tell(InstanceStarted("shop", "nowhere", 0, **WHY)) == []
    assert shop(sim).epoch == 2


def test_the_report_of_a_running_instance_told_twice_changes_nothing():
    sim = running("alpha")
    assert sim.tell(InstanceStarted("shop", "alpha", 1, **WHY)) == []


@pytest.mark.parametrize(
    "late",
    [
        InstanceStartFailed("shop", "alpha", 7, "no", **WHY),
        InstanceRestarted("shop", 7, 1, "x", **WHY),
        InstanceExited("shop", 7, "x", **WHY),
        InstanceStopped("shop", 7, **WHY),
        InstanceStopped("nobody", 1, **WHY),
        Quiesced("shop", 1, 1, **WHY),
        QuiesceFailed("shop", 1, "no", **WHY),
        CheckpointStored("nobody", 1, 1, 1, ("alpha",), **WHY),
        CheckpointStored("shop", 1, 1, 1, ("nowhere",), **WHY),
        TimerFired("shop#7", **WHY),
        NodeLost("nowhere", "x", **WHY),
    ],
)
def test_late_news_changes_nothing(late):
    sim = running("alpha")
    before = shop(sim)
    assert sim.tell(late) == []
    assert shop(sim) == before


def test_a_checkpoint_of_an_epoch_that_is_over_is_ignored_with_a_record():
    sim = running("alpha")
    assert kinds(sim.tell(CheckpointStored("shop", 0, 9, 1, ("alpha",), **WHY))) == ["stale_checkpoint"]
    assert shop(sim).checkpoint is None


def test_only_so_many_early_reports_are_kept():
    sim = cluster("alpha")
    sim.create("shop")
    for pid in range(50):
        sim.tell(InstanceRestarted("shop", 1, pid, "x", **WHY))
    assert len(sim.state._work["shop"].early) == 16


# -- The machine's own bugs -------------------------------------------------------------------------


def test_an_unknown_event_is_a_bug_and_says_so():
    with pytest.raises(InvalidTransition, match="no handler"):
        ControlState().handle(ControlEvent(**WHY))


def test_an_epoch_that_would_go_down_is_a_bug():
    sim = running("alpha")
    with pytest.raises(InvalidTransition, match="would go down to 0"):
        sim.state._set(sim.state._work["shop"], epoch=0)


def test_the_story_tells_what_concerns_one_sandbox():
    sim = running("alpha")
    sim.create("bank")
    story = sim.state.story("shop")
    assert "CreateRequested(cause='c3', spec='shop')" in story
    assert "bank" not in story
    assert "node_joined" in sim.state.story()
    assert "nothing" in (sim.sample("alpha") or sim.state.story())


def work(state):
    return state._work["shop"]


def broken(**changes):
    def spoil(state):
        work(state).record = state.sandboxes["shop"] = replace(work(state).record, **changes)

    return spoil


def spoilt(**changes):
    def spoil(state):
        for name, value in changes.items():
            setattr(work(state), name, value)
        state.sandboxes["shop"] = work(state).record = replace(work(state).record, status=work(state).status)

    return spoil


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda s: s.sandboxes.update(shop=replace(s.sandboxes["shop"])), "another record"),
        (broken(status="lost"), "shows status 'lost'"),
        (broken(address="elsewhere"), "which is not there"),
        (spoilt(phase="stopped"), "no owner in the phase 'stopped', and yet a place"),
        (broken(checkpoint=CheckpointInfo(1, 1, 1, 1.0)), "not its newest"),
        (lambda s: s._tombstones.update(shop=1), "has a tombstone"),
        (spoilt(highest=0), "above 0"),
        (lambda s: work(s).stopping.update({1: "alpha"}), "owner that is being stopped"),
        (spoilt(timer="x"), "has timer 'x'"),
        (spoilt(move=object()), "has the move"),
        (spoilt(phase="moving"), "has the move None"),
        (
            lambda s: (broken(node=None, address=None, pid=None)(s), spoilt(phase="destroying")(s)),
            "nothing left",
        ),
        (spoilt(early=[1]), "keeps early reports"),
        (spoilt(waiters=[1]), "owes answers"),
        (spoilt(fresh=True), "has never served"),
        (lambda s: s._by_stop.add("alpha", ("shop", 7)), "index by_stop holds"),
        (lambda s: s._want_peers(work(s), ("nowhere",)), "names nodes that are not there"),
        (lambda s: s._lost.update(shop=None), "registry's lost are"),
        (
            lambda s: s.nodes.update(
                alpha=replace(s.nodes["alpha"], load=replace(s.nodes["alpha"].load, sandboxes=7))
            ),
            "registry's ranks are",
        ),
        (
            lambda s: s._set_node(
                replace(s.nodes["alpha"], load=replace(s.nodes["alpha"].load, sandboxes=7))
            ),
            "reserves",
        ),
    ],
)
def test_each_broken_invariant_is_found_with_its_story(spoil, says):
    sim = running("alpha")
    spoil(sim.state)
    with pytest.raises(InvalidTransition, match=says):
        sim.state.validate()


def test_a_new_version_of_an_application_is_what_later_instances_start_with():
    sim = running("alpha", "beta")
    epoch = sim.state.sandboxes["shop"].epoch
    sim.state.handle(ApplicationReplaced("shop", epoch, b"new", **WHY))
    sim.lose("alpha")
    assert sim.state.sandboxes["shop"].spec.application == b"new"
    sim.rest()
    assert sim.state.sandboxes["shop"].epoch > epoch


@pytest.mark.parametrize(("sandbox", "epoch"), [("shop", 99), ("nowhere", 1)])
def test_a_late_word_of_a_new_application_changes_nothing(sandbox, epoch):
    sim = running("alpha")
    assert sim.state.handle(ApplicationReplaced(sandbox, epoch, b"new", **WHY)) == []
    assert sim.state.sandboxes["shop"].spec.application == b""
