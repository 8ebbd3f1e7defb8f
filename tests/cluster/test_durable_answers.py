"""Nodes are killed in the middle of durable calls: what was answered is there, and what has an id is there once."""

from __future__ import annotations

import asyncio
import random
import shutil
from contextlib import asynccontextmanager
from itertools import count

import pytest
from cluster_kit import dask_by_hand, run, wait_for_nodes

import superlearner as sl
from superlearner.core.durability import NEEDED
from superlearner.errors import NotDurable
from superlearner.otp import GenServer, Reply, call, child, supervisor

ROUNDS = 10
#: Answers between two kills, at least.
BETWEEN = 25
#: Seconds that a call may take while its node is lost: a loaded machine has to start another worker meanwhile.
PATIENCE = 30.0
DURABLE = sl.Checkpoint(durability="reply")
#: Each round waits for a worker to start, and has a limit of its own: together they may take a loaded machine long.
ALL_ROUNDS = pytest.mark.timeout(300)


class Ledger(GenServer):
    """Keeps what it is told, and answers at which place."""

    def init(self):
        return []

    def handle_call(self, request, sender, state):
        match request:
            case ("note", entry):
                return Reply(len(state), [*state, entry])
            case "all":
                return Reply(state, state)


class Shop(GenServer):
    """Notes its orders in a ledger of another sandbox."""

    def init(self):
        return 0

    async def handle_call(self, request, sender, state):
        target, entry = request
        place = await call(target, ("note", entry), PATIENCE, request_id=id_of(entry))
        return Reply(place, state + 1)


def ledger():
    return supervisor([child(Ledger, id="ledger", name="ledger")])


class Client:
    """Calls one ledger again and again, each time with something new, until it is told to stop."""

    def __init__(self, name, ask, news, *, again):
        self.name = name
        #: Entry -> the place that it was answered to have.
        self.answered = {}
        self.stopping = False
        self._ask, self._news, self._again = ask, news, again
        self._task = asyncio.create_task(self._run())

    async def _run(self):
        for number in count():
            if self.stopping:
                return
            entry = (self.name, number)
            while entry not in self.answered:
                try:
                    self.answered[entry] = await self._ask(entry)
                except (sl.NoConnection, sl.ProcessDied, sl.CallTimeout, NotDurable):
                    if not self._again:  # it may have happened, and is not to happen twice
                        break
            self._news.set()

    async def end(self):
        self.stopping = True
        await self._task


def with_id(sandbox):
    """Return what notes an entry in the ledger, with an id."""
    return lambda entry: sandbox.call("ledger", ("note", entry), PATIENCE, request_id=id_of(entry))


def id_of(entry):
    return "-".join(map(str, entry))


def check(kept, clients):
    """Check that all that was answered is there, where it was said to be, and nothing twice."""
    assert len(kept) == len(set(kept)), "doubled"
    answered = {entry: place for client in clients for entry, place in client.answered.items()}
    lost = {entry for entry, place in answered.items() if kept[place : place + 1] != [entry]}
    assert not lost, "answered, and not there"


async def more_answers(clients, news, how_many):
    wanted = sum(len(client.answered) for client in clients) + how_many
    while sum(len(client.answered) for client in clients) < wanted:
        news.clear()
        async with asyncio.timeout(2 * PATIENCE):
            await news.wait()


@asynccontextmanager
async def killing(cluster):
    """Give what kills the node of a sandbox, and returns when another worker has taken its place."""
    joined = asyncio.Queue()
    loop = asyncio.get_running_loop()
    stop = cluster.subscribe(lambda event: loop.call_soon_threadsafe(joined.put_nowait, event), "node_joined")

    async def kill(sandbox):
        node = (await sandbox.info()).node
        await cluster.chaos.kill_node(node)
        async with asyncio.timeout(2 * PATIENCE):
            while (await joined.get()).node != node:
                pass

    try:
        yield kill
    finally:
        stop()


async def kill_under_a_stream(cluster, connect):
    """Kill the ledger's node, again and again, at a random instant of a stream of calls."""
    box = await cluster.create_sandbox("bank", ledger(), checkpoint=DURABLE)
    shop = await cluster.create_sandbox("shop", Shop, checkpoint=DURABLE)
    news = asyncio.Event()
    others = [connect() for _ in range(2)]
    rng = random.Random(7)

    def plain(sandbox):
        return lambda entry: sandbox.call("ledger", ("note", entry), PATIENCE)

    def through_the_shop(entry):
        return shop.call("Shop", ("bank/ledger", entry), PATIENCE, request_id=id_of(entry))

    async with others[0], others[1], killing(cluster) as kill:
        boxes = [box, *(other.sandbox("bank") for other in others)]
        sure = [Client(f"sure{n}", with_id(each), news, again=True) for n, each in enumerate(boxes)]
        sure.append(Client("shop", through_the_shop, news, again=True))
        once = [Client(f"once{n}", plain(each), news, again=False) for n, each in enumerate(boxes)]
        clients = [*sure, *once]
        for _ in range(ROUNDS):
            await more_answers(clients, news, BETWEEN + rng.randrange(10))
            await kill(box)
        await more_answers(clients, news, BETWEEN)
        await asyncio.gather(*(client.end() for client in clients))
        kept = await box.call("ledger", "all", PATIENCE, idempotent=True)
    check(kept, clients)
    for client in sure:
        assert [entry for entry in kept if entry[0] == client.name] == list(client.answered)
    await cluster.destroy_sandbox("shop")
    await cluster.destroy_sandbox("bank")


@pytest.mark.slow
@ALL_ROUNDS
def test_nothing_answered_is_lost_with_its_node():
    async def work():
        async with sl.Cluster(nodes=3, asynchronous=True) as cluster:
            await kill_under_a_stream(
                cluster, lambda: sl.connect(cluster.address, security=cluster.security, asynchronous=True)
            )

    run(work())


@pytest.mark.slow
@ALL_ROUNDS
def test_nothing_answered_is_lost_where_only_other_nodes_have_copies(tmp_path):
    names = ["left", "middle", "right"]

    async def work(address):
        async with sl.connect(address, asynchronous=True) as cluster:
            await kill_under_a_stream(cluster, lambda: sl.connect(address, asynchronous=True))

    with dask_by_hand(tmp_path, names) as address:
        with sl.connect(address) as cluster:
            wait_for_nodes(cluster, len(names))
        run(work(address))


def test_moves_under_a_stream_lose_and_double_nothing(cluster, fresh):
    async def work():
        async with sl.connect(cluster.address, security=cluster.security, asynchronous=True) as connected:
            box = await connected.create_sandbox(fresh, ledger(), checkpoint=DURABLE)
            news = asyncio.Event()
            clients = [Client(f"sure{n}", with_id(box), news, again=True) for n in range(3)]
            for _ in range(6):
                await more_answers(clients, news, 10)
                await box.migrate()
            await asyncio.gather(*(client.end() for client in clients))
            kept = await box.call("ledger", "all", PATIENCE)
            check(kept, clients)
            assert len(kept) == sum(len(client.answered) for client in clients)
            await connected.destroy_sandbox(fresh)

    run(work())


def test_answers_do_not_wait_for_a_node_that_only_their_own_cannot_reach(cluster, fresh):
    box = cluster.create_sandbox(fresh, ledger(), checkpoint=DURABLE)
    assert box.call("ledger", ("note", 0)) == 0
    node = box.info().node
    silent, other = sorted(set(cluster.status().nodes) - {node})
    with cluster.chaos.cut(node, silent):
        for number in range(1, 4):  # each would take as long as this, at the least
            assert box.call("ledger", ("note", number), NEEDED, request_id=f"{fresh}-{number}") == number
        assert box.checkpoint()["nodes"] == [node, other]
    assert box.call("ledger", "all", idempotent=True) == [0, 1, 2, 3]
    while silent not in box.checkpoint()["nodes"]:  # until the node has heard of it again
        pass
    cluster.destroy_sandbox(fresh)


@pytest.mark.slow
def test_a_single_node_keeps_what_was_answered_in_the_state_directory():
    with sl.Cluster(nodes=["only"]) as cluster:
        box = cluster.create_sandbox("bank", ledger(), checkpoint=DURABLE)
        for number in range(3):
            assert box.call("ledger", ("note", number), PATIENCE) == number
            cluster.chaos.kill_node("only")
        assert box.call("ledger", "all", PATIENCE, idempotent=True) == [0, 1, 2]


def test_what_a_local_manager_has_answered_is_in_its_directory(tmp_path):
    with sl.LocalSandboxManager(tmp_path / "state") as manager:
        box = manager.create_sandbox("bank", ledger(), checkpoint=DURABLE)
        assert box.call("ledger", ("note", "sold"), request_id="order-1") == 0
        shutil.copytree(tmp_path / "state", tmp_path / "as it was then")
    with sl.LocalSandboxManager(tmp_path / "as it was then") as manager:
        box = manager.sandbox("bank")
        assert box.call("ledger", ("note", "sold"), request_id="order-1") == 0
        assert box.call("ledger", "all") == ["sold"]


def test_what_cannot_be_written_is_not_durable(tmp_path):
    with sl.LocalSandboxManager(tmp_path) as manager:
        box = manager.create_sandbox("bank", ledger(), checkpoint=DURABLE)
        folder = tmp_path / "sandboxes" / "bank"
        folder.rename(tmp_path / "elsewhere")
        folder.touch()  # in its place
        with pytest.raises(NotDurable, match="could not be written") as caught:
            box.call("ledger", ("note", "sold"), request_id="order-1")
        assert not caught.value.definite
        folder.unlink()
        (tmp_path / "elsewhere").rename(folder)
        assert box.call("ledger", ("note", "sold"), request_id="order-1") == 0
        assert box.call("ledger", "all") == ["sold"]
