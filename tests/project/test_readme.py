"""What the README promises, tried as it stands there."""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from superlearner.cli.app import COMMANDS

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_example_has_ten_lines_and_runs_as_it_stands(tmp_path: Path):
    (example,) = blocks("python")
    assert len([line for line in example.splitlines() if line.strip()]) == 10
    script = tmp_path / "example.py"
    script.write_text(example)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=env, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"42 on node (alpha|beta|gamma)\n", done.stdout)
    assert done.stderr == ""


def test_the_other_examples_answer_as_they_say():
    examples = doctest.DocTestParser().get_doctest("".join(blocks("pycon")), {}, "README.md", None, 0)
    assert doctest.DocTestRunner().run(examples) == (0, len(examples.examples))


def test_the_first_two_commands_are_the_lab_and_the_tests():
    lab, tests, *_ = blocks("bash")
    assert lab == 'python3 -m venv .venv && .venv/bin/pip install -e ".[lab]" && .venv/bin/superlearner lab\n'
    assert tests == 'python3 -m venv .venv && .venv/bin/pip install -e ".[lab,test]" && .venv/bin/pytest\n'


def test_every_command_that_it_names_exists():
    named = set(re.findall(r"bin/superlearner ([a-z]+)", README))
    assert named <= set(COMMANDS)


@pytest.mark.parametrize(
    "room", re.findall(r"^\| `([^`]+)` \|", README.partition("## The house")[2], flags=re.MULTILINE)
)
def test_every_room_on_the_map_exists(room: str):
    assert (ROOT / room).exists()


def test_the_map_shows_every_package():
    packages = {path.parent.name for path in (ROOT / "superlearner").glob("*/__init__.py")}
    missing = {name for name in packages if f"`superlearner/{name}/`" not in README}
    assert not missing
