"""What holds of every manager and of the simulated cluster alike: what the simulation finds would be so for real."""

from __future__ import annotations

import pytest
from apps import shop
from cluster_kit import awaiting
from contract_kit import SUBJECTS, open_manager

import superlearner as sl
from superlearner.testing import SimulatedManager

DURABLE = sl.Checkpoint(every=None, durability="reply")
#: Those that have several nodes, and those whose nodes may be killed here.
SPREAD = ("cluster", "dual in a cluster", "simulated")
ALL = (*SUBJECTS, "simulated")


@pytest.fixture(scope="module", params=ALL)
def manager(request):
    if request.param == "simulated":
        yield SimulatedManager()
        return
    with open_manager(request.param, request.getfixturevalue("cluster")) as opened:
        yield opened


def spread(*subjects):
    """Let a test have only some of the managers."""
    return pytest.mark.parametrize("manager", subjects, indirect=True)


def create(manager, id, **options):
    """Create a sandbox whose process ``counter`` counts up; the answers of a durable one are stored before."""
    options.setdefault("checkpoint", DURABLE)
    if isinstance(manager, SimulatedManager):
        return manager.create_sandbox(id, **options)
    return manager.create_sandbox(id, shop(), **options).info()


def info(manager, id):
    (found,) = [info for info in manager.sandboxes() if info.id == id]
    return found


def increment(manager, id, **options):
    return manager.call(f"{id}/counter", "increment", timeout=20, **options)


def wait_until_failed(manager, id):
    """Kill the OS process of a sandbox that is not to be restarted, and wait until that is known."""
    if isinstance(manager, SimulatedManager):
        manager.chaos.kill_sandbox(id)
        manager.sleep(1.0)
        return
    with awaiting(manager, "sandbox_failed", sandbox=id) as failed:
        manager.chaos.kill_sandbox(id)
        failed()


def test_calls_are_answered_in_order(manager, fresh):
    made = create(manager, fresh)
    assert (made.status, made.epoch, made.restarts) == ("running", 1, 0)
    assert [increment(manager, fresh) for _ in range(3)] == [1, 2, 3]
    assert info(manager, fresh).node == made.node


def test_what_cannot_be_is_refused_and_nothing_changes(manager, fresh):
    create(manager, fresh)
    with pytest.raises(sl.SandboxExists):
        create(manager, fresh)
    with pytest.raises(sl.UnknownNode):
        create(manager, f"{fresh}-b", node="nowhere")
    with pytest.raises(sl.InvalidSpec):
        create(manager, f"{fresh}-b", restart="sometimes")
    with pytest.raises(sl.NoProcess):
        manager.call(f"{fresh}/nobody", "increment")
    assert f"{fresh}-b" not in {found.id for found in manager.sandboxes()}
    assert increment(manager, fresh) == 1


def test_nobody_is_there(manager):
    for ask in (
        lambda: increment(manager, "nowhere"),
        lambda: manager.destroy_sandbox("nowhere"),
        lambda: manager.restart_sandbox("nowhere"),
    ):
        with pytest.raises(sl.NoSandbox):
            ask()


def test_a_killed_host_comes_back_where_it_was_with_all_that_was_answered(manager, fresh):
    made = create(manager, fresh)
    for number in range(1, 4):
        assert increment(manager, fresh) == number
        manager.chaos.kill_sandbox(fresh)
    assert increment(manager, fresh) == 4
    after = info(manager, fresh)
    assert (after.node, after.epoch, after.status) == (made.node, 1, "running")


def test_a_temporary_one_stays_down_until_it_is_restarted(manager, fresh):
    create(manager, fresh, restart="temporary")
    assert increment(manager, fresh) == 1
    wait_until_failed(manager, fresh)
    with pytest.raises(sl.SandboxFailed):
        increment(manager, fresh)
    assert manager.restart_sandbox(fresh).status == "running"
    assert increment(manager, fresh) == 2


def test_a_restart_keeps_the_state(manager, fresh):
    create(manager, fresh)
    assert increment(manager, fresh) == 1
    assert manager.restart_sandbox(fresh).status == "running"
    assert increment(manager, fresh) == 2


def test_a_request_with_an_id_takes_effect_once(manager, fresh):
    create(manager, fresh)
    assert [increment(manager, fresh, request_id="order-1") for _ in range(3)] == [1, 1, 1]
    manager.chaos.kill_sandbox(fresh)
    assert increment(manager, fresh, request_id="order-1") == 1
    manager.restart_sandbox(fresh)
    assert increment(manager, fresh, request_id="order-1") == 1
    assert increment(manager, fresh, request_id="order-2") == 2


def test_one_that_was_destroyed_is_gone_and_its_id_is_free(manager, fresh):
    create(manager, fresh)
    assert increment(manager, fresh) == 1
    manager.destroy_sandbox(fresh)
    assert fresh not in {found.id for found in manager.sandboxes()}
    with pytest.raises(sl.NoSandbox):
        increment(manager, fresh)
    create(manager, fresh)
    assert increment(manager, fresh) == 1


@spread(*SPREAD)
def test_a_move_takes_the_state_along_under_the_next_epoch(manager, fresh):
    create(manager, fresh, node="alpha")
    assert increment(manager, fresh, request_id="order-1") == 1
    moved = manager.migrate_sandbox(fresh, "beta")
    assert (moved.source, moved.target, moved.epoch) == ("alpha", "beta", 2)
    assert increment(manager, fresh, request_id="order-1") == 1
    assert increment(manager, fresh) == 2
    after = info(manager, fresh)
    assert (after.node, after.epoch, after.status) == ("beta", 2, "running")
    with pytest.raises(sl.UnknownNode):
        manager.migrate_sandbox(fresh, "nowhere")
    assert info(manager, fresh).epoch == 2


@spread("cluster", "simulated")
def test_a_killed_node_loses_nothing_that_was_answered(manager, fresh):
    create(manager, fresh, node="gamma")
    assert [increment(manager, fresh, request_id=f"order-{n}") for n in (1, 2)] == [1, 2]
    manager.chaos.kill_node("gamma")
    assert increment(manager, fresh, request_id="order-2") == 2
    assert increment(manager, fresh) == 3
    after = info(manager, fresh)
    assert after.node != "gamma"
    assert (after.epoch, after.status) == (2, "running")
