"""A journal that cannot be written costs nothing but the journal."""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from pathlib import Path

import pytest
from apps import Counter
from cluster_kit import awaiting

import superlearner as sl
from superlearner.cluster import recorder as module
from superlearner.cluster.journal import Journal, read_journal
from superlearner.cluster.local import find_connection, stop_daemon
from superlearner.cluster.recorder import Recorder
from superlearner.core.history import Event


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 8 MiB."""
    folder = tmp_path / "small"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(folder)], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip("mounting a file system takes root")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(module, "RETRY", 0.01)


class Heard:
    """Publishes to the test."""

    def __init__(self):
        self.events = []
        self._news = asyncio.Event()

    def __call__(self, event):
        self.events.append(event)
        self._news.set()

    def count(self, kind):
        return sum(event.kind == kind for event in self.events)

    async def hear(self, kind):
        async with asyncio.timeout(10):
            while not self.count(kind):
                self._news.clear()
                await self._news.wait()
        return next(event for event in self.events if event.kind == kind)


def fill(file):
    """Fill the file's disk to the last page."""
    with contextlib.suppress(OSError), file.open("wb", buffering=0) as hole:
        while True:
            hole.write(b"x" * 4096)


def numbers(path):
    return [event.seq for event in read_journal(path)]


def test_on_a_full_disk_events_stay_in_memory_and_are_written_later(small_disk):
    async def main():
        heard = Heard()
        recorder = Recorder(str(small_disk / "journal.sqlite"), 10_000, heard)
        recorder.record(Event("before"))
        fat = small_disk / "fat"
        fill(fat)
        for _ in range(500):
            recorder.record(Event("meanwhile", detail={"text": "y" * 200}))
        assert heard.count("meanwhile") == 500
        assert heard.count("journal_failed") == 1
        failed = await heard.hear("journal_failed")
        assert "full" in failed.reason or "I/O" in failed.reason
        fat.unlink()
        recovered = await heard.hear("journal_recovered")
        assert recovered.detail["missing"] == 0
        assert recovered.detail["written"] > 0
        recorder.close()
        return [event.seq for event in heard.events]

    published = asyncio.run(main())
    assert published == list(range(1, len(published) + 1))
    assert numbers(small_disk / "journal.sqlite") == published


def test_a_file_that_was_removed_is_made_anew_with_what_is_still_known(tmp_path):
    path = tmp_path / "journal.sqlite"

    async def main():
        heard = Heard()
        recorder = Recorder(str(path), 3, heard)
        for kind in ("one", "two", "three", "four"):
            recorder.record(Event(kind))
        for file in tmp_path.iterdir():
            file.unlink()
        recorder.record(Event("five"))
        assert heard.count("journal_failed") == 1
        recovered = await heard.hear("journal_recovered")
        recorder.close()
        return recovered

    recovered = asyncio.run(main())
    assert recovered.detail["missing"] == 3  # the log keeps three: four, five and the failure
    assert numbers(path) == [4, 5, 6, 7]


def test_a_journal_that_cannot_be_opened_does_not_keep_the_cluster_from_starting(tmp_path):
    path = tmp_path / "folder" / "journal.sqlite"

    async def main():
        heard = Heard()
        recorder = Recorder(str(path), 10, heard)
        recorder.record(Event("one"))
        path.parent.mkdir()
        await heard.hear("journal_recovered")
        recorder.close()

    asyncio.run(main())
    assert numbers(path) == [1, 2, 3]


def test_two_histories_are_never_mixed(tmp_path):
    path = tmp_path / "folder" / "journal.sqlite"

    async def main():
        heard = Heard()
        recorder = Recorder(str(path), 10, heard)
        path.parent.mkdir()
        other = Journal(path)
        other.append(Event("another cluster", 1))
        other.close()
        await asyncio.sleep(0.1)  # what must not happen tells nobody that it has not
        recorder.close()
        assert [event.kind for event in heard.events] == ["journal_failed"]

    asyncio.run(main())
    assert numbers(path) == [1]


def test_the_next_cluster_counts_on(tmp_path):
    path = str(tmp_path / "journal.sqlite")

    async def main():
        for _ in range(2):
            recorder = Recorder(path, 10, Heard())
            recorder.record(Event("started", detail={"odd": {b"key": os.sep, "path": Path("x")}}))
            recorder.close()

    asyncio.run(main())
    assert numbers(path) == [1, 2]


@pytest.mark.slow
def test_a_cluster_goes_on_while_its_journal_cannot_be_written(small_disk, monkeypatch):
    monkeypatch.setenv("SUPERLEARNER_STATE_DIR", str(small_disk))
    try:
        with sl.connect(nodes=1) as cluster:
            seqs = suffer(cluster, small_disk / "fat")
    finally:
        stop_daemon(find_connection())
    written = numbers(small_disk / "journal.sqlite")
    assert written[: len(seqs)] == seqs == list(range(1, len(seqs) + 1))


def suffer(cluster, fat):
    """Use the cluster while its disk is full and after that; return the numbers of its events."""
    fill(fat)
    with awaiting(cluster, "journal_failed") as failed:
        sandbox = cluster.create_sandbox("shop", Counter, checkpoint=sl.Checkpoint(every=None))
        for _ in range(100):
            sandbox.restart()  # until the last page of the journal is full
            if cluster.events(kind="journal_failed"):
                break
        failed()
    cluster.chaos.kill_sandbox("shop")
    assert [child.type for child in sandbox.tree().children] == ["worker"]
    with awaiting(cluster, "journal_recovered") as recovered:
        fat.unlink()
        assert recovered().detail["missing"] == 0
    return [event.seq for event in cluster.events()]
