"""A client's link to a control plane that goes away in the worst moments."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import dask.config
import pytest
from cluster_kit import run
from distributed.core import Server

from superlearner.cluster.channel import CONTROL_OP, ChannelClosed, ServedChannel
from superlearner.cluster.link import Link
from superlearner.core.history import Event
from superlearner.errors import NoConnection, NoQuorum, SandboxDown
from superlearner.sandbox import payload


def test_a_connection_that_breaks_while_missed_events_are_fetched_is_made_again_and_none_is_missed():
    async def work():
        comms = []
        breaks = 2
        happened = [Event("happened", seq=n, at=float(n)) for n in (1, 2, 3)]

        async def accept(comm):
            nonlocal breaks
            channel = ServedChannel(comm)
            comms.append(comm)

            def handle(message):
                nonlocal breaks
                verb, id, *_ = message
                if verb == "events" and breaks:
                    breaks -= 1
                    comm.abort()
                    return
                answers = {"hello": {"address": "tcp://127.0.0.1:1"}, "events": happened, "status": "well"}
                channel.answer(id, 0, payload.dumps(answers.get(verb)))

            await channel.serve(handle)

        server = Server({CONTROL_OP: accept})
        await server.listen("tcp://127.0.0.1:0")
        link = Link(server.address, {})
        told = asyncio.Queue()
        async with server:
            await link.open()
            link.subscribe(told.put_nowait, None)
            comms[0].abort()
            async with asyncio.timeout(20):
                assert [(await told.get()).seq for _ in range(3)] == [1, 2, 3]
                assert await link.ask("status") == "well"
            assert (len(comms), breaks) == (4, 0)
            await link.close()

    run(work())


@pytest.mark.parametrize("at_last", ["refused", "asked"])
def test_a_request_that_may_have_happened_is_never_said_not_to_have_happened(at_last):
    """The first time its connection breaks; made again, it is refused, or there is no quorum to find its sandbox."""

    class Breaks:
        async def request(self, *_, **__):
            raise ChannelClosed

    class Refuses:
        async def request(self, *_, **__):
            return 2, ["overloaded", True, "Too many requests wait for this sandbox: nothing was done."]

    class Client(Link):
        times = 0

        async def reach(self, *_):
            self.times += 1
            if self.times == 1:
                return ("there", 1), Breaks()
            if at_last == "refused":
                return ("elsewhere", 2), Refuses()
            raise NoQuorum(1, 3)

    async def work():
        client = Client("tcp://127.0.0.1:1", {})
        with pytest.raises(NoConnection, match="it was made again, and then: ") as told:
            await client.request("once", "shop", "it", b"", timeout=5.0, idempotent=True)
        assert not told.value.definite
        assert client.times == 2
        assert told.value.__cause__.definite

    run(work())


@pytest.mark.parametrize(
    ("event", "says"),
    [
        (None, "its node is gone, or the link to it has broken"),
        (Event("node_lost", detail={"address": "there"}), "its node is gone"),
        (Event("cluster_stopped"), "the connection to the cluster was closed"),
    ],
    ids=["nothing", "node", "cluster"],
)
def test_a_request_whose_connection_breaks_says_what_is_known_of_the_loss(event, says):
    class Breaks:
        async def request(self, *_, **__):
            raise ChannelClosed

    class Client(Link):
        async def reach(self, *_):
            if event is not None:
                self._tell(event)
            return ("there", 1), Breaks()

    async def work():
        with pytest.raises(NoConnection) as told:
            await Client("tcp://127.0.0.1:1", {}).request("call", "shop", "it", b"", timeout=5.0)
        assert told.value.reason == says

    run(work())


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        ("starting", SandboxDown, "'shop' has no OS process now: it is starting"),
        (
            "running",
            NoConnection,
            r"'shop/it' was lost .*: its node cannot be reached within 0.01 s\. Nothing was sent",
        ),
    ],
)
def test_a_message_that_cannot_leave_in_time_says_why_and_was_not_sent(status, error, says):
    class Stuck(Link):
        async def reach(self, *_):
            await asyncio.Event().wait()

        async def ask(self, verb, **_):
            return SimpleNamespace(status=status)

    async def work():
        await Stuck("tcp://127.0.0.1:1", {}).post("cast", "shop", "it", b"")

    with dask.config.set({"superlearner.call-timeout": 0.01}), pytest.raises(error, match=says) as refused:
        run(work())
    assert refused.value.definite
