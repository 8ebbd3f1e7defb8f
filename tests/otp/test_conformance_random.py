"""Random trees under random fire: whatever happens, the books agree, and in the end nothing is left.

Each seed makes a tree of servers that fail, ignore, trap, crash, link, hang in `terminate`, and supervisors of
every kind; then processes are killed, linked, monitored, suspended, started and stopped at random.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter

import pytest

from superlearner.errors import NoProcess, StartFailed
from superlearner.otp import (
    Exit,
    GenServer,
    Ignore,
    NoReply,
    Runtime,
    Stop,
    child,
    supervisor,
    trap_exit,
)
from superlearner.otp._supervision import SupervisorProcess

STEPS = 60


class Chaos:
    """What the servers of one run share: chance, and how often they fail."""

    def __init__(self, seed):
        self.random = random.Random(seed)
        self.failing = 0.0
        self.serial = 0

    def __deepcopy__(self, memo):
        return self

    def says(self, probability):
        return self.random.random() < probability

    async def turns(self, most):
        for _ in range(self.random.randrange(most)):
            await asyncio.sleep(0)

    def spec(self, depth):
        pick = self.random.choice
        self.serial += 1
        id = f"c{self.serial}"
        options = {"id": id, "restart": pick(["permanent", "permanent", "transient", "temporary"])}
        if depth and self.says(0.4):
            options |= {"name": id, "shutdown": pick(["infinity", 0.02]), "max_restarts": pick([0, 3, 50])}
            if self.says(0.3):
                return supervisor([], kind="dynamic", **options)
            children = [self.spec(depth - 1) for _ in range(self.random.randrange(4))]
            return supervisor(children, strategy=self.strategy(), **options)
        options |= {"shutdown": pick(["brutal_kill", 0.003, 0.01]), "name": pick([id, None])}
        return child(Wild, self, **options)

    def strategy(self):
        return self.random.choice(["one_for_one", "one_for_all", "rest_for_one"])


class Wild(GenServer):
    """Does what chance says."""

    def init(self, chaos):
        if chaos.says(chaos.failing):
            return Stop("no")
        if chaos.says(chaos.failing / 5):
            return Ignore()
        trap_exit(chaos.says(0.5))
        return self.later(chaos) if chaos.says(0.3) else NoReply(chaos, continue_=None)

    async def later(self, chaos):
        await chaos.turns(4)
        if chaos.says(chaos.failing):
            raise Exit("init")
        return chaos

    def handle_continue(self, value, chaos):
        if chaos.says(0.05):
            raise Exit("continue")
        return chaos

    def handle_info(self, message, chaos):
        return chaos

    def terminate(self, reason, chaos):
        return self.end_slowly(chaos) if chaos.says(0.3) else None

    async def end_slowly(self, chaos):
        await chaos.turns(6)
        if chaos.says(0.2):
            await asyncio.Event().wait()
        if chaos.says(0.2):
            raise ValueError


def check(kernel):
    """Links and monitors have two ends, names and pids their owner, and each child one supervisor."""
    owned = Counter()
    for process in kernel.processes.values():
        assert not process.dead
        assert all(process in other.links and not other.dead for other in process.links)
        assert all(other.watchers[ref] is process for ref, other in process.monitors.items())
        if isinstance(process, SupervisorProcess):
            owned.update(other for other in process.running.values() if not other.dead)
            assert all(process.running[key].pid == pid for pid, key in process._keys.items())
    assert set(owned.values()) <= {1}
    assert all(process.pid == a or a in process.names for a, process in kernel.addresses.items())


def forget(future):
    """Whether it worked does not matter here."""
    future.add_done_callback(lambda f: f.cancelled() or f.exception())


async def step(rt, chaos):
    kernel, pick = rt.kernel, chaos.random.choice
    living = list(kernel.processes.values())
    supervisors = [p for p in living if isinstance(p, SupervisorProcess) and p.state is not None]
    workers = [p for p in living if not isinstance(p, SupervisorProcess)]
    victim = pick([p for p in living if p.names.keys() != {"root"}] or living)
    match pick(["signal", "signal", "link", "monitor", "start", "verb", "suspend", "resume", "turn"]):
        case "signal":
            victim.signal(kernel.outside, pick(["kill", "boom", "normal", "shutdown"]))
        case "link" if workers:
            pick(workers).link(pick(workers))
        case "monitor":
            kernel.monitor(pick(living), victim.pid)
        case "start":
            forget(asyncio.ensure_future(rt.start_child(pick(supervisors).pid, chaos.spec(1))))
        case "verb":
            parent = pick(supervisors)
            verb = pick([rt.terminate_child, rt.terminate_child, rt.restart_child, rt.delete_child])
            if parent.state.children:
                forget(asyncio.ensure_future(verb(parent.pid, pick(list(parent.state.children)))))
        case "suspend":
            forget(asyncio.ensure_future(rt.suspend(victim.pid, 0.001)))
        case "resume":
            forget(asyncio.ensure_future(rt.resume(victim.pid, 0.001)))
        case _:
            await chaos.turns(4)


async def storm(seed):
    chaos = Chaos(seed)
    app = supervisor([chaos.spec(3) for _ in range(4)], max_restarts=200, strategy=chaos.strategy())
    rt = Runtime(app, asynchronous=True)
    try:
        async with asyncio.timeout(20), rt:
            chaos.failing = chaos.random.choice([0.0, 0.05, 0.2])
            for _ in range(STEPS):
                if "root" not in rt.kernel.addresses:
                    break
                await step(rt, chaos)
                check(rt.kernel)
            for process in rt.kernel.processes.values():
                process.suspended = False
    except (NoProcess, StartFailed):
        pass  # it gave up before the storm was over
    kernel = rt.kernel
    assert not kernel.processes
    assert not kernel.addresses
    assert not kernel._timers
    events = await rt.events()
    begun = Counter(e.pid for e in events if e.kind == "process_started")
    assert begun == Counter(e.pid for e in events if e.kind == "process_exited")
    assert set(begun.values()) <= {1}
    names = Counter((e.name, e.pid) for e in events if e.kind == "name_registered")
    assert names == Counter((e.name, e.pid) for e in events if e.kind == "name_freed")
    for _ in range(20):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


@pytest.mark.parametrize("seeds", [range(60), pytest.param(range(60, 2000), marks=pytest.mark.slow)], ids=len)
def test_a_storm_leaves_nothing_behind(seeds):
    for seed in seeds:
        try:
            asyncio.run(storm(seed))
        except BaseException as error:
            error.add_note(f"seed {seed}")
            raise
