"""Answers that wait for checkpoints, and requests that take effect once, through real processes."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal

import pytest
from sandbox_kit import Refused, on_a_node, open_answer

from superlearner.core.durability import Copies
from superlearner.core.spec import Checkpoint
from superlearner.errors import InvalidSpec, NoProcess, ProcessDied, RequestIdTaken
from superlearner.otp import GenServer, NoReply, Reply, call, child, reply, supervisor
from superlearner.sandbox import instance
from superlearner.sandbox.payload import loads

REPLY = Checkpoint(every=None, durability="reply")
BY_HAND = Checkpoint(every=None)
PEERS = (("beta", "tcp://b"), ("gamma", "tcp://c"))


class Tally(GenServer):
    """Counts, in several ways."""

    def init(self):
        return {"count": 0, "waits": None}

    async def slowly(self, sender, state):
        reply(sender, state["count"] + 1)
        await asyncio.sleep(0.05)
        return NoReply({**state, "count": state["count"] + 1})

    def handle_call(self, request, sender, state):
        more = {**state, "count": state["count"] + 1}
        match request:
            case "add":
                return Reply(more["count"], more)
            case "count":
                return Reply(state["count"], state)
            case "answer before the effect":
                return self.slowly(sender, state)
            case "later":
                return NoReply({**more, "waits": sender})
            case "now":
                reply(state["waits"], state["count"])
                return Reply(None, {**state, "waits": None})
            case "slow":
                return self.slow(state)
            case "crash":
                raise ValueError("boom")
            case "spoil":
                return Reply(None, {**state, "bad": lambda: iter([]), "worse": iter(_Unpicklable())})
            case ("call", target, request_id):
                return self.calling(target, request_id, state)

    async def slow(self, state):
        await asyncio.sleep(0.4)
        return Reply(state["count"] + 1, {**state, "count": state["count"] + 1})

    async def calling(self, target, request_id, state):
        return Reply(await call(target, "add", request_id=request_id), state)


class _Unpicklable:
    def __iter__(self):
        return self

    def __next__(self):
        return 1

    def __reduce__(self):
        raise TypeError("not to be kept")


def tally(**options):
    return supervisor([child(Tally, id="tally", name="tally")], **options)


class Disk:
    """The peers of a node, as slow as the test wants, and what they have."""

    def __init__(self, node):
        self.asked = asyncio.Queue()
        self.taken = []
        node.replicate = self.replicate

    async def replicate(self, version, peers, **_):
        done = asyncio.get_running_loop().create_future()
        await self.asked.put((version, done))
        copies = await done
        self.taken.append(version)
        return copies

    async def wait(self):
        async with asyncio.timeout(10):
            return await self.asked.get()


BOTH = Copies(("beta", "gamma"))


def count_in(version):
    states = pickle.loads(version.payload)["states"]
    return next(state["count"] for state in map(pickle.loads, states.values()) if isinstance(state, dict))


def ids_in(version):
    return list(pickle.loads(version.payload).get("answers", (0.0, {}))[1])


def ask(box, request, **options):
    return box.ask("call", "tally", request, **options)


def once(box, id, request, **options):
    return box.ask("once", "tally", (None, id, request), **options)


async def value(answer):
    return open_answer(await answer)


@on_a_node
async def test_an_answer_waits_for_its_checkpoint(node):
    box = await node.start(tally(), checkpoint=REPLY, peers=PEERS)
    disk = Disk(node)
    answer = ask(box, "add")
    version, done = await disk.wait()
    assert count_in(version) == 1
    assert not answer.done()
    assert box.instance._desk.in_flight == 1
    done.set_result(BOTH)
    assert await value(answer) == 1


@on_a_node
async def test_answers_that_come_meanwhile_share_the_next_checkpoint(node):
    box = await node.start(tally(), checkpoint=REPLY, peers=PEERS)
    disk = Disk(node)
    first = ask(box, "add")
    _, done = await disk.wait()
    others = [ask(box, "add") for _ in range(50)]
    assert loads((await box.ask("command", "tree", ((), {})))[2]) is not None, "a look waits for nothing"
    done.set_result(BOTH)
    assert await value(first) == 1
    version, done = await disk.wait()
    assert count_in(version) == 51
    assert not any(answer.done() for answer in others)
    done.set_result(BOTH)
    assert [await value(answer) for answer in others] == list(range(2, 52))
    assert len(disk.taken) == 2


@on_a_node
async def test_an_answer_given_before_its_effect_waits_for_the_effect(node):
    box = await node.start(tally(), checkpoint=REPLY, peers=PEERS)
    disk = Disk(node)
    answer = ask(box, "answer before the effect")
    version, done = await disk.wait()
    assert count_in(version) == 1
    done.set_result(BOTH)
    assert await value(answer) == 1


@on_a_node
async def test_an_answer_given_later_waits_too(node):
    box = await node.start(tally(), checkpoint=REPLY, peers=PEERS)
    disk = Disk(node)
    later = ask(box, "later")
    now = ask(box, "now")
    version, done = await disk.wait()
    assert not later.done()
    assert count_in(version) == 1
    done.set_result(BOTH)
    assert (await value(later), await value(now)) == (1, None)


@on_a_node
async def test_an_error_waits_too(node):
    box = await node.start(tally(), checkpoint=REPLY, peers=PEERS)
    disk = Disk(node)
    answer = ask(box, "crash")
    _, done = await disk.wait()
    assert not answer.done()
    done.set_result(BOTH)
    with pytest.raises(ProcessDied):
        await value(answer)


@pytest.mark.parametrize(
    ("copies", "why"),
    [
        (Copies(), "none of the nodes for its copies"),
        (Copies(("beta",), stale=True), "another instance has taken over"),
        (Copies(("beta",), in_directory=False, trouble="the disk is full"), "the disk is full"),
    ],
)
def test_what_cannot_be_stored_is_refused_and_the_next_may_go_well(copies, why):
    @on_a_node
    async def test(node):
        box = await node.start(tally(), checkpoint=REPLY, peers=PEERS)
        disk = Disk(node)
        answer = ask(box, "add")
        (await disk.wait())[1].set_result(copies)
        with pytest.raises(Refused) as refused:
            await value(answer)
        code, definite, reason, target = refused.value.why
        assert (code, definite, target) == ("not_durable", False, "tally")
        assert why in reason
        answer = ask(box, "add")
        (await disk.wait())[1].set_result(BOTH)
        assert await value(answer) == 2

    test()


@on_a_node
async def test_the_registry_is_told_first_of_a_copy_that_is_missing(node):
    box = await node.start(tally(), checkpoint=REPLY, peers=PEERS)
    disk = Disk(node)
    told = []

    async def settled(patience):
        told.append(await node.heard("checkpoint_stored", len(told) + 1))
        return len(told) < 3

    node.settled = settled
    for number, copies in enumerate((BOTH, BOTH, Copies(("beta",)), BOTH), start=1):
        answer = ask(box, "add")
        (await disk.wait())[1].set_result(copies)
        assert await value(answer) == number
    assert [(one["seq"], one["nodes"]) for one in told] == [
        (1, ["alpha", "beta", "gamma"]),
        (3, ["alpha", "beta"]),
    ]
    answer = ask(box, "add")
    (await disk.wait())[1].set_result(Copies(("gamma",)))
    with pytest.raises(Refused) as refused:
        await value(answer)
    assert refused.value.why[2] == "the control plane does not answer"


@on_a_node
async def test_a_state_that_cannot_be_saved_is_not_durable(node):
    box = await node.start(tally(), checkpoint=REPLY)
    with pytest.raises(Refused) as refused:
        await value(ask(box, "spoil"))
    assert "the state of 'tally' cannot be saved" in refused.value.why[2]


@on_a_node
async def test_a_host_that_dies_while_its_checkpoint_is_on_its_way_answers_nothing(node):
    box = await node.start(tally(), checkpoint=REPLY, peers=PEERS)
    disk = Disk(node)
    answer = ask(box, "add")
    _, done = await disk.wait()
    os.kill(box.instance._link.pid, signal.SIGKILL)
    with pytest.raises(Refused) as refused:
        await value(answer)
    assert refused.value.why[0] == "process_died"
    done.set_result(BOTH)
    # What was stored counts, though nobody was told; it goes on from there.
    count = ask(box, "count", timeout=10)
    _, done = await disk.wait()
    done.set_result(BOTH)
    while not count.done():
        pending = asyncio.ensure_future(disk.wait())
        await asyncio.wait((pending, count), return_when=asyncio.FIRST_COMPLETED)
        if pending.done():
            pending.result()[1].set_result(BOTH)
        else:
            pending.cancel()
    assert await value(count) == 1


def test_what_is_answered_after_the_checkpoint_of_a_move_stays_back(monkeypatch):
    monkeypatch.setattr(instance, "QUIESCE_TIMEOUT", 0.05)
    answers_late()


@on_a_node
async def answers_late(node):
    box = await node.start(tally(), checkpoint=REPLY)
    late = ask(box, "slow")
    await box.instance.quiesce()
    stored = asyncio.Event()
    secure = box.instance._keeper.secure

    async def secured(version):
        try:
            return await secure(version)
        finally:
            stored.set()

    box.instance._keeper.secure = secured
    await asyncio.wait_for(stored.wait(), 10)
    await asyncio.sleep(0)
    assert not late.done(), "another instance has begun from a checkpoint that does not have it"
    await box.instance.resume()
    assert await value(late) == 1


@on_a_node
async def test_without_any_other_place_an_answer_survives_the_host(node):
    box = await node.start(tally(), checkpoint=REPLY)
    for number in range(1, 6):
        assert await value(ask(box, "add")) == number
        os.kill(box.instance._link.pid, signal.SIGKILL)
        await node.heard("instance_restarted", number)
        if number % 3 == 0:  # not past its intensity
            box.instance._budget = type(box.instance._budget)(3, 5.0)
    assert await value(ask(box, "count")) == 5


# -- Requests with ids


@on_a_node
async def test_a_repeated_request_is_answered_from_memory(node):
    box = await node.start(tally(), checkpoint=BY_HAND)
    assert [await value(once(box, "a", "add")) for _ in range(3)] == [1, 1, 1]
    assert await value(once(box, "b", "add")) == 2
    with pytest.raises(RequestIdTaken, match="'a' is that of another request"):
        await value(once(box, "a", "count"))


@on_a_node
async def test_one_that_is_under_way_is_joined(node):
    box = await node.start(tally(), checkpoint=BY_HAND)
    several = [once(box, "a", "later") for _ in range(3)]
    with pytest.raises(Exception, match=r"within 0\.05 s"):
        await value(once(box, "a", "later", timeout=0.05))
    await value(ask(box, "now"))
    assert [await value(answer) for answer in several] == [1, 1, 1]
    assert await value(once(box, "a", "later")) == 1


@on_a_node
async def test_the_memory_goes_with_the_state(node):
    box = await node.start(tally(), checkpoint=BY_HAND)
    assert await value(once(box, "kept", "add")) == 1
    await box.instance.checkpoint()
    assert await value(once(box, "lost", "add")) == 2
    os.kill(box.instance._link.pid, signal.SIGKILL)
    await node.heard("instance_restarted")
    assert await value(once(box, "kept", "add")) == 1
    assert await value(ask(box, "count")) == 1
    assert await value(once(box, "lost", "add")) == 2, "its effect was lost, and it with it"


@on_a_node
async def test_what_was_owed_is_answered_after_a_restore(node):
    box = await node.start(tally(), checkpoint=BY_HAND)
    owed = once(box, "a", "later")
    assert await value(ask(box, "count")) == 1
    await box.instance.checkpoint()
    os.kill(box.instance._link.pid, signal.SIGKILL)
    with pytest.raises(Refused):
        await value(owed)
    await node.heard("instance_restarted")
    again = once(box, "a", "later", timeout=10)
    assert await value(ask(box, "now")) is None
    assert await value(again) == 1
    assert await value(ask(box, "count")) == 1


@on_a_node
async def test_the_memory_has_no_answer_whose_effect_the_state_has_not(node):
    box = await node.start(tally(), checkpoint=BY_HAND)
    answer = once(box, "a", "answer before the effect")
    await asyncio.sleep(0)
    while not (await box.command("process", "tally")).handled:
        pass
    stored = await box.instance.checkpoint()
    version = next(v for v in node.checkpoints.newest("shop") if v.seq == stored["seq"])
    assert (count_in(version), ids_in(version)) in ((0, []), (1, ["a"]))
    assert await value(answer) == 1
    await box.instance.checkpoint()
    newest = node.checkpoints.newest("shop")[0]
    assert (count_in(newest), ids_in(newest)) == (1, ["a"])


@on_a_node
async def test_a_crash_is_an_answer_and_nobody_there_is_none(node):
    box = await node.start(tally(), checkpoint=BY_HAND)
    for _ in range(2):
        with pytest.raises(ProcessDied) as died:
            await value(once(box, "a", "crash"))
        assert isinstance(died.value.__cause__, ValueError)
    with pytest.raises(NoProcess):
        await value(box.ask("once", "nobody", (None, "b", "add")))
    assert await value(once(box, "b", "add")) == 1


@on_a_node
async def test_what_died_in_the_mailbox_is_carried_out_when_it_is_repeated(node):
    box = await node.start(tally(), checkpoint=BY_HAND)
    await box.command("suspend", "tally")
    waiting = once(box, "a", "add")
    await box.command("kill", "tally")
    with pytest.raises(ProcessDied):
        await value(waiting)
    assert await value(once(box, "a", "add")) == 1


@on_a_node
async def test_equal_requests_are_one_whatever_their_parts_share(node):
    box = await node.start(tally(), checkpoint=BY_HAND)
    word, same_again = (pickle.loads(pickle.dumps("a word")) for _ in range(2))
    one, other = (word, word), (word, same_again)
    assert pickle.dumps(one) != pickle.dumps(other)
    for request in (one, other):
        with pytest.raises(ProcessDied):
            await value(once(box, "a", request))


@on_a_node
async def test_a_call_to_another_sandbox_may_have_an_id(node):
    shop = await node.start(tally(), id="shop", checkpoint=BY_HAND)
    bank = await node.start(tally(), id="bank", checkpoint=BY_HAND)
    for _ in range(2):
        assert await value(ask(shop, ("call", "bank/tally", "order-1"))) == 1
    assert await value(ask(bank, "count")) == 1
    with pytest.raises(ProcessDied) as died:
        await value(ask(shop, ("call", "other", "order-2")))
    assert isinstance(died.value.__cause__, InvalidSpec)


@on_a_node
async def test_ids_and_durable_answers_go_together(node):
    box = await node.start(tally(), checkpoint=REPLY, peers=PEERS)
    disk = Disk(node)
    answer = once(box, "a", "add")
    version, done = await disk.wait()
    assert ids_in(version) == ["a"]
    again = once(box, "a", "add")
    await asyncio.sleep(0)
    assert not answer.done()
    done.set_result(BOTH)
    assert await value(answer) == 1
    (await disk.wait())[1].set_result(BOTH)
    assert await value(again) == 1
