"""The object `q` in a lesson's notebook: predict, check, hint, solution.

>>> import superlearner.teaching as teaching
>>> q = teaching.lesson("01")                                                   # doctest: +SKIP
>>> q.predict("process", "fresh")                                               # doctest: +SKIP
>>> q.check("counter", Counter)                                                 # doctest: +SKIP

Whatever the learner's code does, these methods answer; they raise only when the notebook's own text asks for
a question that its lesson does not have.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from superlearner.core.history import Event
from superlearner.errors import SuperlearnerError
from superlearner.teaching.check import Exercise, Observation, Prediction, Verdict, compare, judge
from superlearner.teaching.lesson import Lesson, find_lesson
from superlearner.teaching.observe import observe_events, observe_here, observe_on
from superlearner.teaching.program import run_source, standalone
from superlearner.teaching.progress import Progress
from superlearner.teaching.show import Shown, show_note, show_verdict


class NoQuestion(SuperlearnerError, LookupError):
    """The lesson has no exercise or prediction of that id."""

    code = "no_question"
    advice = "The ids stand in the lesson's check.py."


def lesson(name: str, *, progress: Progress | None = None) -> Questions:
    """Return the questions of one lesson, found as `find_lesson` says.

    Parameters
    ----------
    name
        The lesson's folder name, such as ``"01_a_process_that_dies"``, or its number.
    progress
        Where to note what was done. Default: the learner's own file.

    Raises
    ------
    LessonNotFound
        If there is no such lesson; the message says where it was looked for.
    """
    return Questions(find_lesson(name), progress or Progress())


class Questions:
    """The exercises and predictions of one lesson, asked and answered in a notebook."""

    def __init__(self, lesson: Lesson, progress: Progress) -> None:
        self.lesson = lesson
        self._progress = progress
        self._questions = lesson.questions()
        self._predicted: dict[str, str] = {}
        self._verdicts: dict[str, Verdict] = {}
        self._last: str | None = None
        self._hints_read: dict[str, list[str]] = {}

    def predict(self, about: str, choice: Any = ...) -> Shown:
        """Answer a prediction with one of its choices; without one, show the question.

        Parameters
        ----------
        about
            The prediction's id.
        choice
            The key of a choice. ``...`` (the starter's place-holder) means: not answered yet.
        """
        prediction = self._prediction(about)
        self._last = about
        items = [f'"{key}": {text}' for key, text in prediction.choices.items()]
        if choice is ... or choice is None:
            return show_note(
                prediction.question, "Replace the ... by one of these words, then run the cell:", items=items
            )
        if choice not in prediction.choices:
            return show_note(
                prediction.question, f"{choice!r} is not one of the choices. Write one of:", items=items
            )
        self._predicted[about] = choice
        return show_note(prediction.question, f"You predict: {prediction.choices[choice]} Now find out.")

    def check(
        self,
        about: str,
        given: Any = None,
        *,
        cluster: Any = None,
        sandbox: str | None = None,
        events: Iterable[Event] = (),
        **values: Any,
    ) -> Shown:
        """Judge an exercise or compare a prediction with what was recorded.

        Parameters
        ----------
        about
            The exercise's or prediction's id.
        given
            What the learner made, where the exercise asks for something that is then run: a class, a spec, or
            a function without arguments that returns one.
        cluster
            For an exercise that is run: run it in a sandbox of its own on this cluster; default: in this
            process. Else: read the events that this cluster has recorded.
        sandbox
            Read the events of this sandbox only.
        events
            The recorded events themselves, where there is no cluster to ask.
        values
            Further values that the check asks for.
        """
        question = self._question(about)
        self._last = about
        if isinstance(question, Exercise) and question.script:
            seen = self._try(question, given, cluster)
        elif cluster is None:
            seen = Observation(tuple(events), values)
        else:
            seen = observe_events(cluster, sandbox, values, _enough(question))
        if isinstance(question, Prediction):
            verdict, title = compare(question, self._predicted.get(about), seen), question.question
        else:
            verdict, title = judge(question, seen), question.title
        self._verdicts[about] = verdict
        notes = [
            self._way_on(question, verdict),
            self._save(lambda: self._progress.checked(self.lesson.name, about, verdict.outcome)),
        ]
        return show_verdict(verdict, title=title, notes=filter(None, notes))

    def hint(self, about: str | None = None) -> Shown:
        """Show the next hint: first the one that the newest outcome has earned, then the general ones in order."""
        about = self._about(about)
        question = self._question(about)
        verdict = self._verdicts.get(about)
        read = self._hints_read.setdefault(about, [])
        if verdict is not None and verdict.hint and verdict.hint not in read:
            title, text = "A hint for what the check has found", verdict.hint
        elif question.hints:
            # The last one is the strongest: it is shown again when there is no other.
            number = next(
                (n for n, hint in enumerate(question.hints, 1) if hint not in read), len(question.hints)
            )
            title, text = f"Hint {number} of {len(question.hints)}", question.hints[number - 1]
        else:
            return show_note("Hint", "This one has no hints: run the cells above it and read what they show.")
        if text not in read:
            read.append(text)
        note = self._save(lambda: self._progress.hinted(self.lesson.name, about, len(read)))
        return show_note(title, text, items=[note] if note else [])

    def solution(self, about: str | None = None, *, reveal: bool = False) -> Shown:
        """Show the worked solution, when `reveal` says that it is really wanted."""
        about = self._about(about)
        question = self._question(about)
        if isinstance(question, Prediction):
            return show_note("Solution", "The cluster itself gives the answer: run the next cells.")
        if not reveal:
            left = set(question.hints) - set(self._hints_read.get(about, ()))
            text = f'To read one worked solution, write q.solution("{about}", reveal=True).'
            more = " There are hints left: q.hint() shows the next one." if left else ""
            return show_note("Solution", text + more)
        note = self._save(lambda: self._progress.revealed(self.lesson.name, about))
        code = self.lesson.solution(about)
        text = "One way among several. Read it, then write your own from memory."
        return show_note(
            f"A worked solution: {question.title}", text, code=code, items=[note] if note else []
        )

    def use(self, about: str, given: Any) -> Any:
        """Return what the learner made if it has passed, else the worked one, so that the lesson can go on."""
        question = self._question(about)
        verdict = self._verdicts.get(about)
        if verdict is not None and verdict.outcome == "passed":
            return given
        if not isinstance(question, Exercise) or not question.defines:
            raise NoQuestion(
                f"The exercise {about!r} of {self.lesson.name} makes nothing that could be used."
            )
        print(  # noqa: T201 - a plain line under the learner's cell
            f"Your {question.defines} has not passed its check yet. The next cells use a worked one in its place, "
            "so you can read on and come back."
        )
        source = standalone(self.lesson, about)
        return run_source(source, f"<the worked {question.defines}>")[question.defines]

    def progress(self) -> Shown:
        """Show how far the learner has come in this lesson."""
        entries = self._progress.entries(self.lesson.name)
        items = []
        for id, question in self._questions.items():
            entry = entries.get(id)
            title = question.title if isinstance(question, Exercise) else question.question
            items.append(f"{entry.outcome if entry else 'not tried'}: {title}")
        passed = sum(entry.outcome == "passed" for entry in entries.values())
        text = f"{passed} of {len(items)} done. Kept in {self._progress.path}; it is yours, delete it as you like."
        return show_note(self.lesson.title, text, items=items)

    def _try(self, exercise: Exercise, given: Any, cluster: Any) -> Observation:
        if given is None or given is ...:
            return Observation(answers={"given": ...})
        if cluster is None:
            return observe_here(lambda: exercise.app(given), exercise.script)
        sandbox = f"check-{self.lesson.name.partition('_')[0]}-{exercise.id}"
        return observe_on(cluster, sandbox, lambda: exercise.app(given), exercise.script)

    def _way_on(self, question: Exercise | Prediction, verdict: Verdict) -> str | None:
        if isinstance(question, Prediction) or verdict.outcome == "passed":
            return None
        return "q.hint() gives a hint." if verdict.hint or question.hints else None

    def _save(self, note: Callable[[], Any]) -> str | None:
        try:
            note()
        except OSError as error:
            return f"(Your progress could not be saved: {error}.)"
        return None

    def _about(self, about: str | None) -> str:
        chosen = about or self._last
        if chosen is None:
            raise NoQuestion(f"Say which one: {', '.join(self._questions)}.")
        return chosen

    def _question(self, about: str) -> Exercise | Prediction:
        if about not in self._questions:
            raise NoQuestion(
                f"{self.lesson.name} has no question {about!r}; there are: {', '.join(self._questions)}."
            )
        return self._questions[about]

    def _prediction(self, about: str) -> Prediction:
        question = self._question(about)
        if not isinstance(question, Prediction):
            raise NoQuestion(f"{about!r} is an exercise: use q.check({about!r}, ...).")
        return question


def _enough(question: Exercise | Prediction) -> Callable[[Observation], bool]:
    find = question.happened if isinstance(question, Prediction) else question.passed
    return lambda seen: find(seen) is not None
