from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from superlearner.teaching.lesson import (
    LESSONS_VARIABLE,
    InvalidLesson,
    Lesson,
    LessonNotFound,
    describe,
    find_lesson,
    find_lessons,
    lessons_folder,
    solved,
    starter,
)

ROOT = Path(__file__).parents[2]
LESSONS = ROOT / "lessons"

CELL = """\
x = 1
### BEGIN SOLUTION
y = 2
### END SOLUTION
### BEGIN STARTER
# y = ...
#
# # a remark
### END STARTER
z = 3"""


def test_the_starter_takes_the_place_of_the_solution():
    assert starter(CELL) == "x = 1\ny = ...\n\n# a remark\nz = 3"
    assert solved(CELL) == "x = 1\ny = 2\nz = 3"


def test_a_cell_without_markers_is_left_as_it_is():
    assert starter("a\n\nb") == solved("a\n\nb") == "a\n\nb"


@pytest.mark.parametrize(
    "source",
    [
        "### BEGIN SOLUTION\nx",
        "x\n### END SOLUTION",
        "### BEGIN SOLUTION\n### BEGIN STARTER\n### END STARTER\n### END SOLUTION",
        "### BEGIN SOLUTION\n### END STARTER",
        "### BEGIN STARTER\nx = 1\n### END STARTER",
    ],
)
def test_markers_that_do_not_fit_are_refused(source):
    with pytest.raises(InvalidLesson):
        starter(source)


def make_lesson(folder: Path, name: str = "07_seven") -> Path:
    (folder / name).mkdir(parents=True)
    (folder / name / "lesson.md").write_text("# Seven\n")
    return folder


def test_lessons_are_found_from_a_folder_below_the_one_that_holds_them(tmp_path):
    folder = make_lesson(tmp_path / "lessons")
    (tmp_path / "notebooks" / "deeper").mkdir(parents=True)
    assert lessons_folder(tmp_path / "notebooks" / "deeper") == folder
    assert (
        find_lesson("07", tmp_path / "notebooks")
        == find_lesson("07_seven", tmp_path)
        == Lesson(folder / "07_seven")
    )


def test_the_environment_variable_wins(tmp_path, monkeypatch):
    monkeypatch.setenv(LESSONS_VARIABLE, str(make_lesson(tmp_path / "elsewhere")))
    assert find_lesson("07_seven", ROOT).folder == tmp_path / "elsewhere" / "07_seven"


def test_a_variable_that_names_no_lessons_is_told_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv(LESSONS_VARIABLE, str(tmp_path))
    with pytest.raises(LessonNotFound, match=LESSONS_VARIABLE):
        lessons_folder()


def test_no_lessons_at_all_says_where_it_was_looked_and_what_to_do(tmp_path, monkeypatch):
    monkeypatch.delenv(LESSONS_VARIABLE, raising=False)
    with pytest.raises(LessonNotFound, match=r"above .*set SUPERLEARNER_LESSONS"):
        lessons_folder(tmp_path)


def test_an_unknown_lesson_lists_the_known_ones(tmp_path):
    make_lesson(tmp_path / "lessons")
    with pytest.raises(LessonNotFound, match="07_seven"):
        find_lesson("08", tmp_path)


def test_a_lesson_without_checks_has_no_questions(tmp_path):
    lesson = Lesson(make_lesson(tmp_path) / "07_seven")
    assert lesson.questions() == {}
    assert describe(lesson) == {"name": "07_seven", "title": "Seven", "exercises": 0, "predictions": 0}


def test_a_check_module_without_questions_is_refused(tmp_path):
    lesson = Lesson(make_lesson(tmp_path) / "07_seven")
    (lesson.folder / "check.py").write_text("")
    with pytest.raises(InvalidLesson, match="QUESTIONS"):
        lesson.questions()


def test_asking_for_the_solution_of_an_unknown_exercise_is_refused(tmp_path):
    with pytest.raises(InvalidLesson, match="exercise-none"):
        Lesson(make_lesson(tmp_path) / "07_seven").solution("none")


def test_the_repository_has_its_first_lesson():
    assert "01_a_process_that_dies" in [lesson.name for lesson in find_lessons(LESSONS)]


def test_importing_the_lessons_loads_none_of_the_lab():
    code = "import superlearner.teaching, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not {"jupytext", "nbformat", "IPython", "ipywidgets"} & set(done.stdout.split())
