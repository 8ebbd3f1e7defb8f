"""Whatever an application does by accident harms its own sandbox alone, and its end names the cause.

During each abuse a neighbour, another sandbox of the same node and fork server, goes on answering.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import ctypes
import mmap
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import psutil
import pytest
from sandbox_kit import PATIENCE, Counter, Refused, beside_a_neighbour, on_a_node

from superlearner.core.spec import Checkpoint, Resources
from superlearner.errors import CallTimeout, CheckpointFailed, ProcessDied
from superlearner.otp import Reply, child, spawn, supervisor
from superlearner.sandbox.payload import loads

MIB = 2**20


def folders(node):
    """Return the temporary directories of a node's hosts."""
    root = Path(f"/proc/{node.fork_server.pid}/cmdline").read_bytes().split(b"\0")[-2]
    return set(Path(os.fsdecode(root)).iterdir())


async def cause_of_death(node, box, function):
    """Run what is to end the host; return the reason, which all who ask are told alike."""
    answer = await box.ask("call", "counter", ("do", function), timeout=60.0)
    assert answer[1] == 2, answer
    code, definite, reason, _ = answer[2]
    assert (code, definite) == ("process_died", False)
    assert (await node.heard("host_exited"))["reason"] == reason
    assert (await node.heard("instance_restarted"))["reason"] == reason
    assert await box.call("increment") == 1
    return reason


# -- What ends its host ----------------------------------------------------------------------------------


def loop_for_ever():
    while True:
        pass


def overflow_the_stack():
    sys.setrecursionlimit(10**9)
    threading.stack_size(MIB)

    def deeper(depth):
        return repr_of_nested(depth)

    def repr_of_nested(depth):
        nested: list = []
        for _ in range(10**6):
            nested = [nested]
        return repr(nested)

    return deeper(0)


def map_shared_memory():
    shared = mmap.mmap(-1, 512 * MIB)
    for _ in range(128):
        shared.write(b"x" * MIB)
    time.sleep(60)


def hoard_in_children():
    eat = "import time; kept = bytearray(40 * 2**20); time.sleep(60)"
    children = [subprocess.Popen([sys.executable, "-c", eat], start_new_session=True) for _ in range(3)]
    for one in children:
        one.wait()


def burn_in_children():
    burn = "while True: pass"
    children = [subprocess.Popen([sys.executable, "-c", burn], start_new_session=True) for _ in range(2)]
    for one in children:
        one.wait()
    # Each had its own limit; together they are above it.
    time.sleep(60)


def bomb_with_forks():
    """Fork in every child, too; where that is refused the children hold on."""
    host = os.getpid()
    try:
        while True:
            os.fork()
    except OSError:
        if os.getpid() == host:
            raise
        time.sleep(60)


def bomb_with_programs():
    # Each starts two like itself in sessions of their own, and stays: bounded here lest a failure take the machine.
    bomb = 'if [ "$1" -lt 9 ]; then setsid sh -c "$0" "$0" $(($1+1)) & setsid sh -c "$0" "$0" $(($1+1)) & fi; sleep 60'
    subprocess.run(["sh", "-c", bomb, bomb, "0"], check=False)


def fill_the_disk():
    folder = Path(tempfile.gettempdir())
    for number in range(64):
        (folder / f"{number}").write_bytes(b"x" * MIB)
    time.sleep(60)


def close_the_frames():
    os.close(3)
    time.sleep(60)


ENDS = {
    "a quiet exit": (lambda: os._exit(3), {}, "exit code 3"),
    "SIGKILL": (lambda: os.kill(os.getpid(), signal.SIGKILL), {}, "killed (SIGKILL)"),
    "SIGTERM": (lambda: os.kill(0, signal.SIGTERM), {}, "killed (SIGTERM)"),
    "a segmentation fault": (lambda: ctypes.string_at(0), {}, "killed (SIGSEGV)"),
    "an abort": (os.abort, {}, "killed (SIGABRT)"),
    "a stack overflow in C": (overflow_the_stack, {}, "killed (SIGSEGV)"),
    "a busy loop": (loop_for_ever, {"resources": Resources(cpu_time=1)}, "CPU time limit 1 s"),
    "busy children": (burn_in_children, {"resources": Resources(cpu_time=1)}, "CPU time limit 1 s"),
    "shared memory": (map_shared_memory, {"resources": Resources(memory="64 MiB")}, "memory limit 64 MiB"),
    "memory of children": (
        hoard_in_children,
        {"resources": Resources(memory="64 MiB")},
        "memory limit 64 MiB",
    ),
    "a bomb of programs": (
        bomb_with_programs,
        {"resources": Resources(processes=4)},
        "child process limit 4",
    ),
    "a long sleep": (lambda: time.sleep(60), {"resources": Resources(wall_clock=1)}, "wall clock limit 1 s"),
    "a full disk": (fill_the_disk, {"resources": Resources(disk="16 MiB")}, "disk limit 16 MiB"),
    "closed frames": (
        close_the_frames,
        {},
        "it closed the connection to its node (file descriptor 3)",
    ),
    "closed descriptors": (
        lambda: os.closerange(3, 256),
        {},
        "its own machinery broke (OSError: [Errno 9] Bad file descriptor)",
    ),
    "another program in its place": (
        lambda: os.execvp("sleep", ["sleep", "60"]),
        {},
        "it closed the connection to its node (file descriptor 3)",
    ),
    "an alarm": (lambda: signal.alarm(1) or time.sleep(60), {}, "killed (SIGALRM)"),
    "rubbish among the frames": (
        lambda: os.write(3, b"\xff" * 100) and time.sleep(60),
        {},
        "its frames broke: A message of 4,294,967,295 bytes came, above the limit of 268,435,456.",
    ),
    "a handler that never returns": (
        lambda: time.sleep(60),
        {"on_unresponsive": "restart", "unresponsive_after": 0.5},
        "unresponsive for 0.5 s",
    ),
    "a host that was frozen": (
        lambda: os.kill(os.getpid(), signal.SIGSTOP),
        {"on_unresponsive": "restart", "unresponsive_after": 0.5},
        "unresponsive for 0.5 s",
    ),
    "a call into C that keeps the interpreter": (
        lambda: ctypes.PyDLL(None).sleep(60),
        {"on_unresponsive": "restart", "unresponsive_after": 0.5},
        "unresponsive for 0.5 s",
    ),
}


#: The ways to end that every run of the tests tries; the others are marked slow.
USUAL = {
    "a quiet exit",
    "SIGKILL",
    "a segmentation fault",
    "a busy loop",
    "a full disk",
    "a host that was frozen",
}
assert ENDS.keys() > USUAL


@pytest.mark.parametrize(
    "abuse", [pytest.param(one, marks=[pytest.mark.slow] * (one not in USUAL)) for one in ENDS]
)
def test_what_ends_a_sandbox_is_named_and_ends_it_alone(abuse):
    function, options, reason = ENDS[abuse]

    @on_a_node
    async def check(node):
        box = await node.start(checkpoint=Checkpoint(every=None), **options)
        assert await beside_a_neighbour(node, cause_of_death(node, box, function)) == reason

    check()


# -- What does not ----------------------------------------------------------------------------------------


def start_threads_that_never_end():
    for daemon in (True, False):
        for _ in range(3):
            threading.Thread(target=threading.Event().wait, daemon=daemon).start()


def leave_from_a_thread():
    thread = threading.Thread(target=sys.exit, args=(3,))
    thread.start()
    thread.join()


def recurse():
    return recurse()


def hang_at_exit():
    atexit.register(time.sleep, 60)


def ignore_signals():
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os.kill(os.getpid(), signal.SIGTERM)


def replace_the_output():
    sys.stdout = sys.stderr = None


def break_the_output():
    class Broken:
        def write(self, text):
            raise ValueError("no ink")

        flush = write

    sys.stdout = sys.stderr = Broken()


def close_the_output():
    os.close(1)
    os.close(2)


def delete_the_temporary_directory():
    shutil.rmtree(tempfile.gettempdir())


def replace_the_temporary_directory():
    folder = Path(tempfile.gettempdir())
    folder.rmdir()
    folder.write_text("not a directory")


def work_nowhere():
    folder = Path(tempfile.mkdtemp())
    os.chdir(folder)
    folder.rmdir()


def change_the_loop_policy():
    class Policy(asyncio.DefaultEventLoopPolicy):
        def get_event_loop(self):
            raise RuntimeError("no loop today")

    asyncio.set_event_loop_policy(Policy())
    asyncio.set_event_loop(None)


def stop_the_loop():
    asyncio.get_running_loop().stop()


def close_the_loop():
    asyncio.get_running_loop().close()


def leave_the_thread():
    asyncio.get_running_loop().call_soon(sys.exit, 3)


def fork_and_come_back_twice():
    os.fork()


def patch_the_clocks():
    time.time = time.monotonic = lambda: 0.0
    asyncio.sleep = None


def lower_the_limits():
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def kill_the_parent():
    os.kill(os.getppid(), signal.SIGKILL)


def freeze_the_parent():
    os.kill(os.getppid(), signal.SIGSTOP)


def kill_everybody():
    os.kill(-1, signal.SIGKILL)


def kill_the_parents_group():
    os.killpg(os.getpgid(os.getppid()), signal.SIGKILL)


def make_a_file_too_large():
    with tempfile.TemporaryFile() as file:
        file.write(b"x" * 32 * MIB)


def eat_memory_in_a_thread():
    failed = []

    def eat():
        try:
            bytearray(256 * MIB)
        except MemoryError as error:
            failed.append(error)

    thread = threading.Thread(target=eat)
    thread.start()
    thread.join()
    raise failed[0]


GOES_ON = {
    start_threads_that_never_end: None,
    leave_from_a_thread: None,
    recurse: "RecursionError",
    hang_at_exit: None,
    ignore_signals: None,
    replace_the_output: None,
    break_the_output: None,
    close_the_output: None,
    delete_the_temporary_directory: None,
    replace_the_temporary_directory: None,
    work_nowhere: None,
    change_the_loop_policy: None,
    stop_the_loop: None,
    close_the_loop: "Cannot close a running event loop",
    leave_the_thread: None,
    fork_and_come_back_twice: None,
    patch_the_clocks: None,
    lower_the_limits: None,
    kill_the_parent: "SIGKILL to process",
    freeze_the_parent: "SIGSTOP to process",
    kill_everybody: "SIGKILL to all processes",
    kill_the_parents_group: "SIGKILL to process group",
    make_a_file_too_large: r"File too large \(disk limit 16 MiB\)",
    eat_memory_in_a_thread: "MemoryError: memory limit 64 MiB",
}


@pytest.mark.parametrize("abuse", GOES_ON, ids=lambda abuse: abuse.__name__)
def test_what_a_sandbox_survives_harms_at_most_one_process_of_it(abuse):
    @on_a_node
    async def check(node):
        box = await node.start(resources=Resources(processes=8, memory="64 MiB", disk="16 MiB"))
        pid = (await box.instance.info())["pid"]

        async def suffer():
            if GOES_ON[abuse] is None:
                await box.do(abuse, timeout=30.0)
            else:
                with pytest.raises(ProcessDied, match=GOES_ON[abuse]):
                    await box.do(abuse, timeout=30.0)

        await beside_a_neighbour(node, suffer())
        assert await box.call("increment") == 1
        assert (await box.instance.info())["pid"] == pid
        began = time.monotonic()
        await box.instance.stop()
        assert time.monotonic() - began < PATIENCE
        assert len(folders(node)) == 1  # the neighbour's

    check()


def cancel_every_task():
    for task in asyncio.all_tasks():
        task.cancel()


@on_a_node
async def test_a_clock_that_was_replaced_stops_neither_leases_nor_time_outs(node):
    class Patient(Counter):
        async def handle_call(self, request, sender, state):
            patch_the_clocks()
            await asyncio.Event().wait()

    node.lease(1.0)
    box = await node.start(supervisor([child(Patient, 0, id="counter", name="counter")]))
    with pytest.raises(CallTimeout):
        await box.call("value", timeout=0.1)
    assert (await node.heard("host_exited"))["reason"] == "its node's lease has run out"


@on_a_node
async def test_what_breaks_the_machinery_of_a_host_is_named(node):
    def break_it():
        asyncio.get_running_loop().set_task_factory(lambda *_, **__: 1 / 0)

    box = await node.start(checkpoint=Checkpoint(every=None))
    await box.do(break_it)
    with pytest.raises(Refused):
        await box.command("tree")
    told = await node.heard("host_exited")
    assert told["reason"] == "its own machinery broke (ZeroDivisionError: division by zero)"


class Leaving:
    """Leaves the interpreter while it is pickled."""

    def __reduce__(self):
        sys.exit(3)


@on_a_node
async def test_a_value_that_leaves_while_it_is_pickled_is_answered_for(node):
    box = await node.start(checkpoint=Checkpoint(every=None))
    with pytest.raises(SystemExit):
        await box.do(Leaving)
    assert await box.call("increment") == 1


@on_a_node
async def test_a_state_that_leaves_while_it_is_pickled_costs_its_checkpoint_alone(node):
    class Keeping(Counter):
        def init(self, start=0):
            return Leaving()

    app = supervisor(
        [child(Keeping, id="counter", name="counter"), child(Counter, 0, id="other", name="other")]
    )
    box = await node.start(app, checkpoint=Checkpoint(every=None))
    async with asyncio.timeout(5):
        with contextlib.suppress(CheckpointFailed):
            await box.instance.checkpoint()
    assert await box.call("increment", target="other") == 1


@on_a_node
async def test_a_clean_up_of_all_tasks_ends_the_host_that_has_lost_its_root(node):
    box = await node.start(checkpoint=Checkpoint(every=None))
    await beside_a_neighbour(node, box.do(cancel_every_task))
    assert "CancelledError" in (await node.heard("instance_restarted"))["reason"]
    assert await box.call("increment") == 1


@on_a_node
async def test_a_fork_bomb_stops_at_the_limit(node):
    box = await node.start(resources=Resources(processes=8))
    host = psutil.Process((await box.instance.info())["pid"])
    answer = await beside_a_neighbour(node, box.ask("call", "counter", ("do", bomb_with_forks), timeout=30.0))
    # Those that fork in the same instant may get past the refusal; then the next look ends the host.
    told = str(loads(answer[2]).reason) if answer[1] == 1 else answer[2][2]
    assert "child process limit 8" in told
    with contextlib.suppress(psutil.NoSuchProcess):
        assert len(host.children(recursive=True)) < 32
    assert await box.call("increment") == 1


@on_a_node
async def test_a_storm_of_events_is_cut_short_and_counted(node):
    class Storm(Counter):
        async def handle_call(self, request, sender, state):
            if request == "value":
                return Reply(state, state)
            for _ in range(10_000):
                spawn(asyncio.sleep, 0)
            return Reply("spawned", state)

    app = supervisor([child(Storm, 0, id="counter", name="counter")])
    box = await node.start(app, checkpoint=Checkpoint(every=None))
    assert await beside_a_neighbour(node, box.call("storm", timeout=20.0)) == "spawned"
    dropped = await node.heard("events_dropped")
    assert dropped["sandbox"] == "shop"
    started, ended = len(node.told("process_started")), len(node.told("process_exited"))
    assert started + ended < 15_000
    # The pids of those that nobody has heard of are not given again.
    os.kill((await box.instance.info())["pid"], signal.SIGKILL)
    await node.heard("instance_restarted")
    highest = max(int(info.pid.rstrip(">").rpartition(".")[2]) for info in await box.command("processes"))
    assert highest > 10_000
