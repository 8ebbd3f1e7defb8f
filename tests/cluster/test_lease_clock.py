"""A node's side of its lease, against a clock that the test turns."""

from __future__ import annotations

import asyncio
import math

from cluster_kit import run

from superlearner.cluster.lease import Lease


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time is the test's; timers that are due run when it is turned."""

    now = 0.0

    def time(self):
        return self.now


class Node:
    def __init__(self, length):
        self.asked, self.extended, self.ran_out = [], 0, 0
        self.lease = Lease(length, self.asked.append, self._extended, self._ran_out)

    def _extended(self):
        self.extended += 1

    def _ran_out(self):
        self.ran_out += 1


def on_a_clock(work):
    with asyncio.Runner(loop_factory=Clock) as runner:
        runner.run(work(runner.get_loop()))


async def turn(loop, to):
    loop.now = to
    for _ in range(4):
        await asyncio.sleep(0)


def test_it_is_asked_for_four_times_within_its_length_and_counts_from_the_asking():
    async def work(loop):
        node = Node(4.0)
        node.lease.begin()
        for second in (1, 2, 3):
            await turn(loop, second)
        assert node.asked == [1, 2, 3]
        node.lease.granted(2)  # asked at 2, granted at 3
        assert node.lease.until == 6.0
        assert node.extended == 1
        node.lease.granted(1)
        assert node.lease.until == 6.0, "an older grant shortens nothing"
        node.lease.end()

    on_a_clock(work)


def test_without_a_grant_it_runs_out_once():
    async def work(loop):
        node = Node(4.0)
        node.lease.begin()
        await turn(loop, 3.9)
        assert node.lease.holds
        await turn(loop, 4.0)
        assert not node.lease.holds, "it refuses at once"
        await turn(loop, 4.2)
        assert node.ran_out == 1
        await turn(loop, 20)
        assert node.ran_out == 1
        node.lease.begin()
        assert node.lease.until == 24.0
        node.lease.end()

    on_a_clock(work)


def test_a_grant_that_lay_unread_while_the_node_was_held_up_counts():
    async def work(loop):
        node = Node(4.0)
        node.lease.begin()
        await turn(loop, 3.0)
        await turn(loop, 5.0)
        node.lease.granted(node.asked[-1])
        assert node.lease.holds
        await turn(loop, 5.5)
        assert node.ran_out == 0
        node.lease.end()

    on_a_clock(work)


def test_a_grant_that_comes_too_late_extends_nothing():
    async def work(loop):
        node = Node(4.0)
        node.lease.begin()
        await turn(loop, 1.0)
        await turn(loop, 6.0)
        node.lease.granted(1)
        assert not node.lease.holds
        node.lease.end()

    on_a_clock(work)


def test_without_a_length_it_never_runs_out():
    async def work():
        node = Node(None)
        node.lease.begin()
        assert node.lease.until == math.inf
        assert node.lease.holds

    run(work())
