"""One exercise of a lesson as a program of its own, to be run apart from its notebook."""

from __future__ import annotations

import ast
import linecache
from typing import Any

from superlearner.teaching.lesson import InvalidLesson, Lesson, solved, starter


def standalone(lesson: Lesson, exercise: str, *, solution: bool = True) -> str:
    """Return one exercise's cell as a program of its own.

    Before it stand the lesson's imports and the solved exercises that come earlier; nothing else of the
    lesson, so that running it touches no cluster.

    Parameters
    ----------
    lesson
        The lesson.
    exercise
        The exercise's id.
    solution
        True: with its worked solution. False: as the learner gets it.
    """
    cells = [cell for cell in lesson.cells() if cell.kind == "code"]
    imports = [
        ast.unparse(statement)
        for cell in cells
        for statement in ast.parse(solved(cell.source)).body
        if isinstance(statement, ast.Import | ast.ImportFrom)
    ]
    parts: list[str] = []
    for cell in cells:
        if cell.exercise == exercise:
            own = solved(cell.source) if solution else starter(cell.source)
            return "\n\n".join([*imports, *parts, own]) + "\n"
        if cell.exercise is not None:
            parts.append(solved(cell.source))
    raise InvalidLesson(f"No cell of {lesson.name} is tagged exercise-{exercise}.")


def run_source(source: str, filename: str) -> dict[str, Any]:
    """Run a program in a namespace of its own, as a notebook would, and return the names it then has."""
    # What a cell defines belongs to __main__; the line cache lets a traceback show its lines.
    namespace: dict[str, Any] = {"__name__": "__main__"}
    linecache.cache[filename] = (len(source), None, source.splitlines(keepends=True), filename)
    exec(compile(source, filename, "exec"), namespace)  # noqa: S102 - a lesson's own source
    return namespace
