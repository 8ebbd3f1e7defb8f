"""The object `q`, on a lesson made for the test: nothing is run, events are given."""

from __future__ import annotations

import textwrap

import pytest

from superlearner.core.history import Event
from superlearner.teaching import NoQuestion, Progress, Questions
from superlearner.teaching.lesson import Lesson

TEXT = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
---

# Nine

```{code-cell} ipython3
:tags: [exercise-double]

def double(n):
    ### BEGIN SOLUTION
    return 2 * n
    ### END SOLUTION
    ### BEGIN STARTER
    # return ...
    ### END STARTER
```
"""

CHECK = """\
from superlearner.teaching import Exercise, Mistake, Prediction

def triple(seen):
    return () if seen.answers.get("six") == 9 else None

def right(seen):
    return seen.of("process_exited") if seen.answers.get("six") == 6 else None

QUESTIONS = (
    Exercise("double", "Double it", passed=right, praise="Doubled.", defines="double",
             mistakes=(Mistake("triple", triple, "That is thrice.", "Twice, not thrice.", "x"),),
             hints=("Think of addition.", "n + n")),
    Prediction("next", "What next?", {"back": "It comes back.", "gone": "It is gone."},
               happened=lambda seen: ("back", seen.of("process_restarted")) if seen.of("process_restarted") else None,
               why="Its supervisor saw it."),
)
"""
DIED = Event("process_exited", at=10.0, sandbox="shop", name="counter", reason="<b>boom</b>")
AGAIN = Event("process_restarted", at=10.5, sandbox="shop", name="counter", pid="<alpha.shop.3>")


@pytest.fixture
def q(tmp_path) -> Questions:
    folder = tmp_path / "lessons" / "09_nine"
    folder.mkdir(parents=True)
    (folder / "lesson.md").write_text(TEXT)
    (folder / "check.py").write_text(CHECK)
    return Questions(Lesson(folder), Progress())


def test_a_passed_check_shows_the_evidence_as_text_and_as_html(q):
    shown = q.check("double", events=[DIED], six=6)
    assert shown.outcome == "passed"
    assert repr(shown) == textwrap.dedent("""\
        [passed] Double it
          Doubled.
          What was recorded (real):
            +0.000 s  ✕  shop/counter died (<b>boom</b>).""")
    bundle = shown._repr_mimebundle_()
    assert set(bundle) == {"text/plain", "text/html"}
    assert "&lt;b&gt;boom&lt;/b&gt;" in bundle["text/html"]
    assert "<b>boom" not in bundle["text/html"]


def test_a_known_mistake_earns_its_own_hint_before_the_general_ones(q):
    assert "q.hint()" in repr(q.check("double", six=9))
    shown = [repr(q.hint()) for _ in range(4)]
    assert "Twice, not thrice." in shown[0]
    assert "Hint 1 of 2" in shown[1]
    assert "n + n" in shown[2]
    assert shown[3] == shown[2]
    assert Progress().entry("09_nine", "double").hints == 3


def test_hints_can_be_asked_for_before_anything_was_checked(q):
    assert "Hint 1 of 2" in repr(q.hint("double"))


def test_hint_without_any_question_asks_which_one(q):
    with pytest.raises(NoQuestion, match="double, next"):
        q.hint()


def test_the_solution_is_shown_only_when_it_is_really_wanted(q):
    first = q.solution("double")
    assert "return 2 * n" not in repr(first)
    assert 'q.solution("double", reveal=True)' in repr(first)
    assert "return 2 * n" in repr(q.solution("double", reveal=True))
    assert Progress().entry("09_nine", "double").revealed


def test_a_prediction_is_asked_answered_and_compared(q):
    assert '"back": It comes back.' in repr(q.predict("next", ...))
    assert q.check("next", events=[AGAIN]).outcome == "not tried"
    assert "not one of the choices" in repr(q.predict("next", "maybe"))
    q.predict("next", "gone")
    assert q.check("next").outcome == "not tried"
    wrong = q.check("next", events=[DIED, AGAIN])
    assert wrong.outcome == "wrong"
    assert "runs again" in repr(wrong)
    q.predict("next", "back")
    assert q.check("next", events=[AGAIN]).outcome == "passed"


def test_a_prediction_has_no_solution_but_the_cluster(q):
    assert "cluster itself" in repr(q.solution("next", reveal=True))


class FakeCluster:
    """Records one event more each time it is asked, and tells its subscribers."""

    def __init__(self, events):
        self.left = list(events)
        self.recorded = []
        self.handlers = []

    def subscribe(self, handler):
        self.handlers.append(handler)
        return lambda: self.handlers.remove(handler)

    def events(self, sandbox=None):
        answer = list(self.recorded)
        if self.left:
            self.recorded.append(self.left.pop(0))
            for handler in self.handlers:
                handler(self.recorded[-1])
        return answer


def test_an_event_that_is_still_on_its_way_is_waited_for(q):
    cluster = FakeCluster([DIED, AGAIN])
    q.predict("next", "back")
    assert q.check("next", cluster=cluster, sandbox="shop").outcome == "passed"
    assert cluster.handlers == []


def test_the_lesson_goes_on_with_the_worked_one_until_the_own_one_has_passed(q, capsys):
    def mine(n):
        return n

    assert q.use("double", mine)(3) == 6
    assert "has not passed" in capsys.readouterr().out
    q.check("double", six=6)
    assert q.use("double", mine) is mine


def test_a_question_that_the_lesson_does_not_have_names_those_it_has(q):
    for ask in (q.check, q.predict, q.solution, q.hint):
        with pytest.raises(NoQuestion, match="double, next"):
            ask("treble")
    with pytest.raises(NoQuestion, match=r"q\.check"):
        q.predict("double", "x")


def test_progress_is_kept_across_notebooks(q):
    q.check("double", six=6)
    shown = repr(Questions(q.lesson, Progress()).progress())
    assert "1 of 2 done" in shown
    assert "passed: Double it" in shown
    assert "not tried: What next?" in shown


def test_a_progress_file_that_cannot_be_written_does_not_stop_the_check(q, tmp_path):
    (tmp_path / "a_file").write_text("")
    q = Questions(q.lesson, Progress(tmp_path / "a_file" / "progress.json"))
    shown = q.check("double", six=6)
    assert shown.outcome == "passed"
    assert "could not be saved" in repr(shown)
