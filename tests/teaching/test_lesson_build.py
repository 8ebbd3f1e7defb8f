from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from superlearner.teaching import build
from superlearner.teaching.lesson import Lesson, find_lessons

ROOT = Path(__file__).parents[2]
LESSONS, NOTEBOOKS = ROOT / "lessons", ROOT / "notebooks"

ALL = find_lessons(LESSONS)


@pytest.mark.parametrize("lesson", ALL, ids=lambda lesson: lesson.name)
def test_the_built_notebook_says_what_its_lesson_says(lesson):
    assert build.stale([lesson], NOTEBOOKS) == []


def test_every_lesson_of_the_repository_is_sound():
    assert build.check(LESSONS) == []


@pytest.mark.parametrize("lesson", ALL, ids=lambda lesson: lesson.name)
def test_a_notebook_is_valid_and_carries_neither_outputs_nor_solutions(lesson):
    text = build.render(lesson)
    made = json.loads(text)
    nbformat.validate(made)
    assert made["metadata"]["kernelspec"]["name"] == "python3"
    assert len({cell["id"] for cell in made["cells"]}) == len(made["cells"])
    assert all(cell["outputs"] == [] for cell in made["cells"] if cell["cell_type"] == "code")
    assert "### " not in text.replace("#### ", "")


def write_lesson(folder, body):
    (folder / "lessons" / "02_two").mkdir(parents=True, exist_ok=True)
    (folder / "lessons" / "02_two" / "lesson.md").write_text(body)
    return Lesson(folder / "lessons" / "02_two")


HEAD = """\
---
jupytext:
  text_representation:
    extension: .md
    format_name: myst
kernelspec:
  display_name: Python 3
  language: python
  name: python3
---
"""
TEXT = HEAD + "\n# Two\n\n```{code-cell} ipython3\nx = 1\n```\n\n```{code-cell} ipython3\nx = 1\n```\n"


def test_building_twice_changes_nothing_the_second_time(tmp_path):
    lesson = write_lesson(tmp_path, TEXT)
    assert build.stale([lesson]) == [tmp_path / "notebooks" / "02_two.ipynb"]
    assert build.build([lesson]) == [tmp_path / "notebooks" / "02_two.ipynb"]
    first = (tmp_path / "notebooks" / "02_two.ipynb").read_bytes()
    assert build.build([lesson]) == []
    assert build.stale([lesson]) == []
    assert (tmp_path / "notebooks" / "02_two.ipynb").read_bytes() == first


def test_a_new_cell_leaves_the_ids_of_the_others_as_they_were(tmp_path):
    before = {cell["id"] for cell in build.notebook(write_lesson(tmp_path, TEXT))["cells"]}
    more = TEXT.replace("# Two\n", "# Two\n\n```{code-cell} ipython3\nnew = True\n```\n")
    after = {cell["id"] for cell in build.notebook(write_lesson(tmp_path, more))["cells"]}
    assert before < after


CHECK = """\
from superlearner.teaching import Exercise, Mistake
found = lambda seen: None
QUESTIONS = (Exercise("two", "Two", passed=found, praise="", mistakes=(
    Mistake("a", found, "", "same hint", "x"), Mistake("b", found, "", "same hint"))),)
"""


def test_what_an_author_forgot_is_told_in_sentences(tmp_path):
    lesson = write_lesson(
        tmp_path, TEXT + "\n```{code-cell} ipython3\n:tags: [exercise-three]\n\nx = 1\n```\n"
    )
    (lesson.folder / "check.py").write_text(CHECK)
    assert build.check(tmp_path / "lessons") == [
        "02_two: the cell tagged exercise-three has no check.",
        "02_two: no cell is tagged exercise-two.",
        "02_two: two mistakes of two share the hint 'same hint'.",
        "02_two: the exercise two has no hints.",
        "02_two: the mistake b of two has no example.",
        "02_two.ipynb is not what its lesson says: run `superlearner lessons build`.",
    ]


def test_an_exercise_without_a_solution_is_told(tmp_path):
    lesson = write_lesson(tmp_path, TEXT + "\n```{code-cell} ipython3\n:tags: [exercise-two]\n\nx = 1\n```\n")
    (lesson.folder / "check.py").write_text(CHECK)
    assert "02_two: the exercise two has no worked solution between markers." in build.problems([lesson])


def test_broken_markers_are_told_and_not_raised(tmp_path):
    lesson = write_lesson(tmp_path, TEXT.replace("x = 1", "### BEGIN SOLUTION", 1))
    assert "END SOLUTION is missing" in build.problems([lesson])[0]
