"""What a sandbox prints is kept within bounds, outlives its host, and never costs its neighbours their node."""

from __future__ import annotations

import ctypes
import os
import sys
import time

import pytest
from sandbox_kit import Refused, beside_a_neighbour, on_a_node

from superlearner.core.spec import Checkpoint
from superlearner.sandbox.output import BURST, OUTPUT_KEPT, PAST_KEPT, PAUSE, farewell, joined


def flood(data, seconds):
    """Write at full speed; return the bytes written."""
    end, written = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        written += os.write(1, data)
    return written


FLOODS = {
    "lines": b"the same again\n" * 1000,
    "one endless line": b"x" * 65536,
    "binary rubbish": bytes(range(256)) * 256,
    "single bytes": b"\xff",
}


@pytest.mark.parametrize(
    "kind", [pytest.param(one, marks=[pytest.mark.slow] * (one != "lines")) for one in FLOODS]
)
def test_a_flood_of_output_is_slowed_down_and_bounded(kind):
    @on_a_node
    async def check(node):
        box = await node.start()
        data = FLOODS[kind]
        written = await beside_a_neighbour(node, box.do(lambda: flood(data, 1.0), timeout=20.0))
        # Its own burst, what the pipe holds, and a second's worth.
        assert written < (1.0 / PAUSE + 4) * (BURST + 2**18)
        logs = await box.instance.logs()
        assert 0 < len(logs) <= OUTPUT_KEPT
        assert await box.call("increment") == 1

    check()


@on_a_node
async def test_the_last_words_of_a_host_stay_readable_after_its_restart(node):
    box = await node.start(checkpoint=Checkpoint(every=None))

    def die():
        os.write(1, b"I have seen things\n")
        sys.stdout.flush()
        ctypes.string_at(0)

    pid = (await box.instance.info())["pid"]
    with pytest.raises(Refused):
        await box.do(die)
    await node.heard("instance_restarted")
    await box.do(lambda: os.write(1, b"and here I am again\n"))
    await box.instance.restart("asked for")
    logs = await box.instance.logs()
    first, second = (
        logs.index(f"--- OS process {pid} ended: killed (SIGSEGV) ---"),
        logs.index("and here I am"),
    )
    assert (
        logs.index("I have seen things")
        < logs.index("Fatal Python error: Segmentation fault")
        < first
        < second
    )
    assert logs.endswith("ended: asked for ---\n")
    exited = await node.heard("host_exited")
    assert (exited["reason"], exited["detail"]["os_pid"]) == ("killed (SIGSEGV)", pid)
    assert "I have seen things" in exited["detail"]["output"]
    assert len(node.told("host_exited")) == 1  # a restart that was asked for is none


@on_a_node
async def test_all_that_was_written_before_the_end_is_read(node):
    box = await node.start(max_restarts=0)

    def shout_and_leave():
        os.write(2, b"y" * 60_000 + b"\nthat was all\n")
        os._exit(1)

    with pytest.raises(Refused):
        await box.do(shout_and_leave)
    await node.heard("instance_exited")
    logs = await box.instance.logs()
    assert logs.count("y") >= PAST_KEPT - 200
    assert logs.endswith("that was all\n--- OS process " + logs.rpartition("process ")[2])


@on_a_node
async def test_an_exception_of_ten_megabytes_stays_small_wherever_it_is_told(node):
    box = await node.start()

    def shout():
        raise ValueError("x" * 10_000_000)

    answer = await beside_a_neighbour(node, box.ask("call", "counter", ("do", shout)))
    assert len(answer[2]) < 2**20
    exited = await node.heard("process_exited")
    assert len(str(exited)) < 2**20
    await box.instance.stop()
    assert len(str(node.reports)) < 2**21


def test_of_former_hosts_a_part_is_kept_and_of_the_present_one_the_rest():
    past = b""
    for number in range(50):
        past = farewell(past, b"z" * 1000, number, "exit code 1")
    assert len(past) == PAST_KEPT
    text = joined(past, b"\xff" * 100_000)
    assert len(text) == OUTPUT_KEPT
    assert text.startswith("z") or "--- OS process 49" in text
    assert joined(b"", b"now") == "now"
