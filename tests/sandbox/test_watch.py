"""A host that does not answer is found, whatever holds it, and is restarted where its spec says so."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import pytest
from sandbox_kit import Refused, on_a_node

from superlearner.core.spec import Checkpoint

HASTY = {"on_unresponsive": "restart", "unresponsive_after": 0.5}
BY_HAND = Checkpoint(every=None)


@on_a_node
async def test_the_restart_brings_the_checkpointed_state_back(node):
    box = await node.start(checkpoint=BY_HAND, **HASTY)
    await box.call("increment")
    stored = await box.instance.checkpoint()
    os.kill((await box.instance.info())["pid"], signal.SIGSTOP)
    told = await node.heard("instance_restarted")
    assert (told["reason"], told["restored"]) == ("unresponsive for 0.5 s", [1, stored["seq"]])
    assert await box.call("value") == 1
    kinds = [event["kind"] for k, fields in node.reports if k == "events" for event in fields["events"]]
    assert kinds.index("sandbox_unresponsive") < kinds.index("host_exited")


@pytest.mark.slow
@on_a_node
async def test_the_restarts_count_against_the_intensity(node):
    box = await node.start(max_restarts=1, max_seconds=60.0, **HASTY)
    for _ in range(2):
        with pytest.raises(Refused):
            await box.do(lambda: time.sleep(60))
    told = await node.heard("instance_exited")
    assert (told["reason"], told["gave_up"]) == ("unresponsive for 0.5 s", True)


@on_a_node
async def test_a_temporary_sandbox_is_not_started_again(node):
    box = await node.start(restart="temporary", **HASTY)
    with pytest.raises(Refused):
        await box.do(lambda: time.sleep(60))
    assert (await node.heard("instance_exited"))["gave_up"] is False
    assert not node.told("instance_restarted")


@on_a_node
async def test_reporting_is_all_that_happens_by_default(node):
    box = await node.start(unresponsive_after=0.5)
    pid = (await box.instance.info())["pid"]
    os.kill(pid, signal.SIGSTOP)
    await node.heard("sandbox_unresponsive")
    assert (await box.instance.info())["responsive"] is False
    assert box.instance.responsive is False
    os.kill(pid, signal.SIGCONT)
    await node.heard("sandbox_responsive")
    assert box.instance.responsive is True
    assert await box.call("increment") == 1
    assert (await box.instance.info())["pid"] == pid


@pytest.mark.slow
@on_a_node
async def test_a_node_that_was_frozen_itself_does_not_blame_its_hosts(node):
    box = await node.start(**HASTY)
    pid = (await box.instance.info())["pid"]
    for _ in range(2):
        time.sleep(0.8)  # noqa: ASYNC251 - this thread is the node's event loop, and it stands still
        assert await box.call("increment")
    assert not node.told("sandbox_unresponsive")
    assert (await box.instance.info())["pid"] == pid


@pytest.mark.slow
@on_a_node
async def test_a_long_handler_within_the_time_is_left_alone(node):
    box = await node.start(on_unresponsive="restart", unresponsive_after=3.0)
    assert await box.do(lambda: time.sleep(1.5)) is None
    assert not node.told("sandbox_unresponsive")


@on_a_node
async def test_a_frozen_host_is_stopped_and_restarted_by_hand_too(node):
    box = await node.start(unresponsive_after=0.5, shutdown=0.2)
    await box.call("increment")
    await box.instance.checkpoint()
    os.kill((await box.instance.info())["pid"], signal.SIGSTOP)
    await node.heard("sandbox_unresponsive")
    async with asyncio.timeout(5):
        await box.instance.restart("asked for")
    assert await box.call("value") == 1
    os.kill((await box.instance.info())["pid"], signal.SIGSTOP)
    async with asyncio.timeout(5):
        await box.instance.stop()
