"""The control plane in virtual time: seeds hold, mistakes are caught, what was found stays fixed."""

from __future__ import annotations

import pytest
import undone
from hypothesis import given, settings

from superlearner.testing import Parts, Schedule, SimulatedCluster, Step, Violation, checks, shrink, simulate
from superlearner.testing.schedule import NODES
from superlearner.testing.strategies import schedules

SEEDS = 280
#: How many seeds a mistake may survive.
CAUGHT_WITHIN = 200


@pytest.mark.parametrize(
    "first", [pytest.param(n, marks=[pytest.mark.slow] * (n >= 160)) for n in range(0, SEEDS, 40)]
)
def test_every_promise_is_kept_whatever_breaks(first: int):
    for seed in range(first, first + 40):
        report = simulate(seed)
        assert report.ok, f"{report}\nReplay: superlearner simulate --seed {seed}"


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_every_promise_is_kept_by_a_thousand_nodes():
    # With 100,000 sandboxes it takes minutes: `superlearner simulate --nodes 1000 --sandboxes 100000 --seed 1`.
    report = simulate(Schedule.generate(1, 1_000, 10_000))
    assert report.ok, str(report)
    assert report.outcomes["create ok"] == 10_000
    assert report.events["node_lost"] > 20
    assert report.events["sandbox_restarted"] > 200


def test_the_faults_reach_what_they_are_for():
    kinds, outcomes = set(), set()
    for seed in range(60):
        report = simulate(seed)
        kinds |= set(report.events)
        outcomes |= set(report.outcomes)
    wanted = {
        "node_suspected",
        "node_recovered",
        "node_lost",
        "sandbox_lost",
        "sandbox_moved",
        "sandbox_exited",
    }
    wanted |= {"move_rolled_back", "sandbox_destroyed", "stale_checkpoint"}
    assert wanted - kinds == set()
    answers = {"call ok", "call NoConnection", "call TimeoutError", "call ProcessDied"}
    assert answers - outcomes == set()


#: It takes the most seeds.
LATE = "an answer leaves before it is stored"


@pytest.mark.parametrize(
    "mistake", [*sorted(undone.FENCES.keys() - {LATE}), pytest.param(LATE, marks=pytest.mark.slow)]
)
def test_a_fence_that_is_taken_away_is_missed(mistake: str):
    for seed in range(CAUGHT_WITHIN):
        report = simulate(seed, undone.FENCES[mistake])
        if not report.ok:
            break
    assert not report.ok, f"{CAUGHT_WITHIN} seeds did not notice that {mistake}"
    assert report.broken == BROKEN[mistake]


BROKEN = {
    "the store trusts every epoch": checks.STALE,
    "a node is replaced when it is suspected": checks.OUTWAITED,
    "a node is replaced when it is suspected, seen by its sandboxes": checks.ONE_OWNER,
    "a lease counts from the grant's arrival": checks.OUTWAITED,
    "the quorum is not asked for": checks.QUORUM,
    LATE: checks.DURABLE,
    "request ids are forgotten on a restore": checks.ONCE,
}


# -- What was found: the mistake, what it broke, and the schedule, as short as it could be made --

FOUND = [
    pytest.param(
        undone.starts_of_any_life,
        checks.ONE_OWNER,
        Schedule(
            54,
            steps=(
                Step(0.6, "create", ("bob", "bank", "alpha", "transient", 2)),
                Step(1.823, "part", (("gamma", "alpha"), 9.057)),
                Step(8.78, "move", ("ann", "bank", "gamma")),
                Step(8.827, "cut", ("scheduler", "gamma", 3.126)),
            ),
        ),
        id="an order that lay unread is carried out in the node's next life",
    ),
    pytest.param(
        undone.clocks_of_one_speed,
        checks.OUTWAITED,
        Schedule(1, steps=(Step(1.514, "cut", ("scheduler", "beta", 6.019)),)),
        id="a slow clock makes a lease last longer than it is waited for",
    ),
    pytest.param(
        undone.moves_without_quorum,
        checks.QUORUM,
        Schedule(
            0,
            steps=(
                Step(0.6, "create", ("ann", "shop", "gamma", "transient", 2)),
                Step(1.612, "call", ("bob", "shop", 0, True, False)),
                Step(1.732, "move", ("ann", "shop", "beta")),
                Step(1.749, "cut", ("gamma", "scheduler", 2.483)),
                Step(1.784, "pause", ("alpha", 5.466)),
            ),
        ),
        id="the quorum is lost while a sandbox comes to rest for its move",
    ),
    pytest.param(
        undone.state_of_a_namesake,
        checks.NOTHING_LEFT,
        Schedule(
            209,
            watched=False,
            steps=(
                Step(0.6, "create", ("bob", "shop", "alpha", "temporary", 2)),
                Step(2.627, "cut", ("gamma", "scheduler", 7.159)),
                Step(2.958, "call", ("ann", "shop", 2, True, False)),
                Step(3.384, "destroy", ("bob", "shop")),
                Step(6.842, "create", ("bob", "shop", "beta", "permanent", 2)),
                Step(7.283, "pause", ("beta", 8.347)),
            ),
        ),
        id="a new sandbox begins with the state of a destroyed one of its name",
    ),
    pytest.param(
        undone.older_states_will_do,
        checks.DURABLE,
        Schedule(
            1,
            NODES,
            steps=(
                Step(0.6, "create", ("ann", "shop", "alpha", "permanent", 2)),
                Step(1.2, "call", ("ann", "shop", 1, True, False)),
                Step(1.5, "part", (("gamma",), 8.0)),
                Step(1.6, "move", ("ann", "shop", "gamma")),
            ),
        ),
        id="a sandbox is moved to a node that cannot reach its state",
    ),
    pytest.param(
        undone.registry_hears_of_it_later,
        checks.DURABLE,
        Schedule(
            0,
            steps=(
                Step(0.6, "create", ("ann", "shop", "alpha", "permanent", 2)),
                Step(1.5, "cut", ("alpha", "beta", 9.0)),
                Step(1.6, "call", ("ann", "shop", 1, True, False)),
                Step(6.0, "cut", ("gamma", "beta", 12.0)),
                Step(7.2, "crash", ("alpha", 9.0)),
            ),
        ),
        id="a call is answered before the registry knows that a peer has missed its checkpoint",
    ),
    pytest.param(
        undone.former_peers_are_forgotten,
        checks.DURABLE,
        Schedule(
            700504,
            ("alpha", "beta", "gamma", "delta", "epsilon"),
            watched=False,
            steps=(
                Step(0.6, "create", ("ann", "shop", "epsilon", "permanent", 2)),
                Step(0.6, "create", ("bob", "bank", "epsilon", "permanent", 2)),
                Step(0.6, "create", ("bob", "mail", "beta", "permanent", 2)),
                Step(1.2, "call", ("ann", "mail", 9, True, True)),
                Step(1.511, "fade", ("epsilon", 0.894, 1.117)),
                Step(8.68, "call", ("ann", "mail", 3, True, False)),
                Step(10.901, "isolate", ("beta", 8.901)),
            ),
        ),
        id="a node that gets no copies any more has the one that the registry knows of",
    ),
    pytest.param(
        undone.what_has_ended_is_restarted,
        checks.ONE_OWNER,
        Schedule(
            2007443,
            ("alpha", "beta", "gamma", "delta", "epsilon"),
            steps=(
                Step(0.6, "create", ("bob", "bank", "alpha", "permanent", 2)),
                Step(4.494, "call", ("ann", "bank", 0, True, False)),
                Step(6.867, "call", ("ann", "shop", 17, True, True)),
                Step(7.278, "move", ("ann", "bank", "epsilon")),
                Step(7.419, "call", ("ann", "bank", 7, False, True)),
                Step(11.049, "move", ("ann", "mail", "gamma")),
                Step(15.517, "hold_up", (0.061,)),
                Step(15.524, "restart", ("ann", "bank")),
                Step(15.538, "exit", ("bank", "normal")),
                Step(19.471, "call", ("bob", "mail", 10, False, True)),
            ),
        ),
        id="a restart is asked for while the word of a sandbox's own end is on its way",
    ),
    pytest.param(
        undone.broken_means_gone,
        checks.NOTHING_LEFT,
        Schedule(
            142,
            NODES,
            watched=False,
            steps=(
                Step(0.6, "create", ("bob", "shop", "beta", "transient", 2)),
                Step(4.149, "destroy", ("ann", "shop")),
                Step(4.162, "break_", ("scheduler", "beta", "commands")),
            ),
        ),
        id="a connection that breaks is taken for the end of an instance",
    ),
]


@pytest.mark.parametrize(("mistake", "broken", "schedule"), FOUND)
def test_what_was_found_stays_fixed(mistake, broken, schedule, monkeypatch):
    report = simulate(schedule)
    assert report.ok, str(report)
    mistake(monkeypatch)
    assert simulate(schedule).broken == broken, (
        "the schedule does not show the mistake any more: find another"
    )


@settings(max_examples=60, deadline=None, derandomize=True)
@given(schedules())
def test_every_promise_is_kept_on_schedules_that_hypothesis_draws(schedule: Schedule):
    report = simulate(schedule)
    assert report.ok, str(report)


# -- The kit itself --


def test_the_same_seed_gives_the_same_trace():
    one, other = simulate(11, trace=True), simulate(11, trace=True)
    assert one.trace
    assert one == other
    assert one.trace != simulate(12, trace=True).trace


def test_a_printed_schedule_is_one_that_can_be_played():
    schedule = Schedule.generate(3)
    again = eval(repr(schedule), {"Schedule": Schedule, "Step": Step})
    assert simulate(again, trace=True) == simulate(3, trace=True)


def test_a_failing_schedule_is_made_as_short_as_it_can_be():
    parts = undone.FENCES["a node is replaced when it is suspected"]
    schedule = Schedule.generate(0)
    tries = []
    short = shrink(schedule, parts, tries.append)
    assert len(short.steps) < len(schedule.steps) / 3
    assert simulate(short, parts).broken == simulate(schedule, parts).broken
    for n in range(len(short.steps)):
        rest = short.only([m for m in range(len(short.steps)) if m != n])
        assert simulate(rest, parts).ok, "each step that is left is needed"
    assert tries[-1] == len(short.steps)


def test_a_schedule_that_breaks_nothing_is_left_as_it_is():
    schedule = Schedule.generate(0)
    assert shrink(schedule) is schedule


def test_a_sandbox_that_does_not_come_back_is_noticed():
    class Forgetful(undone.ControlState):
        def _start_or_lose(self, work, event):
            return False

    create = Step(0.6, "create", ("ann", "shop", "alpha", "permanent", 2))
    schedule = Schedule(1, steps=(create, Step(2.0, "crash", ("alpha", 1.0))))
    report = simulate(schedule, Parts(machine=Forgetful))
    assert report.broken in {checks.LIVENESS, checks.CONSISTENT}


def test_a_cluster_may_be_played_by_hand():
    cluster = SimulatedCluster(
        Schedule(1, steps=(Step(1.0, "create", ("ann", "shop", "beta", "permanent", 1)),))
    )
    cluster.run()
    assert cluster.plane.state.sandboxes["shop"].node == "beta"
    assert [i.key for i in cluster.hosts["shop"]] == [("shop", 1)]
    assert cluster.checks.unsettled() is None
    cluster.nodes["beta"].instances.clear()
    cluster.hosts["shop"].clear()
    assert isinstance(cluster.checks.unsettled(), Violation)
