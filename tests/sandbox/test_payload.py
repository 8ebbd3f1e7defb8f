"""Values cross the wall of a sandbox, by reference or by value as their home demands."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
import threading
from fractions import Fraction

import pytest

from superlearner.core.spec import Resources
from superlearner.errors import NoProcess, NotSerializable, ProcessDied, SuperlearnerError
from superlearner.otp import Exit
from superlearner.sandbox.payload import LONGEST_TEXT, dumps, dumps_error, loads


class Shelf:
    def __init__(self, books):
        self.books = books


def double(x):
    return 2 * x


@pytest.mark.parametrize(
    "value", [None, 1, "text", ("a", [1, {"b": 2.5}]), Fraction(1, 3), Resources(memory=4096)]
)
def test_plain_values_and_library_objects_go_by_reference(value):
    assert loads(dumps(value)) == value
    assert dumps(value) == pickle.dumps(value, 5)


def test_what_is_defined_beside_the_notebook_can_be_read_where_its_module_is_missing():
    program = "import sys, pickle; print(pickle.load(sys.stdin.buffer)(21))"
    done = subprocess.run(
        [sys.executable, "-c", program], input=dumps(double), capture_output=True, check=True
    )
    assert done.stdout == b"42\n"


def test_a_class_that_travelled_by_value_comes_home_as_itself():
    assert type(loads(dumps(Shelf([1])))) is Shelf


def test_what_cannot_travel_says_what_and_why():
    with pytest.raises(NotSerializable, match=r"the request.*lock"):
        dumps(threading.Lock())
    with pytest.raises(NotSerializable, match="cannot be rebuilt here: ModuleNotFoundError"):
        loads(b"cnowhere\nthing\n.")


def test_an_error_keeps_its_cause_and_its_traceback():
    error = ProcessDied("it crashed", "counter")
    with pytest.raises(KeyError) as caught:
        {}["shelf"]
    error.__cause__ = caught.value
    back = loads(dumps_error(error))
    assert (type(back), back.reason, back.target) == (ProcessDied, "it crashed", "counter")
    assert isinstance(back.__cause__, KeyError)
    assert "test_an_error_keeps" in back.__notes__[0]


class Picky(Exception):
    def __reduce__(self):
        return _never, ()


def _never():
    raise TypeError("it cannot be rebuilt")


class Mute(Exception):
    def __str__(self):
        raise RuntimeError("broken")


def test_an_error_that_cannot_be_rebuilt_travels_as_its_text():
    back = loads(dumps_error(Picky("1 and 2")))
    assert type(back) is SuperlearnerError
    assert "Picky: 1 and 2" in str(back)


@pytest.mark.parametrize(
    "error", [Mute(), ValueError(threading.Lock()), KeyError("x" * 10_000_000)], ids=type
)
def test_every_error_can_travel(error):
    data = dumps_error(error)
    assert isinstance(loads(data), BaseException)
    assert len(data) < 4 * LONGEST_TEXT


def test_a_long_error_keeps_its_class_and_says_once_that_somebody_died():
    error = ProcessDied(Exit(ValueError("x" * 10_000_000), "..."), "counter")
    error.__cause__ = error.reason.reason
    back = loads(dumps_error(error))
    assert str(back).startswith("'counter' died before it answered: ValueError: xxx")
    assert str(back).count("died before") == 1
    assert "more characters)" in str(back)
    assert type(back.__cause__) is ValueError
    assert len(str(back.__cause__)) < 2 * LONGEST_TEXT


def test_our_own_errors_travel_as_they_are():
    assert str(loads(dumps_error(NoProcess("shop/counter")))) == str(NoProcess("shop/counter"))


def test_a_module_of_a_folder_that_was_put_on_the_path_travels_by_value(tmp_path, monkeypatch):
    (tmp_path / "elsewhere_module.py").write_text("def triple(x):\n    return 3 * x\n")
    monkeypatch.syspath_prepend(tmp_path)
    triple = importlib.import_module("elsewhere_module").triple
    program = "import sys, pickle; print(pickle.load(sys.stdin.buffer)(14))"
    done = subprocess.run(
        [sys.executable, "-c", program], input=dumps(triple), capture_output=True, check=True
    )
    assert done.stdout == b"42\n"
