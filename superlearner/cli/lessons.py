"""``lessons``: list them, build the learner's notebooks, check that these say what the lessons say."""

from __future__ import annotations

from pathlib import Path

import click

from superlearner.cli.output import json_option, print_json
from superlearner.errors import SuperlearnerError
from superlearner.views import format as fmt


class LessonsBroken(SuperlearnerError):
    """A lesson, or its notebook, is not as it should be."""

    code = "lessons_broken"


@click.group()
def lessons() -> None:
    """List, build or check the lessons."""


@lessons.command("list")
@json_option
def list_lessons(*, as_json: bool) -> None:
    """List the lessons with their exercises."""
    from superlearner.teaching.lesson import describe, find_lessons, lessons_folder

    rows = [describe(lesson) for lesson in find_lessons(lessons_folder())]
    if as_json:
        print_json(rows)
        return
    header = ("name", "title", "exercises", "predictions")
    click.echo(fmt.table(header, [tuple(str(row[column]) for column in header) for row in rows]))


@lessons.command("build")
@click.option(
    "--check", "only_check", is_flag=True, help="Write nothing; fail if a notebook is not up to date."
)
@json_option
def build_lessons(*, only_check: bool, as_json: bool) -> None:
    """Write the learner's notebooks, with the solutions cut out."""
    from superlearner.teaching import build
    from superlearner.teaching.lesson import find_lessons, lessons_folder

    found = find_lessons(lessons_folder())
    changed = build.stale(found) if only_check else build.build(found)
    report([str(path) for path in changed], as_json=as_json, key="stale" if only_check else "written")
    if only_check and changed:
        names = ", ".join(path.name for path in changed)
        raise LessonsBroken(
            f"Not up to date: {names}. Run `superlearner lessons build` and commit the result."
        )


@lessons.command("check")
@click.argument("folder", metavar="[DIR]", required=False, type=click.Path(exists=True, path_type=Path))
@json_option
def check_lessons(folder: Path | None, *, as_json: bool) -> None:
    """Look for what is wrong with the lessons: markers, tags, hints, notebooks that are not up to date."""
    from superlearner.teaching import build
    from superlearner.teaching.lesson import lessons_folder

    problems = build.check(folder or lessons_folder())
    report(problems, as_json=as_json, key="problems")
    if problems:
        raise LessonsBroken(f"{fmt.count(len(problems), 'problem')} found in the lessons.")


def report(lines: list[str], *, as_json: bool, key: str) -> None:
    """Print `lines`, as JSON under `key` where that was asked for."""
    if as_json:
        print_json({key: lines})
        return
    for line in lines:
        click.echo(line)
