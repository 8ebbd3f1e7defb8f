"""Frames arrive whole, in order, within their limit."""

from __future__ import annotations

import asyncio
import socket

import pytest

from superlearner.sandbox.frames import HIGH_WATER, FrameError, FrameStream, pack


async def pair(limit=10 * 2**20):
    left, right = socket.socketpair()
    inbox, closed = asyncio.Queue(), asyncio.get_running_loop().create_future()
    sender = await FrameStream.open(left, print, print, limit)
    receiver = await FrameStream.open(right, inbox.put_nowait, closed.set_result, limit)
    return sender, receiver, inbox, closed


def run(test):
    asyncio.run(asyncio.wait_for(test(), 20))


@pytest.mark.parametrize("size", [0, 1, 65_530, 65_536, 300_000, 5_000_000])
def test_frames_of_every_size_arrive_in_order(size):
    async def check():
        sender, receiver, inbox, closed = await pair()
        for number in range(5):
            sender.write([number, b"x" * size])
            sender.write([number, "small"])
        for number in range(5):
            assert await inbox.get() == [number, b"x" * size]
            assert await inbox.get() == [number, "small"]
        sender.close()
        assert await closed is None
        receiver.close()

    run(check)


def test_a_frame_above_the_limit_is_refused_and_the_stream_goes_on():
    async def check():
        sender, receiver, inbox, _ = await pair(limit=1000)
        with pytest.raises(FrameError, match="send less at once"):
            sender.write([b"x" * 1001])
        sender.write(["fine"])
        assert await inbox.get() == ["fine"]
        sender.close()
        receiver.close()

    run(check)


@pytest.mark.parametrize(
    "rubbish", [b"\xff\xff\xff\xff", b"\0\0\0\2\xc1\xc1"], ids=["too large", "no msgpack"]
)
def test_rubbish_closes_the_stream_with_its_reason(rubbish):
    async def check():
        left, right = socket.socketpair()
        closed = asyncio.get_running_loop().create_future()
        await FrameStream.open(right, print, closed.set_result)
        with left:
            left.sendall(rubbish)
            assert await closed is not None

    run(check)


def test_a_peer_that_does_not_read_makes_the_writer_wait():
    async def check():
        sender, receiver, inbox, _ = await pair()
        receiver.pause_reading()
        while not sender.blocked:
            sender.write([b"x" * HIGH_WATER])
            await asyncio.sleep(0)
        waiting = asyncio.ensure_future(sender.drained())
        await asyncio.sleep(0)
        assert not waiting.done()
        sender.write(["later"])
        assert sender.queued > 0
        receiver.resume_reading()
        await waiting
        while await inbox.get() != ["later"]:
            pass
        sender.close()
        receiver.close()

    run(check)


def test_a_closed_stream_drops_what_is_written_and_lets_go_of_who_waits():
    async def check():
        sender, receiver, _, closed = await pair()
        receiver.close()
        await closed
        while not sender.closed:  # noqa: ASYNC110 - the loop's own turns
            await asyncio.sleep(0)
        sender.write(["nobody reads this"])
        await sender.drained()

    run(check)


def test_packing_counts_the_limit_in_bytes_of_the_frame():
    assert len(pack([b"x" * 10], limit=13)) == 17
    with pytest.raises(FrameError):
        pack([b"x" * 11], limit=13)
