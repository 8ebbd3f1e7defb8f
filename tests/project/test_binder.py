"""Binder, without Docker: the files as repo2docker reads them, and its steps in a clean environment."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
BINDER = ROOT / "binder"
PINS = [
    line
    for line in (BINDER / "requirements.txt").read_text().splitlines()
    if line and not line.startswith("#")
]


def wanted() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [Requirement(text) for text in project["dependencies"] + project["optional-dependencies"]["lab"]]


def normal(name: str) -> str:
    return name.lower().replace("_", "-")


def test_every_line_is_an_exact_pin_from_the_index():
    for line in PINS:
        (specifier,) = Requirement(line).specifier
        assert specifier.operator == "==", line
        assert Requirement(line).url is None, "a local or direct line would void the cached layer"


@pytest.mark.parametrize("requirement", wanted(), ids=str)
def test_the_pins_satisfy_the_project(requirement: Requirement):
    pinned = {
        normal(Requirement(line).name): next(iter(Requirement(line).specifier)).version for line in PINS
    }
    assert requirement.specifier.contains(pinned[normal(requirement.name)])


def test_the_python_is_one_that_the_project_supports():
    assert (BINDER / "runtime.txt").read_text().strip() == "python-3.11"


@pytest.mark.parametrize("name", ["postBuild", "start"])
def test_the_scripts_are_executable_and_are_valid_bash(name: str):
    path = BINDER / name
    assert os.access(path, os.X_OK)
    assert path.read_text().startswith("#!/bin/bash\n")
    subprocess.run(["bash", "-n", str(path)], check=True)


def test_start_ends_by_becoming_what_it_was_given():
    assert (BINDER / "start").read_text().splitlines()[-1] == 'exec "$@"'


def test_the_link_to_the_dashboard_is_set_in_start_only():
    # Without Binder's prefix in the environment, filling in the link raises KeyError.
    pattern = "DASHBOARD__" + "LINK"
    listed = subprocess.run(
        ["git", "grep", "-l", pattern], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert set(listed.stdout.split()) <= {"binder/start"}


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_steps_of_binder_work_in_a_clean_environment(tmp_path: Path):
    """Install the pins, run postBuild in a copy of the tree, then start with a command that looks around."""
    home, repository = tmp_path / "home", home_copy(tmp_path / "home")
    environment = tmp_path / "env"
    subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
    env = {
        "PATH": f"{environment / 'bin'}:/usr/bin:/bin",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "SUPERLEARNER_RUNTIME_DIR": os.environ["SUPERLEARNER_RUNTIME_DIR"],
        "JUPYTERHUB_SERVICE_PREFIX": "/user/somebody/",
    } | {
        name: value
        for name, value in os.environ.items()
        if name.startswith("PIP_") or name.endswith("_proxy")
    }

    def do(*command: str, timeout: float = 400) -> str:
        done = subprocess.run(
            command, cwd=repository, env=env, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done.stdout

    do("python", "-m", "pip", "install", "-q", "--no-cache-dir", "-r", "binder/requirements.txt")
    do("binder/postBuild")
    do("python", "-m", "pip", "check")
    overrides = environment / "share/jupyter/lab/settings/overrides.d/superlearner.json"
    assert json.loads(overrides.read_text())
    # From another folder: what is used is what was installed, not what happens to lie beside it.
    look = (
        'import json, os, subprocess; from dask.distributed import Client; import superlearner as sl; os.chdir("/");'
        "cluster = sl.connect(); client = Client(cluster.address, security=cluster.security);"
        'print(json.dumps({"nodes": list(cluster.status().nodes), "link": client.dashboard_link}));'
        "client.close(); cluster.close()"
    )
    try:
        out = do("binder/start", "python", "-c", look, timeout=120)
        seen = json.loads(out.splitlines()[-1])
        assert len(seen["nodes"]) == 3
        assert seen["link"].startswith("/user/somebody/proxy/")
        assert seen["link"].endswith("/status")
    finally:
        subprocess.run(
            ["superlearner", "stop"], cwd="/", env=env, capture_output=True, check=False, timeout=60
        )


def home_copy(home: Path) -> Path:
    """Copy what git knows of the tree, as Binder clones it."""
    home.mkdir()
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for name in listed.stdout.splitlines():
        source, target = ROOT / name, home / "repository" / name
        if source.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target)
    return home / "repository"
