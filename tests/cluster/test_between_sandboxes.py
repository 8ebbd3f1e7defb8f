"""Processes of different sandboxes, on different nodes of a real cluster, that call, send to and watch each other."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from cluster_kit import awaiting, run
from distributed import Client
from talkers import Echo, talkers

import superlearner as sl
from superlearner.cluster.link import Link
from superlearner.cluster.way import KINDS
from superlearner.errors import NotSerializable
from superlearner.otp import (
    Down,
    call,
    cast,
    child,
    demonitor,
    link,
    monitor,
    receive,
    self_,
    send,
    start_child,
    supervisor,
    whereis,
    which_children,
)


@pytest.fixture
def pair(cluster, fresh):
    """Two sandboxes, ``a`` on alpha and ``b`` on beta."""
    nodes = {"a": "alpha", "b": "beta"}
    made = [cluster.create_sandbox(f"{fresh}-{n}", talkers(), node=node) for n, node in nodes.items()]
    yield made
    for sandbox in made:
        cluster.destroy_sandbox(sandbox.id)


def do(sandbox, function, *args, target="talker"):
    """Run an async function as a process of a sandbox."""
    return sandbox.call(target, ("do", function, *args), timeout=30)


@pytest.fixture
def meanwhile():
    """Run an async function in a sandbox, in the background."""
    with ThreadPoolExecutor() as pool:

        def begin(sandbox, function, *args, target="talker") -> Future:
            return pool.submit(do, sandbox, function, *args, target=target)

        yield begin


def leftovers(cluster):
    """Return what the nodes keep: couriers, what these wait for, watches, and calls in flight."""

    def look(dask_worker):
        between = dask_worker.plugins["superlearner-node"].between
        couriers = between._couriers.values()
        return (
            len(between._couriers),
            sum(len(c._sent) + len(c._queue) + len(c._posts) for c in couriers),
            sum(len(i._desk._watches) for i in dask_worker.plugins["superlearner-node"].instances.values()),
            sum(i._desk.in_flight for i in dask_worker.plugins["superlearner-node"].instances.values()),
        )

    with Client(cluster.address, security=cluster.security, set_as_default=False) as client:
        return [sum(part) for part in zip(*client.run(look).values(), strict=True)]


async def failure(target, request, timeout=5.0):
    """Call, and return the type of error, what it names, its cause, and the seconds that it took."""
    began = time.monotonic()
    try:
        return await call(target, request, timeout)
    except sl.SuperlearnerError as error:
        return type(error), str(getattr(error, "target", "")), type(error.__cause__), time.monotonic() - began


async def end_of(target):
    """Watch a process and return its exit reason."""
    ref = monitor(target)
    down = await receive(Down, timeout=20)
    return down.reason if down.ref == ref else "another monitor's"


def watched(sandbox, target="talker"):
    """Wait until somebody watches a process."""
    while sandbox.call(target, "watchers") == 0:
        continue


class TestMessages:
    def test_two_processes_on_two_nodes_play_ping_pong(self, pair):
        a, b = pair

        async def serve(ball):
            me = self_()
            for hit in range(100):
                send(ball, ("hit", hit, me))
                _, _, ball = await receive(lambda m: m[0] == "hit", timeout=5)
            return hit

        async def rally(target):
            for _ in range(100):
                _, hit, player = await receive(lambda m: m[0] == "hit", timeout=5)
                send(player, ("hit", hit, self_()))

        with ThreadPoolExecutor() as pool:
            other = pool.submit(do, b, rally, None)
            assert do(a, serve, f"{b.id}/talker") == 99
            other.result()

    def test_a_callee_sees_who_calls_and_can_send_there(self, pair):
        a, b = pair

        async def ask(target):
            caller = await call(target, "who")
            return caller == self_(), await whereis(target)

        known, pid = do(a, ask, f"{b.id}/talker")
        assert known
        assert (pid.node, pid.sandbox) == ("beta", b.id)
        assert pid == b.process("talker").pid

    @pytest.mark.parametrize("other", ["beta", "alpha"], ids=["another node", "the same node"])
    def test_a_thousand_casts_messages_and_calls_arrive_in_order(self, cluster, fresh, other):
        a = cluster.create_sandbox(f"{fresh}-a", talkers(), node="alpha")
        b = cluster.create_sandbox(f"{fresh}-b", talkers(), node=other)

        async def talk(target):
            asked = []
            for n in range(1000):
                match n % 3:
                    case 0:
                        cast(target, n)
                    case 1:
                        send(target, n)
                    case 2:
                        asked.append(asyncio.ensure_future(call(target, ("note", n))))
                        await asyncio.sleep(0)
            return await asyncio.gather(*asked)

        assert do(a, talk, f"{b.id}/talker") == list(range(2, 1000, 3))
        assert b.call("talker", "seen") == list(range(1000))

    def test_nothing_is_lost_or_overtaken_while_the_other_sandbox_moves(self, cluster, pair, meanwhile):
        a, b = pair

        async def talk(target):
            for n in range(3000):
                cast(target, n)
                if n % 10 == 9:
                    await call(target, ("note", "called"))

        talking = meanwhile(a, talk, f"{b.id}/talker")
        b.call("talker", ("seen", 500))
        b.migrate("gamma")
        talking.result()
        seen = b.call("talker", "seen")
        assert [item for item in seen if item != "called"] == list(range(3000))

    def test_a_message_is_a_copy(self, cluster, fresh):
        a, b = (cluster.create_sandbox(f"{fresh}-{n}", talkers(), node="alpha") for n in "ab")

        async def change(target):
            message = [1]
            cast(target, message)
            message.append(2)
            return await call(target, "seen")

        assert do(a, change, f"{b.id}/talker") == [[1]]

    def test_two_sandboxes_call_each_other_at_the_same_time(self, pair, meanwhile):
        a, b = pair

        async def ask(target):
            return [await call(target, n) for n in range(200)]

        there, here = meanwhile(a, ask, f"{b.id}/echo"), meanwhile(b, ask, f"{a.id}/echo")
        assert there.result() == here.result() == list(range(200))

    def test_a_thousand_calls_in_flight_are_answered_each_with_its_own(self, pair):
        a, b = pair

        async def ask(target):
            return await asyncio.gather(*(call(target, n) for n in range(1000)))

        assert do(a, ask, f"{b.id}/echo") == list(range(1000))

    def test_a_supervisor_elsewhere_starts_a_child_that_answers_by_its_pid(self, cluster, fresh, pair):
        pool = supervisor([], id="pool", name="pool", kind="dynamic")
        cluster.create_sandbox(fresh, supervisor([pool]), node="gamma")

        async def start(target):
            pid = await start_child(target, child(Echo, id="echo"))
            return pid, await call(pid, "hello"), [info.pid for info in await which_children(target)]

        pid, answer, children = do(pair[0], start, f"{fresh}/pool")
        assert (pid.node, pid.sandbox, answer, children) == ("gamma", fresh, "hello", [pid])


class TestFailures:
    def test_nobody_is_there(self, pair):
        a, b = pair
        assert do(a, failure, f"{b.id}/nobody", 1)[:2] == (sl.NoProcess, f"{b.id}/nobody")
        assert do(a, failure, "nowhere/talker", 1)[:2] == (sl.NoSandbox, "nowhere")
        assert do(a, whereis, f"{b.id}/nobody") is None
        assert do(a, whereis, "nowhere/talker") is None

    def test_nobody_answers_or_the_callee_dies(self, pair):
        a, b = pair
        assert do(a, failure, f"{b.id}/talker", "never", 0.1)[:2] == (sl.CallTimeout, f"{b.id}/talker")
        assert do(a, failure, f"{b.id}/talker", ("raise", KeyError("boom")))[::2][:2] == (
            sl.ProcessDied,
            KeyError,
        )

    def test_the_callees_os_process_dies(self, cluster, pair, meanwhile):
        a, b = pair
        calling = meanwhile(a, failure, f"{b.id}/talker", "hold", 30.0)
        end = meanwhile(a, end_of, f"{b.id}/other", target="other")
        watched(b, "other")
        cluster.chaos.kill_sandbox(b.id)
        assert calling.result()[0] is sl.ProcessDied
        assert end.result() == "noconnection"

    def test_what_cannot_be_sent_was_not(self, pair):
        a, b = pair

        async def try_to_send(target):
            refused = await failure(target, threading.Lock())
            try:
                cast(target, threading.Lock())
            except NotSerializable as error:
                return refused[0], error.definite

        assert do(a, try_to_send, f"{b.id}/talker") == (NotSerializable, True)
        assert b.call("talker", "seen") == []

    def test_links_are_refused_in_words(self, pair):
        a, b = pair

        async def tie(target):
            try:
                link(target)
            except sl.SuperlearnerError as error:
                return error.code, str(error)

        code, words = do(a, tie, f"{b.id}/talker")
        assert code == "unsupported"
        assert "monitor()" in words

    def test_a_call_to_a_sandbox_that_is_starting_again_waits_for_it(self, cluster, pair):
        a, b = pair
        cluster.chaos.kill_sandbox(b.id)
        assert do(a, failure, f"{b.id}/echo", "hello", 10.0) == "hello"

    def test_a_sandbox_that_has_failed_is_told_as_that(self, cluster, fresh, pair):
        failed = cluster.create_sandbox(fresh, talkers(), restart="temporary")
        with awaiting(cluster, "sandbox_failed", sandbox=fresh) as told:
            cluster.chaos.kill_sandbox(fresh)
            told()
        assert do(pair[0], failure, f"{fresh}/echo", "hello")[0] is sl.SandboxFailed
        assert do(pair[0], end_of, f"{failed.id}/echo") == "noproc"


class TestMonitors:
    @pytest.mark.parametrize("reason", ["normal", ("shutdown", 1), {"plain": [1.5]}], ids=str)
    def test_they_tell_the_real_reason(self, pair, meanwhile, reason):
        a, b = pair
        end = meanwhile(a, end_of, f"{b.id}/talker")
        watched(b)
        b.call("talker", ("stop", reason))
        assert end.result() == reason

    def test_a_crash_is_told_with_its_exception_and_traceback(self, pair, meanwhile):
        a, b = pair
        end = meanwhile(a, end_of, f"{b.id}/talker")
        watched(b)
        with pytest.raises(sl.ProcessDied):
            b.call("talker", ("raise", KeyError("boom")))
        assert type(end.result().reason) is KeyError
        assert "handle_call" in end.result().traceback

    def test_an_end_is_told_after_what_the_process_has_sent_before_it(self, pair):
        a, b = pair

        async def last_words(listener):
            for n in range(20):
                send(listener, n)

        async def listen(target):
            heard = []
            for _ in range(20):
                pid = await call(target, ("spawn", last_words, self_()))
                monitor(pid)
                heard.append([await receive(timeout=5) for _ in range(21)])
            return [[getattr(item, "reason", item) for item in told] for told in heard]

        for told in do(a, listen, f"{b.id}/talker"):
            assert told[:20] == list(range(20))
            assert told[20] in ("normal", "noproc")

    def test_an_answer_comes_after_what_the_callee_has_sent_before_it(self, pair):
        a, b = pair

        async def greet(listener):
            send(listener, "first")

        async def listen(target):
            order = []
            for _ in range(20):
                await call(target, ("do", greet, self_()))
                order.append(await receive(timeout=0))
            return order

        assert do(a, listen, f"{b.id}/talker") == ["first"] * 20

    def test_nobody_there_is_told_at_once(self, pair):
        a, b = pair
        assert do(a, end_of, f"{b.id}/nobody") == "noproc"
        assert do(a, end_of, "nowhere/talker") == "noproc"
        assert do(a, end_of, b.process("talker").pid.replace(".2>", ".999999>")) == "noproc"

    def test_a_killed_sandbox_is_a_lost_connection(self, cluster, pair, meanwhile):
        a, b = pair
        end = meanwhile(a, end_of, f"{b.id}/talker")
        watched(b)
        cluster.chaos.kill_sandbox(b.id)
        assert end.result() == "noconnection"

    def test_a_destroyed_sandbox_shuts_its_processes_down(self, cluster, fresh, pair, meanwhile):
        doomed = cluster.create_sandbox(fresh, talkers(), node="beta")
        end = meanwhile(pair[0], end_of, f"{fresh}/talker")
        watched(doomed)
        cluster.destroy_sandbox(fresh)
        assert end.result() == "shutdown"

    def test_one_that_was_ended_tells_nothing_and_leaves_nothing(self, cluster, pair):
        a, b = pair

        async def watch_and_end(target):
            refs = [monitor(target) for _ in range(10)]
            while await call(target, "watchers") < 10:
                continue
            for ref in refs:
                demonitor(ref)
            while await call(target, "watchers"):
                continue

        do(a, watch_and_end, f"{b.id}/talker")
        b.kill("talker")
        assert a.call("talker", "seen") == []
        assert leftovers(cluster)[1:3] == [0, 0]

    def test_a_watcher_that_is_gone_with_its_sandbox_is_forgotten(self, cluster, fresh, pair, meanwhile):
        _, b = pair
        watcher = cluster.create_sandbox(fresh, talkers(), node="gamma")
        end = meanwhile(watcher, end_of, f"{b.id}/talker")
        watched(b)
        cluster.destroy_sandbox(fresh)
        with pytest.raises(sl.SuperlearnerError):
            end.result()
        while b.call("talker", "watchers"):
            continue
        assert leftovers(cluster)[1:3] == [0, 0]


class TestTheLossOfANode:
    def test_calls_and_monitors_learn_of_it_at_once_and_the_next_call_reaches_the_new_place(
        self, cluster, pair, meanwhile
    ):
        a, b = pair
        b.call("talker", ("note", "kept"))
        b.checkpoint()
        calling = meanwhile(a, failure, f"{b.id}/talker", "hold", 30.0)
        end = meanwhile(a, end_of, f"{b.id}/other", target="other")
        watched(b, "other")

        async def seen(target):
            began = time.monotonic()
            return await call(target, "seen", timeout=10), time.monotonic() - began

        with awaiting(cluster, "node_joined", node="beta") as joined:
            began = time.monotonic()
            cluster.chaos.kill_node("beta")
            error, target, _, _ = calling.result()
            assert end.result() == "noconnection"
            assert time.monotonic() - began < 1
            assert (error, target) == (sl.NoConnection, f"{b.id}/talker")
            kept, took = do(a, seen, f"{b.id}/talker")
            assert kept == ["kept"]
            assert took < 5
            joined()

    @pytest.mark.slow
    def test_a_frozen_node_counts_as_lost_when_its_lease_is_over(self, cluster, fresh, pair, meanwhile):
        a, _ = pair
        frozen = cluster.create_sandbox(fresh, talkers(), node="gamma")
        frozen.checkpoint()
        calling = meanwhile(a, failure, f"{fresh}/talker", "hold", 30.0)
        end = meanwhile(a, end_of, f"{fresh}/other", target="other")
        watched(frozen, "other")
        (pid,) = (node.pid for node in cluster.nodes() if node.name == "gamma")
        with awaiting(cluster, "node_joined", node="gamma") as joined:
            os.kill(pid, signal.SIGSTOP)
            try:
                assert calling.result()[0] is sl.NoConnection
                assert end.result() == "noconnection"
                assert do(a, failure, f"{fresh}/echo", "hello") == "hello"
            finally:
                os.kill(pid, signal.SIGCONT)
            joined()

    def test_the_watchers_of_a_lost_node_are_forgotten(self, cluster, fresh, pair, meanwhile):
        _, b = pair
        watcher = cluster.create_sandbox(fresh, talkers(), node="gamma")
        end = meanwhile(watcher, end_of, f"{b.id}/talker")
        watched(b)
        with awaiting(cluster, "node_joined", node="gamma") as joined:
            cluster.chaos.kill_node("gamma")
            with pytest.raises(sl.NoConnection):
                end.result()
            while b.call("talker", "watchers"):
                continue
            joined()


def test_a_caller_that_dies_during_its_call_leaves_nothing(cluster, fresh, pair, meanwhile):
    _, b = pair
    caller = cluster.create_sandbox(fresh, talkers(), node="gamma")

    async def ask(target):
        await asyncio.gather(*(call(target, "never", timeout=None) for _ in range(100)))

    asking = meanwhile(caller, ask, f"{b.id}/talker")
    while leftovers(cluster)[1] < 100:
        continue
    cluster.destroy_sandbox(fresh)
    with pytest.raises(sl.SuperlearnerError):
        asking.result()
    assert leftovers(cluster)[1:] == [0, 0, 0], "also where it was called"


def test_couriers_end_with_their_host(cluster, fresh):
    a = cluster.create_sandbox(fresh, talkers())
    before = leftovers(cluster)[0]
    do(a, failure, f"{fresh}-none/echo", 1)

    async def greet(target):
        return await call(target, "hello")

    b = cluster.create_sandbox(f"{fresh}-b", talkers())
    assert do(a, greet, f"{b.id}/echo") == "hello"
    assert leftovers(cluster)[0] > before
    cluster.destroy_sandbox(fresh)
    assert leftovers(cluster)[0] == before


def test_the_sandboxes_of_a_local_manager_talk_to_each_other(meanwhile):
    with sl.LocalSandboxManager() as manager:
        a, b = (manager.create_sandbox(name, talkers()) for name in "ab")
        assert do(a, failure, "b/echo", "hello") == "hello"
        assert do(a, failure, "nowhere/echo", "hello")[0] is sl.NoSandbox
        end = meanwhile(a, end_of, "b/talker")
        watched(b)
        manager.destroy_sandbox("b")
        assert end.result() == "shutdown"


def test_an_answer_of_before_a_nodes_loss_does_not_lead_there():
    """The look-up was answered, and the node lost, before whoever asked could go on: a wait for its time-out."""

    class Answered(Link):
        asked = 0

        async def ask(self, verb, **given):
            self.asked += 1
            if self.asked == 1:
                lost = sl.Event("node_lost", detail={"address": "tls://lost"})
                self._on_push(("event", lost.as_dict()))
                return "alpha", "tls://lost", 1, 42, "running", ("tls://heir",)
            assert given["stale"] == ("tls://lost", 1)
            return "beta", "tls://found", 2, 43, "running", ("tls://heir", "tls://lost")

    class Open:
        def prepare(self, address):
            assert address == "tls://heir"

        def abandon(self, address):
            assert address == "tls://lost"

        async def get(self, address):
            return f"the channel to {address}"

    async def reach():
        return await Answered("tls://control", {}, Open()).reach("shop", None)

    assert run(reach()) == (("tls://found", 2), "the channel to tls://found")


def test_who_subscribes_to_kinds_is_told_of_no_others(cluster, fresh):
    async def told():
        address = cluster.address
        link_ = Link(address, cluster.security.get_connection_args("client"), kinds=KINDS)
        heard = []
        await link_.open()
        link_.subscribe(heard.append, None)
        every = Link(address, cluster.security.get_connection_args("client"))
        await every.open()
        over = asyncio.Event()
        every.subscribe(lambda event: event.sandbox == fresh and over.set(), "sandbox_destroyed")
        await asyncio.to_thread(cluster.create_sandbox, fresh, talkers())
        await asyncio.to_thread(cluster.destroy_sandbox, fresh)
        await over.wait()
        await link_.ask("hello")  # everything that was pushed before has come
        await link_.close()
        await every.close()
        return {event.kind for event in heard if event.sandbox == fresh}

    assert run(told()) == {"sandbox_started", "sandbox_destroyed"}
