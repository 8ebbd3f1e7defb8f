"""What the learner has done so far: one small JSON file that only they can read, and that they may delete.

It lies at ``$SUPERLEARNER_PROGRESS``, else in ``$XDG_DATA_HOME/superlearner/progress.json``, else in
``~/.local/share/superlearner/progress.json``. Nothing in it leaves the machine.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from superlearner import config
from superlearner.teaching.check import Outcome

#: Names the progress file, where it is not to lie among the user's data.
PROGRESS_VARIABLE = "SUPERLEARNER_PROGRESS"
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Entry:
    """One exercise or prediction, as far as the learner has come."""

    #: The newest outcome.
    outcome: Outcome = "not tried"
    #: How often it was checked with something filled in.
    tries: int = 0
    #: How many hints were read.
    hints: int = 0
    #: Whether the worked solution was shown.
    revealed: bool = False
    #: Unix time in seconds of the first pass; None before it.
    passed_at: float | None = None


class Progress:
    """The learner's progress file.

    Every change is read, changed and written under a lock, through a new file that replaces the old one: two
    notebooks may write at once, and a crash leaves the old file whole.

    Parameters
    ----------
    path
        The file. Default: see the module's text.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or default_path()

    def entries(self, lesson: str) -> dict[str, Entry]:
        """Return what is known of one lesson, by the id of its exercises and predictions."""
        return {id: _entry(plain) for id, plain in self._read().get("lessons", {}).get(lesson, {}).items()}

    def entry(self, lesson: str, about: str) -> Entry:
        """Return what is known of one exercise or prediction; a fresh entry where nothing is."""
        return self.entries(lesson).get(about, Entry())

    def checked(self, lesson: str, about: str, outcome: Outcome) -> Entry:
        """Note an outcome. What has passed once keeps its time of passing."""
        tried = outcome != "not tried"

        def change(entry: Entry) -> Entry:
            passed_at = time.time() if outcome == "passed" and entry.passed_at is None else entry.passed_at
            return replace(entry, outcome=outcome, tries=entry.tries + tried, passed_at=passed_at)

        return self._change(lesson, about, change)

    def hinted(self, lesson: str, about: str, hints: int) -> Entry:
        """Note that `hints` hints have been read."""
        return self._change(lesson, about, lambda entry: replace(entry, hints=max(entry.hints, hints)))

    def revealed(self, lesson: str, about: str) -> Entry:
        """Note that the worked solution was shown."""
        return self._change(lesson, about, lambda entry: replace(entry, revealed=True))

    def forget(self, lesson: str) -> None:
        """Forget all about one lesson, so that it can be done afresh."""
        with self._locked():
            known = self._read()
            known.get("lessons", {}).pop(lesson, None)
            self._write(known)

    def _change(self, lesson: str, about: str, change: Any) -> Entry:
        with self._locked():
            known = self._read()
            entries = known.setdefault("lessons", {}).setdefault(lesson, {})
            entry: Entry = change(_entry(entries.get(about, {})))
            entries[about] = asdict(entry)
            self._write(known)
        return entry

    def _read(self) -> dict[str, Any]:
        try:
            known = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {"version": _VERSION}
        except ValueError:
            known = None
        if isinstance(known, dict) and known.get("version") == _VERSION:
            return known
        # The file is the learner's: one that cannot be read is put aside, never thrown away.
        self.path.replace(self.path.with_name(f"{self.path.name}.unreadable"))
        return {"version": _VERSION}

    def _write(self, known: dict[str, Any]) -> None:
        config.write_private(self.path, json.dumps(known, indent=1, sort_keys=True) + "\n", sync=True)

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # The lock lies beside the file, which itself is replaced by each write.
        descriptor = os.open(self.path.with_name(f".{self.path.name}.lock"), os.O_CREAT | os.O_RDWR, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)


def default_path() -> Path:
    """Return where the progress file lies."""
    named = os.environ.get(PROGRESS_VARIABLE)
    if named:
        return Path(named).expanduser()
    data = os.environ.get("XDG_DATA_HOME") or "~/.local/share"
    return Path(data).expanduser() / "superlearner" / "progress.json"


def _entry(plain: dict[str, Any]) -> Entry:
    return Entry(**{name: plain[name] for name in Entry.__dataclass_fields__ if name in plain})
