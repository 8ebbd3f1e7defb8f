"""What a sandbox promises when things die, through real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from sandbox_kit import Counter, Refused, counter_app, on_a_node, open_answer

from superlearner.core.checkpoints import CheckpointVersion
from superlearner.core.durability import Copies
from superlearner.core.spec import Checkpoint
from superlearner.errors import CheckpointFailed, NotSerializable, ProcessDied, StartFailed, Unsupported
from superlearner.otp import child, supervisor
from superlearner.sandbox import forkserver
from superlearner.sandbox.payload import LONGEST_TEXT, dumps, loads

BY_HAND = Checkpoint(every=None)


@on_a_node
async def test_a_sandbox_starts_answers_and_stops(node):
    box = await node.start()
    assert await box.call("increment") == 1
    assert await box.call("increment") == 2
    info = await box.instance.info()
    assert info["status"] == "running"
    assert info["pid"] != os.getpid()
    assert info["memory"] > 0
    assert (await box.instance.stop("enough"))["reason"] in ("enough", "shutdown")
    assert box.instance.status == "stopped"
    await box.instance.stop()


@on_a_node
async def test_a_killed_host_answers_again_with_its_checkpointed_state(node):
    box = await node.start(checkpoint=BY_HAND)
    for _ in range(3):
        await box.call("increment")
    stored = await box.instance.checkpoint()
    assert stored["nodes"] == ["alpha"]
    await box.call("increment")
    os.kill((await box.instance.info())["pid"], signal.SIGKILL)
    told = await node.heard("instance_restarted")
    assert told["reason"] == "killed (SIGKILL)"
    assert told["restored"] == [1, stored["seq"]]
    assert told["restarts"] == 1
    assert await box.call("value") == 3


@on_a_node
async def test_an_application_that_comes_down_is_not_checkpointed_without_its_states(node):
    class TakesLeave(Counter):
        trap_exit = True

        async def terminate(self, reason, state):
            await asyncio.sleep(0.2)

    app = supervisor([child(TakesLeave, id="slow"), child(Counter, name="counter")], max_restarts=0)
    box = await node.start(app, checkpoint=BY_HAND)
    await box.call("increment")
    await box.instance.checkpoint()
    # The process ends, and its supervisor and the sandbox with it, as soon as the other one has taken its leave.
    await box.command("kill", "counter")
    with pytest.raises(CheckpointFailed):
        await box.instance.checkpoint()
    assert (await node.heard("instance_restarted"))["reason"] == "shutdown"
    assert await box.call("value") == 1


@on_a_node
async def test_a_sandbox_whose_root_gave_up_says_because_of_whom(node):
    app = supervisor([child(Counter, id="till", name="counter")], max_restarts=0)
    box = await node.start(app, max_restarts=0)
    with pytest.raises(ProcessDied):
        await box.do(lambda: 1 / 0)
    exited = await node.heard("host_exited")
    because = (
        "'root' gave up, its child 'till' ended too often, at last with 'ZeroDivisionError: division by zero'"
    )
    assert (exited["reason"], exited["detail"]["because"]) == ("shutdown", because)
    assert (await node.heard("instance_exited"))["reason"] == f"shutdown: {because}"


@on_a_node
async def test_an_application_that_is_still_starting_is_not_checkpointed_without_those_to_come(node):
    class Slow(Counter):
        async def init(self, start=0):
            await asyncio.sleep(0.2)
            return start

    app = supervisor([child(Slow, id="slow"), child(Counter, name="counter")])
    box = await node.start(app, checkpoint=BY_HAND)
    await box.call("increment")
    await box.instance.checkpoint()
    os.kill((await box.instance.info())["pid"], signal.SIGKILL)
    refusals = set()
    back = asyncio.ensure_future(node.heard("instance_restarted"))
    while not back.done():
        try:
            await box.instance.checkpoint()
        except CheckpointFailed as error:
            refusals.add(error.reason)
        await asyncio.sleep(0)
    assert "it has not started yet" in refusals
    os.kill((await box.instance.info())["pid"], signal.SIGKILL)
    await node.heard("instance_restarted", 2)
    assert await box.call("value") == 1
    assert not node.told("checkpoint_refused")


@on_a_node
async def test_a_request_in_flight_learns_that_its_host_died(node):
    box = await node.start()
    with pytest.raises(Refused) as refused:
        await box.do(lambda: os._exit(3))
    code, definite, reason, target = refused.value.why
    assert (code, definite, reason, target) == ("process_died", False, "exit code 3", "counter")


@on_a_node
async def test_requests_wait_for_the_new_host_and_keep_their_order(node):
    box = await node.start(checkpoint=BY_HAND)
    dying = box.ask("call", "counter", ("do", lambda: os._exit(1)))
    await dying
    assert box.instance.status == "restarting"
    waiting = [box.ask("call", "counter", "increment") for _ in range(50)]
    assert [loads((await answer)[2]) for answer in waiting] == list(range(1, 51))


@on_a_node
async def test_a_request_that_waits_too_long_did_certainly_not_happen(node):
    box = node.box()
    answer = await box.ask("call", "counter", "increment", timeout=0.01)
    assert answer[1] == 2
    assert answer[2][:2] == ["call_timeout", True]


@on_a_node
async def test_another_epoch_is_refused(node):
    box = await node.start(epoch=4)
    for stale in (3, 5):
        with pytest.raises(Refused) as refused:
            await box.call("increment", epoch=stale)
        assert refused.value.why[:2] == ["stale_epoch", True]
    assert await box.call("value") == 0
    await box.instance.stop()
    with pytest.raises(Refused) as refused:
        await box.call("increment")
    assert refused.value.why[:3] == ["stale_epoch", True, "stopped"]


@on_a_node
async def test_a_poisoned_checkpoint_falls_back_to_the_one_before(node):
    box = await node.start(checkpoint=BY_HAND)
    await box.call("increment")
    await box.instance.checkpoint()
    await box.instance.stop()
    node.checkpoints.put(CheckpointVersion.of("shop", 1, 9, dumps("no snapshot at all")))
    box = await node.start(epoch=2, checkpoint=BY_HAND)
    assert await box.call("value") == 1
    refused = await node.heard("checkpoint_refused")
    assert refused["detail"]["seq"] == 9


@on_a_node
async def test_a_node_that_holds_what_is_known_to_be_stored_asks_nobody(node):
    stored = await (await node.start(checkpoint=BY_HAND)).instance.checkpoint()
    asked = node.fetched
    box = await node.start(epoch=2, checkpoint=BY_HAND, expects=(stored["epoch"], stored["seq"]))
    assert (await box.call("value"), node.fetched) == (0, asked)


@on_a_node
async def test_when_its_own_are_poisoned_a_node_takes_what_others_hold_before_it_starts_fresh(node):
    box = await node.start(checkpoint=BY_HAND)
    await box.call("increment")
    await box.instance.checkpoint()
    await box.instance.stop()
    node.elsewhere = node.checkpoints.newest("shop")
    node.checkpoints.forget("shop")
    node.checkpoints.put(CheckpointVersion.of("shop", 1, 9, b"rubbish"))
    box = await node.start(epoch=2, checkpoint=BY_HAND, expects=(1, 9))
    assert await box.call("value") == 1
    assert [told["detail"]["seq"] for told in node.told("checkpoint_refused")] == [9]


@on_a_node
async def test_a_checkpoint_is_not_to_blame_for_a_host_that_is_killed_while_it_starts(node):
    class Slow(Counter):
        async def init(self, start=0):
            await asyncio.sleep(0.3)
            return start

    app = supervisor([child(Counter, name="counter"), child(Slow, id="slow")])
    box = await node.start(app, checkpoint=BY_HAND)
    for _ in range(3):
        await box.call("increment")
        await box.instance.checkpoint()
    before = (await box.instance.info())["pid"]
    os.kill(before, signal.SIGKILL)
    # Nobody tells when a host has been forked: only when it has started.
    while (starting := (await box.instance.info())["pid"]) in (None, before):  # noqa: ASYNC110
        await asyncio.sleep(0.01)
    os.kill(starting, signal.SIGKILL)
    assert (await node.heard("instance_restarted"))["restored"] == [1, 3]
    assert await box.call("value") == 3
    assert not node.told("checkpoint_refused")


@on_a_node
async def test_when_every_checkpoint_is_poisoned_it_starts_fresh(node):
    node.checkpoints.put(CheckpointVersion.of("shop", 1, 1, b"rubbish"))
    node.checkpoints.put(CheckpointVersion.of("shop", 1, 2, b"more rubbish"))
    box = node.box(epoch=2)
    assert (await box.instance.start())["restored"] is None
    assert await box.call("increment") == 1
    assert len(node.told("checkpoint_refused")) == 2
    # It is kept at once, so that the next start does not meet the poison first.
    assert (await node.heard("checkpoint_stored"))["epoch"] == 2


class Broken(Counter):
    def init(self, start=0):
        raise ValueError("no shelf")


@on_a_node
async def test_an_application_that_does_not_start_says_why(node):
    with pytest.raises(StartFailed, match="no shelf"):
        await node.start(supervisor([child(Broken, id="broken")]))


@on_a_node
async def test_an_application_that_kills_its_host_at_the_start_says_how(node):
    class Mortal(Counter):
        def init(self, start=0):
            print("farewell")  # noqa: T201
            os._exit(5)

    with pytest.raises(StartFailed, match=r"exit code 5 \(farewell\)"):
        await node.start(supervisor([child(Mortal, id="mortal")]))


@on_a_node
async def test_past_its_intensity_the_instance_gives_up(node):
    box = await node.start(max_restarts=1, max_seconds=60)
    for _ in range(2):
        with pytest.raises(Refused):
            await box.do(lambda: os._exit(1))
    told = await node.heard("instance_exited")
    assert told["gave_up"] is True
    assert told["reason"] == "exit code 1"
    assert box.instance.status == "failed"
    assert len(node.told("instance_restarted")) == 1


@on_a_node
async def test_a_transient_sandbox_whose_root_ends_normally_stays_down(node):
    app = supervisor(
        [child(Counter, id="counter", name="counter", restart="transient", significant=True)],
        auto_shutdown="any_significant",
    )
    box = await node.start(app, restart="transient")
    assert await box.call("finish") == "bye"
    told = await node.heard("instance_exited")
    assert told["gave_up"] is False
    assert told["reason"] == "shutdown"
    # Another instance may have taken its place by now.
    with pytest.raises(StartFailed, match="had ended before: shutdown"):
        await box.instance.restart()
    assert box.instance.status == "stopped"
    assert node.told("instance_restarted") == []


@on_a_node
async def test_pids_never_repeat_over_restarts(node):
    box = await node.start(checkpoint=BY_HAND)
    seen = set()
    for _ in range(3):
        pids = {info.pid for info in await box.command("processes")}
        assert not pids & seen
        seen |= pids
        with pytest.raises(Refused):
            await box.do(lambda: os._exit(1))
        await node.heard("instance_restarted", len(node.told("instance_restarted")) + 1)


@on_a_node
async def test_an_instance_on_trial_stores_nothing_until_it_is_told_that_it_is_the_owner(node):
    owner = await node.start(peers=[("beta", "b")])
    await owner.instance.checkpoint()
    trial = await node.start(epoch=2, peers=[("beta", "b")], on_trial=True)
    stored = await trial.instance.checkpoint()
    assert (stored["epoch"], stored["nodes"]) == (2, [])
    assert node.checkpoints.epoch("shop") == 1, "the owner is not fenced off"
    await owner.instance.checkpoint()
    await trial.instance.set_peers([("gamma", "c")])
    assert node.checkpoints.epoch("shop") == 2
    assert node.copies[-1][0] == "gamma"
    assert node.copies[-1][1].epoch == 2
    with pytest.raises(CheckpointFailed, match="is over"):
        await owner.instance.checkpoint()


@on_a_node
async def test_a_request_of_its_own_epoch_tells_an_instance_that_it_is_the_owner(node):
    trial = await node.start(epoch=2, on_trial=True)
    stale = await trial.ask("call", "counter", "value", epoch=1)
    assert stale[1] == 2
    await trial.instance.checkpoint()
    assert node.checkpoints.epoch("shop") == 0
    await trial.call("value")
    await node.heard("checkpoint_stored")
    assert node.checkpoints.epoch("shop") == 2


@on_a_node
async def test_an_instance_on_trial_whose_host_dies_starts_again_from_what_it_began_with(node):
    owner = await node.start(checkpoint=BY_HAND)
    await owner.call("increment")
    await owner.instance.checkpoint()
    trial = await node.start(epoch=2, on_trial=True)
    os.kill(trial.instance._link.pid, signal.SIGKILL)
    restarted = await node.heard("instance_restarted")
    assert restarted["restored"] == [1, 1]


@on_a_node
async def test_a_quiesced_instance_refuses_until_it_resumes(node):
    box = await node.start(checkpoint=BY_HAND, peers=(("beta", "tcp://b"),))
    await box.call("increment")
    saved = await box.instance.quiesce()
    assert saved["nodes"] == ["alpha", "beta"]
    with pytest.raises(Refused) as refused:
        await box.call("increment")
    assert refused.value.why[:3] == ["stale_epoch", True, "moving"]
    with pytest.raises(CheckpointFailed):
        await box.instance.quiesce()
    await box.instance.resume()
    assert await box.call("increment") == 2


@pytest.mark.parametrize("ends", ["resume", "stop"])
def test_the_node_of_a_move_gets_the_last_checkpoint_and_the_others_when_it_is_over(ends):
    @on_a_node
    async def check(node):
        box = await node.start(checkpoint=BY_HAND, peers=(("beta", "tcp://b"), ("gamma", "tcp://g")))
        await box.call("increment")
        saved = await box.instance.quiesce("gamma")
        assert saved["nodes"] == ["alpha", "gamma"]
        assert [to for to, _ in node.copies] == ["gamma"]
        await getattr(box.instance, ends)()
        if ends == "resume":
            assert (await node.heard("checkpoint_stored", 2))["nodes"] == ["alpha", "gamma", "beta"]
        else:  # there is another owner, whose checkpoints alone are told
            assert len(node.told("checkpoint_stored")) == 1
        assert [(to, version.seq) for to, version in node.copies] == [("gamma", 1), ("beta", 1)]

    check()


@on_a_node
async def test_answers_that_wait_for_copies_get_all_of_them_before_a_move(node):
    durable = Checkpoint(every=None, durability="reply")
    box = await node.start(checkpoint=durable, peers=(("beta", "tcp://b"), ("gamma", "tcp://g")))
    assert (await box.instance.quiesce("gamma"))["nodes"] == ["alpha", "beta", "gamma"]


@on_a_node
async def test_the_new_instance_of_a_move_asks_nobody_for_what_its_node_has(node):
    asked = []
    fetch = node.fetch

    async def counted(*args):
        asked.append(args)
        return await fetch(*args)

    node.fetch = counted
    owner = await node.start(checkpoint=BY_HAND)
    await owner.call("increment")
    saved = await owner.instance.quiesce()
    asked.clear()
    trial = await node.start(epoch=2, on_trial=True, expects=(saved["epoch"], saved["seq"]))
    assert await trial.call("value") == 1
    assert asked == []


@on_a_node
async def test_what_was_cast_before_a_move_is_in_the_checkpoint(node):
    box = await node.start(checkpoint=BY_HAND)
    for _ in range(100):
        box.instance.request(["cast", None, 1, "counter", dumps(1), None], pytest.fail)
    await box.instance.quiesce()
    await box.instance.stop()
    box = await node.start(epoch=2)
    assert await box.call("value") == 100


@on_a_node
async def test_answers_leave_again_when_a_move_is_given_up_before_all_is_at_rest(node):
    box = await node.start(checkpoint=Checkpoint(every=None, durability="reply"))
    under_way = box.ask("call", "counter", ("do", lambda: time.sleep(0.3)))
    quiescing = asyncio.ensure_future(box.instance.quiesce())
    await asyncio.sleep(0)
    await box.instance.resume()
    await under_way
    with pytest.raises(CheckpointFailed, match="given up meanwhile"):
        await quiescing
    assert await box.call("increment") == 1


@on_a_node
async def test_a_quiesced_instance_whose_host_dies_still_refuses(node):
    box = await node.start(checkpoint=BY_HAND)
    await box.instance.quiesce()
    os.kill((await box.instance.info())["pid"], signal.SIGKILL)
    await node.heard("instance_restarted")
    with pytest.raises(Refused):
        await box.call("increment")
    await box.instance.resume()
    assert await box.call("increment") == 1


@on_a_node
async def test_a_restart_keeps_the_state(node):
    box = await node.start(checkpoint=BY_HAND)
    await box.call("increment")
    before = (await box.instance.info())["pid"]
    started = await box.instance.restart("asked for")
    assert started["pid"] != before
    assert await box.call("value") == 1


@on_a_node
async def test_checkpoints_are_numbered_in_the_order_in_which_they_were_made(node):
    box = await node.start(checkpoint=BY_HAND)
    link = box.instance._link
    asked = asyncio.ensure_future(box.instance.checkpoint())
    await asyncio.sleep(0)
    # Both came in one piece: the one that was asked for, and one that was made after it.
    link._on_frame(["saved", link._next_save, b"older", 1, 1, []])
    link._on_frame(["saved", 0, b"newer", 2, 1, []])
    assert (await asked)["seq"] == 1
    kept = {version.seq: version.payload for version in node.checkpoints.newest("shop")}
    assert (kept[1], kept[2]) == (b"older", b"newer")


@on_a_node
async def test_checkpoints_are_taken_by_time_only_when_something_was_handled(node):
    box = await node.start(checkpoint=Checkpoint(every=0.05))
    await box.call("increment")
    assert (await node.heard("checkpoint_stored"))["seq"] == 1
    await asyncio.sleep(0.3)  # what must not happen tells nobody that it has not
    assert len(node.told("checkpoint_stored")) == 1


@on_a_node
async def test_checkpoints_are_taken_by_count(node):
    box = await node.start(checkpoint=Checkpoint(every=None, messages=10))
    for _ in range(25):
        await box.call("increment")
    await node.heard("checkpoint_stored", 2)


@on_a_node
async def test_new_peers_get_the_newest_checkpoint(node):
    box = await node.start(checkpoint=BY_HAND)
    await box.instance.checkpoint()
    await box.instance.set_peers((("beta", "tcp://b"),))
    assert [name for name, _ in node.copies] == ["beta"]


@on_a_node
async def test_a_reply_that_cannot_travel_harms_nobody(node):
    box = await node.start()
    with pytest.raises(NotSerializable, match="the reply"):
        await box.do(threading.Lock)
    assert await box.call("increment") == 1


@on_a_node
async def test_the_callees_exception_arrives_with_its_traceback(node):
    box = await node.start()
    with pytest.raises(ProcessDied, match="no such shelf") as died:
        await box.do(_missing_shelf)
    assert isinstance(died.value.__cause__, KeyError)
    assert "_missing_shelf" in str(died.value.reason) + str(getattr(died.value, "__notes__", ""))


def _missing_shelf():
    raise KeyError("no such shelf")


@on_a_node
async def test_a_huge_exception_is_cut(node):
    def shout():
        raise ValueError("x" * 10_000_000)

    box = await node.start()
    answer = await box.ask("call", "counter", ("do", shout))
    assert len(answer[2]) < 8 * LONGEST_TEXT
    assert isinstance(loads(answer[2]), ProcessDied)


@on_a_node
async def test_leaving_the_interpreter_from_a_task_does_not_end_the_host(node):
    async def leave():
        raise SystemExit(1)

    box = await node.start()
    pid = (await box.instance.info())["pid"]
    await box.do(lambda: asyncio.ensure_future(leave()) and None)
    assert await box.call("increment") == 1
    assert (await box.instance.info())["pid"] == pid


@on_a_node
async def test_an_unknown_command_is_refused(node):
    box = await node.start()
    with pytest.raises(Unsupported, match="explode"):
        await box.command("explode")


@on_a_node
async def test_commands_reach_the_runtime(node):
    box = await node.start()
    assert await box.command("get_state", "counter") == 0
    tree = await box.command("tree")
    assert [process.name for process in tree.children] == ["counter"]


@on_a_node
async def test_output_is_captured_and_bounded(node):
    box = await node.start()
    await box.do(lambda: sys.stdout.write("x" * 200_000 + "\nthe last line\n"))
    await box.instance.checkpoint()
    async with asyncio.timeout(5):
        while not (await box.instance.logs()).endswith("the last line\n"):  # noqa: ASYNC110 - a pipe has no event
            await asyncio.sleep(0.01)
    assert len(await box.instance.logs()) <= 64 * 1024


@on_a_node
async def test_secrets_of_the_environment_are_not_visible(node):
    os.environ["SHOP_SECRET_TOKEN"] = "hunter2"
    try:
        box = await node.start()
    finally:
        del os.environ["SHOP_SECRET_TOKEN"]
    seen, own, parents = await box.do(_look_around)
    assert "PATH" in seen
    assert not any("SECRET" in name or "SUPERLEARNER" in name for name in seen)
    assert b"hunter2" not in own + parents


def _look_around():
    return (
        dict(os.environ),
        Path("/proc/self/environ").read_bytes(),
        Path(f"/proc/{os.getppid()}/environ").read_bytes(),
    )


@on_a_node
async def test_a_host_ends_by_itself_when_the_lease_of_its_node_runs_out(node):
    node.lease(2.0)
    box = await node.start()
    assert await box.call("increment") == 1
    node.lease(0.2)
    told = await node.heard("instance_exited")
    assert told["reason"] == "the node's lease has run out", "and none is started while there is no lease"


@on_a_node
async def test_a_lease_that_is_extended_in_time_ends_nothing(node):
    node.lease(0.5)
    box = await node.start()
    pid = await box.do(os.getpid)
    for _ in range(5):
        await box.do(lambda: time.sleep(0.2))
        node.lease(0.5)
    assert await box.do(os.getpid) == pid


@pytest.mark.slow
@on_a_node
async def test_an_extension_that_waits_behind_a_long_handler_counts(node):
    node.lease(0.5)
    box = await node.start()
    busy = box.ask("call", "counter", ("do", lambda: time.sleep(1.0)))
    await asyncio.sleep(0)
    node.lease(30.0)
    assert open_answer(await busy) is None
    assert await box.call("increment") == 1


@on_a_node
async def test_a_fenced_instance_ends_at_once_and_refuses(node):
    box = await node.start(shutdown=60.0)
    pid = await box.do(os.getpid)
    await box.instance.fence()
    with pytest.raises(Refused):
        await box.call("increment")
    assert not psutil.pid_exists(pid)


@on_a_node
async def test_a_host_that_will_not_stop_is_killed(node):
    box = await node.start(shutdown=0.2)
    busy = box.ask("call", "counter", ("do", lambda: time.sleep(60)))
    ended = await box.instance.stop()
    assert "had not stopped" in ended["reason"]
    assert (await busy)[1] == 2


def test_a_group_that_will_not_die_is_not_waited_for_without_end(monkeypatch):
    @on_a_node
    async def check(node):
        box = await node.start()
        # So short that nothing can be gone in time.
        with monkeypatch.context() as patched:
            patched.setattr(forkserver, "_KILL_TIMEOUT", 0.0)
            os.kill((await box.instance.info())["pid"], signal.SIGKILL)
            told = await node.heard("instance_exited")
        assert told["gave_up"] is True
        assert "are still there" in told["reason"]

    check()


@on_a_node
async def test_an_application_of_the_kits_own_module_travels(node):
    box = await node.start(counter_app(strategy="rest_for_one"))
    assert await box.call("increment") == 1


@on_a_node
async def test_a_host_that_is_killed_while_it_is_being_restarted_is_started_once(node):
    box = await node.start(checkpoint=BY_HAND, peers=(("beta", "tcp://b"),))
    await box.call("increment")
    copying, go_on = asyncio.Event(), asyncio.Event()

    async def replicate(version, peers, **_):
        copying.set()
        await go_on.wait()
        return Copies()

    node.replicate = replicate
    restarting = asyncio.create_task(box.instance.restart("asked for"))
    await copying.wait()
    link = box.instance._link
    os.kill(link.pid, signal.SIGKILL)
    await asyncio.wait([link.ended])
    waiting = box.ask("call", "counter", "increment")
    go_on.set()
    await restarting
    assert open_answer(await waiting) == 2, "it has waited, and was not answered by a host that was replaced"
    assert len(node.told("instance_restarted")) == 1


@on_a_node
async def test_the_checkpoints_of_a_destroyed_sandbox_of_the_same_name_are_left_alone(node):
    before = await node.start(checkpoint=BY_HAND)
    await before.call("increment")
    await before.instance.checkpoint()
    await before.instance.stop()
    box = await node.start(checkpoint=BY_HAND, epoch=2, above=1)
    assert await box.call("value") == 0
    os.kill(box.instance._link.pid, signal.SIGKILL)
    restarted = await node.heard("instance_restarted")
    assert restarted["restored"] is None


@on_a_node
async def test_an_instance_does_not_start_without_the_checkpoint_that_is_known_to_be_stored(node):
    node.checkpoints.put(CheckpointVersion.of("shop", 1, 4, b"older"))
    box = node.box(epoch=2, expects=(1, 5))
    with pytest.raises(StartFailed, match="checkpoint 5 of epoch 1 is on nodes that cannot be reached"):
        await box.instance.start()
    assert box.instance.status == "stopped"
    assert box.instance._link is None, "nothing was begun"


@on_a_node
async def test_a_host_that_dies_before_its_first_checkpoint_does_not_come_back_with_an_older_one(node):
    first = await node.start(checkpoint=BY_HAND)
    await first.call("increment")
    await first.instance.checkpoint()
    stale = node.checkpoints.newest("shop")
    await first.call("increment")
    await first.instance.checkpoint()
    newest = node.checkpoints.newest("shop")[:1]
    node.checkpoints.forget("shop")
    node.checkpoints.put(stale[0])

    async def fetch(sandbox, sources):
        return newest

    node.fetch = fetch
    box = await node.start(epoch=2, on_trial=True, expects=newest[0].version, checkpoint=BY_HAND)
    os.kill(box.instance._link.pid, signal.SIGKILL)
    restarted = await node.heard("instance_restarted")
    assert restarted["restored"] == list(newest[0].version)
