"""What a learner gets wrong: each answer is one sentence, says whether anything happened, and loses nothing."""

from __future__ import annotations

import ctypes
import dataclasses
import enum
import math
import os
import re
import socket
import sys
import threading
import time

import psutil
import pytest
from apps import Counter, shop

import superlearner as sl
from superlearner.cluster.foreign import _refuse
from superlearner.errors import MessageTooLarge, NotSerializable, Unsupported
from superlearner.otp import GenServer, Reply, Stop, Task, child, supervisor

MIB = 2**20


class Answers(GenServer):
    """Counts what it has handled, and answers with what is asked for."""

    def init(self):
        return 0

    def handle_call(self, request, sender, state):
        match request:
            case "handled":
                return Reply(state, state)
            case "generator":
                return Reply((n for n in range(3)), state + 1)
            case "lock":
                return Reply(threading.Lock(), state + 1)
            case ("bytes", size):
                return Reply(b"x" * size, state + 1)
            case "unpicklable error":
                raise Awkward(threading.Lock())
            case "exit":
                sys.exit(3)
            case "divide":
                return Reply(1 / 0, state)
        return Reply(request, state + 1)


class Awkward(Exception):
    def __str__(self):
        return "an error that cannot travel"


class Raises(GenServer):
    def init(self):
        raise ValueError("no stock today")


class ReturnsNothing(GenServer):
    def init(self):
        pass


class Leaves(GenServer):
    def init(self):
        sys.exit("bye")


class Dies(GenServer):
    def init(self):
        os._exit(7)


class Breaks(GenServer):
    def init(self):
        ctypes.string_at(0)


class Stops(GenServer):
    def init(self):
        return Stop("sold out")


class Loops(GenServer):
    def init(self):
        while True:
            pass


class HoldsLock(GenServer):
    lock = threading.Lock()

    def init(self):
        return 0


class Plain:
    """No application at all."""


def function():
    return 1


def one_sentence(error: BaseException) -> str:
    """Return what a person reads, once it is sure that it is short and bears no trace of the inside."""
    text = str(error)
    assert "\n" not in text
    assert ".." not in text.replace("...", "")
    assert "superlearner." not in text.replace("superlearner.message-limit", "")
    assert not re.search(r"0x[0-9a-f]{6,}", text)
    notes = "".join(getattr(error, "__notes__", ()))
    assert os.sep + "superlearner" + os.sep not in notes, "a learner has no use for our own lines"
    return text


@pytest.fixture(scope="module")
def answers(cluster):
    return cluster.create_sandbox("answers", child(Answers, name="answers"))


NO_APPLICATIONS = {
    "a number": (42, "42 is not an application"),
    "nothing": (None, "None is not an application"),
    "a function": (function, r"Write child\(function\)"),
    "a lambda": (lambda: 1, r"Write child\(function\)"),
    "an instance": (Counter(), "instance of Counter.* Write the class itself, Counter"),
    "a list": ([child(Counter)], r"A list .* Write supervisor\(\[...\]\)"),
    "another class": (Plain, r"Write class Plain\(GenServer\)"),
    "a task without its function": (Task, r"Write child\(Task, function\)"),
    "a path without colon": ("json.loads", 'Write "package.module:name"'),
    "an empty path": ("", "is not an import path"),
}


@pytest.mark.parametrize("case", NO_APPLICATIONS)
def test_what_is_no_application_is_told_what_to_write(cluster, fresh, case):
    app, says = NO_APPLICATIONS[case]
    with pytest.raises(sl.InvalidSpec, match=says) as caught:
        cluster.create_sandbox(fresh, app)
    assert "nothing was started" in one_sentence(caught.value)
    assert fresh not in {info.id for info in cluster.sandboxes()}


def test_an_empty_supervisor_is_an_application(cluster, fresh):
    assert cluster.create_sandbox(fresh, supervisor([])).tree().children == ()


FAILED_STARTS = {
    "an init that raises": (Raises, "its child 'Raises' did not start: ValueError: no stock today"),
    "an init that returns nothing": (
        ReturnsNothing,
        "ReturnsNothing.init returned None: return the first state",
    ),
    "an init that calls sys.exit": (Leaves, "SystemExit: bye"),
    "an init that ends its OS process": (Dies, "exit code 7"),
    "an init that breaks the interpreter": (
        Breaks,
        r"killed \(SIGSEGV\) \(Fatal Python error: Segmentation fault\)",
    ),
    "an init that stops": (Stops, "did not start: sold out"),
    "an init that loops": (Loops, "start timed out after 1 s"),
    "a module that is not there": ("nowhere_at_all.app:app", "No module named 'nowhere_at_all'"),
    "a name that is not there": ("json:app", "module 'json' has no attribute 'app'"),
    "a path to something else": ("json:loads", r"Write child\(loads\)"),
}


@pytest.mark.parametrize("case", FAILED_STARTS)
def test_a_start_that_fails_says_why_and_leaves_nothing(cluster, fresh, case):
    app, says = FAILED_STARTS[case]
    with pytest.raises(sl.StartFailed, match=says) as caught:
        cluster.create_sandbox(fresh, app, start_timeout=1.0 if app is Loops else 30.0)
    assert caught.value.definite
    one_sentence(caught.value)
    assert fresh not in {info.id for info in cluster.sandboxes()}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"resorces": 1}, "Did you mean 'resources'"),
        ({"node": "alhpa"}, "Did you mean 'alpha'"),
        ({"node": None}, "write node='auto'"),
        ({"resources": {"memory": "64 MiB"}}, r"write resources=Resources\(memory='64 MiB'\)"),
        ({"checkpoint": 2.0}, r"write checkpoint=Checkpoint\(every=2.0\)"),
        ({"restart": "permanant"}, "did you mean 'permanent'"),
        ({"start_timeout": math.nan}, "start_timeout=nan"),
        ({"shutdown": -1}, "shutdown=-1"),
        ({"labels": "fast"}, "labels='fast'"),
    ],
)
def test_a_wrong_option_creates_nothing(cluster, fresh, options, says):
    with pytest.raises((sl.InvalidSpec, sl.UnknownNode), match=says) as caught:
        cluster.create_sandbox(fresh, Counter, **options)
    one_sentence(caught.value)
    assert fresh not in {info.id for info in cluster.sandboxes()}


def test_of_two_creations_in_the_same_instant_one_wins(cluster, fresh):
    barrier, outcomes = threading.Barrier(4), []

    def create():
        barrier.wait()
        try:
            outcomes.append(cluster.create_sandbox(fresh, Counter))
        except sl.SandboxExists as error:
            outcomes.append(error)

    threads = [threading.Thread(target=create) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Sandbox", *["SandboxExists"] * 3]


LOOKS = {
    "a name that is nearly right": (
        lambda s: s.call("anwsers", 1),
        sl.NoProcess,
        "Did you mean 'answers'",
    ),
    "a nearly right sandbox": (
        lambda s: s.cluster.call("anwsers/x", 1),
        sl.NoSandbox,
        "Did you mean 'answers'",
    ),
    "a sandbox alone": (lambda s: s.cluster.call("answers", 1), sl.InvalidSpec, 'such as "shop/counter"'),
    "nothing": (lambda s: s.cluster.call(None, 1), sl.InvalidSpec, "nothing was sent"),
    "a number as a process": (lambda s: s.call(5, 1), sl.InvalidSpec, "5 names no process"),
    "a list as a process": (lambda s: s.cast(["answers"], 1), sl.InvalidSpec, "names no process"),
    "a command to nobody": (lambda s: s.get_state("answer"), sl.NoProcess, "Did you mean 'answers'"),
    "whereis of a number": (lambda s: s.cluster.whereis(5), sl.InvalidSpec, "5 names nothing"),
    "a sandbox that is a number": (lambda s: s.cluster.sandbox(5), sl.InvalidSpec, "such as 'shop-1'"),
    "a status that is none": (
        lambda s: s.cluster.sandboxes(status="runing"),
        sl.InvalidSpec,
        "mean 'running'",
    ),
    "a since that is a text": (lambda s: s.cluster.events(since="x"), sl.InvalidSpec, "since='x'"),
    "a handler that is none": (lambda s: s.cluster.subscribe(5), sl.InvalidSpec, "5 is no function"),
    "two kinds of event": (
        lambda s: s.cluster.subscribe(print, ["node_lost", "node_joined"]),
        sl.InvalidSpec,
        "is no kind of event.*Give one name",
    ),
    "a move to nowhere": (lambda s: s.migrate("apha"), sl.UnknownNode, "Did you mean 'alpha'"),
    "a kill of a node that is none": (
        lambda s: s.cluster.chaos.kill_node("delta"),
        sl.UnknownNode,
        "nothing was",
    ),
    "a kill of no sandbox": (lambda s: s.cluster.chaos.kill_sandbox("anwser"), sl.NoSandbox, "Did you mean"),
    "a place for a number": (lambda s: s.cluster.explain_placement(5), sl.InvalidSpec, "no.* an application"),
    "a trace for a text": (lambda s: s.trace("x"), sl.InvalidSpec, "duration='x'"),
}


@pytest.mark.parametrize("case", LOOKS)
def test_who_is_not_there_is_said_with_who_was_meant(answers, case):
    ask, kind, says = LOOKS[case]
    with pytest.raises(kind, match=says) as caught:
        ask(answers)
    assert type(caught.value) is kind
    assert caught.value.definite
    one_sentence(caught.value)


@pytest.mark.parametrize("timeout", [-1, math.nan, "5", True, [], -math.inf], ids=repr)
def test_a_timeout_that_is_none_sends_nothing(answers, timeout):
    before = answers.call("answers", "handled")
    with pytest.raises(sl.InvalidSpec, match="must be a number of seconds, 0 or more; nothing was done"):
        answers.call("answers", "count me", timeout=timeout)
    assert answers.call("answers", "handled") == before


@pytest.mark.parametrize("timeout", [1e12, math.inf, None, 30], ids=repr)
def test_a_timeout_may_be_as_long_as_one_likes(answers, timeout):
    assert answers.call("answers", "hello", timeout=timeout) == "hello"


def test_no_time_at_all_may_still_take_effect(answers):
    with pytest.raises(sl.CallTimeout) as caught:
        answers.call("answers", "count me", timeout=0)
    assert not caught.value.definite


@pytest.mark.parametrize("message", [(n for n in ()), threading.Lock(), {"a": [threading.Lock()]}], ids=type)
def test_a_message_that_cannot_leave_is_not_sent(answers, message):
    before = answers.call("answers", "handled")
    for send in (answers.call, answers.cast, answers.send):
        with pytest.raises(NotSerializable, match="nothing was done") as caught:
            send("answers", message)
        assert caught.value.definite
        assert caught.value.__cause__ is None
        one_sentence(caught.value)
    assert answers.call("answers", "handled") == before


@pytest.mark.parametrize("handle", ["cluster", "sandbox"])
def test_a_handle_in_a_message_or_an_application_is_told_what_to_send_instead(
    cluster, fresh, answers, handle
):
    held = {"cluster": cluster, "sandbox": answers}[handle]
    says = {
        "cluster": "a Cluster stays in the process",
        "sandbox": r"send the id, 'answers'; .*call\('answers/",
    }
    with pytest.raises(NotSerializable, match=says[handle]) as caught:
        answers.call("answers", [held])
    one_sentence(caught.value)

    class Uses(GenServer):
        def init(self):
            return held.call("counter", 1)

    with pytest.raises(
        NotSerializable, match=rf"{says[handle]}.*it is at Uses.init's variable held"
    ) as caught:
        cluster.create_sandbox(fresh, Uses)
    one_sentence(caught.value)


def test_the_way_to_what_cannot_leave_is_not_told_without_end(answers):
    deep = threading.Lock()
    for _ in range(100):
        deep = [deep]
    with pytest.raises(NotSerializable, match=r"it is at (\[0\]){20}\.\.\.\)") as caught:
        answers.call("answers", deep)
    one_sentence(caught.value)


def test_a_state_that_cannot_be_saved_is_named_and_keeps_the_sandbox_where_it_is(cluster, fresh):
    class Locks(GenServer):
        def init(self):
            return threading.Lock()

        def handle_call(self, request, sender, state):
            return Reply(state.locked(), state)

    sandbox = cluster.create_sandbox(fresh, child(Locks, name="locks"))
    why = "cannot pickle '_thread.lock' object"
    with pytest.raises(
        NotSerializable, match=rf"Could not serialise the state: .*{why}.*It stays as it is"
    ) as caught:
        sandbox.get_state("locks")
    assert caught.value.definite
    one_sentence(caught.value)
    assert sandbox.checkpoint()["incomplete"] == f"the state of 'Locks' cannot be saved: TypeError: {why}"
    before = sandbox.info()
    with pytest.raises(sl.MoveFailed, match=rf"rolled back: .*'Locks' cannot be saved.*{why}") as caught:
        sandbox.migrate()
    one_sentence(caught.value)
    assert sandbox.call("locks", 1) is False
    assert (sandbox.info().node, sandbox.info().pid) == (before.node, before.pid)


@pytest.mark.parametrize("request_", ["generator", "lock"])
def test_a_reply_that_cannot_leave_does_not_cost_the_callee_its_state(answers, request_):
    before = answers.call("answers", "handled")
    with pytest.raises(NotSerializable, match="the request was handled, and the new state is kept") as caught:
        answers.call("answers", request_)
    assert not caught.value.definite
    one_sentence(caught.value)
    assert answers.call("answers", "handled") == before + 1


def test_a_crash_shows_the_lines_of_the_user_alone(cluster, fresh):
    sandbox = cluster.create_sandbox(fresh, child(Answers, name="answers"))
    with pytest.raises(sl.ProcessDied, match="division by zero") as caught:
        sandbox.call("answers", "divide")
    one_sentence(caught.value)
    assert "in handle_call" in caught.value.__notes__[0]
    with pytest.raises(sl.ProcessDied, match="an error that cannot travel"):
        sandbox.call("answers", "unpicklable error")
    with pytest.raises(sl.ProcessDied, match="SystemExit: 3"):
        sandbox.call("answers", "exit")


def test_what_an_application_may_not_hold_is_found(cluster, fresh):
    with pytest.raises(NotSerializable, match=r"it is at HoldsLock\.lock.* in init\(\)") as caught:
        cluster.create_sandbox(fresh, HoldsLock)
    one_sentence(caught.value)
    with socket.socket() as held, pytest.raises(NotSerializable, match=r"it is at .*args\[1\]"):
        cluster.create_sandbox(fresh, child(Counter, 0, held, id="counter"))
    assert fresh not in {info.id for info in cluster.sandboxes()}


class Color(enum.Enum):
    RED = 1


@dataclasses.dataclass
class Item:
    name: str
    color: Color = Color.RED


class Keeps(GenServer):
    def init(self, function, item):
        return function, item

    def handle_call(self, request, sender, state):
        function, item = state
        return Reply((function(request), item, item.color is Color.RED), state)


def test_lambdas_closures_dataclasses_and_enums_travel(cluster, fresh):
    step = 5
    sandbox = cluster.create_sandbox(fresh, child(Keeps, lambda n: n + step, Item("book"), name="keeps"))
    assert sandbox.call("keeps", 1) == (6, Item("book"), True)


@pytest.mark.parametrize("huge", [b"x" * 65 * MIB, ["x" * 65 * MIB]], ids=["bytes", "list"])
def test_a_message_above_the_limit_is_refused_before_it_is_sent(answers, huge):
    before = answers.call("answers", "handled")
    with pytest.raises(
        MessageTooLarge, match=r"65\.0 MiB is above the limit of 64\.0 MiB.*nothing was done"
    ) as e:
        answers.call("answers", huge, timeout=60)
    assert e.value.definite
    one_sentence(e.value)
    assert answers.call("answers", "handled") == before


def test_a_reply_above_the_limit_is_refused_and_the_memory_comes_back(cluster, answers):
    host = psutil.Process(answers.info().pid)
    before, memory = answers.call("answers", "handled"), host.memory_info().rss
    with pytest.raises(MessageTooLarge, match=r"The reply of 200\.0 MiB .* the new state is kept") as caught:
        answers.call("answers", ("bytes", 200 * MIB), timeout=60)
    assert not caught.value.definite
    assert answers.call("answers", "handled") == before + 1
    assert answers.info().restarts == 0
    assert host.memory_info().rss < memory + 20 * MIB


@pytest.mark.slow
def test_a_large_message_leaves_the_neighbours_and_the_memory_alone(cluster, fresh):
    one, other = (
        cluster.create_sandbox(f"{fresh}-{n}", child(Answers, name="answers"), node="alpha") for n in range(2)
    )
    worker = psutil.Process(next(node.pid for node in cluster.nodes() if node.name == "alpha"))
    before = worker.memory_info().rss
    waits, done = [], threading.Event()

    def neighbour():
        while not done.is_set():
            begin = time.monotonic()
            other.call("answers", 1, timeout=30)
            waits.append(time.monotonic() - begin)

    thread = threading.Thread(target=neighbour)
    thread.start()
    try:
        assert len(one.call("answers", b"x" * 60 * MIB, timeout=60)) == 60 * MIB
        # The answer to this one leaves behind all of that one, on the same connection.
        assert one.call("answers", 1, timeout=30) == 1
    finally:
        done.set()
        thread.join()
    assert max(waits) < 5
    assert worker.memory_info().rss < before + 30 * MIB


@pytest.mark.slow
def test_a_closed_cluster_says_so_and_can_be_closed_again():
    cluster = sl.Cluster(nodes=1)
    sandbox = cluster.create_sandbox("shop", shop())
    secrets = [text for text in vars(cluster._session.found)["tls"].values() if text]
    shown = f"{cluster!r} {cluster.security!r} {cluster._session.found!r} {cluster.events()}"
    assert not any(line in shown for text in secrets for line in text.splitlines() if len(line) > 40)
    pid = os.fork()
    if pid == 0:
        try:
            cluster.status()
        except sl.ClusterClosed as error:
            os._exit(0 if "forked" in str(error) and cluster.close() is None else 1)
        os._exit(2)
    assert os.waitpid(pid, 0)[1] == 0
    assert cluster.status().total_nodes == 1
    cluster.close()
    cluster.close()
    for use in (cluster.status, lambda: sandbox.call("counter", "value"), lambda: cluster.subscribe(print)):
        with pytest.raises(sl.ClusterClosed):
            use()


@pytest.mark.parametrize(
    ("target", "says"),
    [
        (5, "5 is not the address"),
        ("nonsense", "write one such as"),
        ("http://127.0.0.1:80", "unknown address scheme"),
        ("tls://127.0.0.1:1", "give its keys"),
        ("inproc://x", "give the Dask client"),
    ],
)
def test_an_address_that_is_none_is_told_what_one_looks_like(target, says):
    with pytest.raises(sl.InvalidSpec, match=says):
        sl.connect(target)


def test_somebody_elses_cluster_that_lacks_the_package_is_named():
    own = sl.__version__
    _refuse({"the worker left": own})
    missing = ModuleNotFoundError("No module named 'superlearner'")
    found = {"the worker left": own, "the worker right": missing, "the worker slow": "0.0.9"}
    with pytest.raises(Unsupported) as caught:
        _refuse(found)
    assert str(caught.value).startswith(
        "The worker right lacks superlearner, the worker slow has superlearner 0.0.9; nothing was changed there."
    )
