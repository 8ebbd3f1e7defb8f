"""What every test of the house gets: a runtime directory of its own, and the proof that nothing is left behind."""

from __future__ import annotations

import atexit
import gc
import os
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, settings

# Set at import, before any test module is loaded: sockets and connection files of the tests must never meet
# those of a cluster that the developer is running. The path is short because Unix sockets allow 107 bytes.
SESSION_DIR = Path(tempfile.mkdtemp(prefix="sl-"))
RUNTIME_DIR = SESSION_DIR / "run"
# Journals outlive their cluster by design, so they are set apart and not counted as left behind.
STATE_DIR = SESSION_DIR / "state"
# A sandbox's environment is scrubbed, but for its temporary folder: that tells whose child it is.
TEMPORARY_DIR = SESSION_DIR / "tmp"
os.environ.setdefault(
    "PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir()
)  # pytest keeps its own beyond this session
for _name, _path in {
    "SUPERLEARNER_RUNTIME_DIR": RUNTIME_DIR,
    "SUPERLEARNER_STATE_DIR": STATE_DIR,
    "TMPDIR": TEMPORARY_DIR,
}.items():
    _path.mkdir(mode=0o700)
    os.environ[_name] = str(_path)
tempfile.tempdir = str(TEMPORARY_DIR)
_OWNER = os.getpid()
# A shell that runs the tests in the background has them ignore what they interrupt themselves with, children included.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# An example takes as long as a shared machine lets it: how fast it is drawn and tried says nothing of what it shows.
settings.register_profile("shared machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared machine")

#: Seconds that what a module has just ended may take to be gone.
GRACE = 10.0

#: Threads that a library keeps for the life of the interpreter; the tests cannot end them.
LASTING_THREADS = ("Dask-Offload", "Dask-Callback")


@atexit.register
def _remove_directories() -> None:
    if os.getpid() == _OWNER:  # not in a forked child
        shutil.rmtree(SESSION_DIR, ignore_errors=True)


def pytest_collection_finish() -> None:
    """Let the collector pass over what was imported: each module is followed by a collection of its own."""
    gc.collect()
    gc.freeze()


def stalled() -> dict[str, float]:
    """Return for how many seconds, since it was started, something on this machine has waited for what it lacked."""
    found = {}
    for pressure in Path("/proc/pressure").glob("*"):  # Linux, where the kernel counts it
        found[pressure.name] = int(pressure.read_text().partition("total=")[2].split()[0]) / 1e6
    with suppress(OSError):
        steal = Path("/proc/stat").read_text().split()[8]
        found["other machines"] = int(steal) / os.sysconf("SC_CLK_TCK")
    return found


_STALLED = pytest.StashKey[tuple[float, dict[str, float]]]()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Note how much has been waited for."""
    item.stash[_STALLED] = time.monotonic(), stalled()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell of a test that fails what the machine was short of meanwhile."""
    report = yield
    if report.failed and _STALLED in item.stash:
        began, before = item.stash[_STALLED]
        lacks = (f"{what} {now - before.get(what, 0.0):.1f} s" for what, now in sorted(stalled().items()))
        told = f"waited for, in {time.monotonic() - began:.1f} s: {', '.join(lacks)}"
        report.sections.append(("The machine", told))
    return report


@pytest.fixture(scope="session")
def runtime_dir() -> Path:
    """The runtime directory of this test session."""
    return RUNTIME_DIR


@pytest.fixture(scope="module")
def lasting() -> bool:
    """Whether a cluster that several modules share runs beside this one; what is its own comes and goes."""
    return False


@pytest.fixture(scope="module", autouse=True)
def nothing_left_behind(lasting: bool) -> Iterator[None]:
    """Fail the module that leaves a process, a thread, a socket, a runtime file or a temporary folder behind."""
    with leaving_nothing(lasting=lasting):
        yield


@pytest.fixture(scope="session", name="leaving_nothing")
def give_leaving_nothing() -> Callable[[], AbstractContextManager[None]]:
    """Give the proof to the fixtures of what several modules share."""
    return leaving_nothing


@contextmanager
def leaving_nothing(*, lasting: bool = False) -> Iterator[None]:
    """Fail when the block leaves something behind; beside a cluster that lasts, only what is in this process counts."""
    threads, sockets, files, folders = (
        set(threading.enumerate()),
        open_sockets(),
        runtime_files(),
        our_folders(),
    )
    processes = {process.pid for process in our_processes()}
    yield
    gc.collect()
    left: list[str] = []
    left += [f"thread {t.name}" for t in wait_for_threads(threads)]
    left += [f"socket {s}" for s in wait_for_sockets(sockets)]
    if not lasting:
        left += [f"process {p}" for p in wait_for_processes(processes)]
        left += [f"runtime file {f}" for f in sorted(runtime_files() - files)]
        left += [f"temporary folder {f}" for f in sorted(our_folders() - folders)]
    assert not left, "These tests left behind: " + "; ".join(left)


def our_processes() -> list[psutil.Process]:
    """Return the living children of the tests, at any depth, and what has been detached from them.

    A detached daemon is nobody's child any more; the session's directory in its environment tells whose it is.
    """
    mine = psutil.Process()
    below = {p.pid: p for p in mine.children(recursive=True)}
    marker = os.fsencode(SESSION_DIR)
    for entry in Path("/proc").glob("[0-9]*/environ"):
        pid = int(entry.parent.name)
        if pid in below or pid == mine.pid:
            continue
        try:
            if marker in entry.read_bytes():
                below[pid] = psutil.Process(pid)
        except (OSError, psutil.NoSuchProcess):
            continue  # somebody else's, or gone since
    return [p for p in below.values() if alive(p)]


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def describe(process: psutil.Process) -> str:
    try:
        return f"{process.pid} ({' '.join(process.cmdline())[:160]})"
    except psutil.Error:
        return str(process.pid)


def wait_for_processes(before: set[int]) -> list[str]:
    """Wait for all new processes; end those that stay, so that they cannot disturb the next module, and name them."""
    new = [p for p in our_processes() if p.pid not in before]
    _, staying = psutil.wait_procs(new, timeout=GRACE)
    staying = [p for p in staying if alive(p)]
    named = [describe(p) for p in staying]
    for process in staying:
        process.kill()
    psutil.wait_procs(staying, timeout=GRACE)
    return named


def wait_for_threads(before: set[threading.Thread]) -> list[threading.Thread]:
    new = [t for t in threading.enumerate() if t not in before and not t.daemon]
    new = [t for t in new if not t.name.startswith(LASTING_THREADS)]
    deadline = time.monotonic() + GRACE
    for thread in new:
        thread.join(timeout=max(0.0, deadline - time.monotonic()))
    return [t for t in new if t.is_alive()]


def open_sockets() -> set[str]:
    """Return this process's sockets, by inode: pytest's own pipes and files come and go, sockets do not."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        try:
            target = str(entry.readlink())
        except OSError:
            continue  # the descriptor of the listing itself
        if target.startswith("socket:"):
            found.add(target)
    return found


def wait_for_sockets(before: set[str]) -> set[str]:
    """Give closing loops a moment: a descriptor tells nobody when it is closed, so this one must look again."""
    deadline = time.monotonic() + GRACE
    while (new := open_sockets() - before) and time.monotonic() < deadline:
        time.sleep(0.05)
        gc.collect()
    return new


def runtime_files() -> set[Path]:
    return {path for path in RUNTIME_DIR.rglob("*") if not path.is_dir()}


def our_folders() -> set[Path]:
    """Return superlearner's temporary folders: those of clusters, nodes and sandboxes."""
    return set(TEMPORARY_DIR.glob("superlearner-*"))
