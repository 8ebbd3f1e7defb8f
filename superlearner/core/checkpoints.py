"""Versions of a sandbox's state, and the store that keeps the newest few of them on a node."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass, field, fields
from typing import Any

from superlearner.errors import CheckpointFailed, InvalidSpec, StaleEpoch


@dataclass(frozen=True, slots=True)
class CheckpointVersion:
    """One checkpoint with its payload; versions are ordered by ``(epoch, seq)``.

    >>> old = CheckpointVersion.of("shop", 1, 7, b"state")
    >>> new = CheckpointVersion.of("shop", 2, 1, b"state")
    >>> old < new, old.good, old.size
    (True, True, 5)
    """

    sandbox: str
    epoch: int
    seq: int
    #: Unix time in seconds when it was taken.
    at: float
    #: Bytes of the payload.
    size: int
    #: CRC-32 of the payload: it finds accidents, not forgeries.
    checksum: int
    #: Opaque to the store.
    payload: bytes = field(repr=False)
    #: The first serial number that the next instance may give to a process.
    next_serial: int = 1

    @classmethod
    def of(
        cls, sandbox: str, epoch: int, seq: int, payload: bytes, *, at: float = 0.0, next_serial: int = 1
    ) -> CheckpointVersion:
        """Build a version with the size and the checksum of its payload."""
        return cls(sandbox, epoch, seq, at, len(payload), zlib.crc32(payload), payload, next_serial)

    def plain(self) -> dict[str, Any]:
        """Return its fields, as files and wires carry them.

        >>> version = CheckpointVersion.of("shop", epoch=1, seq=2, payload=b"state")
        >>> CheckpointVersion(**version.plain()) == version
        True
        """
        return {name: getattr(self, name) for name in _FIELDS}

    @property
    def version(self) -> tuple[int, int]:
        """Its place among the versions of its sandbox."""
        return self.epoch, self.seq

    @property
    def good(self) -> bool:
        """Whether the payload is what was stored: its size and checksum are right."""
        return self.size == len(self.payload) and self.checksum == zlib.crc32(self.payload)

    def __lt__(self, other: CheckpointVersion) -> bool:
        return self.version < other.version


_FIELDS = tuple(field.name for field in fields(CheckpointVersion))


def choose(candidates: Iterable[CheckpointVersion]) -> CheckpointVersion | None:
    """Return the newest good version, None when there is none: a bad one falls back to the one before it.

    >>> good = CheckpointVersion.of("shop", 1, 1, b"state")
    >>> bad = CheckpointVersion("shop", 1, 2, at=0.0, size=5, checksum=0, payload=b"stale")
    >>> choose([bad, good]).seq
    1
    """
    # The newest is nearly always good, so checksums are computed one by one, newest first.
    return next((version for version in sorted(candidates, reverse=True) if version.good), None)


class CheckpointStore:
    """The newest checkpoints of each sandbox, in memory, bounded by ``keep`` versions each.

    A version of an epoch below the highest one seen is refused: whoever wrote it is no longer the owner.
    `drop` remembers, for the last `fences` dropped sandboxes, which epochs are over, so that a late write
    of a destroyed sandbox does not bring it back.

    >>> store = CheckpointStore()
    >>> store.put(CheckpointVersion.of("shop", 2, 1, b"state"), keep=3)
    >>> store.put(CheckpointVersion.of("shop", 1, 9, b"stale"), keep=3)
    Traceback (most recent call last):
        ...
    superlearner.errors.StaleEpoch: Epoch 1 of sandbox 'shop' is over (now 2). ...
    """

    def __init__(self, fences: int = 10_000) -> None:
        #: Newest first, never empty.
        self._versions: dict[str, list[CheckpointVersion]] = {}
        #: Of dropped sandboxes: the lowest epoch that is accepted again.
        self._fences: OrderedDict[str, int] = OrderedDict()
        self._limit = fences

    def put(self, version: CheckpointVersion, keep: int = 3) -> None:
        """Store a version and keep the newest `keep` of its sandbox; storing one twice changes nothing.

        Raises
        ------
        StaleEpoch
            Its epoch is over; nothing was stored.
        CheckpointFailed
            Its checksum is wrong; nothing was stored.
        """
        if keep < 1:
            raise InvalidSpec(f"keep={keep!r} must be a whole number, 1 or more.")
        current = self.epoch(version.sandbox)
        if version.epoch < current:
            raise StaleEpoch(version.sandbox, version.epoch, current)
        if not version.good:
            raise CheckpointFailed(version.sandbox, f"version {version.version} does not match its checksum")
        others = [v for v in self._versions.get(version.sandbox, ()) if v.version != version.version]
        self._versions[version.sandbox] = sorted([version, *others], reverse=True)[:keep]
        self._fences.pop(version.sandbox, None)

    def newest(self, sandbox: str) -> list[CheckpointVersion]:
        """Return the versions that are held of a sandbox, newest first."""
        return list(self._versions.get(sandbox, ()))

    def epoch(self, sandbox: str) -> int:
        """Return the lowest epoch that is accepted of a sandbox, 0 when none is known."""
        versions = self._versions.get(sandbox)
        return versions[0].epoch if versions else self._fences.get(sandbox, 0)

    def drop(self, sandbox: str, epoch: int | None = None) -> int:
        """Remove the versions up to `epoch` (None: all) and refuse them from now on; return how many went."""
        held = self._versions.pop(sandbox, [])
        kept = [version for version in held if epoch is not None and version.epoch > epoch]
        if kept:
            self._versions[sandbox] = kept
            return len(held) - len(kept)
        over = held[0].epoch if epoch is None and held else epoch
        if over is not None:
            self._fences[sandbox] = max(over + 1, self._fences.pop(sandbox, 0))
            while len(self._fences) > self._limit:
                self._fences.popitem(last=False)
        return len(held)

    def forget(self, sandbox: str) -> None:
        """Remove everything that is known of a sandbox, its epochs too."""
        self._versions.pop(sandbox, None)
        self._fences.pop(sandbox, None)

    @property
    def size(self) -> int:
        """Bytes of all payloads that are held."""
        return sum(version.size for versions in self._versions.values() for version in versions)

    def sandboxes(self) -> list[str]:
        """Return the ids of the sandboxes of which a version is held."""
        return list(self._versions)

    def __len__(self) -> int:
        return sum(map(len, self._versions.values()))
