"""The versions of applications that the control plane has seen, so that one can be gone back to."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from superlearner.core.control_events import ApplicationReplaced
from superlearner.core.control_records import SandboxRecord
from superlearner.core.snapshots import ApplicationVersion
from superlearner.errors import InvalidSpec

#: How many versions of one sandbox are kept; the oldest go first.
MOST = 10


@dataclass
class _History:
    #: When the sandbox was created: another one may have the same id.
    created_at: float
    #: The number of the oldest that is kept.
    first: int = 1
    #: The applications, as bytes that nobody reads here, each with the time since when it is known.
    kept: list[tuple[bytes, float]] = field(default_factory=list)

    def add(self, application: bytes, at: float) -> None:
        if all(known != application for known, _ in self.kept):
            self.kept.append((application, at))
            if len(self.kept) > MOST:
                del self.kept[0]
                self.first += 1


class Versions:
    """What each sandbox has run since it, or this control plane, was started; held in memory only."""

    def __init__(self) -> None:
        self._histories: dict[str, _History] = {}

    def replaced(self, records: Mapping[str, SandboxRecord], event: ApplicationReplaced) -> None:
        """Take note of a new version, before the registry does."""
        gone = [id for id in self._histories if id not in records]
        for id in gone:
            del self._histories[id]
        record = records.get(event.sandbox)
        if record is not None and record.epoch == event.epoch:
            history = self._history(record)
            history.add(event.application, event.at)
            self._histories[event.sandbox] = history

    def of(self, record: SandboxRecord) -> list[ApplicationVersion]:
        """Return the versions of a sandbox, oldest first."""
        history = self._history(record)
        return [
            ApplicationVersion(
                number=number,
                digest=hashlib.sha256(application).hexdigest()[:16],
                size=len(application),
                at=at,
                current=application == record.spec.application,
            )
            for number, (application, at) in enumerate(history.kept, history.first)
        ]

    def find(self, record: SandboxRecord, number: int | None) -> bytes:
        """Return the application of a version; None: of the one before that which runs."""
        history = self._history(record)
        known = {first: application for first, (application, _) in enumerate(history.kept, history.first)}
        if number is None:
            now = next((n for n, application in known.items() if application == record.spec.application), 0)
            number = now - 1
        if number not in known:
            raise InvalidSpec(
                f"The sandbox {record.id!r} has no version {number} of its application; nothing was changed. "
                f"There are: {', '.join(map(str, known))}."
            )
        return known[number]

    def _history(self, record: SandboxRecord) -> _History:
        """Return what is known of a sandbox, with what it runs now."""
        history = self._histories.get(record.id)
        if history is None or history.created_at != record.created_at:
            history = _History(record.created_at)
        history.add(record.spec.application, record.created_at or time.time())
        return history
