"""Dask's messages, written and read by the shorter way: over real sockets, against what Dask itself does."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

import numpy as np
import pytest
from cluster_kit import run
from distributed.comm import CommClosedError, connect, listen
from distributed.comm.tcp import TCP
from distributed.protocol import Serialize, dumps, to_serialize
from distributed.protocol.utils import pack_frames
from hypothesis import given
from hypothesis import strategies as st
from tornado.iostream import IOStream, StreamClosedError

from superlearner.cluster.faulty_comm import FaultyTCP
from superlearner.cluster.wire import MessageReader, encode

PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary(),
    lambda inner: (
        st.lists(inner, max_size=4).map(tuple) | st.dictionaries(st.text() | st.integers(0, 9), inner)
    ),
    max_leaves=12,
)
OPTIONS = {"deserialize": True, "deserializers": None, "allow_offload": False}


def as_dask_writes(message) -> bytes:
    packed = pack_frames(dumps(message))
    return len(packed).to_bytes(8, "little") + packed


def written(messages) -> bytes:
    return b"".join(piece for message in messages for piece in encode(message))


@asynccontextmanager
async def streams():
    left, right = socket.socketpair()
    pair = IOStream(left), IOStream(right)
    try:
        yield pair
    finally:
        for stream in pair:
            stream.close()


async def come_back(data: bytes, count: int, cuts=()):
    """Return `count` messages that were read from `data`, which arrives in pieces."""
    async with streams() as (here, there):
        reader = MessageReader(there)

        async def send():
            for begin, end in zip((0, *cuts), (*cuts, len(data)), strict=True):
                await here.write(data[begin:end])
                await asyncio.sleep(0)

        sending = asyncio.create_task(send())
        found = [await reader.read(**OPTIONS) for _ in range(count)]
        await sending
        return found


@given(PLAIN)
def test_a_plain_message_is_written_byte_for_byte_as_dask_writes_it(message):
    assert b"".join(encode(message)) == as_dask_writes(message)


@given(st.lists(PLAIN, min_size=1, max_size=5), st.data())
def test_messages_come_back_whatever_the_pieces_in_which_they_arrive(messages, data):
    sent = written(messages)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(sent) - 1), max_size=6)))
    assert run(come_back(sent, len(messages), cuts)) == messages


@pytest.mark.parametrize("size", [0, 1, 16_350, 16_357, 16_358, 16_365, 16_400, 65_536, 3_000_000])
def test_a_message_of_any_length_comes_back_between_small_ones(size):
    messages = [("before",), b"x" * size, ("after",)]
    assert run(come_back(written(messages), 3)) == messages


@pytest.mark.parametrize("length", [1, 10, 2_000, 1_000_000])
def test_arrays_come_back_in_memory_of_their_own(length):
    async def work():
        async with two_ends() as (here, there):
            arrays = [np.arange(length) + n for n in range(3)]
            await here.write({"op": "take", "arrays": [to_serialize(array) for array in arrays], "end": "x"})
            await here.write("after")
            got = await there.read()
            assert got["op"] == "take"
            for array, wanted in zip(got["arrays"], arrays, strict=True):
                assert (array == wanted).all()
                assert array.flags.writeable  # as Dask promises
            assert await there.read() == "after"

    run(work())


@asynccontextmanager
async def two_ends():
    accepted: asyncio.Queue = asyncio.Queue()
    async with listen("faulty://127.0.0.1:0", accepted.put) as listener:
        here = await connect(listener.contact_address)
        there = await accepted.get()
        try:
            yield here, there
        finally:
            here.abort()
            there.abort()


def test_dask_itself_understands_what_is_written_and_is_understood():
    async def work():
        accepted: asyncio.Queue = asyncio.Queue()
        async with listen("faulty://127.0.0.1:0", accepted.put) as listener:
            dask = await connect(listener.contact_address.replace("faulty", "tcp"))
            ours = await accepted.get()
            assert type(dask) is TCP
            assert type(ours) is FaultyTCP
            message = {"op": "ask", "ids": (1, 2), "body": b"x" * 100_000}
            ours.write_plain(message)
            assert await dask.read() == message
            await dask.write(message)
            assert await ours.read() == message
            dask.abort()
            ours.abort()

    run(work())


def test_what_is_no_plain_message_is_refused_and_the_connection_goes_on():
    async def work():
        async with two_ends() as (here, there):
            for wrong in (2**70, {1, 2}, Serialize(1), object()):
                with pytest.raises((TypeError, OverflowError)):
                    here.write_plain(wrong)
            here.write_plain("right")
            assert await there.read() == "right"

    run(work())


def test_the_end_of_a_stream_within_a_message_is_its_end():
    async def work():
        async with streams() as (here, there):
            await here.write(written([b"x" * 100])[:50])
            here.close()
            with pytest.raises(StreamClosedError):
                await MessageReader(there).read(**OPTIONS)

    run(work())


def test_a_connection_that_has_ended_takes_and_gives_nothing():
    async def work():
        async with two_ends() as (here, there):
            there.abort()
            with pytest.raises(CommClosedError):
                await here.read()
            with pytest.raises(CommClosedError):
                here.write_plain("into the void")
            with pytest.raises(CommClosedError):
                await here.read()

    run(work())


def test_who_is_cancelled_while_it_reads_leaves_a_closed_connection():
    async def work():
        async with two_ends() as (here, there):
            reading = asyncio.create_task(there.read())
            await asyncio.sleep(0)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            assert there.closed()
            with pytest.raises(CommClosedError):
                await here.read()

    run(work())
