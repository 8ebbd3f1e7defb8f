"""Where a local manager keeps its sandboxes beyond its own end: a directory that only its owner can read.

``lock`` belongs to the manager that uses it. ``sandboxes/<id>/`` holds ``spec``, what the sandbox is, the last
epoch it had and whether it is down, its newest checkpoints, ``<epoch>-<seq>.checkpoint``, and ``moving`` from
the moment in which a cluster is asked to take it over until that is over. ``groups/<id>`` holds what a group
is, its members in their order, and whether it has given up. A file is written aside and renamed, so it is
whole or not there, also when the process dies at any instant. It does not wait for the
disk: after a power cut the last files may be damaged. Each is sealed with a checksum; a damaged checkpoint
is refused, and the one before it is taken.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import shutil
import zlib
from collections.abc import Container
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Literal

import msgpack

from superlearner.core.checkpoints import CheckpointStore, CheckpointVersion
from superlearner.core.control_kept import KeptGroup, KeptSandbox
from superlearner.core.spec import validate_id
from superlearner.errors import CheckpointFailed, InvalidSpec, StaleEpoch, SuperlearnerError

_MAGIC = b"superlearner 1\n"
_SUFFIX = ".checkpoint"
_SPEC = "spec"
_NEW = ".new-"
_DOUBT = "moving"

#: A move into a cluster that has not been finished. ``open``: the sandbox is here or there, as the cluster will
#: tell. ``here``: this one has served since, and what the cluster may have of it is to be destroyed.
Doubt = Literal["open", "here"]


class StateDirectory:
    """Sandboxes and their checkpoints, as files.

    Parameters
    ----------
    path
        The directory; it is made if need be.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path).absolute()
        self._sandboxes = self.path / "sandboxes"
        self._groups = self.path / "groups"
        self._lock: IO[bytes] | None = None
        self._epochs: dict[str, int] = {}
        #: The sandboxes that cannot be brought back, each with the reason; their files stay.
        self.unreadable: list[tuple[str, str]] = []
        #: The groups of which nothing is known but their names, each with the reason; their files stay.
        self.unreadable_groups: list[tuple[str, str]] = []

    def open(self) -> FileCheckpoints:
        """Take the directory for this manager, and return the checkpoints in it; raises as `take`."""
        self.take()
        return FileCheckpoints(self)

    def take(self) -> None:
        """Take the directory for whoever runs the sandboxes in it.

        Raises
        ------
        InvalidSpec
            It is no directory of one's own, or another manager uses it.
        """
        try:
            self._sandboxes.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._groups.mkdir(mode=0o700, exist_ok=True)
            self.path.chmod(0o700)
            lock = open(self.path / "lock", "wb", opener=_private)  # noqa: SIM115 - held until close
        except OSError as error:
            raise InvalidSpec(f"state_dir={str(self.path)!r} cannot be used: {error}.") from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            raise InvalidSpec(
                f"state_dir={str(self.path)!r} is in use by another manager: two of them would run each sandbox "
                "twice. Close that one, or name another directory."
            ) from None
        self._lock = lock

    def close(self) -> None:
        """Leave the directory to the next manager."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    # -- Sandboxes -----------------------------------------------------------------------------------

    def remember(self, kept: KeptSandbox) -> None:
        """Keep what a sandbox is, and what has become of it."""
        folder = self.folder(kept.spec.id)
        folder.mkdir(mode=0o700, exist_ok=True)
        _write(folder / _SPEC, pickle.dumps(tuple(kept)))
        self._epochs[kept.spec.id] = kept.epoch

    def remembered(self) -> list[KeptSandbox]:
        """Return the sandboxes that were kept, by id."""
        found: list[KeptSandbox] = []
        for folder in self.folders():
            try:
                kept = KeptSandbox(*pickle.loads(_read(folder / _SPEC)))
            except Exception as error:  # damaged, or of another version: it must not stop the others
                self.unreadable.append((folder.name, f"{folder / _SPEC}: {error}"))
                continue
            self._epochs[kept.spec.id] = kept.epoch
            found.append(kept)
        return found

    def remember_group(self, kept: KeptGroup) -> None:
        """Keep what a group is, and what has become of it."""
        _write(self._groups / validate_id(kept.spec.id), pickle.dumps(tuple(kept)))

    def remembered_groups(self) -> list[KeptGroup]:
        """Return the groups that were kept, by id."""
        found: list[KeptGroup] = []
        for path in sorted(self._groups.iterdir()):
            if path.name.startswith(_NEW):
                path.unlink(missing_ok=True)
                continue
            try:
                found.append(KeptGroup(*pickle.loads(_read(path))))
            except Exception as error:  # as above
                self.unreadable_groups.append((path.name, f"{path}: {error}"))
        return found

    def forget_group(self, group: str) -> None:
        """Remove the file of a group."""
        (self._groups / validate_id(group)).unlink(missing_ok=True)

    def clear(self) -> None:
        """Remove everything that is kept here."""
        for folder in (self._sandboxes, self._groups):
            shutil.rmtree(folder, ignore_errors=True)

    def doubt(self, sandbox: str, doubt: Doubt | None) -> None:
        """Keep what is not certain about a move of a sandbox into a cluster; None: nothing is."""
        path = self.folder(sandbox) / _DOUBT
        if doubt is None:
            path.unlink(missing_ok=True)
        else:
            _write(path, doubt.encode())

    def doubts(self) -> dict[str, Doubt]:
        """Return what is not certain, by sandbox; a file that cannot be read leaves everything open."""
        found: dict[str, Doubt] = {}
        for folder in self.folders():
            with contextlib.suppress(FileNotFoundError):
                data = (folder / _DOUBT).read_bytes()
                found[folder.name] = "here" if data.endswith(b"here") else "open"
        return found

    def forget(self, sandbox: str, epoch: int | None) -> None:
        """Remove all files of a sandbox, unless a later epoch than `epoch` has begun."""
        if epoch is None or self._epochs.get(sandbox, 0) <= epoch:
            self._epochs.pop(sandbox, None)
            shutil.rmtree(self.folder(sandbox), ignore_errors=True)

    def folder(self, sandbox: str) -> Path:
        """Return where the files of a sandbox are."""
        return self._sandboxes / validate_id(sandbox)

    def folders(self) -> list[Path]:
        """Return the folders of all sandboxes, by id."""
        return sorted(folder for folder in self._sandboxes.iterdir() if folder.is_dir())


class FileCheckpoints(CheckpointStore):
    """A store that keeps each version as a file, too, and begins with those that it finds."""

    def __init__(self, directory: StateDirectory) -> None:
        super().__init__()
        self._directory = directory
        for folder in directory.folders():
            for unfinished in folder.glob(f"{_NEW}*"):
                unfinished.unlink(missing_ok=True)
            found = [_load(path) for path in folder.glob(f"*{_SUFFIX}")]
            if versions := [version for version in found if version is not None]:
                self._versions[folder.name] = sorted(versions, reverse=True)

    def put(self, version: CheckpointVersion, keep: int = 3) -> None:
        """Store a version, as `CheckpointStore.put`; `CheckpointFailed` too when it cannot be written."""
        super().put(version, keep)
        folder = self._directory.folder(version.sandbox)
        try:
            folder.mkdir(mode=0o700, exist_ok=True)
            _write(folder / _name(*version.version), msgpack.packb(version.plain()))
        except OSError as error:
            raise CheckpointFailed(
                version.sandbox, f"it could not be written to {folder}: {error}"
            ) from error
        self._tidy(version.sandbox)

    def drop(self, sandbox: str, epoch: int | None = None) -> int:
        """Remove versions, as `CheckpointStore.drop`, with their files; with the last one goes the sandbox."""
        dropped = super().drop(sandbox, epoch)
        if self.newest(sandbox):
            self._tidy(sandbox)
        else:
            self._directory.forget(sandbox, epoch)
        return dropped

    def forget(self, sandbox: str) -> None:
        """Remove everything that is known of a sandbox."""
        super().forget(sandbox)
        self._directory.forget(sandbox, None)

    def _tidy(self, sandbox: str) -> None:
        """Remove the files of versions that are not held any more."""
        held = {_name(*version.version) for version in self.newest(sandbox)}
        for path in self._directory.folder(sandbox).glob(f"*{_SUFFIX}"):
            if path.name not in held:
                path.unlink(missing_ok=True)


class DurableCheckpoints:
    """The same files, for the nodes of a cluster on this machine: read when they are needed, and held by nobody.

    The control plane makes and removes the folder of a sandbox; a write after its removal is refused. One version
    more is kept than asked for: its file becomes that of the next, since making one takes ten times as long as all
    the rest, and a checkpoint may be written for every answer.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._sandboxes = Path(path) / "sandboxes"

    def put(self, version: CheckpointVersion, keep: int) -> None:
        """Write a version, and remove all but the newest `keep` and one more.

        Raises
        ------
        StaleEpoch
            The sandbox has been destroyed, or has a version of a later epoch.
        OSError
            It could not be written.
        """
        folder = self._sandboxes / version.sandbox
        try:
            held = self._versions(folder)
            if held and held[0][0] > version.epoch:
                raise StaleEpoch(version.sandbox, version.epoch, held[0][0])
            oldest = folder / _name(*held[-1]) if len(held) > keep else None
            _write(folder / _name(*version.version), msgpack.packb(version.plain()), oldest)
        except FileNotFoundError:
            raise StaleEpoch(version.sandbox, version.epoch) from None
        for old in held[keep:-1]:
            (folder / _name(*old)).unlink(missing_ok=True)

    def others(self, sandbox: str, known: Container[tuple[int, int]]) -> list[CheckpointVersion]:
        """Return the versions of a sandbox that are not `known`; a damaged one as a bad one."""
        folder = self._sandboxes / sandbox
        wanted = [version for version in self._versions(folder) if version not in known]
        found = (_load(folder / _name(*version)) for version in wanted)
        return [version for version in found if version is not None]

    def _versions(self, folder: Path) -> list[tuple[int, int]]:
        """Return the (epoch, seq) of what is there, newest first."""
        try:
            names = os.listdir(folder)  # noqa: PTH208 - a path for each costs more than the listing
        except FileNotFoundError:
            return []
        found = (_parsed(name) for name in names if name.endswith(_SUFFIX))
        return sorted((version for version in found if version is not None), reverse=True)


def _parsed(name: str) -> tuple[int, int] | None:
    epoch, _, seq = name.removesuffix(_SUFFIX).partition("-")
    return (int(epoch), int(seq)) if epoch.isdecimal() and seq.isdecimal() else None  # else: not one of ours


def _name(epoch: int, seq: int) -> str:
    return f"{epoch}-{seq}{_SUFFIX}"


def _load(path: Path) -> CheckpointVersion | None:
    """Return the version in a file; a damaged one is returned as a bad one, which is refused when it is tried."""
    version = _parsed(path.name)
    if version is None:
        return None
    try:
        plain: dict[str, Any] = msgpack.unpackb(_read(path))
        return CheckpointVersion(**plain)
    except Exception:  # whatever is wrong with it, the one before it is to be tried
        bad = CheckpointVersion.of(path.parent.name, *version, b"")
        return replace(bad, checksum=bad.checksum + 1)


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def _write(path: Path, body: bytes, instead: Path | None = None) -> None:
    """Write a sealed file, whole or not at all; `instead` of another, where one is given."""
    # Nobody else writes this file, in this process: it is on the path of every start, and of durable answers.
    temporary = path.parent / f"{_NEW}{os.getpid()}-{path.name}"
    if instead is not None:
        with contextlib.suppress(FileNotFoundError):  # somebody else has taken it
            instead.replace(temporary)
    handle = _private(str(temporary), os.O_WRONLY | os.O_CREAT)
    try:
        try:
            left = memoryview(_MAGIC + zlib.crc32(body).to_bytes(4, "big") + body)
            # Never to nothing first: ext4 (auto_da_alloc) then waits for the disk when the file is closed.
            os.ftruncate(handle, len(left))
            while left:
                left = left[os.write(handle, left) :]
        finally:
            os.close(handle)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _read(path: Path) -> bytes:
    """Return what `_write` sealed; raise when it is not that any more."""
    data = path.read_bytes()
    seal, body = data[: len(_MAGIC) + 4], data[len(_MAGIC) + 4 :]
    if seal != _MAGIC + zlib.crc32(body).to_bytes(4, "big"):
        raise SuperlearnerError(f"The file {path} is damaged: its checksum is wrong.")
    return body
