"""A lesson is a folder ``lessons/NN_topic``: ``lesson.md`` (the notebook as text) and ``check.py`` (its checks).

The text holds the worked solution and the learner's starter side by side, so that neither can be forgotten:

>>> cell = '''
... def double(n):
...     ### BEGIN SOLUTION
...     return 2 * n
...     ### END SOLUTION
...     ### BEGIN STARTER
...     # return ...
...     ### END STARTER
... '''
>>> print(starter(cell).strip())
def double(n):
    return ...
>>> print(solved(cell).strip())
def double(n):
    return 2 * n

The markers are nbgrader's; nbgrader itself brings a server and a database, and has no starter beside its
solution, so the few lines that cut are our own.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from superlearner.errors import SuperlearnerError
from superlearner.teaching.check import Exercise, Prediction

#: Names the folder that holds the lessons, where it is neither above the working directory nor in the package.
LESSONS_VARIABLE = "SUPERLEARNER_LESSONS"
_MARKER = re.compile(r"\s*### (BEGIN|END) (SOLUTION|STARTER)\s*$")
_EXERCISE_TAG = "exercise-"


class LessonNotFound(SuperlearnerError):
    """No lesson of that name can be found from here."""

    code = "lesson_not_found"
    advice = (
        f"Open the notebook inside the project's folder, or set {LESSONS_VARIABLE} to the lessons folder."
    )


class InvalidLesson(SuperlearnerError, ValueError):
    """A lesson's text or its checks do not fit together; meant for whoever writes lessons."""

    code = "invalid_lesson"


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell of a lesson, with the worked solution still in it."""

    kind: str
    source: str
    tags: tuple[str, ...] = ()

    @property
    def exercise(self) -> str | None:
        """The id of the exercise that is solved in this cell: its tag ``exercise-<id>``."""
        return next(
            (tag.removeprefix(_EXERCISE_TAG) for tag in self.tags if tag.startswith(_EXERCISE_TAG)), None
        )


@dataclass(frozen=True)
class Lesson:
    """One lesson on disk. Its text and its checks are read when they are asked for."""

    folder: Path

    @property
    def name(self) -> str:
        """The folder's name, such as ``01_a_process_that_dies``."""
        return self.folder.name

    @property
    def title(self) -> str:
        """The first heading of the text."""
        text = (self.folder / "lesson.md").read_text(encoding="utf-8")
        heading = re.search(r"^# (.+)$", text, flags=re.MULTILINE)
        return heading.group(1).strip() if heading else self.name

    def cells(self) -> list[Cell]:
        """Read ``lesson.md``. Needs jupytext, which comes with the ``lab`` extra."""
        import jupytext

        notebook = jupytext.read(self.folder / "lesson.md", fmt="md:myst")
        return [
            Cell(cell["cell_type"], cell["source"], tuple(cell["metadata"].get("tags", ())))
            for cell in notebook["cells"]
        ]

    def questions(self) -> dict[str, Exercise | Prediction]:
        """Return the exercises and predictions of ``check.py`` by id, in their order; none without that file."""
        if not (self.folder / "check.py").exists():
            return {}
        declared = getattr(self._checks(), "QUESTIONS", None)
        if not isinstance(declared, tuple):
            raise InvalidLesson(
                f"{self.folder / 'check.py'} must define QUESTIONS, a tuple of Exercise and Prediction."
            )
        return {question.id: question for question in declared}

    def solution(self, exercise: str) -> str:
        """Return the worked solution of one exercise as source.

        Raises
        ------
        InvalidLesson
            If no cell is tagged with that exercise.
        """
        for cell in self.cells():
            if cell.exercise == exercise:
                return solved(cell.source)
        raise InvalidLesson(f"No cell of {self.name} is tagged {_EXERCISE_TAG}{exercise}.")

    def _checks(self) -> ModuleType:
        path = self.folder / "check.py"
        module_name = f"superlearner_lesson_{self.name}"
        spec = importlib.util.spec_from_file_location(module_name, path)
        if spec is None or spec.loader is None:
            raise InvalidLesson(f"{path} cannot be imported.")
        module = importlib.util.module_from_spec(spec)
        sys.modules[module_name] = module
        spec.loader.exec_module(module)
        return module


def starter(source: str) -> str:
    """Return `source` as the learner gets it: solutions cut out, starters uncommented.

    Raises
    ------
    InvalidLesson
        If the markers are not paired, or a starter line is not a comment.
    """
    return _strip(source, keep="STARTER")


def solved(source: str) -> str:
    """Return `source` with the worked solution, and without the starters."""
    return _strip(source, keep="SOLUTION")


def _strip(source: str, *, keep: str) -> str:
    kept: list[str] = []
    inside: str | None = None
    for line in source.splitlines():
        marker = _MARKER.match(line)
        if marker is not None:
            inside = _step_over(marker.group(1), marker.group(2), inside, line)
        elif inside is None or (inside == keep == "SOLUTION"):
            kept.append(line)
        elif inside == keep:
            kept.append(_uncomment(line))
    if inside is not None:
        raise InvalidLesson(f"A cell ends inside its {inside.lower()}: ### END {inside} is missing.")
    return "\n".join(kept)


def _step_over(edge: str, part: str, inside: str | None, line: str) -> str | None:
    if (edge == "BEGIN") == (inside is None) and (edge == "BEGIN" or part == inside):
        return part if edge == "BEGIN" else None
    raise InvalidLesson(
        f"{line.strip()!r} has no partner: write ### BEGIN {part} ... ### END {part}, not nested."
    )


def _uncomment(line: str) -> str:
    match = re.fullmatch(r"(\s*)#(?: (.*))?", line)
    if match is None:
        raise InvalidLesson(
            f"The starter's line {line!r} must be a comment, so that the solved lesson does not run it."
        )
    return f"{match.group(1)}{match.group(2) or ''}".rstrip()


# -- Where the lessons are --------------------------------------------------------------------------


def lessons_folder(start: Path | None = None) -> Path:
    """Return the folder that holds the lessons.

    Looked for in this order: the environment variable ``SUPERLEARNER_LESSONS``; a folder ``lessons`` in
    `start` (default: the working directory) or any folder above it; a copy inside the package.

    Raises
    ------
    LessonNotFound
        If there is none; the message names the places that were looked at.
    """
    named = os.environ.get(LESSONS_VARIABLE)
    if named:
        folder = Path(named).expanduser()
        if not _holds_lessons(folder):
            raise LessonNotFound(f"{LESSONS_VARIABLE}={named!r} holds no lessons.")
        return folder
    looked = list(_candidates((start or Path.cwd()).resolve()))
    for folder in looked:
        if _holds_lessons(folder):
            return folder
    raise LessonNotFound(f"No lessons were found above {looked[0].parent} or in the package ({looked[-1]}).")


def find_lesson(name: str, start: Path | None = None) -> Lesson:
    """Return the lesson called `name`, which may be its number alone, such as ``"01"``.

    Raises
    ------
    LessonNotFound
        If there is no such lesson; the message lists those there are.
    """
    folder = lessons_folder(start)
    lessons = find_lessons(folder)
    for lesson in lessons:
        if name in (lesson.name, lesson.name.partition("_")[0]):
            return lesson
    known = ", ".join(lesson.name for lesson in lessons)
    raise LessonNotFound(f"There is no lesson {name!r} in {folder}; there are: {known}.")


def find_lessons(folder: Path) -> list[Lesson]:
    """Return all lessons in `folder`, by name."""
    return [Lesson(path.parent) for path in sorted(folder.glob("*/lesson.md"))]


def _holds_lessons(folder: Path) -> bool:
    return next(iter(folder.glob("*/lesson.md")), None) is not None


def _candidates(start: Path) -> Iterator[Path]:
    for above in (start, *start.parents):
        yield above / "lessons"
    yield Path(__file__).with_name("lessons")


def describe(lesson: Lesson) -> dict[str, Any]:
    """Return a lesson as one plain row, for ``superlearner lessons list``."""
    questions = lesson.questions().values()
    return {
        "name": lesson.name,
        "title": lesson.title,
        "exercises": sum(isinstance(question, Exercise) for question in questions),
        "predictions": sum(isinstance(question, Prediction) for question in questions),
    }
