"""Every lesson runs from top to bottom on a real cluster: solved, and as the learner gets it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from superlearner.cluster.local import start_daemon, stop_daemon
from superlearner.cluster.names import node_names
from superlearner.teaching import build
from superlearner.teaching.check import Exercise
from superlearner.teaching.lesson import find_lessons
from superlearner.teaching.prove import complaints

ROOT = Path(__file__).parents[2]
LESSONS = find_lessons(ROOT / "lessons")
CELL_TIMEOUT = 60


@pytest.fixture(scope="module")
def running_cluster():
    """The local cluster that `superlearner.connect()` finds."""
    connection = start_daemon(node_names(3), detached=True)
    yield connection
    stop_daemon(connection)


def run(lesson, *, solution: bool) -> dict[str, str]:
    """Execute a lesson; return the text of each cell's result by the cell's source. Raises when a cell does."""
    notebook = nbformat.from_dict(build.notebook(lesson, solution=solution))
    for cell in notebook.cells:
        cell.source = "".join(cell.source)
    resources = {"metadata": {"path": str(ROOT / "notebooks")}}
    client = NotebookClient(notebook, timeout=CELL_TIMEOUT, kernel_name="python3", resources=resources)
    # Not `execute()`: that keeps an event loop for the life of the interpreter.
    asyncio.run(client.async_execute())
    return {
        cell.source: "".join(output.data["text/plain"] for output in cell.outputs if "data" in output)
        for cell in notebook.cells
        if cell.cell_type == "code"
    }


def checks(results: dict[str, str]) -> list[str]:
    """Return the outcome of each check in a lesson, in order."""
    return [
        text.split("]")[0].lstrip("[") for source, text in results.items() if source.startswith("q.check(")
    ]


@pytest.mark.slow
@pytest.mark.usefixtures("running_cluster")
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_a_solved_lesson_passes_all_its_checks(lesson):
    assert checks(run(lesson, solution=True)) == ["passed"] * len(lesson.questions())


@pytest.mark.slow
@pytest.mark.usefixtures("running_cluster")
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_an_untouched_lesson_runs_to_its_end_and_says_not_tried(lesson):
    assert checks(run(lesson, solution=False)) == ["not tried"] * len(lesson.questions())


@pytest.mark.slow
@pytest.mark.usefixtures("running_cluster")
@pytest.mark.parametrize("lesson", LESSONS, ids=lambda lesson: lesson.name)
def test_a_lesson_proves_itself_on_a_cluster_as_well(lesson):
    if not any(isinstance(question, Exercise) for question in lesson.questions().values()):
        pytest.skip("it has no exercises")
    import superlearner as sl

    cluster = sl.connect()
    try:
        assert complaints(lesson, cluster) == []
    finally:
        cluster.close()
