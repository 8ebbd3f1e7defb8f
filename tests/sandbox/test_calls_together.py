"""Calls that come to a host together: what is true of one that comes alone is true of each of them."""

from __future__ import annotations

import asyncio
import os
import signal

from sandbox_kit import Counter, Refused, on_a_node

from superlearner.core.spec import Checkpoint
from superlearner.errors import CallTimeout, MessageTooLarge, NoProcess, NotSerializable, ProcessDied
from superlearner.otp import GenServer, NoReply, Reply, child, reply, supervisor
from superlearner.sandbox.asked import MOST, SMALL
from superlearner.sandbox.payload import dumps, loads


class Asked:
    """Calls that were made together."""

    def __init__(self, box, requests, target="counter", timeout=5.0, epoch=None):
        #: Everything that came back, in order.
        self.frames = []
        self._left = len(requests)
        self._done = asyncio.get_running_loop().create_future()
        ids, payloads = tuple(range(len(requests))), tuple(map(dumps, requests))
        epoch = box.instance.epoch if epoch is None else epoch
        box.instance.request(["calls", ids, epoch, target, payloads, timeout], self._take)

    def _take(self, frame):
        self.frames.append(frame)
        self._left -= len(frame[0]) if type(frame[0]) is list else 1
        if self._left == 0:
            self._done.set_result(None)

    async def answers(self):
        """Return the answers, each as `(id, value)`, in the order in which they came."""
        async with asyncio.timeout(20):
            await self._done
        found = []
        for ids, status, payloads in self.frames:
            if type(ids) is list:
                found += zip(ids, map(loads, payloads), strict=True)
            else:
                found.append((ids, Refused(payloads) if status == 2 else loads(payloads)))
        return found


def kinds(answers):
    return [type(value) for _, value in answers]


class Later(GenServer):
    """Answers when it is told to, and tells how many it owes."""

    def init(self):
        return []

    def handle_call(self, request, sender, state):
        if request == "owing":
            return Reply(len(state), state)
        if request == "answer":
            for other in state:
                reply(other, "at last")
            return Reply("done", [])
        return NoReply([*state, sender])


def later_app():
    return supervisor([child(Later, id="later", name="later")])


@on_a_node
async def test_they_are_answered_in_order_and_together(node):
    box = await node.start()
    asked = Asked(box, ["increment"] * (2 * MOST + 3))
    assert await asked.answers() == [(n, n + 1) for n in range(2 * MOST + 3)]
    assert len(asked.frames) < MOST
    assert await box.call("value") == 2 * MOST + 3


@on_a_node
async def test_order_is_kept_between_them_and_what_comes_alone(node):
    box = await node.start()
    first = Asked(box, ["increment", "increment"])
    box.ask("cast", "counter", 10)
    alone = box.ask("call", "counter", "increment")
    last = Asked(box, ["increment", "value"])
    assert await first.answers() == [(0, 1), (1, 2)]
    assert loads((await alone)[2]) == 13
    assert await last.answers() == [(0, 14), (1, 14)]


@on_a_node
async def test_an_answer_that_is_large_or_cannot_travel_is_nobody_elses_affair(node):
    box = await node.start()
    large = lambda: bytes(2 * SMALL)
    unfit = lambda: (n for n in ())
    answers = await Asked(box, ["value", ("do", large), "value", ("do", unfit), "increment"]).answers()
    found = dict(answers)
    assert (found[0], found[1], found[2], found[4]) == (0, bytes(2 * SMALL), 0, 1)
    assert isinstance(found[3], NotSerializable)


@on_a_node
async def test_an_answer_above_the_limit_is_refused_also_when_it_is_small(node):
    import dask

    with dask.config.set({"superlearner.message-limit": 1000}):
        box = await node.start()
    answers = dict(await Asked(box, [("do", lambda: bytes(2000)), "increment"]).answers())
    assert isinstance(answers[0], MessageTooLarge)
    assert answers[1] == 1


@on_a_node
async def test_a_crash_fails_the_call_that_caused_it_and_those_behind_it_after_its_events(node):
    class Fragile(Counter):
        def handle_call(self, request, sender, state):
            if request == "crash":
                raise ValueError("on purpose")
            return super().handle_call(request, sender, state)

    box = await node.start(supervisor([child(Fragile, 0, id="counter", name="counter")]))
    asked = Asked(box, ["increment", "crash", "increment"])
    answers = await asked.answers()
    assert answers[0] == (0, 1)
    assert kinds(answers) == [int, ProcessDied, ProcessDied]
    assert "on purpose" in str(answers[1][1].__cause__)
    assert node.told("process_exited")
    assert await box.call("increment") == 1


@on_a_node
async def test_those_without_an_answer_in_time_say_so_and_are_not_owed_any_more(node):
    box = await node.start(later_app())
    answers = await Asked(box, ["one", "two"], "later", timeout=0.05).answers()
    assert kinds(answers) == [CallTimeout, CallTimeout]
    assert (answers[0][1].target, answers[0][1].timeout) == ("later", 0.05)
    assert await box.call("answer", target="later") == "done"
    assert await box.call("owing", target="later") == 0


@on_a_node
async def test_one_that_is_answered_later_gets_its_answer_and_the_others_time_goes_on(node):
    box = await node.start(later_app())
    late = Asked(box, ["one", "two"], "later")
    assert await box.call("owing", target="later") == 2
    never = Asked(box, ["answer", "three"], "later", timeout=0.1)
    assert await late.answers() == [(0, "at last"), (1, "at last")]
    assert kinds(await never.answers()) == [str, CallTimeout]


@on_a_node
async def test_nobody_there_is_told_to_each(node):
    box = await node.start()
    for nobody in ("nobody", ("nobody", 1), ("nobody", {})):
        assert kinds(await Asked(box, ["value", "value"], nobody).answers()) == [NoProcess, NoProcess]


@on_a_node
async def test_another_epoch_is_refused_to_each(node):
    box = await node.start()
    answers = await Asked(box, ["increment", "increment"], epoch=2).answers()
    assert [refused.why[0] for _, refused in answers] == ["stale_epoch", "stale_epoch"]
    assert await box.call("value") == 0


@on_a_node
async def test_they_wait_for_a_new_host_each_with_its_own_time(node):
    box = await node.start(checkpoint=Checkpoint(every=None))
    os.kill((await box.instance.info())["pid"], signal.SIGKILL)
    await node.heard("host_exited")
    asked = Asked(box, ["increment", "increment"], timeout=20.0)
    assert await asked.answers() == [(0, 1), (1, 2)]


@on_a_node
async def test_those_in_flight_learn_that_their_host_died(node):
    box = await node.start(later_app())
    asked = Asked(box, ["one", "two"], "later")
    assert await box.call("owing", target="later") == 2
    os.kill((await box.instance.info())["pid"], signal.SIGKILL)
    assert [refused.why[0] for _, refused in await asked.answers()] == ["process_died", "process_died"]


@on_a_node
async def test_a_checkpoint_by_count_has_their_effects(node):
    box = await node.start(checkpoint=Checkpoint(every=None, messages=10))
    await Asked(box, ["increment"] * 12).answers()
    os.kill((await box.instance.info())["pid"], signal.SIGKILL)
    await node.heard("instance_restarted")
    assert await box.call("value") >= 10


@on_a_node
async def test_durable_ones_leave_when_their_effects_are_stored(node):
    box = await node.start(checkpoint=Checkpoint(every=None, durability="reply"))
    assert await Asked(box, ["increment"] * 5).answers() == [(n, n + 1) for n in range(5)]
    os.kill((await box.instance.info())["pid"], signal.SIGKILL)
    await node.heard("instance_restarted")
    assert await box.call("value") == 5


@on_a_node
async def test_many_lengths_of_timeouts_are_kept_too(node):
    box = await node.start(later_app())
    for asked in [Asked(box, ["one", "two"], "later", timeout=0.01 * (n + 1)) for n in range(20)]:
        assert kinds(await asked.answers()) == [CallTimeout, CallTimeout]
