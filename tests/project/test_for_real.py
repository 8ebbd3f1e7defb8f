"""The commands that start processes, run as a person runs them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "superlearner"]
ENVIRONMENT = {"PYTHONPATH": str(ROOT)}

pytestmark = pytest.mark.slow


def lives(pid: int) -> bool:
    """Tell whether a process runs: one that has ended, and whose adoptive parent has not looked yet, does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def run(*words: str) -> subprocess.CompletedProcess[str]:
    env = os.environ | ENVIRONMENT
    return subprocess.run(
        [*COMMAND, *words], capture_output=True, text=True, check=False, env=env, timeout=90
    )


@contextmanager
def started(*words: str) -> Iterator[subprocess.Popen[str]]:
    env = os.environ | ENVIRONMENT | {"PYTHONUNBUFFERED": "1"}
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, *words], stdout=pipe, stderr=pipe, text=True, env=env) as process:
        try:
            yield process
        finally:
            process.terminate()  # a failed assertion must not wait for it; one that has ended does not mind


def line_with(process: subprocess.Popen[str], text: str) -> str:
    """Return the next line of output that holds `text`."""
    return next(line for line in process.stdout if text in line)


# -- demo -----------------------------------------------------------------------------------------------------


def test_the_demo_verifies_every_step_and_leaves_nothing_behind():
    done = run("demo", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ok"]
    assert [step["ok"] for step in told["steps"]] == [True] * 7
    assert {"process_restart_seconds", "os_process_restart_seconds", "node_failover_seconds"} <= set(
        told["figures"]
    )
    # The log tells the same story as the client saw.
    kinds = [event["kind"] for event in told["events"]]
    assert {"process_restarted", "sandbox_created"} <= set(kinds)


def test_the_chaos_demo_verifies_every_step_and_what_clients_were_told():
    done = run("demo", "--chaos", "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ok"]
    assert [step["ok"] for step in told["steps"]] == [True] * 10
    assert {told["counts"][name] for name in ("lost", "doubled", "out_of_order", "two_owners")} == {0}
    assert told["counts"]["stored"] >= 200
    figures = told["figures"]
    assert figures["frozen_replaced_seconds"] > 1.0, "not before the lease is over"
    assert figures["total_seconds"] > sum(figures[f"{name}_seconds"] for name in ("start", "stop"))
    # The log tells the same story as the client saw.
    kinds = {event["kind"] for event in told["events"]}
    assert kinds >= {"sandbox_moved", "node_suspected", "node_fenced", "healed", "sandbox_restarted"}
    # It tells what it does while it does it.
    assert "freezing" in done.stderr


@pytest.mark.parametrize(
    ("words", "after"),
    [
        ("demo", "the nodes are ready"),
        ("demo", "a checkpoint is taken"),
        ("demo --chaos", "without a rest"),
        ("demo --chaos", "is frozen"),
        ("demo --chaos", "killing the scheduler"),
    ],
)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_broken_off_leaves_nothing_behind(words: str, after: str, number: signal.Signals):
    with started(*words.split()) as demo:
        line_with(demo, after)
        family = psutil.Process(demo.pid).children(recursive=True)
        demo.send_signal(number)
        demo.send_signal(number)  # an impatient second time does not break off the clean-up
        _, errors = demo.communicate(timeout=30)
    assert demo.returncode == 130
    assert "Traceback" not in errors
    assert family
    assert not [process for process in family if lives(process.pid)]


# -- the local cluster ----------------------------------------------------------------------------------------


def test_a_cluster_is_started_once_looked_at_and_stopped():
    first = json.loads(run("start", "--nodes", "2", "--json").stdout)
    try:
        second = json.loads(run("start", "--json").stdout)
        assert (first["started"], second["started"]) == (True, False)
        assert first["pid"] == second["pid"]
        seen = json.loads(run("status", "--json").stdout)
        assert seen["cluster"]["cluster_health"] == "healthy"
        assert [node["name"] for node in seen["nodes"]] == ["alpha", "beta"]
        assert "2 of 2 nodes healthy" in run("status").stdout
        assert json.loads(run("ls", "--json").stdout) == []
    finally:
        stopped = run("stop", "--json")
    assert json.loads(stopped.stdout)["stopped"]
    assert not lives(first["pid"])
    # The history is there when the cluster has gone.
    kinds = [event["kind"] for event in json.loads(run("history", "--json").stdout)]
    assert kinds[-1] == "cluster_stopped"
    assert run("stop").returncode == 1


# -- lab ------------------------------------------------------------------------------------------------------


def status_of(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.fixture
def unused_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def notebooks(tmp_path, monkeypatch):
    for name in ("CONFIG", "DATA", "RUNTIME"):
        monkeypatch.setenv(f"JUPYTER_{name}_DIR", str(tmp_path / name.lower()))
    folder = tmp_path / "notebooks"
    folder.mkdir()
    (folder / "01_first.ipynb").write_text(
        '{"cells": [], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}'
    )
    return folder


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_lab_serves_behind_its_token_and_takes_its_cluster_along(
    number: signal.Signals, notebooks: Path, unused_port
):
    with started("lab", "--no-browser", "--nodes", "1", "--port", str(unused_port), str(notebooks)) as lab:
        base, page, token = re.search(
            r"(http://[^/]+)(/\S*)\?token=(\S+)", line_with(lab, "http://")
        ).groups()
        assert page == "/lab/tree/01_first.ipynb"
        assert status_of(f"{base}/api/contents?token={token}") == 200
        assert status_of(f"{base}/api/contents") == 403
        family = psutil.Process(lab.pid).children(recursive=True)
        lab.send_signal(number)
        _, errors = lab.communicate(timeout=30)
    assert lab.returncode == 0
    assert errors == "JupyterLab is stopped.\n"
    assert len(family) >= 2
    assert not [process for process in family if lives(process.pid)]
    assert run("status").returncode == 1


def test_lab_leaves_a_cluster_that_ran_before(notebooks: Path, unused_port):
    before = json.loads(run("start", "--nodes", "1", "--json").stdout)
    try:
        with started("lab", "--no-browser", "--port", str(unused_port), str(notebooks)) as lab:
            assert "Using the cluster that runs already: nodes alpha." in line_with(lab, "cluster")
            line_with(lab, "http://")
            lab.send_signal(signal.SIGINT)
            lab.communicate(timeout=30)
        assert lives(before["pid"])
    finally:
        run("stop")
    assert not lives(before["pid"])
