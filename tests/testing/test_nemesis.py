"""The nemesis: real faults while clients work, and a net that holds what falls."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

import superlearner as sl
from superlearner.cli import nemesis as command
from superlearner.cluster.chaos import Chaos
from superlearner.cluster.cluster import Cluster
from superlearner.core.operations import Operation
from superlearner.core.verdicts import NOTHING_LOST, Verdict
from superlearner.errors import InvalidSpec
from superlearner.testing import leftovers, workload
from superlearner.testing.fault_schedule import FAULTS, WEIGHTS, FaultSchedule
from superlearner.testing.nemesis import LIVENESS, torment
from superlearner.testing.schedule import Step
from superlearner.testing.trial import Done, Trial


def play(schedule: FaultSchedule) -> Trial:
    return asyncio.run(torment(schedule))


def verdict(trial: Trial, promise: str) -> Verdict:
    return next(found for found in trial.verdicts if found.promise == promise)


# -- Schedules


def test_a_seed_always_gives_the_same_schedule_and_others_give_others():
    assert FaultSchedule.generate(3) == FaultSchedule.generate(3)
    assert len({FaultSchedule.generate(seed) for seed in range(20)}) == 20


def test_all_kinds_of_faults_are_drawn_and_each_is_something_that_the_cluster_does():
    drawn = {step.verb for seed in range(60) for step in FaultSchedule.generate(seed).steps}
    assert drawn == set(FAULTS) == set(WEIGHTS)
    assert all(hasattr(Chaos, fault) or hasattr(Cluster, fault) for fault in FAULTS)


def test_only_the_chosen_faults_are_drawn_in_time_and_the_scheduler_dies_once():
    schedule = FaultSchedule.generate(5, seconds=60.0, faults=["kill_node", "kill_scheduler"])
    verbs = [step.verb for step in schedule.steps]
    assert set(verbs) == {"kill_node", "kill_scheduler"}
    assert verbs.count("kill_scheduler") == 1
    assert all(0 < step.at < 60.0 for step in schedule.steps)
    assert FaultSchedule.generate(5, seconds=60.0, faults=["kill_scheduler"]).steps[1:] == ()


def test_a_fault_that_there_is_not_is_refused():
    with pytest.raises(InvalidSpec, match=r"no fault 'burn' here\. There are: kill_process"):
        FaultSchedule.generate(1, faults=["burn"])


# -- Real runs


@pytest.mark.slow
def test_a_killed_sandbox_and_a_killed_node_break_no_promise(tmp_path: Path):
    steps = (Step(0.3, "kill_sandbox", (workload.REGISTER,)), Step(0.6, "kill_node", ("beta",)))
    trial = play(FaultSchedule(1, seconds=1.5, steps=steps))
    assert trial.verdict is True, trial
    assert trial.count("ok") > 20
    assert {done.refused for done in trial.done} == {None}
    assert all(recovery.seconds is not None for recovery in trial.recoveries), trial.recoveries
    lines = trial.write(tmp_path / "history.jsonl").read_text().splitlines()
    head, *rows = map(json.loads, lines)
    assert head["seed"] == 1
    assert [Operation.from_dict(row["operation"]) for row in rows if "operation" in row] == list(
        trial.operations
    )
    assert "SIGKILL of register" in {recovery.fault for recovery in trial.recoveries}


@pytest.mark.slow
def test_writes_that_are_acknowledged_before_they_are_stored_are_found_to_be_lost(monkeypatch):
    async def careless(cluster, name):
        await cluster.create_sandbox(
            name, f"{workload.__name__}:{name}", checkpoint=sl.Checkpoint(every=None), max_restarts=100
        )

    monkeypatch.setattr(workload, "create", careless)
    trial = play(FaultSchedule(2, seconds=1.5, steps=(Step(1.2, "kill_sandbox", (workload.COUNTER,)),)))
    assert trial.verdict is False
    assert verdict(trial, NOTHING_LOST).holds is False
    assert verdict(trial, "the counter is linearizable").holds is False
    assert verdict(trial, LIVENESS).holds is True


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_no_promise_is_broken_whatever_breaks(seed: int):
    trial = play(FaultSchedule.generate(seed))
    assert trial.verdict is True, f"{trial}\nRun it again: superlearner nemesis --seed {seed}"


# -- The command


def told(*verdicts: Verdict) -> Trial:
    schedule = FaultSchedule.generate(7)
    read = Operation("ann", "read", invoked=1.0, completed=1.5, number=1)
    done = tuple(Done(step, step.at) for step in schedule.steps)
    return Trial(schedule, verdicts, done, 0.0, (read,), (), (), ())


def test_a_broken_promise_is_told_with_its_schedule_its_history_and_how_to_run_it_again(monkeypatch, runner):
    monkeypatch.setattr(
        command, "_play", lambda *_: told(Verdict(NOTHING_LOST, holds=False, why="write(3) is gone"))
    )
    done = runner("nemesis", "--seed", "7", "--faults", "kill_node,cut")
    assert done.exit_code == 1
    assert f"FALSE    {NOTHING_LOST}: write(3) is gone" in done.stdout
    assert "seed 7: nodes alpha, beta, gamma; 5 s (real)" in done.stdout
    assert "Run it again: superlearner nemesis --seed 7 --seconds 5 --faults kill_node,cut" in done.stdout
    (path,) = [
        line.removeprefix("History: ") for line in done.stdout.splitlines() if line.startswith("History: ")
    ]
    assert json.loads(Path(path).read_text().splitlines()[0])["seed"] == 7
    assert "Runs with lost writes: 1, with two owners: 0" in done.stdout


def test_the_exit_code_tells_the_verdict(monkeypatch, runner):
    monkeypatch.setattr(command, "_play", lambda *_: told(Verdict("a", holds=True)))
    assert runner("nemesis", "--seeds", "2").exit_code == 0
    monkeypatch.setattr(command, "_play", lambda *_: told(Verdict("a", holds=None, why="too long")))
    done = runner("nemesis", "--seeds", "1", "--json")
    assert done.exit_code == 3
    assert json.loads(done.stdout)["verdict"] is None


def test_a_fault_that_there_is_not_is_refused_by_the_command(runner):
    done = runner("nemesis", "--faults", "burn")
    assert done.exit_code == 2
    assert "'burn' is none of: kill_process" in done.stderr


@pytest.fixture
def runner():
    from click.testing import CliRunner

    from superlearner.cli import main

    return lambda *words: CliRunner().invoke(main, words)


# -- What is left


@pytest.mark.slow
def test_the_machine_tells_what_is_left_of_a_sandbox_and_of_a_cluster():
    with sl.Cluster(nodes=3) as cluster:
        connection = cluster._session.found
        before = leftovers.descriptors(connection)
        assert leftovers.of_sandboxes(connection) == []
        sandbox = cluster.create_sandbox("shop", f"{workload.__name__}:{workload.COUNTER}")
        told = leftovers.of_sandboxes(connection)
        assert any(line.startswith(f"process {sandbox.info().pid} under the fork server") for line in told)
        assert f"file {connection.directory}/state/sandboxes/shop" in told
        sandbox.checkpoint()  # there are copies, and so hosts stand by
        cluster.destroy_sandbox("shop")
        assert leftovers.of_sandboxes(connection) == []
        assert leftovers.opened(connection, before) == []
        (line,) = leftovers.opened(connection, Counter({connection.pid: -leftovers.POOLED}))
        assert line.endswith(f"descriptors more than before in process {connection.pid}")
        were = leftovers.processes(connection)
        assert {f"process {p.pid}" for p in were} < set(leftovers.after_the_end(connection, were))
    assert leftovers.after_the_end(connection, were) == []
