"""Hosts stand by for starts to come: as many as are wanted, for any sandbox, and none of them stays behind."""

from __future__ import annotations

import asyncio
import os
import signal

import psutil
from sandbox_kit import descriptors, on_a_node

from superlearner.core.spec import Resources
from superlearner.sandbox.forkserver import ForkServer


class Standing:
    """How many hosts a fork server shall let stand by, and the moment when there are as many."""

    def __init__(self, node, count):
        self.count = count
        self._as_wanted = asyncio.Event()
        self.server = node.fork_server = ForkServer(spares=self)

    def __call__(self):
        if len(self.server.spares) == self.count:
            self._as_wanted.set()
        return self.count

    async def by(self, count):
        """Want as many, and return their pids when they stand by."""
        self.count = count
        self.server.stand_by()
        return await self.again()

    async def again(self):
        """Wait until as many stand by as are wanted, after a start has been asked for."""
        self._as_wanted.clear()
        async with asyncio.timeout(20):
            await self._as_wanted.wait()
        return self.server.spares


@on_a_node
async def test_a_start_takes_a_host_that_stands_by(node):
    standing = Standing(node, 2)
    await node.fork_server.start()
    spares = await standing.by(2)
    assert all(map(psutil.pid_exists, spares))
    assert not node.fork_server.hosts
    boxes = [await node.start(id=id) for id in ("shop", "bank", "post")]
    pids = {(await box.instance.info())["pid"] for box in boxes}
    assert spares < pids
    assert node.fork_server.hosts == pids
    assert [await box.call("increment") for box in boxes] == [1, 1, 1]


@on_a_node
async def test_a_host_that_is_expected_stands_by_at_once_and_is_ended_if_nobody_comes(node):
    standing = Standing(node, 0)
    await node.fork_server.start()
    node.fork_server.expect()
    await node.fork_server._adjusting
    (expected,) = node.fork_server.spares
    box = await node.start()
    assert (await box.instance.info())["pid"] == expected
    node.fork_server.expect()
    await node.fork_server._adjusting
    (surplus,) = node.fork_server.spares
    node.fork_server.expect()  # there is one already
    assert await standing.again() == frozenset()
    assert not psutil.pid_exists(surplus)
    assert await box.call("increment") == 1


@on_a_node
async def test_a_start_brings_the_next_one(node):
    standing = Standing(node, 1)
    await node.fork_server.start()
    before = await standing.by(1)
    await node.start()
    after = await standing.again()
    assert len(after) == 1
    assert after != before


@on_a_node
async def test_the_limits_and_the_name_are_those_of_the_sandbox(node):
    standing = Standing(node, 1)
    await node.fork_server.start()
    await standing.by(1)
    box = await node.start(resources=Resources(open_files=77))
    host = psutil.Process((await box.instance.info())["pid"])
    assert host.rlimit(psutil.RLIMIT_NOFILE) == (77, 77)
    assert host.name() == "sl:shop"


@on_a_node
async def test_those_that_are_too_many_end(node):
    standing = Standing(node, 3)
    await node.fork_server.start()
    before = descriptors()
    three = await standing.by(3)
    standing.count = 1
    await node.fork_server.trim()
    assert len(node.fork_server.spares) == 1
    assert sum(map(psutil.pid_exists, three)) == 1
    assert await standing.by(0) == frozenset()
    assert not any(map(psutil.pid_exists, three))
    assert descriptors() == before


@on_a_node
async def test_one_that_has_died_is_not_handed_out(node):
    standing = Standing(node, 2)
    await node.fork_server.start()
    victim, other = await standing.by(2)
    os.kill(victim, signal.SIGKILL)
    await node.fork_server.kill_group(victim)  # it has answered, and has told the end before
    assert node.fork_server.spares == {other}
    box = await node.start()
    assert (await box.instance.info())["pid"] == other


@on_a_node
async def test_they_end_with_the_server(node):
    standing = Standing(node, 2)
    await node.fork_server.start()
    spares = await standing.by(2)
    await node.fork_server.close()
    assert not any(map(psutil.pid_exists, spares))
    assert node.fork_server.spares == frozenset()
