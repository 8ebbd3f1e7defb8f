"""The transport whose links can be broken: two ends in one loop, each under its own name."""

from __future__ import annotations

import asyncio
import itertools
import tomllib
from contextlib import asynccontextmanager
from importlib import import_module
from pathlib import Path

import pytest
from cluster_kit import run
from distributed import Security
from distributed.comm import CommClosedError, connect, listen
from distributed.comm.registry import backends

from superlearner.cluster.faulty import EXEMPT, FaultyBackend, FaultyTLSBackend, can_break
from superlearner.cluster.lanes import Endpoint, plain_rules
from superlearner.core.faults import LinkRule

CUT = LinkRule(cut=True)
FORTH, BACK = ("alpha", "beta"), ("beta", "alpha")
_versions = itertools.count(1)


class Pair:
    """An end called alpha that connects, and one called beta that listens and keeps what it reads."""

    def __init__(self, monkeypatch, *, tls: bool = False, names=("alpha", "beta")):
        self.ends = {name: Endpoint(name) for name in names}
        self.security = Security.temporary() if tls else Security()
        self.tls = tls
        for name, end in self.ends.items():
            backend = FaultyTLSBackend if tls else FaultyBackend
            monkeypatch.setitem(backends, f"at-{name}", backend(end, f"at-{name}"))
        self.names = names
        self.accepted: asyncio.Queue = asyncio.Queue()

    def rules(self, rules=None):
        version = next(_versions)
        for end in self.ends.values():
            if end.name != "client":  # clients are told nothing
                end.adopt(version, plain_rules(rules or {}))

    @asynccontextmanager
    async def listening(self):
        async def handle(comm):
            await self.accepted.put(comm)

        args = self.security.get_listen_args("worker") if self.tls else {}
        async with listen(f"at-{self.names[1]}://127.0.0.1:0", handle, **args) as listener:
            self.port = listener.contact_address.rpartition(":")[2]
            yield

    async def connect(self, timeout: float = 5.0, **extra):
        args = self.security.get_connection_args("client") if self.tls else {}
        return await connect(f"at-{self.names[0]}://127.0.0.1:{self.port}", timeout=timeout, **args, **extra)

    async def linked(self, **extra):
        comm = await self.connect(**extra)
        return comm, await self.accepted.get()


def scenario(pair: Pair, work):
    async def run_it():
        async with pair.listening():
            here, there = await pair.linked()
            try:
                await work(here, there)
            finally:
                pair.rules()
                await here.close()
                await there.close()

    run(run_it())


async def nothing_comes(read) -> bool:
    """Tell whether a task still waits after everything that could happen at once has happened."""
    done, _ = await asyncio.wait([read], timeout=0.05)
    return not done


@pytest.fixture(params=[False, True], ids=["tcp", "tls"])
def pair(request, monkeypatch):
    return Pair(monkeypatch, tls=request.param)


def test_without_a_fault_messages_pass_as_on_any_transport(pair):
    async def work(here, there):
        await here.write({"op": "ping", "data": b"x" * 1_000_000})
        assert (await there.read())["op"] == "ping"
        await there.write("pong")
        assert await here.read() == "pong"

    scenario(pair, work)


def test_a_cut_holds_both_directions_and_healing_releases_everything_in_order(pair):
    async def work(here, there):
        pair.rules({FORTH: CUT, BACK: CUT})
        reads = [asyncio.create_task(end.read()) for end in (here, there)]
        for number in range(5):
            await here.write(("forth", number))
            await there.write(("back", number))
        for read in reads:
            assert await nothing_comes(read)
        pair.rules()
        assert [await reads[1], *[await there.read() for _ in range(4)]] == [("forth", n) for n in range(5)]
        assert [await reads[0], *[await here.read() for _ in range(4)]] == [("back", n) for n in range(5)]
        await here.write("after")
        assert await there.read() == "after"

    scenario(pair, work)


def test_what_was_on_its_way_when_the_link_was_cut_is_held_too(pair):
    async def work(here, there):
        await here.write(1)  # in the socket of the other side by now, and not yet read
        pair.rules({FORTH: CUT})
        await here.write(2)
        read = asyncio.create_task(there.read())
        assert await nothing_comes(read)
        await there.write("the other direction is open")
        assert await here.read() == "the other direction is open"
        pair.rules()
        assert [await read, await there.read()] == [1, 2]

    scenario(pair, work)


def test_a_message_is_held_as_it_was_when_it_was_written(pair):
    async def work(here, there):
        pair.rules({FORTH: CUT})
        message = [1]
        await here.write(message)
        message.append(2)
        pair.rules()
        assert list(await there.read()) == [1]

    scenario(pair, work)


def test_nobody_learns_over_a_cut_link_that_the_other_side_has_closed(pair):
    async def work(here, there):
        pair.rules({FORTH: CUT, BACK: CUT})
        await here.write("last words")
        reading = asyncio.create_task(there.read())
        here.abort()
        assert await nothing_comes(reading)
        assert not there.closed()
        await there.write("said into the void")
        pair.rules()
        with pytest.raises(CommClosedError):
            await reading
        assert there.closed()

    scenario(pair, work)


def test_a_new_connection_over_a_cut_link_waits_until_its_timeout(pair):
    async def work(here, there):
        pair.rules({FORTH: CUT})
        with pytest.raises(OSError, match="Timed out trying to connect"):
            await pair.connect(timeout=0.2)
        connecting = asyncio.create_task(pair.connect())
        assert await nothing_comes(connecting)
        pair.rules()
        await (await connecting).close()

    scenario(pair, work)


def test_an_exempt_connection_passes_every_fault(pair):
    async def work(here, there):
        pair.rules({FORTH: CUT, BACK: CUT})
        control = await pair.connect(**EXEMPT)
        served = await pair.accepted.get()
        await control.write("heal")
        assert await served.read() == "heal"
        await served.write("done")
        assert await control.read() == "done"
        await control.close()

    scenario(pair, work)


def test_a_delayed_link_delays_each_message_and_not_one_after_the_other(pair):
    async def work(here, there):
        pair.rules({FORTH: LinkRule(delay=0.2)})
        loop = asyncio.get_running_loop()
        start = loop.time()
        for number in range(20):
            await here.write(number)
        assert [await there.read() for _ in range(20)] == list(range(20))
        assert 0.2 <= loop.time() - start < 2.0  # twenty after each other would take four seconds

    scenario(pair, work)


def test_jitter_lets_no_message_overtake_another(pair):
    async def work(here, there):
        pair.rules({FORTH: LinkRule(jitter=0.05, seed=1)})
        for number in range(50):
            await here.write(number)
        assert [await there.read() for _ in range(50)] == list(range(50))

    scenario(pair, work)


def test_a_slow_link_lets_so_many_bytes_pass_per_second(pair):
    async def work(here, there):
        pair.rules({FORTH: LinkRule(rate=1_000_000)})
        loop = asyncio.get_running_loop()
        start = loop.time()
        for _ in range(3):
            await here.write(b"x" * 100_000)
        for _ in range(3):
            await there.read()
        assert loop.time() - start >= 0.3

    scenario(pair, work)


def test_a_lost_message_breaks_its_connection(pair):
    async def work(here, there):
        pair.rules({FORTH: LinkRule(drop=1.0)})
        with pytest.raises(CommClosedError, match="lost on purpose"):
            await here.write("lost")
        assert here.closed()
        with pytest.raises(CommClosedError):
            await there.read()

    scenario(pair, work)


def test_a_fault_that_ends_early_lets_go_of_what_it_had_delayed(pair):
    async def work(here, there):
        pair.rules({FORTH: LinkRule(delay=60.0)})
        await here.write(1)
        await here.write(2)
        pair.rules({FORTH: CUT})
        pair.rules()
        assert [await there.read(), await there.read()] == [1, 2]

    scenario(pair, work)


def test_a_link_that_is_cut_while_it_is_slow_is_slow_again_afterwards(pair):
    async def work(here, there):
        pair.rules({FORTH: CUT})
        await here.write(1)
        pair.rules({FORTH: LinkRule(delay=0.1)})
        loop = asyncio.get_running_loop()
        start = loop.time()
        assert await there.read() == 1
        assert loop.time() - start >= 0.09

    scenario(pair, work)


def test_closing_does_not_wait_for_what_is_held(pair):
    async def work(here, there):
        pair.rules({FORTH: CUT, BACK: CUT})
        reading = asyncio.create_task(here.read())
        await there.write("held")
        await here.write("held")
        await here.close()
        with pytest.raises(CommClosedError):
            await reading
        with pytest.raises(CommClosedError):
            await here.write("too late")

    scenario(pair, work)


def test_a_reader_that_gives_up_loses_nothing(pair):
    async def work(here, there):
        await here.write(1)
        pair.rules({FORTH: CUT})
        reading = asyncio.create_task(there.read())
        assert await nothing_comes(reading)  # it has read the message and may not have it
        reading.cancel()
        await asyncio.wait([reading])
        pair.rules()
        assert await there.read() == 1

    scenario(pair, work)


@pytest.mark.parametrize("who", ["client listens to", "client talks to"])
def test_the_other_end_enforces_both_directions_of_a_link_to_a_client(monkeypatch, who):
    names = ("alpha", "client") if who == "client listens to" else ("client", "alpha")
    pair = Pair(monkeypatch, names=names)
    to_alpha, to_client = ("client", "alpha"), ("alpha", "client")

    async def work(here, there):
        alpha, client = (here, there) if names[0] == "alpha" else (there, here)
        pair.rules({to_alpha: CUT, to_client: CUT})
        reads = [asyncio.create_task(end.read()) for end in (alpha, client)]
        await alpha.write("to client")
        await client.write("to alpha")
        for read in reads:
            assert await nothing_comes(read)
        pair.rules({to_alpha: LinkRule(delay=0.2), to_client: LinkRule(delay=0.2)})
        assert [await read for read in reads] == ["to alpha", "to client"]
        loop = asyncio.get_running_loop()
        start = loop.time()
        for number in range(10):
            await client.write(number)
        assert [await alpha.read() for _ in range(10)] == list(range(10))
        assert 0.2 <= loop.time() - start < 1.0
        pair.rules({to_alpha: LinkRule(drop=1.0)})
        await client.write("lost")
        with pytest.raises(CommClosedError):
            await alpha.read()
        with pytest.raises(CommClosedError):
            await client.read()

    scenario(pair, work)


def test_the_end_of_a_connection_is_never_lost(monkeypatch):
    pair = Pair(monkeypatch, names=("client", "alpha"))

    async def work(client, alpha):
        pair.rules({("client", "alpha"): LinkRule(drop=1.0)})
        await client.close()
        with pytest.raises(CommClosedError):
            await alpha.read()
        assert alpha.closed()

    scenario(pair, work)


def test_whoever_meets_the_scheduler_learns_the_rules_that_hold(monkeypatch):
    pair = Pair(monkeypatch, names=("alpha", "scheduler"))
    pair.ends["scheduler"].adopt(next(_versions), plain_rules({FORTH: CUT}))

    async def work(here, there):
        assert pair.ends["alpha"].rule(*FORTH) == CUT

    scenario(pair, work)


def test_older_rules_do_not_replace_newer_ones():
    end = Endpoint("alpha")
    end.adopt(2, plain_rules({FORTH: CUT}))
    end.adopt(1, [])
    assert end.rule(*FORTH).cut


def test_a_peer_without_a_name_is_a_client_and_a_plain_address_reaches_the_same_port(monkeypatch):
    pair = Pair(monkeypatch)

    async def work():
        async with pair.listening():
            comm = await connect(f"tcp://127.0.0.1:{pair.port}")
            served = await pair.accepted.get()
            pair.rules({("client", "beta"): CUT})
            await comm.write(1)
            read = asyncio.create_task(served.read())
            assert await nothing_comes(read)
            pair.rules()
            assert await read == 1
            await comm.close()
            await served.close()

    run(work())


def test_links_can_be_broken_only_where_the_scheme_says_so():
    assert can_break("faulty://127.0.0.1:1")
    assert can_break("faulty+tls://127.0.0.1:1")
    assert not can_break("tcp://127.0.0.1:1")
    assert not can_break("nonsense")


def test_dask_finds_the_schemes_by_their_entry_points():
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    for scheme, where in project["entry-points"]["distributed.comm.backends"].items():
        module, _, name = where.partition(":")
        assert getattr(import_module(module), name)().scheme == scheme
