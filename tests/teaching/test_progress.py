from __future__ import annotations

import json
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest

from superlearner.teaching.progress import PROGRESS_VARIABLE, Entry, Progress, default_path


def test_the_file_is_private_from_its_first_moment(progress_file):
    Progress().checked("01", "counter", "wrong")
    assert stat.S_IMODE(progress_file.stat().st_mode) == 0o600
    assert stat.S_IMODE(progress_file.parent.stat().st_mode) == 0o700


def test_what_has_passed_once_keeps_its_time_and_its_tries():
    progress = Progress()
    progress.checked("01", "counter", "not tried")
    progress.checked("01", "counter", "wrong")
    first = progress.checked("01", "counter", "passed")
    again = progress.checked("01", "counter", "wrong")
    assert (again.outcome, again.tries, again.passed_at) == ("wrong", 3, first.passed_at)
    assert first.passed_at is not None


def test_hints_and_the_solution_are_noted():
    progress = Progress()
    progress.hinted("01", "counter", 2)
    progress.hinted("01", "counter", 1)
    progress.revealed("01", "counter")
    assert progress.entries("01") == {"counter": Entry(hints=2, revealed=True)}


def test_two_notebooks_may_write_at_once():
    def note(number):
        return Progress().checked("01", f"exercise-{number % 4}", "wrong")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(note, range(40)))
    assert [entry.tries for entry in Progress().entries("01").values()] == [10] * 4


def test_a_file_that_cannot_be_read_is_put_aside_and_kept(progress_file):
    progress_file.parent.mkdir(parents=True)
    progress_file.write_text("{ not json")
    Progress().checked("01", "counter", "passed")
    assert progress_file.with_name("progress.json.unreadable").read_text() == "{ not json"
    assert json.loads(progress_file.read_text())["lessons"]["01"]["counter"]["outcome"] == "passed"


def test_a_write_that_fails_leaves_the_old_file_and_no_rest(progress_file, monkeypatch):
    Progress().checked("01", "counter", "passed")
    before = progress_file.read_text()

    def full(descriptor):
        raise OSError("disk full")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="disk full"):
        Progress().checked("01", "counter", "wrong")
    assert progress_file.read_text() == before
    assert {path.name for path in progress_file.parent.iterdir()} == {"progress.json", ".progress.json.lock"}


def test_a_lesson_can_be_forgotten():
    progress = Progress()
    progress.checked("01", "counter", "passed")
    progress.checked("02", "ring", "passed")
    progress.forget("01")
    assert progress.entries("01") == {}
    assert list(progress.entries("02")) == ["ring"]


def test_the_file_lies_among_the_users_data_by_default(tmp_path, monkeypatch):
    monkeypatch.delenv(PROGRESS_VARIABLE)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path))
    assert default_path() == tmp_path / "superlearner" / "progress.json"
