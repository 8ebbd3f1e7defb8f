"""Traces that are begun, read and ended."""

from __future__ import annotations

import asyncio

import pytest

from superlearner.errors import InvalidSpec, NoProcess, NoTrace, TooManyTraces
from superlearner.otp import Runtime, child, supervisor
from tests.otp.otp_kit import Stack, asynchronous


def two(**options):
    app = supervisor([child(Stack, id=id, name=id) for id in "ab"])
    return Runtime(app, asynchronous=True, **options)


def messages(trace):
    return [(event.kind, event.form, event.message) for event in trace.events]


@asynchronous
async def test_it_is_read_while_it_is_taken_and_nothing_is_left_when_it_is_stopped():
    async with two() as rt:
        id = await rt.start_trace()
        await rt.call("a", "state")
        first = await rt.read_trace(id)
        assert messages(first)[:2] == [("send", "call", "'state'"), ("receive", "call", "'state'")]
        assert (first.running, first.total) == (True, 4)
        await rt.call("a", "state")
        assert len((await rt.read_trace(id, since=first.total)).events) == 4
        whole = await rt.stop_trace(id)
        assert (whole.total, whole.running) == (8, False)
        assert rt.kernel.tracer is None
        with pytest.raises(NoTrace, match="none"):
            await rt.read_trace(id)


@asynchronous
async def test_only_the_messages_of_the_chosen():
    async with two() as rt:
        pid = await rt.whereis("b")
        id = await rt.start_trace(only=["b"])
        await rt.call("a", "state")
        await rt.call(pid, "state")
        trace = await rt.stop_trace(id)
        assert trace.total == 4
        assert all(str(pid) in {event.pid, event.peer} for event in trace.events)
        with pytest.raises(NoProcess):
            await rt.start_trace(only=["nobody"])


@asynchronous
async def test_it_ends_with_its_events_or_its_time():
    async with two() as rt:
        full = await rt.start_trace(limit=3)
        await rt.call("a", "state")
        read = await rt.read_trace(full)
        assert (read.total, read.running, rt.kernel.tracer) == (3, False, None)
        short = await rt.start_trace(duration=0.001)
        ended = asyncio.Event()
        asyncio.get_running_loop().call_later(0.002, ended.set)
        await ended.wait()
        assert not (await rt.read_trace(short)).running
        assert rt.kernel.tracer is None


@asynchronous
async def test_a_few_are_kept_and_those_that_are_over_make_room():
    async with two() as rt:
        ids = [await rt.start_trace(limit=1) for _ in range(8)]
        with pytest.raises(TooManyTraces):
            await rt.start_trace()
        await rt.call("a", "state")
        await rt.start_trace()
        with pytest.raises(NoTrace):
            await rt.read_trace(ids[0])
        assert (await rt.read_trace(ids[1])).total == 1


@pytest.mark.parametrize("options", [{"limit": 0}, {"limit": 10**6}, {"duration": -1}, {"duration": 1e9}])
def test_without_bounds_there_is_none(options):
    with Runtime(child(Stack)) as rt, pytest.raises(InvalidSpec):
        rt.start_trace(**options)
