"""The benchmarks run and answer in their shape; what they measure is nobody's promise."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).parents[1] / "benchmarks" / "run.py"


def run(*arguments, **environment):
    return subprocess.run(
        [sys.executable, str(RUN), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env=os.environ | environment,
    )


@pytest.mark.slow
def test_figures_come_as_one_json_object_with_their_peers(tmp_path):
    names = ["import", "control_event_1000", "in_sandbox_calls"]
    ended = run(*names, "--json", "--repeat", "1", TMPDIR=str(tmp_path))
    assert ended.returncode == 0, ended.stderr
    assert ended.stderr == ""  # nothing was left behind
    figures = json.loads(ended.stdout)
    assert list(figures) == names
    for figure in figures.values():
        assert figure["unit"]
        assert 0 < figure["minimum"] <= figure["median"] <= figure["maximum"]
        assert figure["runs"] == 1
        assert figure["failed"] == {}
        assert all(peer["ratio"] > 0 for peer in figure["peers"].values())
    calls = figures["in_sandbox_calls"]
    assert [*calls["peers"], *calls["missing"]] == ["pykka"]
    assert list(tmp_path.iterdir()) == []


def test_every_figure_is_listed_and_can_be_measured():
    """Whatever is listed names a function that is there; the peers' may need packages that are not."""
    code = (
        "import importlib, run\n"
        "for figure in run.FIGURES.values():\n"
        "    source = figure.source\n"
        "    assert callable(getattr(importlib.import_module(source.module), source.function)), source\n"
        "    assert figure.against is None or figure.against in run.FIGURES\n"
        "print('\\n'.join(run.FIGURES))\n"
    )
    named = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60, cwd=RUN.parent
    )
    listed = run("--list")
    assert listed.stdout == named.stdout


def test_an_unknown_figure_is_refused_with_the_names_of_all():
    ended = run("nonsense")
    assert ended.returncode == 2
    assert "no figure nonsense" in ended.stderr
    assert "call_latency_p99" in ended.stderr
