"""Schedules of crashes, losses and late reports, played against the control machine."""

import random

import pytest
from core_sim import Sim
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from superlearner.core.spec import Checkpoint, Resources

NODES = ("alpha", "beta", "gamma", "delta")
SANDBOXES = ("shop", "bank", "game")
MANY = (*SANDBOXES, "farm", "mill")
GROUPS = ("web", "back")
STRATEGIES = ("one_for_one", "one_for_all", "rest_for_one")
REASONS = ("crash", "normal", "shutdown", ["shutdown", "done"])


def options(pick, groups=()):
    return {
        "node": pick(("auto", "auto", "alpha")),
        "restart": pick(("permanent", "permanent", "transient", "temporary")),
        "placement": pick(("least_loaded", "uniform")),
        "checkpoint": Checkpoint(copies=pick((0, 1, 2))),
        "resources": Resources(memory=pick((None, 1000))),
        "labels": pick(({}, {"app": "db"})),
        "anti_affinity": pick(({}, {"app": "db"})),
        "group": pick((None, *groups)),
    }


def step(sim, rng, groups=()):
    """Play one random thing that can happen."""
    flip = lambda share: rng.random() < share
    names = MANY if groups else SANDBOXES
    moves = [lambda: sim.create(rng.choice(names), **options(rng.choice, groups))]
    if groups:
        some_group = rng.choice(groups)
        limits = {"max_restarts": rng.choice((0, 1, 3, 30))}
        moves += [lambda: sim.group(some_group, strategy=rng.choice(STRATEGIES), **limits)]
        moves += [lambda: sim.destroy_group(some_group)] * flip(0.1)
        moves += [lambda: sim.restart_group(some_group)] * flip(0.3)
    known = list(sim.state.sandboxes)
    if known:
        some = rng.choice(known)
        moves += [lambda: sim.restart(some), lambda: sim.move(some, rng.choice(("auto", *NODES)))]
        moves += [lambda: sim.destroy(some)] * flip(0.3)
    if sim.nodes:
        moves += [lambda: sim.lose(rng.choice(list(sim.nodes)))] * flip(0.4)
        moves += [lambda: sim.drain(rng.choice(list(sim.nodes)))] * flip(0.2)
        moves += [lambda: sim.sample(rng.choice(list(sim.nodes)), cpu=rng.random())]
    moves += [lambda: sim.join(rng.choice(NODES))] * flip(0.6)
    moves += [sim.crash] * flip(0.1)
    alive = [key for key, living in sim.instances.items() if living.status == "serving"]
    if alive:
        key = rng.choice(alive)
        moves += [lambda: sim.exit(key, gave_up=flip(0.5), reason=rng.choice(REASONS))] * flip(0.5)
        moves += [lambda: sim.reboot(key), lambda: sim.checkpoint(key)]
    for _ in range(3):
        if sim.orders:
            moves.append(
                lambda: sim.perform(rng.randrange(len(sim.orders)), well=flip(0.8), cancelled=flip(0.5))
            )
        if sim.reports:
            moves.append(lambda: sim.deliver(rng.randrange(len(sim.reports)), again=flip(0.15)))
        if sim.timers:
            moves.append(lambda: sim.fire(rng.randrange(len(sim.timers))))
    rng.choice(moves)()


@pytest.mark.parametrize("batch", range(10))
def test_whatever_happens_in_whatever_order_the_cluster_is_whole_once_faults_end(batch):
    for seed in range(batch * 25, batch * 25 + 25):
        rng = random.Random(seed)
        sim = Sim()
        try:
            for name in NODES[: rng.randrange(5)]:
                sim.join(name)
            for _ in range(rng.randrange(10, 160)):
                step(sim, rng)
            sim.settle()
            for sandbox in list(sim.state.sandboxes):
                sim.destroy(sandbox)
            sim.settle()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        assert not sim.state.sandboxes
        assert not sim.instances


def test_the_same_seed_tells_the_same_story():
    stories = []
    for _ in range(2):
        rng, sim = random.Random(7), Sim()
        sim.join("alpha")
        for _ in range(120):
            step(sim, rng)
        stories.append(sim.state.story())
    assert stories[0] == stories[1]


class Schedules(RuleBasedStateMachine):
    """The same cluster, with schedules that Hypothesis shortens when one fails."""

    def __init__(self):
        super().__init__()
        self.sim = Sim()

    @initialize(count=st.integers(0, 4))
    def nodes(self, count):
        for name in NODES[:count]:
            self.sim.join(name)

    @rule(sandbox=st.sampled_from(SANDBOXES), data=st.data())
    def create(self, sandbox, data):
        self.sim.create(sandbox, **options(lambda these: data.draw(st.sampled_from(these)), GROUPS[:1]))

    @rule(strategy=st.sampled_from(STRATEGIES), limit=st.sampled_from((1, 30)))
    def group(self, strategy, limit):
        self.sim.group("web", strategy=strategy, max_restarts=limit)

    @rule(what=st.sampled_from(("restart_group", "destroy_group")))
    def all_of_the_group(self, what):
        getattr(self.sim, what)("web")

    @rule(sandbox=st.sampled_from(SANDBOXES))
    def destroy(self, sandbox):
        self.sim.destroy(sandbox)

    @rule(sandbox=st.sampled_from(SANDBOXES))
    def restart(self, sandbox):
        self.sim.restart(sandbox)

    @rule(sandbox=st.sampled_from(SANDBOXES), node=st.sampled_from(("auto", *NODES)))
    def move(self, sandbox, node):
        self.sim.move(sandbox, node)

    @rule(node=st.sampled_from(NODES))
    def drain(self, node):
        self.sim.drain(node)

    @rule(node=st.sampled_from(NODES))
    def join(self, node):
        self.sim.join(node)

    @precondition(lambda self: self.sim.nodes)
    @rule(data=st.data())
    def lose(self, data):
        self.sim.lose(data.draw(st.sampled_from(sorted(self.sim.nodes))))

    @rule()
    def crash(self):
        self.sim.crash()

    @precondition(lambda self: self.sim.orders)
    @rule(data=st.data(), well=st.booleans(), cancelled=st.booleans())
    def perform(self, data, well, cancelled):
        index = data.draw(st.integers(0, len(self.sim.orders) - 1))
        self.sim.perform(index, well=well, cancelled=cancelled)

    @precondition(lambda self: self.sim.reports)
    @rule(data=st.data(), again=st.booleans())
    def deliver(self, data, again):
        self.sim.deliver(data.draw(st.integers(0, len(self.sim.reports) - 1)), again=again)

    @precondition(lambda self: self.sim.timers)
    @rule()
    def fire(self):
        self.sim.fire(0)

    @precondition(lambda self: self.sim.instances)
    @rule(data=st.data(), what=st.sampled_from(("exit", "give up", "reboot", "checkpoint")))
    def live(self, data, what):
        key = data.draw(st.sampled_from(sorted(self.sim.instances)))
        match what:
            case "exit" | "give up":
                self.sim.exit(key, gave_up=what == "give up", reason=data.draw(st.sampled_from(REASONS)))
            case "reboot":
                self.sim.reboot(key)
            case "checkpoint":
                self.sim.checkpoint(key)

    @invariant()
    def at_most_one_owner_serves_in_each_epoch(self):
        for sandbox, record in self.sim.state.sandboxes.items():
            serving = [
                e
                for (s, e), living in self.sim.instances.items()
                if s == sandbox and living.status == "serving"
            ]
            assert len(serving) == len(set(serving))
            assert all(epoch <= self.sim.state._work[sandbox].highest for epoch in serving), record

    def teardown(self):
        self.sim.settle()
        for sandbox in list(self.sim.state.sandboxes):
            self.sim.destroy(sandbox)
        self.sim.settle()
        assert not self.sim.state.sandboxes
        assert not self.sim.instances
        assert all(not group.members for group in self.sim.state.groups.values())


Schedules.TestCase.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    database=None,
)
TestSchedules = Schedules.TestCase


@pytest.mark.parametrize("batch", range(10))
def test_whatever_happens_to_groups_their_members_start_in_order_and_run_in_the_end(batch):
    for seed in range(batch * 40, batch * 40 + 40):
        rng = random.Random(f"groups {seed}")
        sim = Sim()
        try:
            for name in NODES[: rng.randrange(5)]:
                sim.join(name)
            for name in GROUPS:
                sim.group(name, strategy=rng.choice(STRATEGIES), max_restarts=rng.choice((0, 1, 3, 30)))
            for name in MANY:
                sim.create(name, **options(rng.choice, GROUPS))
            for _ in range(rng.randrange(10, 160)):
                step(sim, rng, GROUPS)
            sim.settle()
            for group in list(sim.state.groups):
                sim.destroy_group(group)
            for sandbox in list(sim.state.sandboxes):
                sim.destroy(sandbox)
            sim.settle()
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
        assert not sim.state.sandboxes
        assert not sim.state.groups
        assert not sim.instances
