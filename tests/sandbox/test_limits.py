"""Each limit is broken once, and the reason of death names it."""

from __future__ import annotations

import asyncio
import mmap
import multiprocessing
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
from sandbox_kit import Counter, Refused, on_a_node

from superlearner.core.spec import Resources
from superlearner.errors import ProcessDied, StartFailed
from superlearner.otp import child, supervisor

MIB = 2**20


async def death(box, function):
    with pytest.raises(Refused) as refused:
        await box.do(function, timeout=30.0)
    assert refused.value.why[0] == "process_died"
    return refused.value.why[2]


@on_a_node
async def test_too_much_memory_in_a_handler_ends_that_process_alone(node):
    box = await node.start(resources=Resources(memory="64 MiB"))
    pid = (await box.instance.info())["pid"]
    with pytest.raises(ProcessDied, match="MemoryError: memory limit 64 MiB"):
        await box.do(lambda: len(bytearray(200 * MIB)))
    assert await box.call("increment") == 1
    assert await box.do(lambda: len(bytearray(16 * MIB))) == 16 * MIB
    assert (await box.instance.info())["pid"] == pid


@pytest.mark.slow
@on_a_node
async def test_memory_that_no_allocation_refuses_ends_the_host_by_name(node):
    def share():
        shared = mmap.mmap(-1, 128 * MIB)
        for _ in range(96):
            shared.write(b"x" * MIB)
        time.sleep(20)

    box = await node.start(resources=Resources(memory="64 MiB"))
    assert await death(box, share) == "memory limit 64 MiB"
    assert await box.call("increment") == 1


@on_a_node
async def test_a_host_whose_own_machinery_runs_out_of_memory_is_named_too(node):
    def starve():
        def break_down():
            raise MemoryError

        asyncio.get_running_loop().call_soon(break_down)
        return asyncio.sleep(20)

    class Starving(Counter):
        async def handle_call(self, request, sender, state):
            await starve()

    box = await node.start(
        supervisor([child(Starving, id="counter", name="counter")]), resources=Resources(memory="64 MiB")
    )
    assert await death(box, None) == "memory limit 64 MiB"


@on_a_node
async def test_processor_time_is_limited(node):
    def burn():
        while True:
            pass

    box = await node.start(resources=Resources(cpu_time=1))
    assert await death(box, burn) == "CPU time limit 1 s"


@on_a_node
async def test_wall_clock_is_limited(node):
    box = await node.start(resources=Resources(wall_clock=0.3))
    assert await death(box, lambda: time.sleep(20)) == "wall clock limit 0.3 s"


@on_a_node
async def test_open_files_are_limited(node):
    def hoard():
        return [Path(os.devnull).open() for _ in range(100)]

    box = await node.start(resources=Resources(open_files=32))
    with pytest.raises(ProcessDied, match=r"Too many open files \(open file limit 32\): '/dev/null'"):
        await box.do(hoard)
    assert await box.call("increment") == 1


@on_a_node
async def test_child_processes_are_refused_at_the_limit(node):
    def breed():
        return [subprocess.Popen(["sleep", "60"]) for _ in range(3)]

    box = await node.start(resources=Resources(processes=2))
    with pytest.raises(ProcessDied, match="child process limit 2"):
        await box.do(breed)


@pytest.mark.slow
@on_a_node
async def test_child_processes_of_other_programs_end_the_host_by_name(node):
    def breed():
        subprocess.run(["sh", "-c", "sleep 60 & sleep 60 & sleep 60 & wait"], check=False)

    box = await node.start(resources=Resources(processes=2))
    assert await death(box, breed) == "child process limit 2"


class SlowToStart(Counter):
    async def init(self, start=0):
        await asyncio.sleep(60)


class StuckAtStart(Counter):
    def init(self, start=0):
        time.sleep(60)


@pytest.mark.parametrize(
    "app",
    [supervisor([child(SlowToStart)]), supervisor([child(StuckAtStart)]), "never_imported:app"],
    ids=["async init", "plain init", "import"],
)
def test_the_time_to_start_is_limited(app, tmp_path, monkeypatch):
    (tmp_path / "never_imported.py").write_text("import time\ntime.sleep(60)")
    monkeypatch.syspath_prepend(tmp_path)

    @on_a_node
    async def check(node):
        with pytest.raises(StartFailed, match=r"start timed out after 0\.3 s"):
            await node.start(app, start_timeout=0.3)
        assert await (await node.start(epoch=2)).call("increment") == 1

    check()


@on_a_node
async def test_limits_hold_while_the_sandbox_starts(node):
    class Breeding(Counter):
        def init(self, start=0):
            subprocess.run(["sh", "-c", "sleep 60 & sleep 60 & sleep 60 & wait"], check=False)

    with pytest.raises(StartFailed, match="child process limit 2"):
        await node.start(supervisor([child(Breeding)]), resources=Resources(processes=2))


@pytest.mark.slow
@on_a_node
async def test_what_children_share_with_their_host_counts_once(node):
    def share():
        kept = bytearray(20 * MIB)
        children = [
            multiprocessing.get_context("fork").Process(target=time.sleep, args=(1.5,)) for _ in range(4)
        ]
        for one in children:
            one.start()
        for one in children:
            one.join()
        return len(kept)

    box = await node.start(resources=Resources(memory="64 MiB"))
    assert await box.do(share, timeout=20.0) == 20 * MIB


@on_a_node
async def test_programs_that_have_ended_do_not_count(node):
    def detach():
        # Their parent leaves them, so they come to the host, which does not wait for them.
        for _ in range(20):
            subprocess.run(["sh", "-c", "true & sleep 0.01"], check=True)

    box = await node.start(resources=Resources(processes=8))
    assert await box.do(detach, timeout=20.0) is None


@pytest.mark.slow
@on_a_node
async def test_a_million_empty_files_are_too_many_too(node):
    def litter():
        for number in range(5000):
            Path(os.environ["TMPDIR"], f"{number}").touch()
        time.sleep(20)

    box = await node.start(resources=Resources(disk="16 MiB"))
    assert await death(box, litter) == "disk limit 16 MiB"


@pytest.mark.slow
@on_a_node
async def test_a_sandbox_has_a_limit_on_child_processes_unless_it_is_told_otherwise(node):
    def breed():
        threads = []
        for _ in range(1000):
            threads.append(threading.Thread(target=threading.Event().wait, daemon=True))
            threads[-1].start()

    box = await node.start()
    with pytest.raises(ProcessDied, match="child process limit 512"):
        await box.do(breed, timeout=20.0)
    assert await box.call("increment") == 1


def oom_score(pid):
    return int(Path(f"/proc/{pid}/oom_score_adj").read_text())


@on_a_node
async def test_a_machine_without_memory_ends_a_sandbox_rather_than_its_node(node):
    box = await node.start()
    assert await box.do(lambda: oom_score("self")) == 1000
    assert oom_score(node.fork_server.pid) == oom_score("self") < 1000


@pytest.mark.parametrize("name", ["SIGSEGV", "SIGABRT", "SIGTERM"])
def test_a_signal_is_named(name):
    import signal

    @on_a_node
    async def check(node):
        box = await node.start()
        number = signal.Signals[name]
        assert await death(box, lambda: os.kill(os.getpid(), number)) == f"killed ({name})"

    check()
