"""Couriers and inboxes in one loop: what is refused comes again in order, what may have happened does not."""

from __future__ import annotations

import asyncio
import random

import pytest
from cluster_kit import run

from superlearner.cluster.between import MOST_WAYS, Between, Outlet
from superlearner.cluster.channel import ChannelClosed
from superlearner.cluster.courier import HIGH_WATER, MOST_BYTES, MOST_WAITING, Courier, Message
from superlearner.cluster.inbox import Inbox
from superlearner.errors import NoSandbox
from superlearner.sandbox.payload import loads


class Box:
    """An instance as an inbox sees it: takes requests, or refuses them as one that has moved does."""

    def __init__(self, epoch=1):
        self.epoch = epoch
        self.outlet = None
        self.moved = False
        self.quiet = False
        self.got = []
        self.order = []
        self.open = {}

    def request(self, frame, answer):
        verb, seq, _, target, body, _ = frame
        if self.moved or self.quiet:
            if seq is not None:
                answer([seq, 2, ["stale_epoch", True, "moving"]])
            return
        if verb == "unwatch":
            self.got.append((verb, target))
            return
        self.order.append(target)
        self.got.append((verb, body))
        if verb in ("ask", "once", "watch"):
            self.open[seq] = answer

    def forget(self, answer):
        self.open = {seq: owed for seq, owed in self.open.items() if owed is not answer}

    def answer_all(self, status=0, body=b"done"):
        answers, self.open = self.open, {}
        for seq, answer in answers.items():
            answer([seq, status, body])


class Route:
    """A connection to a node: what is sent arrives a moment later, in order, while it is not broken."""

    def __init__(self, world):
        self._world = world
        self._loop = asyncio.get_running_loop()
        self.broken = False
        self.inbox = Inbox(world.find, lambda: True, self._back)

    def post(self, verb, *fields):
        if self.broken:
            raise ChannelClosed
        self._loop.call_soon(lambda: self.broken or self.inbox.handle((verb, 0, *fields)))

    def _back(self, message):
        self._loop.call_soon(lambda: self.broken or self._world.deliver(message))

    def cut(self):
        self.broken = True
        self._loop.call_soon(self._world.courier.broken, self)
        self.inbox.close()


class World:
    """One courier, and one sandbox that lives where it is told to."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.box = self.old = Box()
        self.route = Route(self)
        self.reached = []
        self.answers = {}
        self.ended = False
        self.refusal = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.courier = Courier(1, "bank", "shop", self.reach, self._answer, self._end)

    def _answer(self, answer):
        assert answer[0] not in self.answers, "answered twice"
        self.answers[answer[0]] = answer[1:]

    def _end(self, courier):
        self.ended = True

    async def reach(self, sandbox, stale, patience):
        """Play the way: of the courier, over a route; of an outlet, by its short cut."""
        if sandbox != "shop" or self.courier.idle:
            return ("there", self.box.epoch), None
        self.reached.append((stale, patience))
        await self.gate.wait()
        if self.refusal is not None:
            raise self.refusal
        if self.route.broken:
            self.route = Route(self)
        return ("there", self.box.epoch), self.route

    def find(self, sandbox, epoch):
        return next((box for box in (self.box, self.old) if box.epoch == epoch), None)

    def deliver(self, message):
        kind, _, *fields = message
        {"answer": self.courier.answered, "accepted": self.courier.accepted, "refused": self.courier.refused}[
            kind
        ](*fields)

    def move(self):
        self.old, self.box = self.box, Box(self.box.epoch + 1)
        self.old.moved = True

    def send(self, verb, body, number=0, timeout=None, target="counter"):
        deadline = None if timeout is None else self.loop.time() + timeout
        message = Message(verb, number, target, body, deadline)
        self.courier.take(message)
        return message

    async def settle(self):
        for _ in range(20):
            await asyncio.sleep(0)


def in_a_world(test):
    def work(**given):
        async def main():
            await test(World(), **given)

        run(main())

    return work


@in_a_world
async def _in_order(world):
    for n in range(5):
        world.send("cast" if n % 2 else "ask", str(n), number=0 if n % 2 else n + 100)
    assert not world.box.got, "the way is not known yet"
    await world.settle()
    assert [body for _, body in world.box.got] == list("01234")
    world.box.answer_all()
    await world.settle()
    assert world.answers == {n: [0, b"done"] for n in (100, 102, 104)}
    assert world.courier.idle


def test_what_waits_for_the_first_look_up_leaves_in_order():
    _in_order()


@in_a_world
async def _moved(world):
    world.send("cast", "before")
    await world.settle()
    world.move()
    for n in range(3):
        world.send("cast", str(n))
    world.send("ask", "call", number=7)
    await world.settle()
    world.send("cast", "after")
    await world.settle()
    assert [body for _, body in world.box.got] == ["0", "1", "2", "call", "after"]
    assert [body for _, body in world.old.got] == ["before"]
    assert world.reached[1][0] == ("there", 1), "the place that refused is not asked for again"


def test_what_a_moved_sandbox_refused_comes_again_in_order_and_before_what_is_newer():
    _moved()


@in_a_world
async def _rolled_back(world):
    world.send("cast", "before")
    await world.settle()
    world.box.quiet = True
    world.send("cast", "1")
    world.loop.call_soon(setattr, world.box, "quiet", False)  # between the two: the move was rolled back
    world.send("cast", "2")
    await world.settle()
    assert [body for _, body in world.box.got] == ["before", "1", "2"]


def test_nothing_overtakes_what_was_refused_by_a_move_that_was_rolled_back():
    _rolled_back()


@in_a_world
async def _lost(world):
    world.send("ask", "first", number=1)
    world.send("cast", "second")
    world.send("watch", "third", number=3)
    await world.settle()
    world.route.cut()
    await world.settle()
    assert {number: answer[1][:2] for number, answer in world.answers.items()} == {
        1: ["no_connection", False],
        3: ["no_connection", False],
    }
    world.send("ask", "again", number=4)
    await world.settle()
    assert [body for verb, body in world.box.got if verb == "ask"] == ["first", "again"]


def test_what_was_sent_on_a_lost_connection_fails_and_is_not_sent_again():
    _lost()


@in_a_world
async def _with_ids(world, why):
    world.send("once", "first", number=1)
    world.send("ask", "second", number=2)
    world.send("once", "third", number=3)
    await world.settle()
    if why == "the connection is lost":
        world.route.cut()
    else:
        code = "process_died" if why == "its OS process died" else "no_connection"
        world.box.answer_all(2, [code, False, why])
    await world.settle()
    assert set(world.answers) == {2}
    assert [body for _, body in world.box.got] == ["first", "second", "third", "first", "third"]
    world.box.answer_all()
    await world.settle()
    assert world.answers[1] == world.answers[3] == [0, b"done"]
    assert world.courier.idle


@pytest.mark.parametrize("why", ["the connection is lost", "its OS process died", "its lease ran out"])
def test_a_call_with_an_id_is_sent_again(why):
    _with_ids(why=why)


@in_a_world
async def _nowhere(world):
    world.refusal = NoSandbox("shop")
    world.send("ask", "hello", number=1)
    world.send("cast", "hello")
    await world.settle()
    status, body = world.answers[1]
    assert status == 1
    assert type(loads(body)) is NoSandbox
    assert world.courier.idle


def test_a_sandbox_that_cannot_be_found_is_told_to_who_waits():
    _nowhere()


@in_a_world
async def _in_doubt(world):
    world.send("once", "hello", number=1)
    await world.settle()
    world.refusal = NoSandbox("shop")
    world.route.cut()
    await world.settle()
    assert world.answers == {1: [2, ["no_connection", False, "its node is gone"]]}


def test_a_call_that_may_have_happened_is_not_said_not_to_have_when_its_sandbox_is_not_found_again():
    _in_doubt()


@in_a_world
async def _dropped(world):
    world.gate.clear()
    unsent = world.send("ask", "unsent", number=1)
    world.send("cast", "kept")
    world.courier.cancel(unsent)
    world.gate.set()
    await world.settle()
    watch = world.send("watch", b"", number=2)
    asked = world.send("ask", b"asked", number=3)
    await world.settle()
    world.courier.cancel(watch)
    world.courier.cancel(asked)
    await world.settle()
    assert list(world.box.open) == [watch.seq], "the watch is answered by its host, the call by nobody"
    (_, key) = world.box.got[1]
    assert [body for _, body in world.box.got] == ["kept", key, b"asked", key], (
        "a cast, a watch by its key, a call, and the end of the watch"
    )
    world.box.answer_all()
    await world.settle()
    assert not world.answers, "nobody waits for them"
    assert world.courier.idle


def test_what_nobody_waits_for_any_more_is_not_sent_and_a_watch_is_ended():
    _dropped()


@in_a_world
async def _host_died(world):
    world.send("watch", b"", number=1)
    await world.settle()
    world.move()
    world.gate.clear()
    world.send("cast", "last words")
    world.send("ask", "for nobody", number=2)
    await world.settle()
    world.courier.close()
    assert not world.ended, "the cast has yet to leave"
    world.gate.set()
    await world.settle()
    assert world.box.got == [("cast", "last words")]
    assert world.ended
    assert not world.answers


def test_what_a_dead_host_has_sent_still_leaves_and_its_calls_do_not():
    _host_died()


@in_a_world
async def _watches_of_a_lost_node(world):
    world.send("watch", b"", number=1)
    await world.settle()
    (_, key) = world.box.got[0]
    world.route.cut()
    assert world.box.got[1:] == [("unwatch", key)]


def test_an_inbox_ends_the_watches_of_a_node_that_is_gone():
    _watches_of_a_lost_node()


@in_a_world
async def _patience(world):
    world.send("ask", "hello", number=1, timeout=10)
    await world.settle()
    ((_, patience),) = world.reached
    assert 7.5 < patience <= 8


def test_the_look_up_leaves_time_to_tell_of_a_missing_quorum():
    _patience()


@in_a_world
async def _too_many(world):
    world.gate.clear()
    for _ in range(MOST_WAITING):
        world.send("cast", b"")
    world.send("ask", "one too many", number=1)
    assert world.answers[1][1][0] == "overloaded"
    world.courier.stop()


def test_what_waits_for_the_way_is_bounded():
    _too_many()


@in_a_world
async def _follows(world):
    happened = []
    world.courier.after(lambda: happened.append("at once"))
    assert happened == ["at once"]
    world.send("cast", b"first")
    world.send("ask", b"no post", number=1)
    world.courier.after(lambda: happened.append("after the first"))
    await world.settle()
    assert happened == ["at once", "after the first"], "it does not wait for answers"
    world.move()
    world.send("cast", b"second")
    world.courier.after(lambda: happened.append("after the second"))
    await world.settle()
    assert world.box.got == [("cast", b"second")]
    assert happened[2:] == ["after the second"]
    world.send("cast", b"third")
    world.courier.after(lambda: happened.append("after the loss of the third"))
    world.route.cut()
    await world.settle()
    assert happened[3:] == ["after the loss of the third"]


def test_what_follows_a_message_waits_until_that_has_arrived_or_is_lost():
    _follows()


@in_a_world
async def _too_large(world):
    world.gate.clear()
    world.courier.posted = MOST_BYTES
    world.send("cast", b"the last one")
    world.send("ask", b"one too many", number=1)
    assert world.answers[1][1][0] == "overloaded"
    world.courier.stop()


def test_the_bytes_that_wait_for_the_way_are_bounded():
    _too_large()


async def flood(world):
    """Send until the host would have to wait; return the list of the times that it was let go on."""
    world.send("cast", b"")
    await world.settle()
    while not world.courier.pressed:
        world.send("cast", bytes(2**20))
    went_on = []
    world.courier.on_room = lambda: went_on.append(world.courier.posted)
    return went_on


@in_a_world
async def _pressed(world):
    went_on = await flood(world)
    await world.settle()
    assert len(went_on) == 1
    assert 0 < went_on[0] < HIGH_WATER / 2
    assert world.courier.posted == 0


def test_a_host_that_sends_faster_than_it_arrives_waits_until_there_is_room():
    _pressed()


@pytest.mark.parametrize("happens", ["move", "cut"])
def test_a_host_does_not_wait_for_a_sandbox_that_has_to_be_found(happens):
    @in_a_world
    async def body(world):
        went_on = await flood(world)
        world.gate.clear()
        world.move() if happens == "move" else world.route.cut()
        await world.settle()
        assert len(went_on) == 1
        world.gate.set()
        await world.settle()
        assert world.courier.posted == 0

    body()


@in_a_world
async def _outlet(world):
    waits = []
    outlet = Outlet(Between(world.find, lambda: True, lambda _: world), "bank", lambda _: None, waits.append)
    outlet.take(["cast", 0, "shop", "counter", b"", None])
    await world.settle()
    while not waits:
        outlet.take(["cast", 0, "shop", "counter", bytes(2**20), None])
    await world.settle()
    assert waits == [True, False]
    outlet.close()


def test_an_outlet_holds_its_host_up_and_lets_it_go_on():
    _outlet()


@in_a_world
async def _many_ways(world):
    outlet = Outlet(
        Between(world.find, lambda: True, lambda _: world), "bank", lambda _: None, lambda _: None
    )
    for n in range(MOST_WAYS + 10):
        outlet.take(["cast", 0, f"shop-{n}", "counter", b"", None])
        await world.settle()
    assert len(outlet._couriers) <= MOST_WAYS
    outlet.close()
    await world.settle()
    assert not outlet._couriers


def test_ways_that_rest_are_given_up_when_there_are_many():
    _many_ways()


@in_a_world
async def _at_random(world, seed, cuts):
    chance = random.Random(seed)
    sent = []
    boxes = [world.box]
    for n in range(400):
        match chance.randrange(12):
            case 0:
                world.move()
                boxes.append(world.box)
            case 1:
                world.box.quiet = True
                world.loop.call_soon(setattr, world.box, "quiet", False)
            case 2 if cuts:
                world.route.cut()
            case 3 | 4:
                for _ in range(chance.randrange(4)):
                    await asyncio.sleep(0)
            case 5:
                world.box.answer_all()
            case _:
                verb = chance.choice(("ask", "cast", "send", "watch"))
                number = n + 1 if verb in ("ask", "watch") else 0
                sent.append(n)
                world.send(verb, b"", number, target=n)
    await world.settle()
    for box in boxes:
        box.answer_all()
    await world.settle()
    got = [body for box in boxes for body in box.order]
    assert got == sorted(set(got)), "in order, each at most once"
    if not cuts:
        assert got == sent, "nothing is lost"
    assert world.courier.idle, "and nothing is forgotten"
    assert all(answer[0] in ({0, 2} if cuts else {0}) for answer in world.answers.values())


@pytest.mark.parametrize("cuts", [False, True], ids=["moves", "moves and lost connections"])
@pytest.mark.parametrize("seed", range(50))
def test_whatever_happens_on_the_way_nothing_is_overtaken_or_comes_twice(seed, cuts):
    _at_random(seed=seed, cuts=cuts)
