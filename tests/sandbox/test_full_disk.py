"""A sandbox that fills the disk hurts nobody who is not writing to it."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest
from sandbox_kit import on_a_node

from superlearner.core.spec import Checkpoint
from superlearner.errors import ProcessDied


@pytest.fixture
def small_disk(tmp_path, monkeypatch):
    """A file system of 4 MiB, in which the nodes made from now on keep their files."""
    folder = tmp_path / "small"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m,nr_inodes=64", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a file system takes root")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


def fill():
    """Take every byte and every name that the disk has."""
    folder = Path(tempfile.gettempdir())
    with (folder / "fat").open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"x" * 65536)
        except OSError:
            pass
    for number in range(1000):
        (folder / f"{number}").touch()


def test_neighbours_start_and_restart_and_only_the_writer_suffers(small_disk):
    @on_a_node
    async def check(node):
        neighbour = await node.start(id="neighbour", checkpoint=Checkpoint(every=None))
        box = await node.start()
        with pytest.raises(ProcessDied, match="No space left on device"):
            await box.do(fill)
        assert await neighbour.call("increment") == 1
        await neighbour.instance.checkpoint()
        os.kill((await neighbour.instance.info())["pid"], signal.SIGKILL)
        await node.heard("instance_restarted")
        assert await neighbour.call("increment") == 2
        late = await node.start(id="late")
        assert await late.call("increment") == 1
        # What it wrote goes with it.
        await box.instance.stop()
        again = await node.start(id="again")
        assert await again.do(lambda: Path(tempfile.gettempdir(), "file").write_text("x")) == 1

    check()
    assert not list(small_disk.iterdir())


def test_a_node_that_cannot_even_start_its_fork_server_again_says_so(monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.ENOSPC, "No space left on device")

    @on_a_node
    async def check(node):
        box = await node.start(max_restarts=1, max_seconds=60.0)
        with monkeypatch.context() as patched:
            patched.setattr(tempfile, "mkdtemp", refuse)
            os.kill(node.fork_server.pid, signal.SIGKILL)
            told = await node.heard("instance_exited")
        assert told["gave_up"] is True
        assert "No space left on device" in told["reason"]
        assert box.instance.status == "failed"

    check()
