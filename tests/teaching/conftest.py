"""A progress file of the test's own, so that no test touches the learner's."""

from __future__ import annotations

from pathlib import Path

import pytest

from superlearner.teaching.progress import PROGRESS_VARIABLE


@pytest.fixture(autouse=True)
def progress_file(tmp_path, monkeypatch) -> Path:
    path = tmp_path / "own" / "progress.json"
    monkeypatch.setenv(PROGRESS_VARIABLE, str(path))
    return path
