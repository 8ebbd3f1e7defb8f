"""From ``lessons/NN_topic/lesson.md`` to ``notebooks/NN_topic.ipynb``: the same text always gives the same bytes."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from superlearner.teaching.check import Exercise
from superlearner.teaching.lesson import InvalidLesson, Lesson, find_lessons, solved, starter

_METADATA = {
    "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}


def notebook(lesson: Lesson, *, solution: bool = False) -> dict[str, Any]:
    """Return a lesson as a notebook (nbformat 4.5, as plain data), without outputs.

    Parameters
    ----------
    lesson
        The lesson.
    solution
        False: as the learner gets it, solutions cut and starters in place. True: solved.
    """
    seen: Counter[str] = Counter()
    cut = solved if solution else starter
    cells: list[dict[str, Any]] = []
    for cell in lesson.cells():
        source = cut(cell.source)
        metadata = {"tags": sorted(cell.tags)} if cell.tags else {}
        plain: dict[str, Any] = {
            "cell_type": cell.kind,
            "id": _cell_id(lesson.name, cell.kind, source, seen),
            "metadata": metadata,
            "source": source.splitlines(keepends=True),
        }
        if cell.kind == "code":
            plain |= {"execution_count": None, "outputs": []}
        cells.append(plain)
    return {"cells": cells, "metadata": _METADATA, "nbformat": 4, "nbformat_minor": 5}


def render(lesson: Lesson, *, solution: bool = False) -> str:
    """Return the text of a lesson's notebook file."""
    return (
        json.dumps(notebook(lesson, solution=solution), indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    )


def target(lesson: Lesson, notebooks: Path | None = None) -> Path:
    """Return where a lesson's notebook belongs: in `notebooks`, by default the folder beside ``lessons``."""
    return (notebooks or lesson.folder.parent.parent / "notebooks") / f"{lesson.name}.ipynb"


def build(lessons: Iterable[Lesson], notebooks: Path | None = None) -> list[Path]:
    """Write the notebooks of `lessons`; return the files that changed."""
    changed = []
    for lesson in lessons:
        path, text = target(lesson, notebooks), render(lesson)
        if _text(path) != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    return changed


def stale(lessons: Iterable[Lesson], notebooks: Path | None = None) -> list[Path]:
    """Return the notebooks that are missing or do not say what their lesson says; nothing is written."""
    return [
        target(lesson, notebooks) for lesson in lessons if _text(target(lesson, notebooks)) != render(lesson)
    ]


def problems(lessons: Iterable[Lesson]) -> list[str]:
    """Return what is wrong with `lessons` as sentences for their author: markers, tags, hints, examples."""
    return [f"{lesson.name}: {problem}" for lesson in lessons for problem in _problems(lesson)]


def check(folder: Path, notebooks: Path | None = None) -> list[str]:
    """Return everything that ``superlearner lessons check`` complains about; an empty list is good."""
    lessons = find_lessons(folder)
    return problems(lessons) + [
        f"{path.name} is not what its lesson says: run `superlearner lessons build`."
        for path in stale(lessons, notebooks)
    ]


def _problems(lesson: Lesson) -> list[str]:
    try:
        questions = lesson.questions()
        cells = lesson.cells()
        tagged = {cell.exercise: cell for cell in cells if cell.exercise}
        for cell in cells:
            solved(cell.source), starter(cell.source)
    except InvalidLesson as error:
        return [str(error)]
    exercises = {id: question for id, question in questions.items() if isinstance(question, Exercise)}
    found = [f"the cell tagged exercise-{id} has no check." for id in tagged if id not in exercises]
    for id, exercise in exercises.items():
        if id not in tagged:
            found.append(f"no cell is tagged exercise-{id}.")
        elif starter(tagged[id].source) == solved(tagged[id].source):
            found.append(f"the exercise {id} has no worked solution between markers.")
        found += _hint_problems(exercise)
    return found


def _hint_problems(exercise: Exercise) -> list[str]:
    hints = Counter(mistake.hint for mistake in exercise.mistakes)
    found = [
        f"two mistakes of {exercise.id} share the hint {hint!r}."
        for hint, times in hints.items()
        if times > 1
    ]
    if not exercise.hints:
        found.append(f"the exercise {exercise.id} has no hints.")
    found += [
        f"the mistake {m.id} of {exercise.id} has no example." for m in exercise.mistakes if not m.example
    ]
    return found


def _cell_id(lesson: str, kind: str, source: str, seen: Counter[str]) -> str:
    # From the content, not from the place: a cell that is put in between changes no other cell's id.
    digest = hashlib.sha256(f"{lesson}\0{kind}\0{source}".encode()).hexdigest()[:12]
    seen[digest] += 1
    return digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None
