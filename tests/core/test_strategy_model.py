"""The supervisor machine against a small model of OTP's supervisor, over whatever may happen to both.

The model is written from the documentation and source of OTP's ``supervisor``, as one list of children and
without the machine's own ideas, so that a mistake is not made twice.
"""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from strategy_kit import World, worker

from superlearner.core.childspec import SupervisorSpec
from superlearner.core.strategy_events import (
    ChildExited,
    DeleteRequested,
    RestartRequested,
    RetryDue,
    StartRequested,
    StopRequested,
    TerminateRequested,
)

WANTED = ("normal", "shutdown", ("shutdown", "x"))


class Model:
    """OTP's supervisor: a child's pid is "alive", "dead" (its exit was not seen yet), "restarting" or None."""

    def __init__(self, specs, strategy, max_restarts, max_seconds, auto):
        self.strategy, self.max_restarts, self.max_seconds, self.auto = (
            strategy,
            max_restarts,
            max_seconds,
            auto,
        )
        self.specs = {spec.id: spec for spec in specs}
        #: In start order.
        self.pids: dict[str, str | None] = {}
        self.failing: set[str] = set()
        self.ignoring: set[str] = set()
        self.times: list[float] = []
        self.done: list[str] = []
        self.again: list[str] = []
        self.ended = None
        for spec in specs:
            self.pids[spec.id] = None
            self.start(spec.id)

    # -- Doing ----------------------------------------------------------------------------------------

    def start(self, id):
        """do_start_child."""
        if id in self.failing:
            self.done.append(f"!{id}")
            return False
        if id in self.ignoring:
            self.pids[id] = None
            if self.specs[id].restart == "temporary":
                del self.pids[id]
            return True
        self.done.append(f"+{id}")
        self.pids[id] = "alive"
        return True

    def stop(self, id):
        """do_terminate; a temporary child is forgotten."""
        if self.pids[id] in {"alive", "dead"}:
            self.done.append(f"-{id}")
        self.forget(id)

    def forget(self, id):
        """del_child."""
        if self.specs[id].restart == "temporary":
            del self.pids[id]
        else:
            self.pids[id] = None

    def end(self):
        for id in reversed(list(self.pids)):
            self.stop(id)
        self.ended = "shutdown"

    # -- Deciding -------------------------------------------------------------------------------------

    def exit(self, id, reason, at):
        """do_restart."""
        spec = self.specs[id]
        if spec.restart == "permanent" or (spec.restart == "transient" and reason not in WANTED):
            self.restart(id, at)
            return
        self.forget(id)
        if not spec.significant or self.auto == "never":
            return
        others = [i for i, pid in self.pids.items() if pid is not None and self.specs[i].significant]
        if self.auto == "any_significant" or not others:
            self.end()

    def restart(self, id, at):
        self.times = [t for t in self.times if t >= at - self.max_seconds] + [at]
        if len(self.times) > self.max_restarts:
            self.forget(id)
            self.end()
            return
        match self.strategy:
            case "one_for_one":
                if not self.start(id):
                    self.pids[id] = "restarting"
                    self.again.append(id)
                return
            case "rest_for_one":
                ids = list(self.pids)[list(self.pids).index(id) :]
            case _:
                ids = list(self.pids)
        self.pids[id] = None
        for other in reversed(ids):
            self.stop(other)
        for other in ids:
            if other in self.pids and not self.start(other):
                self.pids[other] = "restarting"
                self.again.append(other)
                return

    def retry(self, at):
        id = self.again.pop(0)
        if self.pids.get(id) == "restarting":
            self.restart(id, at)

    # -- Verbs ----------------------------------------------------------------------------------------

    def start_child(self, spec):
        if spec.id in self.pids:
            return "AlreadyStarted" if self.pids[spec.id] in {"alive", "dead"} else "AlreadyPresent"
        self.specs[spec.id] = spec
        self.pids[spec.id] = None
        if self.start(spec.id):
            return None
        del self.pids[spec.id]
        return "StartFailed"

    def terminate_child(self, id):
        if id not in self.pids:
            return "ChildNotFound"
        self.stop(id)
        return None

    def restart_child(self, id):
        if id not in self.pids:
            return "ChildNotFound"
        if self.pids[id] is not None:
            return "ChildRunning"
        return None if self.start(id) else "StartFailed"

    def delete_child(self, id):
        if id not in self.pids:
            return "ChildNotFound"
        if self.pids[id] is not None:
            return "ChildRunning"
        del self.pids[id]
        return None


class SlowWorld(World):
    """A world in which a death is seen later than it happens; the news of a stopped child is dropped."""

    def __init__(self, spec):
        self.dead: dict = {}
        super().__init__(spec)

    def die(self, key):
        self.dead[key] = self.alive.pop(key)

    def notice(self, key, reason, at):
        pid = self.dead.pop(key, None)
        if pid is not None:
            self.at = at
            self.do(ChildExited(key, reason, at=at))

    def stop(self, key):
        if key in self.dead:
            self.alive[key] = self.dead.pop(key)
        super().stop(key)


ids = st.sampled_from("abcde")
reasons = st.sampled_from([*WANTED, "crash", "killed"])
restarts = st.sampled_from(["permanent", "transient", "temporary"])
STATUS = {"running": "alive", "restarting": "restarting", "stopped": None}


class Comparison(RuleBasedStateMachine):
    """Does the same to both, and compares what they did, whom they know and how they refused."""

    @initialize(
        strategy=st.sampled_from(["one_for_one", "one_for_all", "rest_for_one"]),
        kinds=st.lists(st.tuples(restarts, st.booleans()), min_size=1, max_size=4),
        max_restarts=st.sampled_from([0, 1, 5, 20, 20]),
        max_seconds=st.sampled_from([1.0, 5.0, 100.0]),
        auto=st.sampled_from(["never", "never", "any_significant", "all_significant"]),
    )
    def begin(self, strategy, kinds, max_restarts, max_seconds, auto):
        self.auto = auto
        specs = [self.spec(id, *kind) for id, kind in zip("abcd", kinds, strict=False)]
        options = {"max_restarts": max_restarts, "max_seconds": max_seconds}
        self.world = SlowWorld(SupervisorSpec(specs, strategy=strategy, auto_shutdown=auto, **options))
        self.model = Model(specs, strategy, max_restarts, max_seconds, auto)
        self.news: list[tuple[str, int, str]] = []
        self.at = 0.0
        self.running = True

    def spec(self, id, restart, significant):
        significant = significant and self.auto != "never" and restart != "permanent"
        return worker(id, restart=restart, significant=significant)

    def refusal(self, event, model_says):
        self.world.at = self.at
        self.world.do(event)
        refused = self.world.refused
        assert (None if refused is None else type(refused).__name__) == model_says

    def compare(self):
        assert self.world.done == self.model.done
        assert self.world.ended == self.model.ended
        assert list(self.world.retries) == self.model.again
        if self.world.ended is None:
            seen = {key: STATUS[child.status] for key, child in self.world.state.children.items()}
            known = {id: "alive" if pid == "dead" else pid for id, pid in self.model.pids.items()}
            assert list(seen.items()) == list(known.items())
            assert self.world.state.intensity.left(self.at) == max(
                0,
                self.model.max_restarts
                - sum(t >= self.at - self.model.max_seconds for t in self.model.times),
            )
        else:
            assert not self.world.alive
            self.running = False

    @rule(which=st.integers(0, 4), reason=reasons)
    @precondition(lambda self: self.running and self.world.alive)
    def dies(self, which, reason):
        alive = list(self.world.alive)
        id = alive[which % len(alive)]
        self.news.append((id, self.world.alive[id], reason))
        self.world.die(id)
        self.model.pids[id] = "dead"

    @rule(which=st.integers(0, 4), reason=reasons, failing=st.sets(ids, max_size=2))
    @precondition(lambda self: self.running and self.world.alive and not self.news)
    def dies_when_others_cannot_start(self, which, reason, failing):
        self.world.failing, self.model.failing = set(failing), set(failing)
        self.dies(which, reason)
        self.is_noticed(0.0)

    @rule(seconds=st.sampled_from([0.0, 0.0, 0.5, 1.0, 5.0, 50.0]))
    @precondition(lambda self: self.running and self.news)
    def is_noticed(self, seconds):
        self.at += seconds
        id, pid, reason = self.news.pop(0)
        if self.world.dead.get(id) == pid:
            self.world.notice(id, reason, self.at)
            self.model.exit(id, reason, self.at)
            self.compare()

    @rule(seconds=st.sampled_from([0.0, 0.0, 0.5, 2.0]))
    @precondition(lambda self: self.running and self.model.again)
    def tries_again(self, seconds):
        self.at += seconds
        self.world.retry(at=self.at)
        self.model.retry(self.at)
        self.compare()

    @rule(id=ids, restart=restarts, significant=st.booleans())
    @precondition(lambda self: self.running)
    def start_child(self, id, restart, significant):
        spec = self.spec(id, restart, significant)
        self.refusal(StartRequested(spec, at=self.at), self.model.start_child(spec))
        self.compare()

    @rule(id=ids)
    @precondition(lambda self: self.running)
    def terminate_child(self, id):
        self.refusal(TerminateRequested(id, at=self.at), self.model.terminate_child(id))
        self.compare()

    @rule(id=ids)
    @precondition(lambda self: self.running)
    def restart_child(self, id):
        self.refusal(RestartRequested(id, at=self.at), self.model.restart_child(id))
        self.compare()

    @rule(id=ids)
    @precondition(lambda self: self.running)
    def delete_child(self, id):
        self.refusal(DeleteRequested(id, at=self.at), self.model.delete_child(id))
        self.compare()

    @rule(id=ids, how=st.sampled_from(["fail", "ignore", "run"]))
    @precondition(lambda self: self.running)
    def next_starts(self, id, how):
        for side in (self.world, self.model):
            (side.failing.add if how == "fail" else side.failing.discard)(id)
            (side.ignoring.add if how == "ignore" else side.ignoring.discard)(id)

    def teardown(self):
        if getattr(self, "running", False):
            self.world.do(StopRequested("shutdown", at=self.at))
            self.model.end()
            self.compare()

    @rule(id=ids)
    @precondition(lambda self: not self.running)
    def nothing_follows_its_end(self, id):
        assert self.world.state.handle(ChildExited(id, "crash", at=self.at)) == []
        assert self.world.state.handle(RetryDue(id, at=self.at)) == []

    @invariant()
    def the_living_are_known(self):
        if getattr(self, "running", False):
            alive = {id for id, pid in self.model.pids.items() if pid == "alive"}
            assert set(self.world.alive) == alive


TestComparison = Comparison.TestCase
TestComparison.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)


@pytest.mark.slow
class TestLongComparison(Comparison.TestCase):
    settings = settings(max_examples=1_000, stateful_step_count=60, deadline=None)
