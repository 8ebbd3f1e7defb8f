"""Calls that leave in one batch travel as one message where that changes nothing."""

from __future__ import annotations

import asyncio

from cluster_kit import run
from distributed.core import Server
from hypothesis import given
from hypothesis import strategies as st

from superlearner.cluster.channel import CHANNEL_OP, Channel, ServedChannel
from superlearner.cluster.together import MOST, SMALL, together

messages = st.tuples(
    st.sampled_from(["call", "call", "call", "cast", "once", "command"]),
    st.just(0),
    st.sampled_from(["shop", "bank"]),
    st.sampled_from([1, 1, 2]),
    st.sampled_from(["counter", "other", ("shards", 1), ("shards", True)]),
    st.sampled_from([b"a", b"b", bytes(SMALL + 1)]),
    st.sampled_from([None, 5.0]),
)


def apart(batch):
    """Undo `together`."""
    for verb, id, sandbox, epoch, target, body, timeout in batch:
        if verb == "calls":
            assert 1 < len(id) == len(body) <= MOST
            for one, each in zip(id, body, strict=True):
                yield ("call", one, sandbox, epoch, target, each, timeout)
        else:
            yield (verb, id, sandbox, epoch, target, body, timeout)


@given(st.lists(messages, max_size=200))
def test_each_sandbox_gets_all_that_was_sent_to_it_in_order(batch):
    sent = [(verb, number, *rest) for number, (verb, _, *rest) in enumerate(batch)]
    got = list(apart(together(sent)))
    for sandbox in ("shop", "bank"):
        assert repr([m for m in got if m[2] == sandbox]) == repr([m for m in sent if m[2] == sandbox])
    assert len(got) == len(sent)


def test_calls_of_many_callers_to_a_few_sandboxes_become_few_messages():
    batch = [("call", n, f"box-{n % 10}", 1, "counter", b"", 5.0) for n in range(500)]
    assert len(together(batch)) == 10
    assert len(together([("call", n, "box", 1, "counter", b"", 5.0) for n in range(MOST * 3)])) == 3


def test_a_channel_to_a_node_sends_them_and_takes_their_answers_apart():
    seen = []

    async def accept(comm):
        channel = ServedChannel(comm)

        def handle(message):
            verb, id, *_, body, _ = message
            seen.append(verb)
            if verb == "calls":
                channel.answer(list(id)[:-1], 0, list(body)[:-1])
                channel.answer(id[-1], 1, body[-1])
            else:
                channel.answer(id, 0, body)

        await channel.serve(handle)

    async def work():
        server = Server({CHANNEL_OP: accept})
        await server.listen("tcp://127.0.0.1:0")
        async with server:
            channel = await Channel.open(server.address, CHANNEL_OP, {}, timeout=5)
            asked = (channel.request("call", "shop", 1, "counter", b"%d" % n, 5.0) for n in range(10))
            assert await asyncio.gather(*asked) == [(0, b"%d" % n) for n in range(9)] + [(1, b"9")]
            await channel.close()

    run(work())
    assert seen == ["calls"]
