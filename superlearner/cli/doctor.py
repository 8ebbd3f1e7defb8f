"""``doctor``: what is missing on this machine, and what to do about it."""

from __future__ import annotations

import ctypes
import importlib.metadata
import importlib.util
import os
import shutil
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from superlearner.cli.output import json_option, print_json
from superlearner.views.format import size

#: The request of prctl(2) that asks without changing anything.
PR_GET_CHILD_SUBREAPER = 37


@dataclass(frozen=True, slots=True)
class Check:
    """One finding."""

    name: str
    ok: bool
    #: What was found.
    found: str
    #: What to do when it is not ok.
    advice: str = ""
    #: Whether superlearner cannot work without it.
    needed: bool = True

    def line(self) -> str:
        """Write the finding as one line.

        >>> print(Check("Chromium", ok=False, found="not found", advice="apt-get install it", needed=False).line())
        missing  Chromium: not found (not needed to run) -> apt-get install it
        """
        if self.ok:
            return f"ok       {self.name}: {self.found}"
        optional = "" if self.needed else " (not needed to run)"
        return f"missing  {self.name}: {self.found}{optional} -> {self.advice}"


def python() -> Iterator[Check]:
    """Look at the interpreter."""
    version = ".".join(map(str, sys.version_info[:3]))
    yield Check("Python", sys.version_info >= (3, 11), version, "install Python 3.11 or newer")


def packages() -> Iterator[Check]:
    """Look for every package that superlearner's own metadata names for itself and for the lab."""
    from packaging.requirements import Requirement

    try:
        wanted = importlib.metadata.requires("superlearner") or []
    except importlib.metadata.PackageNotFoundError:
        yield Check(
            "package superlearner",
            ok=False,
            found="not installed",
            advice="run `pip install -e .` in its folder",
        )
        return
    for text in wanted:
        requirement = Requirement(text)
        marker = requirement.marker
        core = marker is None or marker.evaluate({"extra": ""})
        if not core and (marker is None or not marker.evaluate({"extra": "lab"})):
            continue
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            version = ""
        good = bool(version) and requirement.specifier.contains(version, prereleases=True)
        extra = "" if core else "[lab]"
        advice = (
            f'run `{sys.executable} -m pip install "superlearner{extra}"` (wants {requirement.specifier})'
        )
        yield Check(f"package {requirement.name}", good, version or "not installed", advice, needed=core)


def chromium() -> Iterator[Check]:
    """Look for the browser that the browser tests drive."""
    names = ("chromium", "chromium-browser", "google-chrome")
    path = next((found for name in names if (found := shutil.which(name))), None)
    advice = "for the browser tests: apt-get install chromium"
    yield Check("Chromium", path is not None, path or "not found", advice, needed=False)


def machine() -> Iterator[Check]:
    """Look at cores, memory and disk."""
    import psutil

    cores = os.cpu_count() or 1
    yield Check("cores", cores >= 2, str(cores), "it works on one core, but slowly", needed=False)
    memory = psutil.virtual_memory().available
    yield Check("free memory", memory >= 2**30, size(memory), "end other programs, or start fewer nodes")
    disk = shutil.disk_usage(Path.home() if Path.home().exists() else Path.cwd()).free
    yield Check("free disk", disk >= 200 * 2**20, size(disk), "make room in your home directory")


def kernel() -> Iterator[Check]:
    """Look for what keeps sandboxes from outliving their node: /proc and prctl."""
    proc = Path("/proc/self/stat").exists()
    yield Check("/proc", proc, "readable" if proc else "not there", "run on Linux, with /proc mounted")
    try:
        flag = ctypes.c_int()
        works = ctypes.CDLL(None).prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(flag), 0, 0, 0) == 0
    except (OSError, AttributeError):
        works = False
    yield Check(
        "prctl",
        works,
        "works" if works else "refused",
        "run on Linux 3.4 or newer, without a filter on prctl",
    )


def runtime() -> Iterator[Check]:
    """Look whether connection files, which hold keys, are safe where they would be written."""
    from superlearner.config import runtime_dir
    from superlearner.errors import SuperlearnerError

    advice = "set SUPERLEARNER_RUNTIME_DIR to a directory of your own"
    try:
        path = runtime_dir()
        mode = stat.S_IMODE(path.stat().st_mode)
    except (OSError, SuperlearnerError) as error:
        yield Check("runtime directory", ok=False, found=str(error), advice=advice)
        return
    good = os.access(path, os.W_OK | os.X_OK) and not mode & 0o077
    yield Check("runtime directory", good, f"{path} (mode {mode:o})", advice)


def loopback() -> Iterator[Check]:
    """Send a byte from this process to itself over 127.0.0.1."""
    try:
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.settimeout(2.0)
            with (
                socket.create_connection(server.getsockname(), timeout=2.0) as client,
                server.accept()[0] as peer,
            ):
                client.sendall(b"!")
                works, found = peer.recv(1) == b"!", "works"
    except OSError as error:
        works, found = False, str(error)
    yield Check("loopback sockets", works, found, "allow connections to 127.0.0.1")


PROBES: tuple[Callable[[], Iterator[Check]], ...] = (
    python,
    packages,
    machine,
    kernel,
    runtime,
    loopback,
    chromium,
)


def examine() -> list[Check]:
    """Make every check, in order."""
    return [check for probe in PROBES for check in probe()]


@click.command()
@json_option
def doctor(*, as_json: bool) -> None:
    """Tell what is missing on this machine; the exit code is 1 if something needed is."""
    checks = examine()
    healthy = all(check.ok for check in checks if check.needed)
    if as_json:
        print_json({"ok": healthy, "checks": checks})
    else:
        for check in checks:
            click.echo(check.line())
    raise SystemExit(0 if healthy else 1)
