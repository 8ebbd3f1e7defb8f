"""Links, monitors and exit signals at random, against a model of what the Erlang reference manual says of them."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, deque
from contextlib import suppress

import pytest
from conformance_kit import running
from otp_kit import asynchronous

from superlearner.otp import Exit, ExitSignal, demonitor, exit_, link, monitor, trap_exit, unlink
from superlearner.otp.task import FunctionProcess

SIZE, STEPS = 6, 60
VERBS = {"link": 6, "unlink": 2, "exit": 3, "trap": 2, "monitor": 3, "demonitor": 2, "leave": 1}


class Model:
    """Processes by number: who traps, who is linked to whom, who watches whom, and what each has been told."""

    def __init__(self):
        self.reasons = [None] * SIZE
        self.trapping = [False] * SIZE
        self.links = [set() for _ in range(SIZE)]
        self.told = [[] for _ in range(SIZE)]
        #: Monitors by their number: who watches whom.
        self.watching = {}
        self.made = 0
        self._signals = deque()

    def alive(self, who):
        return self.reasons[who] is None

    def do(self, verb, me, other, value):
        """Let `me` do something to `other`; return the number of a monitor that was made."""
        match verb:
            case "link" if not self.alive(other):
                self._signal(me, other, "noproc", by_link=True)
            case "link" if me != other:
                self.links[me].add(other)
                self.links[other].add(me)
            case "unlink":
                self.links[me].discard(other)
                self.links[other].discard(me)
            case "exit":
                self._signal(other, me, value, by_link=False)
            case "trap":
                self.trapping[me] = value
            case "monitor":
                self.made += 1
                if not self.alive(other):
                    self.told[me].append(("down", self.made, other, "noproc"))
                elif me != other:
                    self.watching[self.made] = (me, other)
                return self.made
            case "demonitor":
                number, flush = value
                if number in self.watching and self.watching[number][0] == me:
                    del self.watching[number]
                if flush:
                    self.told[me] = [m for m in self.told[me] if m[:2] != ("down", number)]
            case "leave":
                self._die(me, value)
        while self._signals:
            self._signal(*self._signals.popleft(), by_link=True)
        return None

    def _signal(self, to, source, reason, *, by_link):
        if not self.alive(to):
            return
        kill = reason == "kill" and not by_link
        if kill:
            self._die(to, "killed")
        elif self.trapping[to]:
            self.told[to].append(("exit", source, reason))
        elif reason != "normal" or source == to:
            self._die(to, reason)

    def _die(self, who, reason):
        self.reasons[who] = reason
        for other in self.links[who]:
            self.links[other].discard(who)
            self._signals.append((other, who, reason))
        self.links[who] = set()
        for number, (watcher, watched) in list(self.watching.items()):
            if watched == who:
                self.told[watcher].append(("down", number, who, reason))
            if who in (watcher, watched):
                del self.watching[number]


class Real:
    """The same, of real processes."""

    def __init__(self, kernel):
        self.refs = {}
        self.processes = []
        for number in range(SIZE):
            process = FunctionProcess(
                kernel, asyncio.Event().wait, (), id=number, parent=kernel.outside, path=None
            )
            kernel.enter(process)
            process.launch()
            self.processes.append(process)
        self.numbers = {process.pid: process.id for process in self.processes}

    def do(self, verb, me, other, value, made):
        process, pid = self.processes[me], self.processes[other].pid

        def act():
            match verb:
                case "link":
                    link(pid)
                case "unlink":
                    unlink(pid)
                case "exit":
                    exit_(pid, value)
                case "trap":
                    trap_exit(value)
                case "monitor":
                    self.refs[monitor(pid)] = made
                case "demonitor":
                    number, flush = value
                    ref = next((ref for ref, n in self.refs.items() if n == number), "none")
                    demonitor(ref, flush=flush)
                case "leave":
                    process.crash(Exit(value))

        with suppress(Exit):  # it has ended itself
            process.context.run(act)

    def told(self, who):
        said = [message for _, message in self.processes[who].mailbox]
        return [
            ("exit", self.numbers[m.pid], m.reason)
            if isinstance(m, ExitSignal)
            else ("down", self.refs[m.ref], self.numbers[m.pid], m.reason)
            for m in said
        ]


def choose(chance, model):
    """What happens next, to whom, and with what."""
    me, other = chance.randrange(SIZE), chance.randrange(SIZE)
    verb = chance.choices([*VERBS], [*VERBS.values()])[0]
    match verb:
        case "exit":
            return verb, me, other, chance.choice(["normal", "shutdown", "boom", "kill"])
        case "leave":
            return verb, me, other, chance.choice(["normal", "boom", "kill"])
        case "trap":
            return verb, me, other, chance.random() < 0.6
        case "demonitor":
            return verb, me, other, (chance.randint(0, model.made), chance.random() < 0.5)
    return verb, me, other, None


@pytest.mark.parametrize("seeds", [range(n, n + 20) for n in (0, 20)], ids=str)
@asynchronous
async def test_whatever_happens_the_manual_has_foreseen_it(seeds):
    for seed in seeds:
        chance = random.Random(seed)
        async with running() as rt:
            model, real = Model(), Real(rt.kernel)
            for step in range(STEPS):
                verb, me, other, value = choose(chance, model)
                if not model.alive(me):
                    continue
                made = model.do(verb, me, other, value)
                real.do(verb, me, other, value, made)
                for process in real.processes:
                    n, where = process.id, f"seed {seed}, step {step}: {verb} {me} {other} {value}"
                    assert process.dead is not model.alive(n), where
                    assert process.reason == model.reasons[n], where
                    if not process.dead:
                        # The order of the signals of one death is nobody's business, their number is.
                        assert Counter(real.told(n)) == Counter(model.told[n]), where
                        assert {other.id for other in process.links} == model.links[n], where
