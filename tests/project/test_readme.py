"""What the README promises, tried as it stands there."""

from __future__ import annotations

import doctest
import json
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


@pytest.mark.slow
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


@pytest.mark.slow
def test_the_walk_through_with_curl_works(tmp_path: Path):
    """As it stands there, but for the port, which the system chooses."""
    env = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}
    command = [sys.executable, "-m", "superlearner", "serve", "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=env, text=True) as server:
        try:
            told = ""
            while not told.endswith("}\n"):
                told += server.stdout.readline() or "}\n"
            (walk,) = blocks("sh")
            script = walk.replace("http://127.0.0.1:8765/api/v1", json.loads(told)["url"])
            script = script.replace(".venv/bin/superlearner", "superlearner").replace(
                "\ncurl ", "\necho\ncurl "
            )
            done = subprocess.run(
                ["bash", "-e", "-c", script], env=env, capture_output=True, text=True, timeout=60, check=False
            )
        finally:
            server.terminate()
            server.wait(timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    status, made, called, moved, listed, refused, destroyed, gone, document = done.stdout.split("\n")[1:]
    assert json.loads(status)["cluster"]["total_nodes"] == 3
    assert json.loads(made)["sandbox"]["status"] == "running"
    assert json.loads(called)["answered"] == [{"target": "shop/Counter", "reply": 42}]
    assert json.loads(moved)["migration"]["sandbox"] == "shop"
    assert [row["id"] for row in json.loads(listed)["sandboxes"]] == ["shop"]
    assert json.loads(refused)["error"]["code"] == "not_confirmed"
    assert destroyed == ""
    assert json.loads(gone)["error"]["code"] == "no_sandbox"
    assert json.loads(document)["openapi"] == "3.1.0"


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
