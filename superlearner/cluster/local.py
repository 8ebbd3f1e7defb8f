"""A cluster on this machine: start its daemon, find it by its connection file, stop it.

The daemon is one process that runs the Dask scheduler and looks after the nodes. Notebooks, scripts and
commands all start it in the same way, so sandboxes outlive the kernel that made them. The connection
file holds the keys of the cluster's TLS; it is private to its owner.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import IO, Any

import psutil
from distributed import Security

from superlearner import config
from superlearner.cluster.faulty import plain_address
from superlearner.cluster.locks import locked
from superlearner.cluster.state_dir import StateDirectory
from superlearner.errors import ClusterNotFound, SuperlearnerError

_TLS_FIELDS = (
    "tls_ca_file",
    "tls_client_key",
    "tls_client_cert",
    "tls_scheduler_key",
    "tls_scheduler_cert",
    "tls_worker_key",
    "tls_worker_cert",
)


#: What the last words of a daemon begin with that has refused to start: a sentence, not a traceback.
REFUSED = "refused: "


class DaemonFailed(SuperlearnerError):
    """The local cluster could not start; nothing of it is left."""

    code = "daemon_failed"
    advice = "`superlearner doctor` tells what this machine lacks."


class AlreadyRuns(DaemonFailed):
    """The shared local cluster runs already; no other was started.

    Parameters
    ----------
    pid
        Its daemon.
    """

    code = "already_runs"
    advice = "connect() to it, or end it with `superlearner stop`."

    def __init__(self, pid: int = 0) -> None:
        super().__init__(pid)
        self.pid = pid

    def what(self) -> str:
        """Say what happened."""
        return f"A local cluster runs already (process {self.pid}); no other was started."


@dataclass(frozen=True)
class Connection:
    """How to reach a local cluster: what its connection file holds."""

    address: str
    pid: int
    #: When the daemon was started, as the operating system tells it: tells a reused pid apart.
    started: float
    nodes: tuple[str, ...]
    #: The keys, as PEM text.
    tls: dict[str, str] = field(repr=False)
    #: The URL of Dask's own dashboard, where it is served.
    dashboard: str | None = None
    #: Where it is kept; None for a cluster that belongs to one process.
    path: str | None = None
    #: Where its processes keep their temporary files.
    directory: str | None = None
    #: Where it keeps its sandboxes beyond its own end; None: in its temporary files.
    state: str | None = None

    @property
    def security(self) -> Security:
        """Dask's security object for it."""
        return security_from(self.tls)

    @property
    def plain_address(self) -> str:
        """Its address in the form that any Dask client understands."""
        return plain_address(self.address)

    @property
    def alive(self) -> bool:
        """Whether the daemon's process is still there."""
        return _process(self) is not None

    def save(self, path: Path) -> None:
        """Write the connection file, whole or not at all, readable by its owner only."""
        config.write_private(path, json.dumps(asdict(self)))

    def forget(self) -> None:
        """Remove the files of a cluster that has ended: a daemon that was killed could not do so itself."""
        if self.path:
            Path(self.path).unlink(missing_ok=True)
        if self.directory:
            shutil.rmtree(self.directory, ignore_errors=True)

    @classmethod
    def parse(cls, text: str) -> Connection:
        """Read what `save` wrote; raise ValueError, TypeError or KeyError when it is anything else."""
        plain: dict[str, Any] = json.loads(text)
        read = cls(**{**plain, "nodes": tuple(plain["nodes"])})
        kinds = {"address": str, "pid": int, "started": float, "tls": dict}
        if not all(isinstance(getattr(read, name), kind) for name, kind in kinds.items()):
            raise TypeError("a field is of another type")
        return read


def security_from(tls: dict[str, str]) -> Security:
    """Return the Dask security object with these keys."""
    return Security(require_encryption=True, **tls)


def tls_of(security: Security) -> dict[str, str]:
    """Return the keys of a Dask security object, for a connection file."""
    return {name: getattr(security, name) for name in _TLS_FIELDS}


def connection_path() -> Path:
    """Return where the connection file of the shared local cluster is kept."""
    return config.runtime_dir() / "cluster.json"


def journal_path() -> Path:
    """Return where the event log of the shared local cluster is kept, also when it has ended."""
    return config.state_dir() / "journal.sqlite"


def state_path() -> Path:
    """Return where the shared local cluster keeps its sandboxes and their checkpoints, also when it was killed."""
    return config.state_dir() / "cluster"


def find_connection() -> Connection | None:
    """Return the shared local cluster that runs now; what a dead one left behind is removed."""
    path = connection_path()
    try:
        with path.open(encoding="utf-8") as file:
            if os.fstat(file.fileno()).st_uid != os.getuid():
                # Whoever wrote it could have us run their code.
                raise ClusterNotFound(f"The connection file {path} belongs to another user; remove it.")
            connection = Connection.parse(file.read())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ClusterNotFound(
            f"The connection file {path} cannot be read ({_why_unreadable(error)}); remove it."
        ) from None
    if connection.alive:
        return connection
    path.unlink(missing_ok=True)
    connection.forget()
    return None


def _why_unreadable(error: Exception) -> str:
    """Say what is wrong with a connection file, without a word of what stands in it: it holds keys."""
    if isinstance(error, OSError):
        return str(error.strerror)
    return "it is cut off, or none of superlearner's"


def start_daemon(
    nodes: Sequence[str],
    *,
    detached: bool,
    dashboard: bool | None = None,
    labels: Mapping[str, Mapping[str, str]] | None = None,
    timeout: float | None = None,
    abort: int | None = None,
) -> Connection:
    """Start a local cluster with `nodes` and wait until each of them is ready.

    Parameters
    ----------
    nodes
        Their names.
    detached
        True: it is *the* shared local cluster, found by its connection file, and runs until it is stopped.
        False: it belongs to this process and ends with it.
    dashboard
        Whether to serve Dask's dashboard; by default the setting ``superlearner.dashboard``.
    labels
        The labels of the nodes that have other ones than the setting ``superlearner.labels``.
    timeout
        Seconds until it must be ready; by default the setting ``superlearner.start-timeout``.
    abort
        A descriptor that becomes readable when the start is called off, for a start in another thread.

    Raises
    ------
    DaemonFailed
        It could not start; the message ends with what it said. Nothing is left running.
    """
    begin = partial(_start, nodes, labels=labels or {}, dashboard=dashboard, timeout=timeout, abort=abort)
    if not detached:
        return begin(detached=False)
    # Two who start it in the same instant: the second waits, and finds that of the first.
    with locked(config.state_dir() / "starting.lock", wait=True, abort=abort):
        if running := find_connection():
            raise AlreadyRuns(running.pid)
        return begin(detached=True)


def _start(
    nodes: Sequence[str],
    *,
    detached: bool,
    labels: Mapping[str, Mapping[str, str]],
    dashboard: bool | None,
    timeout: float | None,
    abort: int | None,
) -> Connection:
    ready_read, ready_write = os.pipe()
    settings = {
        "nodes": list(nodes),
        "labels": {name: dict(own) for name, own in labels.items()},
        "path": str(connection_path()) if detached else None,
        "dashboard": config.get("dashboard") if dashboard is None else dashboard,
        "journal": str(journal_path()) if detached else None,
        "state": str(state_path()) if detached else None,
        "ready": ready_write,
        "config": config.everything(),
    }
    log = tempfile.TemporaryFile()  # noqa: SIM115 - it is the daemon's stderr for as long as that lives
    with log:
        daemon = subprocess.Popen(
            [sys.executable, "-m", "superlearner.cluster.guardian", json.dumps(settings)],
            # An owned daemon ends when its standard input does, that is with its owner, however that ends.
            stdin=subprocess.DEVNULL if detached else subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=log,
            pass_fds=(ready_write,),
            start_new_session=True,
        )
        os.close(ready_write)
        try:
            seconds = config.get("start-timeout") if timeout is None else timeout
            connection = Connection.parse(_await_ready(ready_read, seconds, daemon, log, abort))
        except BaseException:
            _end(daemon)
            raise
        finally:
            os.close(ready_read)
    _daemons[connection.pid] = daemon
    return connection


#: The daemons that this process started: their parent must reap them, and holds the owned ones' standard input.
_daemons: dict[int, subprocess.Popen[bytes]] = {}


def stop_daemon(connection: Connection, timeout: float = 20.0) -> None:
    """End a local cluster and wait until all its processes are gone; one that is gone already is fine."""
    daemon = _daemons.pop(connection.pid, None)
    process = _process(connection)
    if process is not None:
        _end_family(process, timeout)
    if daemon is not None:
        if daemon.stdin:
            daemon.stdin.close()
        daemon.wait()
    connection.forget()
    if connection.state:
        # It was stopped, not killed: its sandboxes end with it.
        StateDirectory(connection.state).clear()


def _process(connection: Connection) -> psutil.Process | None:
    """Return the daemon's process, unless it has ended or its pid belongs to another by now."""
    try:
        process = psutil.Process(connection.pid)
        if abs(process.create_time() - connection.started) > 1 or _is_zombie(process):
            return None
    except psutil.NoSuchProcess:
        return None
    return process


def _await_ready(
    descriptor: int, timeout: float, daemon: subprocess.Popen[bytes], log: IO[bytes], abort: int | None
) -> str:
    """Return what a daemon says when it is ready; raise `DaemonFailed` when it ends or takes too long."""
    deadline, received = time.monotonic() + timeout, b""
    watched = [descriptor] if abort is None else [descriptor, abort]
    while ready := select.select(watched, [], [], max(0.0, deadline - time.monotonic()))[0]:
        if abort in ready:
            raise DaemonFailed("The start of the local cluster was called off.")
        chunk = os.read(descriptor, 65536)
        if chunk:
            received += chunk
        elif received:
            return received.decode()
        else:
            daemon.wait(10)
            log.seek(0)
            said = log.read()[-2000:].decode(errors="replace").strip()
            if said.startswith(REFUSED):
                raise DaemonFailed(said.removeprefix(REFUSED))
            raise DaemonFailed(f"The local cluster could not start. Its daemon said: {said or 'nothing'}.")
    raise DaemonFailed(f"The local cluster was not ready within {timeout:g} s.")


def _end(daemon: subprocess.Popen[bytes]) -> None:
    """End a daemon that is not wanted any more."""
    with contextlib.suppress(psutil.NoSuchProcess):
        _end_family(psutil.Process(daemon.pid), timeout=10)
    daemon.wait()
    if daemon.stdin:
        daemon.stdin.close()


def _end_family(process: psutil.Process, timeout: float) -> None:
    """End a process with all below it: politely, so that it takes its nodes along, else by force."""
    family = [process, *process.children(recursive=True)]
    process.terminate()
    alive = _await_end(family, timeout)
    for left in alive:
        with contextlib.suppress(psutil.NoSuchProcess):
            left.kill()
    _await_end(alive, 5)


def _await_end(processes: list[psutil.Process], timeout: float) -> list[psutil.Process]:
    """Wait until all have ended; return those that have not.

    One that has ended stays in the list of processes until its parent, a notebook's kernel perhaps, asks for it.
    """
    deadline = time.monotonic() + timeout
    while processes and time.monotonic() < deadline:
        _, alive = psutil.wait_procs(processes, timeout=0.05)
        processes = [process for process in alive if not _is_zombie(process)]
    return processes


def _is_zombie(process: psutil.Process) -> bool:
    try:
        return bool(process.status() == psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True
