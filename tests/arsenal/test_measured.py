"""Bottlenecks and anomalies as a cluster of its own measures them, twenty times as often as others do."""

from __future__ import annotations

import asyncio
import queue
from collections.abc import Callable, Iterator

import dask.config
import pytest
from distributed import Client

import superlearner as sl
from superlearner.otp import GenServer, Reply

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def quick() -> Iterator[sl.Cluster]:
    """A cluster of one node that is measured every 0.1 s."""
    with dask.config.set({"superlearner.telemetry.interval": 0.1}), sl.Cluster(nodes=["alpha"]) as running:
        yield running


@pytest.fixture
def until(quick: sl.Cluster) -> Iterator[Callable[..., None]]:
    """Wait until so many samples in a row have something."""
    samples: queue.SimpleQueue = queue.SimpleQueue()
    with Client(quick.address, security=quick.security, set_as_default=False) as client:
        client.subscribe_topic("cluster_metrics", lambda event: samples.put(event[1]))

        def until(has: Callable[[dict], bool], count: int) -> None:
            held = 0
            while held < count:
                held = held + 1 if has(samples.get(timeout=20)) else 0

        yield until
        client.unsubscribe_topic("cluster_metrics")


class Hoarder(GenServer):
    """Keeps what it is asked to, and waits when it is told to."""

    def init(self):
        return b""

    def handle_call(self, request, sender, state):
        return Reply("kept", b"\1" * request)

    async def handle_cast(self, message, state):
        await asyncio.Event().wait()


def test_memory_that_jumps_is_an_anomaly_and_too_few_samples_are_none(quick, until):
    sandbox = quick.create_sandbox("hoarder", Hoarder, checkpoint=sl.Checkpoint(every=None, copies=0))
    early = quick.ops.find_anomalies()
    assert "hoarder" in early.too_few

    def used(sample) -> int:
        return sample["sandboxes"].get("hoarder", {}).get("memory", 0)

    until(lambda sample: 0 < used(sample) < 60e6, 45)
    assert "memory" not in {
        row.figure for row in quick.ops.find_anomalies().anomalies if row.name == "hoarder"
    }
    assert sandbox.call("Hoarder", 64_000_000) == "kept"
    until(lambda sample: used(sample) > 60e6, 1)
    (row,) = (
        row
        for row in quick.ops.find_anomalies().anomalies
        if (row.name, row.figure, row.kind) == ("hoarder", "memory", "jump")
    )
    assert row.value - row.expected > 40e6  # it may be measured while it is filled
    assert row.score > row.limit == 3.5
    sandbox.stop()


def test_messages_that_wait_are_a_bottleneck(quick, until):
    sandbox = quick.create_sandbox("waiting", Hoarder, checkpoint=sl.Checkpoint(every=None, copies=0))
    for _ in range(4):
        sandbox.cast("Hoarder", "wait")
    until(lambda sample: (sample["sandboxes"].get("waiting", {}).get("mailbox") or 0) >= 3, 5)
    found = quick.ops.find_bottlenecks()
    (mail,) = (one for one in found.bottlenecks if one.name == "waiting" and one.resource == "mailboxes")
    assert mail.queue == 3
    assert found.judged >= 4
    newest = quick.metrics()["alpha"][-1]
    assert newest["processes"] == newest["sandboxes"]["waiting"]["processes"] == 2
    sandbox.kill("Hoarder")
    sandbox.stop()


def test_history_is_what_was_measured_since(quick, until):
    until(bool, 2)
    all_of_it = quick.ops.metrics_history().nodes["alpha"]
    assert 2 <= len(all_of_it) <= 100
    middle = all_of_it[len(all_of_it) // 2].at
    later = quick.ops.metrics_history(since=middle, node="alpha").nodes["alpha"]
    assert later
    assert all(sample.at > middle for sample in later)
    (newest,) = quick.ops.metrics_history(limit=1).nodes["alpha"]
    assert newest.at >= later[-1].at
