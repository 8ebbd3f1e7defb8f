"""Planned changes under a stream of calls: nothing lost, nothing doubled, order kept."""

from __future__ import annotations

import asyncio

import pytest
from apps import shop
from cluster_kit import run

import superlearner as sl


class Stream:
    """A caller that increments a counter, one call after the other, until it is told to stop."""

    def __init__(self, sandbox):
        self.answers = []
        self._stop = asyncio.Event()
        self._task = asyncio.create_task(self._call(sandbox))

    async def _call(self, sandbox):
        while not self._stop.is_set():
            self.answers.append(await sandbox.call("counter", "increment", timeout=20))

    async def end(self):
        self._stop.set()
        await self._task
        return self.answers


def test_a_node_is_drained_under_a_stream_of_calls_and_retired():
    async def work():
        async with sl.Cluster(nodes=3, asynchronous=True) as cluster:
            boxes = [await cluster.create_sandbox(f"shop-{n}", shop(), node="alpha") for n in range(6)]
            streams = [Stream(box) for box in boxes]
            await asyncio.gather(*(box.call("counter", "value") for box in boxes))
            assert sorted(await cluster.drain("alpha")) == [box.id for box in boxes]
            assert [node.name for node in await cluster.nodes()] == ["beta", "gamma"]
            assert (await cluster.status()).quorum, "a node that was retired does not count any more"
            answers = await asyncio.gather(*(stream.end() for stream in streams))
            for seen in answers:
                assert seen == list(range(1, len(seen) + 1)), "lost, doubled or out of order"
            assert {(await box.info()).node for box in boxes} == {"beta", "gamma"}
            with pytest.raises(sl.UnknownNode):
                await cluster.drain("alpha")

    run(work())


@pytest.mark.slow
def test_a_plan_is_shown_before_it_is_carried_out():
    async def work():
        async with sl.Cluster(nodes=2, asynchronous=True) as cluster:
            boxes = [await cluster.create_sandbox(f"shop-{n}", shop(), node="alpha") for n in range(4)]
            stream = Stream(boxes[0])
            plan = await cluster.rebalance()
            assert [(move.source, move.target) for move in plan] == [("alpha", "beta")] * 2
            assert {(await box.info()).node for box in boxes} == {"alpha"}, "nothing has moved yet"
            assert await cluster.rebalance(dry_run=False) == plan
            assert sorted([(await box.info()).node for box in boxes]) == ["alpha", "alpha", "beta", "beta"]
            assert await cluster.rebalance() == []
            answers = await stream.end()
            assert answers == list(range(1, len(answers) + 1))

    run(work())
