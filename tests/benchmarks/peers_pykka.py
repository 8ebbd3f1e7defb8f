"""Pykka as a peer: actors that are threads of one process."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pykka


class Echo(pykka.ThreadingActor):
    def on_receive(self, message: Any) -> Any:
        return message


@contextmanager
def _echo() -> Iterator[Any]:
    echo = Echo.start()
    try:
        yield echo
    finally:
        echo.stop()


def ask() -> Iterator[float]:
    with _echo() as echo:
        began = time.perf_counter()
        for _ in range(10_000):
            echo.ask(1)
        yield 10_000 / (time.perf_counter() - began)


def tell() -> Iterator[float]:
    with _echo() as echo:
        began = time.perf_counter()
        for _ in range(50_000):
            echo.tell(1)
        echo.ask(1)  # handled last: the burst has been worked off
        yield 50_000 / (time.perf_counter() - began)
