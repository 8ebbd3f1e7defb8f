"""Examples of the operations that break things on purpose; each heals behind itself."""

from __future__ import annotations

from arsenal_kit import Example, World


def a_slow_link(world: World):
    world.afterwards(world.cluster.chaos.heal)
    world.stored = world.cluster.chaos.delay("alpha", "beta", 0.01)
    return {}


def lists_it(world: World, result, given) -> None:
    (fault,) = result["faults"]
    assert (fault["id"], fault["kind"], fault["detail"]["seconds"]) == (world.stored.id, "delay", 0.01)


def its_id(world: World):
    a_slow_link(world)
    return {"id": world.stored.id}


def is_it(world: World, result, given) -> None:
    assert (result["fault"]["id"], result["fault"]["kind"]) == (given["id"], "delay")


def a_partition(world: World):
    world.afterwards(world.cluster.chaos.heal)
    return {"fault": {"kind": "partition", "groups": [["alpha"], ["beta", "gamma"]]}}


def it_acts(world: World, result, given) -> None:
    (fault,) = world.cluster.chaos.faults()
    assert (fault.id, fault.kind) == (result["id"], "partition")
    assert ["alpha", "beta"] in result["fault"]["detail"]["links"]


def a_counter(world: World):
    world.stored = world.sandbox()
    world.stored.call("Counter", "increment")
    world.stored.checkpoint()
    return {"kill": {"kind": "kill_sandbox", "id": world.stored.id}}


def it_is_back(world: World, result, given) -> None:
    assert world.stored.call("Counter", "increment", timeout=20.0) == 2
    assert world.stored.info().pid != result["pid"]
    assert world.cluster.events(kind="fault_injected", sandbox=world.stored.id)


def has_ended(world: World, result, given) -> None:
    assert result is None
    assert world.cluster.chaos.faults() == []


def was_healed(world: World, result, given) -> None:
    assert result["healed"] == [world.stored.id]
    assert world.cluster.chaos.faults() == []


def a_short_schedule(world: World):
    world.stored = world.sandbox()
    return {
        "seed": 7,
        "steps": [
            {"after": 0.02, "fault": {"kind": "kill_process", "target": f"{world.stored.id}/Counter"}},
            {"after": 0.0, "fault": {"kind": "delay", "a": "any", "b": "scheduler", "seconds": 0.001}},
        ],
    }


def was_carried_out(world: World, result, given) -> None:
    delay, killed = result["done"]
    assert (delay["kind"], killed["kind"]) == ("delay", "kill_process")
    assert delay["arguments"]["a"] in {"alpha", "beta", "gamma"}
    assert world.cluster.events(kind="process_exited", sandbox=world.stored.id)[0].reason == "killed"
    assert world.cluster.chaos.faults() == []


EXAMPLES = {
    "list_faults": Example(a_slow_link, lists_it),
    "get_fault": Example(its_id, is_it),
    "inject_fault": Example(a_partition, it_acts),
    "kill": Example(a_counter, it_is_back),
    "revert_fault": Example(its_id, has_ended),
    "heal": Example(a_slow_link, was_healed),
    "run_schedule": Example(a_short_schedule, was_carried_out),
}
