"""The pipelined channel, over real comms between two ends in one loop."""

from __future__ import annotations

import asyncio

import pytest
from cluster_kit import run
from distributed import Security
from distributed.comm import CommClosedError
from distributed.core import Server
from tornado.iostream import IOStream

from superlearner.cluster.channel import Channel, ChannelClosed, ServedChannel
from superlearner.cluster.commands import Nodes
from superlearner.cluster.faulty import FaultyTLSBackend
from superlearner.cluster.pool import FEW, ChannelPool


async def serve(handle):
    """Start a Dask server whose channels are served by `handle(channel, message)`."""

    async def accept(comm):
        channel = ServedChannel(comm)
        await channel.serve(lambda message: handle(channel, message))

    server = Server({"echo_channel": accept})
    await server.listen("tcp://127.0.0.1:0")
    return server


def echo(channel, message):
    verb, id, *fields = message
    if verb == "echo":
        channel.answer(id, 0, fields[0])


def test_a_thousand_requests_in_flight_are_answered_each_with_its_own():
    async def work():
        async with await serve(echo) as server:
            channel = await Channel.open(server.address, "echo_channel", {}, timeout=5)
            answers = await asyncio.gather(*(channel.request("echo", n) for n in range(1000)))
            assert answers == [(0, n) for n in range(1000)]
            await channel.close()

    run(work())


def test_requests_arrive_in_the_order_in_which_they_were_made():
    seen = []

    def record(channel, message):
        seen.append(message[2])
        channel.answer(message[1], 0, None)

    async def work():
        async with await serve(record) as server:
            channel = await Channel.open(server.address, "echo_channel", {}, timeout=5)
            await asyncio.gather(*(channel.request("echo", n) for n in range(500)))
            await channel.close()

    run(work())
    assert seen == list(range(500))


def test_a_message_that_cannot_be_encoded_ends_the_channel_instead_of_hanging_it(caplog):
    def pushes_a_huge_number(channel, message):
        channel.push(2**70)

    async def work():
        async with await serve(pushes_a_huge_number) as server:
            channel = await Channel.open(server.address, "echo_channel", {}, timeout=5)
            with pytest.raises(ChannelClosed):
                await channel.request("anything")
            await channel.close()

    run(work())
    assert "could not be written" in caplog.text


def test_requests_in_flight_fail_at_once_when_the_other_side_goes():
    def leave(channel, message):
        channel.comm.abort()

    async def work():
        async with await serve(leave) as server:
            channel = await Channel.open(server.address, "echo_channel", {}, timeout=5)
            with pytest.raises(ChannelClosed):
                await channel.request("silence", 1)
            await channel.wait_closed()
            assert channel.closed
            with pytest.raises(ChannelClosed):
                await channel.request("echo", 1)
            with pytest.raises(ChannelClosed):
                channel.post("echo", 1)
            await channel.close()

    run(work())


def test_an_aborted_channel_fails_its_requests_with_no_word_from_the_other_side():
    async def work():
        async with await serve(lambda *_: None) as server:
            channel = await Channel.open(server.address, "echo_channel", {}, timeout=5)
            request = asyncio.ensure_future(channel.request("silence", 1))
            await asyncio.sleep(0)
            channel.abort()
            with pytest.raises(ChannelClosed):
                await request
            await channel.close()

    run(work())


def test_a_late_answer_to_a_cancelled_request_is_dropped():
    held = []

    def hold(channel, message):
        if message[0] == "hold":
            held.append(message[1])
        else:
            channel.answer(held[0], 0, "late")
            channel.answer(message[1], 0, "in time")

    async def work():
        async with await serve(hold) as server:
            channel = await Channel.open(server.address, "echo_channel", {}, timeout=5)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await channel.request("hold")
            assert await channel.request("go") == (0, "in time")
            await channel.close()

    run(work())


def test_what_is_pushed_reaches_the_client_between_answers():
    pushed = []

    def push(channel, message):
        channel.push(["event", 1])
        channel.answer(message[1], 0, None)

    async def work():
        async with await serve(push) as server:
            channel = await Channel.open(server.address, "echo_channel", {}, timeout=5, on_push=pushed.append)
            await channel.request("go")
            await channel.close()

    run(work())
    assert pushed == [("event", 1)]


def test_who_is_cancelled_in_the_moment_in_which_a_node_is_given_up_stays_cancelled(unused_port):
    async def work():
        pool = ChannelPool("echo_channel", {})
        address = f"tcp://127.0.0.1:{unused_port}"
        cancelled, waiting = (asyncio.create_task(pool.get(address)) for _ in range(2))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        pool.abandon(address)
        cancelled.cancel()
        done = await asyncio.gather(cancelled, waiting, return_exceptions=True)
        # Taken for a lost node, it would be tried again, and nobody would cancel it a second time.
        assert [type(outcome) for outcome in done] == [asyncio.CancelledError, ConnectionError]
        await pool.close()

    run(work())


def test_what_was_just_begun_ends_at_once_when_its_node_is_given_up(unused_port):
    async def work():
        nodes = Nodes({})
        address = f"tcp://127.0.0.1:{unused_port}"
        answer = nodes.begin(address, "store", b"", limit=60)
        nodes.abandon(address)  # before the loop has come to what was begun
        with pytest.raises(ConnectionError, match="is gone"):
            await answer
        await nodes.close()

    run(work())


def test_a_channel_is_opened_ahead_while_there_are_few_and_is_there_for_whoever_needs_it(unused_port):
    accepted = []

    def note(channel, message):
        accepted.append(channel.comm.peer_address)
        channel.answer(message[1], 0, len(set(accepted)))

    async def work():
        async with await serve(note) as server:
            pool = ChannelPool("echo_channel", {})
            pool.prepare(server.address)
            pool.prepare(server.address)
            channel = await pool.get(server.address)
            assert [
                await channel.request("note"),
                await (await pool.get(server.address)).request("note"),
            ] == [
                (0, 1),
                (0, 1),
            ]
            for number in range(2 * FEW):
                pool.prepare(f"tcp://127.0.0.{number + 1}:{unused_port}")
            assert len(pool._opening) == FEW
            await pool.close()

    run(work())


@pytest.fixture
def reset_between_the_handshakes(monkeypatch):
    """Close each connection between the handshakes of TCP and TLS, as the loop does which learns of its reset."""
    start_tls = IOStream.start_tls

    def reset_before(stream, *args, **options):
        stream.close()
        return start_tls(stream, *args, **options)

    monkeypatch.setattr(IOStream, "start_tls", reset_before)


@pytest.mark.usefixtures("reset_between_the_handshakes")
def test_a_node_that_dies_between_the_handshakes_is_lost_as_any_other():
    async def work():
        async with await serve(echo) as server:
            args = Security.temporary().get_connection_args("client")
            with pytest.raises(ConnectionError, match="has closed"):
                await Channel.open(f"tls://127.0.0.1:{server.port}", "echo_channel", args, timeout=5)

    run(work())


@pytest.mark.usefixtures("reset_between_the_handshakes")
def test_on_a_transport_of_our_own_dask_may_try_again():
    async def work():
        async with await serve(echo) as server:
            args = Security.temporary().get_connection_args("client")
            with pytest.raises(CommClosedError, match="has closed"):  # an OSError
                await FaultyTLSBackend().get_connector().connect(f"127.0.0.1:{server.port}", **args)

    run(work())
