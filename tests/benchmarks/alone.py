"""One measurement in a process of its own: nothing that it imports, starts or leaves disturbs the next one."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil

#: Seconds that a measurement may take.
_TIMEOUT = 900.0
#: Seconds that what it started may take to end after it.
_GRACE = 10.0


class MeasurementFailed(Exception):
    """A measurement came to no values; says why in its last line."""


def measure(module: str, function: str, arguments: Sequence[Any], runs: int) -> list[Any]:
    """Return `runs` values of a function that yields one or more each time it is called.

    Its processes are known by their temporary directory, which even those with a scrubbed environment keep.
    """
    with tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True) as directory:
        log = Path(directory, "log")
        command = [sys.executable, __file__, module, function, json.dumps(list(arguments)), str(runs)]
        try:
            with log.open("wb") as errors:
                done = subprocess.run(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    env=os.environ | {"TMPDIR": directory},
                    timeout=_TIMEOUT,
                    check=False,
                )
        except subprocess.TimeoutExpired:
            raise MeasurementFailed(f"it took more than {_TIMEOUT:g} s") from None
        finally:
            _clear(directory)
        if done.returncode != 0:
            lines = log.read_text(errors="replace").strip().splitlines()
            raise MeasurementFailed(lines[-1] if lines else f"it ended with {done.returncode}")
    values: list[Any] = json.loads(done.stdout)
    return values


def _clear(directory: str) -> None:
    """Wait for the processes of a measurement to end; kill those that do not, and name them."""
    _, alive = psutil.wait_procs(_of(directory), timeout=_GRACE)
    for process in alive:
        print(f"left behind and killed: {process}", file=sys.stderr)
        process.kill()
    psutil.wait_procs(alive, timeout=_GRACE)


def _of(directory: str) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        try:
            if process.environ().get("TMPDIR", "").startswith(directory):
                found.append(process)
        except psutil.Error:  # it ended, or belongs to somebody else
            continue
    return found


def _values(
    function: Callable[..., Generator[Any, None, None]], arguments: Sequence[Any], runs: int
) -> list[Any]:
    values: list[Any] = []
    while len(values) < runs:
        before = len(values)
        with closing(function(*arguments)) as measured:
            for value in measured:
                values.append(value)
                if len(values) == runs:
                    break
        if len(values) == before:
            raise MeasurementFailed(f"{function.__name__} yielded nothing")
    return values


def _main(module: str, function: str, arguments: str, runs: str) -> None:
    # What else writes to standard output, as a peer may, must not get between the values.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        warnings.simplefilter("ignore")
        logging.disable(logging.ERROR)
        values = _values(getattr(import_module(module), function), json.loads(arguments), int(runs))
        json.dump(values, answers)


if __name__ == "__main__":
    _main(*sys.argv[1:])
