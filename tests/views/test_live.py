"""The updater: one writer, no busy polling, and nothing left behind."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from superlearner.core.history import Event
from superlearner.views.live import Live

NEVER = 3600.0


class Probe:
    """Counts what a `Live` does, and on which threads; each count can be awaited."""

    def __init__(self, live_options: dict[str, Any]) -> None:
        self.changed = threading.Condition()
        self.looks: list[str] = []
        self.draws: list[str] = []
        self.troubles: list[BaseException] = []
        self.handlers: list[Callable[[Event], None]] = []
        self.live = Live(self.look, self.draw, self.trouble, self.subscribe, **live_options)

    def note(self, where: list[Any], what: Any) -> None:
        with self.changed:
            where.append(what)
            self.changed.notify_all()

    def look(self) -> None:
        self.note(self.looks, threading.current_thread().name)

    def draw(self) -> None:
        self.note(self.draws, threading.current_thread().name)

    def trouble(self, error: BaseException) -> None:
        self.note(self.troubles, error)

    def subscribe(self, handler: Callable[[Event], None]) -> Callable[[], None]:
        self.handlers.append(handler)
        return lambda: self.handlers.remove(handler)

    def wait(self, condition: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(condition, timeout=5.0)


@pytest.fixture
def probe():
    probe = Probe({"every": NEVER, "gather": 0.01})
    before = threading.active_count()
    probe.live.start()
    yield probe
    probe.live.close()
    assert not probe.handlers
    assert threading.active_count() == before


def test_an_event_leads_to_a_look_and_then_to_a_drawing_on_threads_of_their_own(probe):
    probe.handlers[0](Event("process_exited"))
    probe.wait(lambda: bool(probe.draws))
    assert probe.looks == ["superlearner-looker"]
    assert set(probe.draws) == {"superlearner-writer"}


def test_a_burst_of_events_is_gathered_into_few_looks(probe):
    for _ in range(1000):
        probe.handlers[0](Event("process_exited"))
    probe.wait(lambda: bool(probe.draws))
    assert 1 <= len(probe.looks) < 100


def test_without_events_nothing_is_asked(probe):
    probe.live.draw()
    probe.wait(lambda: bool(probe.draws))
    assert probe.looks == []


def test_without_events_it_looks_in_its_rhythm():
    probe = Probe({"every": 0.01})
    probe.live.start()
    probe.wait(lambda: len(probe.looks) >= 3)
    probe.live.close()


def test_work_is_done_in_order_on_the_worker(probe):
    done: list[Any] = []
    for number in range(3):
        probe.live.do(lambda n=number: probe.note(done, (n, threading.current_thread().name)))
    probe.wait(lambda: len(done) == 3)
    assert done == [(n, "superlearner-worker") for n in range(3)]


def test_drawing_goes_on_while_the_cluster_does_not_answer():
    answers, asked = threading.Event(), threading.Event()
    probe = Probe({"every": NEVER, "gather": 0.0})

    def slow() -> None:
        asked.set()
        answers.wait(5.0)

    probe.live._look = slow
    probe.live.start()
    probe.live.look()
    assert asked.wait(5.0)
    probe.live.draw()
    probe.wait(lambda: bool(probe.draws))
    answers.set()
    probe.live.close()


def test_an_error_is_told_and_ends_nothing(probe):
    def fail() -> None:
        raise ValueError("broken")

    probe.live.do(fail)
    probe.wait(lambda: bool(probe.troubles))
    assert str(probe.troubles[0]) == "broken"
    done: list[Any] = []
    probe.live.do(lambda: probe.note(done, "still here"))
    probe.wait(lambda: bool(done))


def test_closing_twice_and_from_its_own_worker_is_safe(probe):
    closed = threading.Event()

    def close() -> None:
        probe.live.close()
        closed.set()

    probe.live.do(close)
    assert closed.wait(5.0)
    probe.live.close()
    assert probe.live.closed
    for thread in probe.live._threads:
        thread.join(5.0)


def test_work_put_after_the_end_is_not_kept(probe):
    probe.live.close()
    probe.live.do(lambda: probe.note(probe.draws, "late"))
    assert probe.live._work.qsize() <= 1


def test_a_close_look_that_takes_long_keeps_neither_looks_nor_drawings_waiting():
    entered, go_on = threading.Event(), threading.Event()

    def peek() -> None:
        entered.set()
        go_on.wait(5.0)

    probe = Probe({"every": NEVER, "gather": 0.01, "peek": peek})
    probe.live.start()
    probe.live.look()
    assert entered.wait(5.0)
    looks, draws = len(probe.looks), len(probe.draws)
    probe.live.look()
    probe.wait(lambda: len(probe.looks) > looks and len(probe.draws) > draws)
    go_on.set()
    probe.live.close()


def test_what_is_urgent_does_not_wait_for_what_is_not(probe):
    healed = threading.Event()
    probe.live.do(lambda: healed.wait(8.0))
    probe.live.do(healed.set, urgent=True)
    assert healed.wait(5.0)


def test_a_look_that_does_not_come_back_is_late_and_that_is_drawn_until_it_does(monkeypatch):
    monkeypatch.setattr("superlearner.views.live.LATE", 0.05)
    answered = threading.Event()
    probe = Probe({"every": NEVER, "gather": 0.01})
    probe.live._look = lambda: answered.wait(5.0)
    shown = []
    probe.live._draw = lambda: probe.note(shown, probe.live.late)
    probe.live.start()
    probe.live.look()
    probe.wait(lambda: True in shown)
    answered.set()
    probe.wait(lambda: not shown[-1])
    probe.live.close()
