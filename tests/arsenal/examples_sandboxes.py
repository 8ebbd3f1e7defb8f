"""Examples of the operations on sandboxes."""

from __future__ import annotations

import pytest
from arsenal_kit import Example, World

import superlearner as sl
from superlearner.otp import GenServer, Reply

COUNTER = "superlearner.cli.demo_app:Counter"


def one(world: World):
    return {"id": world.sandbox().id}


def is_it(world: World, result, given) -> None:
    assert result["sandbox"]["id"] == given["id"]
    assert result["sandbox"]["status"] == "running"


# -- Looking


def on_a_node(world: World):
    return {"node": world.sandbox(node="beta").info().node, "limit": 1000}


def lists_the_node(world: World, result, given) -> None:
    assert {row["node"] for row in result["sandboxes"]} == {"beta"}
    assert all(row["confirmed"] for row in result["sandboxes"])
    assert result["total"] == len(world.cluster.sandboxes(node="beta"))
    assert (result["nodes_queried"], result["nodes_failed"]) == (["beta"], [])


def that_has_printed(world: World):
    sandbox = world.cluster.create_sandbox(world.fresh(), Speaker)
    sandbox.call("Speaker", "hello")
    return {"id": sandbox.id, "lines": 1}


class Speaker(GenServer):
    """Prints what it is asked, by value: it is defined beside the tests."""

    def init(self):
        return 0

    def handle_call(self, request, sender, state):
        print("before\n" + request, flush=True)  # noqa: T201 - that is what it is for
        return Reply("said", state)


def has_its_words(world: World, result, given) -> None:
    assert result["text"] == "hello\n"


def measured(world: World, result, given) -> None:
    assert result["id"] == given["id"]
    assert all(sample["node"] in world.cluster.status().nodes for sample in result["samples"])


# -- Making and ending


def wanted(world: World):
    return {
        "id": world.fresh(),
        "application": COUNTER,
        "arguments": [41],
        "node": "gamma",
        "resources": {"memory": "256 MiB", "open_files": 64},
        "checkpoint": {"every": None, "copies": 1},
        "labels": {"made": "by an example"},
    }


def is_made(world: World, result, given) -> None:
    assert (result["id"], result["sandbox"]["node"]) == (given["id"], "gamma")
    assert world.cluster.sandbox(given["id"]).call("Counter", "increment") == 42


def is_gone(world: World, result, given) -> None:
    assert result is None
    with pytest.raises(sl.NoSandbox):
        world.cluster.sandbox(given["id"]).info()


# -- Its life


def counted(world: World, **options):
    sandbox = world.sandbox(**options)
    for _ in range(3):
        sandbox.call("Counter", "increment")
    return sandbox


def state(world: World, id: str):
    return world.cluster.sandbox(id).get_state("Counter")


def with_three(world: World):
    return {"id": counted(world).id}


def still_three_after_a_restart(world: World, result, given) -> None:
    assert result["sandbox"]["restarts"] == 1
    assert state(world, given["id"]) == 3


def to_another_node(world: World):
    return {"id": counted(world, node="alpha").id, "node": "beta"}


def has_moved(world: World, result, given) -> None:
    moved = result["migration"]
    assert (moved["source"], moved["target"]) == ("alpha", "beta")
    assert state(world, given["id"]) == 3


def is_stored(world: World, result, given) -> None:
    assert world.cluster.sandbox(given["id"]).info().checkpoint.seq == result["seq"]
    assert len(result["nodes"]) == 3


def with_a_checkpoint(world: World):
    sandbox = counted(world)
    sandbox.checkpoint()
    return {"id": sandbox.id}


def has_checkpoints(world: World, result, given) -> None:
    newest = result["checkpoints"][0]
    assert newest["nodes"] == ["alpha", "beta", "gamma"]
    assert (result["total"], result["failures"]) == (len(result["checkpoints"]), [])


def gone_on_since(world: World):
    sandbox = counted(world, checkpoint=sl.Checkpoint(every=None))
    taken = sandbox.checkpoint()
    sandbox.call("Counter", "increment")
    return {"id": sandbox.id, "epoch": taken["epoch"], "seq": taken["seq"]}


def is_back(world: World, result, given) -> None:
    assert result["seq"] > given["seq"]
    assert state(world, given["id"]) == 3
    world.cluster.sandbox(given["id"]).restart()
    assert state(world, given["id"]) == 3


# -- Its code


def another_version(world: World):
    return {"id": counted(world).id, "application": COUNTER, "arguments": [7]}


def runs_the_second(world: World, result, given) -> None:
    assert result["current"] == 2
    assert [version["current"] for version in result["versions"]] == [False, True]
    assert state(world, given["id"]) == 3


def runs_the_first(world: World, result, given) -> None:
    assert result["current"] == 1
    assert state(world, given["id"]) == 3


def reloaded(world: World):
    given = another_version(world)
    world.cluster.ops.reload_sandbox(**given)
    return {"id": given["id"]}


EXAMPLES = {
    "list_sandboxes": Example(on_a_node, lists_the_node),
    "get_sandbox": Example(one, is_it),
    "get_sandbox_logs": Example(that_has_printed, has_its_words),
    "get_sandbox_metrics": Example(one, measured),
    "create_sandbox": Example(wanted, is_made),
    "destroy_sandbox": Example(one, is_gone),
    "restart_sandbox": Example(with_three, still_three_after_a_restart),
    "migrate_sandbox": Example(to_another_node, has_moved),
    "checkpoint_sandbox": Example(with_three, is_stored),
    "list_checkpoints": Example(with_a_checkpoint, has_checkpoints),
    "restore_sandbox": Example(gone_on_since, is_back),
    "reload_sandbox": Example(another_version, runs_the_second),
    "list_versions": Example(reloaded, runs_the_second),
    "roll_back_sandbox": Example(reloaded, runs_the_first),
}
