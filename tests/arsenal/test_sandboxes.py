"""What operations on sandboxes tell when not all goes well."""

from __future__ import annotations

import asyncio
import time

import pytest
from arsenal_kit import fetch

import superlearner as sl
from superlearner.arsenal.refusals import InvalidParameters, NotConfirmed
from superlearner.errors import CheckpointFailed

COUNTER = "superlearner.cli.demo_app:Counter"


def test_a_checkpoint_that_is_not_there_changes_nothing(cluster, world):
    sandbox = world.sandbox()
    sandbox.call("Counter", "increment")
    before = sandbox.info()
    with pytest.raises(CheckpointFailed, match="no checkpoint 99 of epoch 7"):
        cluster.ops.restore_sandbox(sandbox.id, epoch=7, seq=99, confirm=True)
    assert (sandbox.info().pid, sandbox.get_state("Counter")) == (before.pid, 1)


def test_a_restored_state_can_be_undone(cluster, world):
    sandbox = world.sandbox(checkpoint=sl.Checkpoint(every=None))
    sandbox.call("Counter", "increment")
    first = sandbox.checkpoint()
    sandbox.call("Counter", "increment")
    sandbox.restore(first["epoch"], first["seq"])
    assert sandbox.get_state("Counter") == 1
    undo = sandbox.checkpoints().found[1]  # what there was before, taken by the restoration itself
    sandbox.restore(undo.epoch, undo.seq)
    assert sandbox.get_state("Counter") == 2


def test_there_is_no_version_before_the_first(cluster, world):
    sandbox = world.sandbox()
    with pytest.raises(sl.InvalidSpec, match=r"no version 0 of its .* nothing was changed\. There are: 1"):
        cluster.ops.roll_back_sandbox(sandbox.id)
    with pytest.raises(sl.InvalidSpec, match="no version 5"):
        cluster.ops.roll_back_sandbox(sandbox.id, version=5)


def test_another_sandbox_of_the_same_id_has_versions_of_its_own(cluster, world):
    sandbox = world.sandbox()
    cluster.ops.reload_sandbox(sandbox.id, application=COUNTER, arguments=[1])
    assert len(sandbox.versions()) == 2
    cluster.destroy_sandbox(sandbox.id)
    cluster.create_sandbox(sandbox.id, COUNTER)
    assert [version.number for version in sandbox.versions()] == [1]


def test_in_python_parameters_are_checked_and_dangers_confirmed_too(cluster, world):
    sandbox = world.sandbox()
    with pytest.raises(NotConfirmed, match="nothing was done"):
        cluster.ops.destroy_sandbox(sandbox.id)
    with pytest.raises(InvalidParameters, match="limit: "):
        cluster.ops.list_sandboxes(limit=0)
    with pytest.raises(InvalidParameters, match="got an unexpected keyword argument 'nod'"):
        cluster.ops.list_sandboxes(nod="alpha")
    with pytest.raises(AttributeError, match="Did you mean 'list_sandboxes'"):
        cluster.ops.list_sandboxs  # noqa: B018 - it is looked up
    assert "list_sandboxes" in dir(cluster.ops)
    assert "Parameters" in cluster.ops.list_sandboxes.__doc__


async def look(address, security):
    async with await sl.connect(address, security=security, asynchronous=True) as cluster:
        return (await cluster.ops.cluster_status()).cluster.total_nodes


def test_the_methods_of_an_asynchronous_cluster_are_awaited(cluster):
    assert asyncio.run(look(cluster.address, cluster.security)) == 3


@pytest.mark.slow
def test_a_node_that_does_not_answer_is_named_beside_what_the_others_say(cluster, world, server):
    there = world.sandbox(node="gamma")
    cluster.chaos.pause_node("gamma")
    try:
        began = time.monotonic()
        answer = fetch(f"{server.url}/api/v1/distributed/sandboxes?limit=1000", token=server.tokens["read"])
        assert time.monotonic() - began < 5
        assert answer.status == 200
        told = answer.json
        assert told["nodes_failed"] == ["gamma"]
        assert (told["failures"][0]["node"], told["failures"][0]["code"]) == ("gamma", "node_not_available")
        assert set(told["nodes_successful"]) == {"alpha", "beta"}
        (row,) = [row for row in told["sandboxes"] if row["id"] == there.id]
        assert row["confirmed"] is None or row["node"] != "gamma"  # by then it may have been replaced
    finally:
        cluster.chaos.heal()
