"""The commands as a person types them: what they print, their exit codes, and one sentence when they fail."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from superlearner.cli import app, doctor, lab
from superlearner.cli.app import COMMANDS, main
from superlearner.errors import NoSandbox


@pytest.fixture
def run():
    runner = CliRunner()
    return lambda *words: runner.invoke(main, list(words))


def test_the_overview_names_every_command(run):
    done = run("--help")
    assert done.exit_code == 0
    for name, (_, line) in COMMANDS.items():
        assert name in done.output
        assert line.split()[0] in done.output


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_every_command_in_the_overview_exists_and_explains_itself(name: str, run):
    done = run(name, "--help")
    assert done.exit_code == 0, done.output
    assert "Usage:" in done.output


def test_an_unknown_command_is_a_usage_error(run):
    done = run("nonsense")
    assert done.exit_code == 2
    assert "No such command" in done.output


@pytest.mark.parametrize("command", ["stop", "status", "ls"])
def test_without_a_cluster_a_command_says_so_in_one_sentence(command: str, run):
    done = run(command)
    assert done.exit_code == 1
    assert done.stdout == ""
    assert done.stderr.startswith("No local cluster is running.")
    assert done.stderr.count("\n") == 1


def test_the_history_of_a_cluster_that_never_ran_is_said_in_one_sentence(run, monkeypatch, tmp_path):
    monkeypatch.setenv("SUPERLEARNER_STATE_DIR", str(tmp_path))
    done = run("history")
    assert done.exit_code == 1
    assert "no cluster has run" in done.stderr


@pytest.fixture
def broken(monkeypatch):
    """A command that fails with the given error."""

    def command(error: BaseException):
        @click.command()
        def breaks() -> None:
            raise error

        monkeypatch.setattr(app.Commands, "get_command", lambda *_: breaks)
        return CliRunner().invoke(main, ["breaks"])

    return command


def test_an_error_of_superlearner_is_its_own_text_and_exit_code_1(broken):
    done = broken(NoSandbox("shop"))
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr == "There is no sandbox 'shop'. sandboxes() lists those there are.\n"


def test_an_unexpected_error_is_a_sentence_that_says_how_to_see_more(broken):
    done = broken(ZeroDivisionError("division by zero"))
    assert done.exit_code == 1
    assert "Unexpected ZeroDivisionError: division by zero." in done.stderr
    assert "SUPERLEARNER_DEBUG=1" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_missing_package_is_named_with_the_command_that_installs_it(broken):
    done = broken(ModuleNotFoundError("No module named 'jupytext'", name="jupytext"))
    assert "jupytext is not installed: run `" in done.stderr


def test_ctrl_c_ends_a_command_with_exit_code_130(broken):
    assert broken(KeyboardInterrupt()).exit_code == 130


def test_the_debug_variable_lets_the_traceback_through(broken, monkeypatch):
    monkeypatch.setenv("SUPERLEARNER_DEBUG", "1")
    assert isinstance(broken(ZeroDivisionError()).exception, ZeroDivisionError)


# -- doctor ---------------------------------------------------------------------------------------------------


def findings() -> dict[str, doctor.Check]:
    return {check.name: check for check in doctor.examine()}


def test_doctor_prints_a_line_per_finding_or_one_document(run):
    done = run("doctor")
    assert {line.split()[0] for line in done.output.splitlines()} <= {"ok", "missing"}
    document = json.loads(run("doctor", "--json").stdout)
    assert [line.split(":")[0][9:] for line in done.output.splitlines()] == [
        c["name"] for c in document["checks"]
    ]


def test_doctor_fails_when_something_needed_is_missing(run, monkeypatch):
    missing = doctor.Check("prctl", ok=False, found="refused", advice="run on Linux")
    monkeypatch.setattr(doctor, "PROBES", (lambda: iter([missing]),))
    done = run("doctor")
    assert done.exit_code == 1
    assert done.output == "missing  prctl: refused -> run on Linux\n"


def test_doctor_passes_when_only_something_optional_is_missing(run, monkeypatch):
    missing = doctor.Check("Chromium", ok=False, found="not found", advice="get it", needed=False)
    monkeypatch.setattr(doctor, "PROBES", (lambda: iter([missing]),))
    assert run("doctor").exit_code == 0


def test_doctor_refuses_a_runtime_directory_that_is_no_directory(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SUPERLEARNER_RUNTIME_DIR", str(tmp_path / "file"))
    check = findings()["runtime directory"]
    assert not check.ok
    assert check.needed


def test_doctor_makes_a_runtime_directory_private(monkeypatch, tmp_path):
    monkeypatch.setenv("SUPERLEARNER_RUNTIME_DIR", str(tmp_path / "run"))
    assert findings()["runtime directory"].ok
    assert (tmp_path / "run").stat().st_mode & 0o077 == 0


def test_doctor_notices_that_loopback_does_not_work(monkeypatch):
    def refused(*args, **kwargs):
        raise PermissionError("not permitted")

    monkeypatch.setattr(socket, "create_server", refused)
    assert findings()["loopback sockets"].found == "not permitted"


# -- lab ------------------------------------------------------------------------------------------------------


def test_lab_opens_on_the_first_lesson_if_there_is_one(tmp_path: Path):
    assert lab.first_page(tmp_path) == "/lab"
    for name in ("dashboard.ipynb", "02_trees.ipynb", "01_processes.ipynb"):
        (tmp_path / name).write_text("{}")
    assert lab.first_page(tmp_path) == "/lab/tree/01_processes.ipynb"


def test_lab_listens_on_loopback_only_and_wants_its_token_everywhere(tmp_path: Path):
    flags = lab.arguments(tmp_path, port=9000, browser=False)
    assert {
        "--ServerApp.ip=127.0.0.1",
        "--ServerApp.allow_unauthenticated_access=False",
        "--no-browser",
    } <= set(flags)
    assert not any("token" in flag.lower() for flag in flags), "a command line can be read by every user"
    assert ("--allow-root" in flags) == (os.geteuid() == 0)


def test_lab_refuses_a_folder_that_is_not_there(run):
    done = run("lab", "/no/such/folder")
    assert done.exit_code == 2
    assert "does not exist" in done.stderr


def test_simulate_plays_seeds_and_says_that_every_promise_was_kept(run):
    done = run("simulate", "--seeds", "5")
    assert done.exit_code == 0, done.output
    assert "5 seeds" in done.stdout
    assert "every promise was kept" in done.stdout
    told = json.loads(run("simulate", "--seeds", "2", "--first", "7", "--json").stdout)
    assert (told["ok"], told["seeds"], told["broken"]) == (True, 2, [])


def test_simulate_prints_the_schedule_of_one_seed_and_plays_a_part_of_it(run):
    done = run("simulate", "--seed", "3", "--steps", "0,1", "--trace")
    assert done.exit_code == 0, done.output
    assert "seed 3: nodes" in done.stdout
    assert "CreateRequested" in done.stdout
    told = json.loads(run("simulate", "--seed", "3", "--steps", "0,1", "--json").stdout)
    assert told["command"] == "superlearner simulate --seed 3 --steps 0,1 --trace"
    assert len(told["schedule"]["steps"]) == 2


def test_simulate_plays_a_cluster_of_any_size(run):
    done = run("simulate", "--seed", "3", "--nodes", "60", "--sandboxes", "600")
    assert done.exit_code == 0, done.output
    assert done.stdout.startswith("seed 3: nodes 60; ")
    assert " steps\n" in done.stdout
    told = json.loads(run("simulate", "--seed", "3", "--nodes", "7", "--sandboxes", "9", "--json").stdout)
    assert told["command"] == "superlearner simulate --seed 3 --nodes 7 --sandboxes 9 --trace"
    assert told["schedule"]["nodes"][-1] == "alpha-6"
    assert told["events"]["sandbox_created"] == 9
    assert run("simulate", "--nodes", "0").exit_code == 2


@pytest.mark.slow
def test_simulate_shrinks_a_seed_that_breaks_a_promise_and_says_how_to_replay_it(run, monkeypatch):
    from superlearner.core.control_registry import Registry

    monkeypatch.setattr(Registry, "no_quorum", property(lambda _registry: None))
    done = run("simulate", "--seeds", "120")
    assert done.exit_code == 1
    assert "BROKEN: without a quorum nothing is started" in done.stdout
    (command, *_) = [line for line in done.stdout.splitlines() if line.startswith("Replay: superlearner ")]
    again = run(*command.removeprefix("Replay: superlearner ").split())
    assert again.exit_code == 1
    assert "BROKEN" in again.stdout


@pytest.mark.parametrize(
    "words", [["--steps", "1"], ["--seed", "1", "--steps", "x"], ["--seed", "1", "--steps", "999"]]
)
def test_simulate_refuses_steps_that_are_none(words: list[str], run):
    done = run("simulate", *words)
    assert done.exit_code == 2
    assert "--steps" in done.stderr
