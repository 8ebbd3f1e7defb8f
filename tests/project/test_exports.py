"""The public face: few names, sorted, each there once and documented."""

from __future__ import annotations

import importlib
import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import superlearner as sl

ROOT = Path(__file__).parents[2]


def test_there_are_fewer_than_25_names_and_they_are_sorted():
    names = list(sl.__all__)
    assert len(names) < 25
    assert names == sorted(names)
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("name", sl.__all__)
def test_every_name_exists_and_says_what_it_is(name: str):
    thing = getattr(sl, name)
    if inspect.isclass(thing) or callable(thing):
        assert inspect.getdoc(thing), f"superlearner.{name} has no docstring"
        assert thing.__module__.startswith("superlearner."), (
            f"superlearner.{name} comes from {thing.__module__}"
        )


def test_every_name_is_exported_once():
    # Two public names for one thing would make a reader ask which to use.
    things = [id(getattr(sl, name)) for name in sl.__all__]
    assert len(set(things)) == len(things)


def test_the_names_that_others_rely_on_are_there():
    promised = {
        "Cluster",
        "connect",
        "Resources",
        "Checkpoint",
        "SuperlearnerError",
        "CallTimeout",
        "NoProcess",
    }
    promised |= {"StaleEpoch", "NoQuorum"}
    assert promised <= set(sl.__all__)


def test_an_unknown_name_is_refused_as_by_any_module():
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = sl.no_such_name


def test_dir_lists_the_public_names():
    assert set(sl.__all__) <= set(dir(sl))


def test_a_name_is_imported_when_it_is_used_and_not_before():
    code = "import sys, superlearner; print('distributed' in sys.modules); superlearner.Cluster; print('ok')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.split() == ["False", "ok"]


@pytest.mark.parametrize("package", ["superlearner.otp", "superlearner.testing"])
def test_a_package_face_names_what_it_has(package: str):
    module = importlib.import_module(package)
    missing = [name for name in module.__all__ if not hasattr(module, name)]
    assert not missing
