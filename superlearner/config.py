"""Settings, in Dask's way: defaults in ``superlearner.yaml``, a schema beside it, one reader here.

Never read from ``core``: decisions get their settings as arguments.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path
from typing import Any

import dask.config
import yaml

from superlearner.errors import SuperlearnerError

with (Path(__file__).parent / "superlearner.yaml").open(encoding="utf-8") as _file:
    _defaults = yaml.safe_load(_file)
dask.config.update_defaults(_defaults)


_MISSING = object()


def get(key: str) -> Any:
    """Return the setting ``superlearner.<key>``, such as ``get("telemetry.interval")``."""
    # A `with dask.config.set(...)` that was begun before this module was loaded takes the defaults with it.
    value = dask.config.get(f"superlearner.{key}", _MISSING)
    return dask.config.get(f"superlearner.{key}", config=_defaults) if value is _MISSING else value


def everything() -> dict[str, Any]:
    """Return all settings, for another process that is to have the same."""
    return dict(dask.config.merge(_defaults["superlearner"], dask.config.get("superlearner", {})))


def runtime_dir() -> Path:
    """Return the private directory of connection files; it is made if need be.

    It is ``$SUPERLEARNER_RUNTIME_DIR``, else ``$XDG_RUNTIME_DIR/superlearner``, else
    ``~/.local/state/superlearner/run``.
    """
    if named := os.environ.get("SUPERLEARNER_RUNTIME_DIR"):
        return _private(Path(named), "SUPERLEARNER_RUNTIME_DIR")
    if xdg := os.environ.get("XDG_RUNTIME_DIR"):
        return _private(Path(xdg) / "superlearner", "SUPERLEARNER_RUNTIME_DIR")
    return _private(state_dir() / "run", "SUPERLEARNER_RUNTIME_DIR")


def state_dir() -> Path:
    """Return the private directory of journals; it is made if need be.

    It is ``$SUPERLEARNER_STATE_DIR``, else ``$XDG_STATE_HOME/superlearner``, else ``~/.local/state/superlearner``.
    """
    if named := os.environ.get("SUPERLEARNER_STATE_DIR"):
        return _private(Path(named), "SUPERLEARNER_STATE_DIR")
    home = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return _private(Path(home) / "superlearner", "SUPERLEARNER_STATE_DIR")


def _private(path: Path, variable: str) -> Path:
    """Make `path` with access for its owner only; refuse one that somebody else owns. `variable` names another."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise SuperlearnerError(
            f"The directory {path} cannot be made ({error.strerror}). Set {variable} to a directory of your own."
        ) from None
    status = path.stat()
    if status.st_uid != os.getuid():
        raise SuperlearnerError(
            f"The directory {path} belongs to another user, so keys cannot be kept there. "
            f"Set {variable} to a directory of your own."
        )
    if stat.S_IMODE(status.st_mode) & 0o077:
        path.chmod(0o700)
    return path


def write_private(path: Path, text: str, *, sync: bool = False) -> None:
    """Write a file, whole or not at all, readable by its owner only; `sync`: wait until the disk has it."""
    # mkstemp makes the file 0600 from its first moment.
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            if sync:
                file.flush()
                os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
