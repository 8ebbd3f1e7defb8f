"""What travels between a client and a sandbox's processes, as bytes.

Only the two ends read a payload; scheduler, worker and instance carry it unread. Plain pickle comes first,
since it is several times as fast; cloudpickle serves what plain pickle cannot carry: lambdas, and what is
defined in a notebook cell or in a module beside it, which the other side could not import.

>>> loads(dumps({"answer": 42}))
{'answer': 42}
>>> loads(dumps(lambda x: x + 1))(41)
42
"""

from __future__ import annotations

import contextlib
import functools
import os
import pickle
import re
import sys
import sysconfig
import threading
import traceback
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle

from superlearner.errors import NotSerializable, ProcessDied, SuperlearnerError, in_words
from superlearner.otp.messages import explain
from superlearner.sandbox.culprit import culprit

#: The longest text of an exception, or of its traceback, that travels.
LONGEST_TEXT = 64 * 1024
_PROTOCOL = 5
#: What names no class, and so no module that would have to travel by value.
_NAMELESS = frozenset({bool, bytes, float, int, str, type(None)})
_PACKAGE = str(Path(__file__).parents[1])


def dumps(value: Any, what: str = "the request") -> bytes:
    """Serialise a value for the other side of a sandbox's wall.

    Parameters
    ----------
    value
        Anything picklable; classes and functions of a notebook, or of a module beside it, travel by value.
    what
        What it is, for the error message.

    Raises
    ------
    NotSerializable
        When neither pickle nor cloudpickle can carry it.
    """
    try:
        data = pickle.dumps(value, _PROTOCOL)
    except Exception:
        # Plain pickle refuses lambdas and local classes: cloudpickle has the last word and the better reason.
        return _by_value(value, what)
    if type(value) in _NAMELESS:
        return data
    # A false alarm (the text "__main__" in a message) only costs the slower way.
    return _by_value(value, what) if _local_names().search(data) else data


def loads(data: bytes | memoryview, what: str = "the message") -> Any:
    """Rebuild a value from `dumps`.

    Raises
    ------
    NotSerializable
        When it needs a module or a class that is missing here, or fails to rebuild itself.
    """
    try:
        return pickle.loads(data)
    except Exception as error:
        raise NotSerializable(what, f"it cannot be rebuilt here: {_one_line(error)}") from error


def dumps_error(error: BaseException, what: str = "the error") -> bytes:
    """Serialise an exception with its cause and its traceback (as a note), so that `loads` gives it back.

    An exception that cannot travel becomes a `SuperlearnerError` with its text; texts are cut at
    64 KiB. This never raises.
    """
    cause = error.__cause__
    # One of our own sentences says it all; where in our code it was raised would only bury it.
    told = cause is None and isinstance(error, SuperlearnerError)
    note = "" if told else _traceback_note(cause if cause is not None else error)
    for candidate, its_cause in ((error, cause), (error, None), (_as_text(error), None)):
        data = _try_error(candidate, its_cause, note, what)
        if data is not None:
            return data
    return pickle.dumps(SuperlearnerError(f"{type(error).__name__} (its text could not be read)."), _PROTOCOL)


def _try_error(error: BaseException, cause: BaseException | None, note: str, what: str) -> bytes | None:
    try:
        if len(str(error)) > LONGEST_TEXT:
            error = _shortened(error)
        if cause is not None and len(str(cause)) > LONGEST_TEXT:
            cause = _shortened(cause)
        data = dumps(_Raised(error, cause, note), what)
        # An exception whose __init__ wants other arguments than its args pickles well and fails to load.
        return data if isinstance(pickle.loads(data), BaseException) else None
    except Exception:
        # The next, plainer candidate is tried; the last one always serialises.
        return None


class _Raised:
    """Pickles as the exception itself, with the cause and the note that plain pickle would drop."""

    def __init__(self, error: BaseException, cause: BaseException | None, note: str) -> None:
        self.parts = (error, cause, note)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, self.parts


def _rebuild(error: BaseException, cause: BaseException | None, note: str) -> BaseException:
    error.__cause__ = cause
    notes = getattr(error, "__notes__", ())
    if note and note not in notes:
        error.add_note(note)
    return error


def _traceback_note(error: BaseException) -> str:
    if error.__traceback__ is None:
        return ""
    frames = traceback.extract_tb(error.__traceback__)
    # The way through our own code to the first line of the user's says nothing to the user.
    users = [number for number, frame in enumerate(frames) if not frame.filename.startswith(_PACKAGE)]
    lines = "".join(traceback.format_list(frames[users[0] if users else -1 :]))
    return cut("In the sandbox (most recent call last):\n" + lines.rstrip())


def _shortened(error: BaseException) -> BaseException:
    """Return an error of the same class with less text, where it takes nothing but a text."""
    if isinstance(error, ProcessDied):
        return ProcessDied(cut(in_words(error.reason)), error.target)
    match error.args:
        case (str(text),):
            return type(error)(cut(text))
    return _as_text(error)


def _as_text(error: BaseException) -> BaseException:
    text = cut(_one_line(error))
    return ProcessDied(text) if isinstance(error, ProcessDied) else SuperlearnerError(text)


def _one_line(error: BaseException) -> str:
    try:
        return f"{type(error).__name__}: {error}".removesuffix(": ")
    except Exception:
        # A broken __str__ of the user's class must not hide which class it was.
        return f"{type(error).__name__} (its text could not be read)"


def cut(text: str, longest: int = LONGEST_TEXT) -> str:
    """Return `text`, or its beginning with a word on how much is missing.

    >>> cut("abcdef", 3)
    'abc... (3 more characters)'
    """
    return text if len(text) <= longest else f"{text[:longest]}... ({len(text) - longest} more characters)"


# -- By value -----------------------------------------------------------------------------------------

_lock = threading.Lock()
_known_modules = 0
_local_modules: dict[str, ModuleType] = {}
_pattern = re.compile(b"")
_travels = True


def keep_modules_here() -> None:
    """Make this process, a host, pickle modules by reference: what it could import, its clients have too.

    What reached a host by value still leaves it by value, since plain pickle cannot find it.
    """
    global _travels, _known_modules  # a property of the whole OS process, set once
    _travels, _known_modules = False, 0


def _by_value(value: Any, what: str) -> bytes:
    with _lock:
        _local_names()
        # Registered for this one dump: Dask, in the same process, keeps its own ways.
        mine = [
            m for name, m in _local_modules.items() if name not in cloudpickle.list_registry_pickle_by_value()
        ]
        for module in mine:
            cloudpickle.register_pickle_by_value(module)
        try:
            return cloudpickle.dumps(value, _PROTOCOL)  # type: ignore[no-any-return]
        except Exception as error:
            explain(error)
            reason = _one_line(error)
            if where := culprit(value, functools.partial(cloudpickle.dumps, protocol=_PROTOCOL)):
                reason += f" (it is at {where})"
            # Without the pickler's own traceback, which is long and says no more.
            raise NotSerializable(what, reason) from None
        finally:
            for module in mine:
                cloudpickle.unregister_pickle_by_value(module)


def _local_names() -> re.Pattern[bytes]:
    """Return what finds the names of modules that the other side cannot import."""
    global _known_modules, _pattern  # noqa: PLW0603 - a cache, remade when modules were imported
    if len(sys.modules) != _known_modules:
        modules = dict(sys.modules)
        _local_modules.clear()
        _local_modules.update(_local_among(modules) if _travels else {})
        names = (name.encode() for name in ("__main__", "__mp_main__", *_local_modules))
        # As pickle writes a module's name: one opcode, its length, its text; other text hardly matches.
        _pattern = re.compile(
            b"|".join(re.escape(b"\x8c%c%s" % (len(name), name)) for name in names if len(name) < 256)
        )
        _known_modules = len(modules)
    return _pattern


def _local_among(modules: Mapping[str, ModuleType]) -> dict[str, ModuleType]:
    folders = _here()
    # An environment that holds the notebook itself (a home made of one) says nothing about the modules in it.
    roots = (root for root in _PREFIXES if not any(_below(here, (root,)) for here in folders))
    # Compared as text: a process has thousands of modules, and each path object costs more than all the rest.
    local, installed = _prefixes(folders), _prefixes((*_INSTALLED, *roots))
    found = {}
    for name, module in modules.items():
        file = getattr(module, "__file__", None)
        here = isinstance(file, str) and file.startswith(local) and not file.startswith(installed)
        if here and name.split(".", maxsplit=1)[0] not in ("superlearner", "__main__", "__mp_main__"):
            found[name] = module
    return found


def _prefixes(folders: Iterable[Path]) -> tuple[str, ...]:
    return tuple(str(folder).rstrip(os.sep) + os.sep for folder in folders)


def _here() -> tuple[Path, ...]:
    main = getattr(sys.modules.get("__main__"), "__file__", None)
    folders: tuple[Path, ...] = ()
    # The folder may have been removed under the process: then nothing lies below it.
    with contextlib.suppress(FileNotFoundError):
        folders = (Path.cwd(),)
    if isinstance(main, str):
        folders = (*folders, Path(main).resolve().parent)
    # What this process has put on its path by itself, a node has not.
    installed = (*_INSTALLED, *_PREFIXES)
    entries = (Path(entry) for entry in sys.path if entry)
    added = (e for e in entries if e not in _configured() and not _below(e / "module", installed))
    return (*folders, *added)


@functools.cache
def _configured() -> frozenset[Path]:
    """Return the folders that every Python of this environment has on its path, editable installations too."""
    named = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    for folder in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for file in Path(folder).glob("*.pth"):
            named += file.read_text(encoding="utf-8", errors="replace").splitlines()
    return frozenset(Path(line) for line in named if line and Path(line).is_absolute())


def _below(path: Path, roots: tuple[Path, ...]) -> bool:
    return any(root in path.parents for root in roots)


_INSTALLED = tuple(
    Path(folder)
    for folder in {
        *(sysconfig.get_path(key) for key in ("stdlib", "platstdlib", "purelib", "platlib")),
        *(str(Path(p)) for p in sys.path if "site-packages" in p or "dist-packages" in p),
    }
    if folder
)
_PREFIXES = tuple({Path(sys.prefix), Path(sys.base_prefix)})
