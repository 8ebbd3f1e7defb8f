"""The group of commands, and what a person sees when one of them fails."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from superlearner.errors import SuperlearnerError

#: Where each command lives: its module, and its line in the overview. The module is imported when it is needed.
COMMANDS = {
    "demo": (
        "superlearner.cli.demo",
        "Three nodes, a sandbox, three kills: the state is back. With --chaos: every other fault.",
    ),
    "doctor": ("superlearner.cli.doctor", "Tell what is missing on this machine."),
    "history": ("superlearner.cli.cluster", "Print the event log of the cluster."),
    "lab": ("superlearner.cli.lab", "JupyterLab with a running cluster, lessons and dashboard."),
    "lessons": ("superlearner.cli.lessons", "List, build or check the lessons."),
    "ls": ("superlearner.cli.cluster", "List the sandboxes."),
    "nemesis": (
        "superlearner.cli.nemesis",
        "Real faults on a local cluster while clients work, then the verdicts.",
    ),
    "op": ("superlearner.cli.op", "Run any operation; --list tells which there are."),
    "openapi": ("superlearner.cli.op", "Print the OpenAPI document of all operations."),
    "serve": ("superlearner.cli.serve", "The operations over HTTP, to callers that show a token."),
    "simulate": ("superlearner.cli.simulate", "The control plane against seeded faults, in virtual time."),
    "start": ("superlearner.cli.cluster", "Start the local cluster in the background."),
    "status": ("superlearner.cli.cluster", "Show the cluster and its nodes."),
    "stop": ("superlearner.cli.cluster", "Stop the local cluster."),
    "token": ("superlearner.cli.token", "Who may ask the server of `serve`, and for what."),
}


class Commands(click.Group):
    """Commands that are imported when they are called, and fail with one sentence instead of a traceback."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands, sorted."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the module of `cmd_name` and return the command, or None if there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        module, _ = COMMANDS[cmd_name]
        command = getattr(importlib.import_module(module), cmd_name)
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the overview from the table alone, without importing anything."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name][1]) for name in self.list_commands(ctx)])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; a failure becomes its message on stderr and an exit code."""
        return guarded(lambda: super(Commands, self).invoke(ctx))


def guarded(command: Callable[[], Any]) -> Any:
    """Run `command`; turn an error into one sentence on stderr and exit code 1, Ctrl-C into exit code 130.

    ``SUPERLEARNER_DEBUG=1`` in the environment shows the whole traceback, to report a bug with.
    """
    try:
        return command()
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    except (click.ClickException, click.exceptions.Exit, click.Abort):
        raise
    except Exception as error:
        if os.environ.get("SUPERLEARNER_DEBUG"):
            raise
        click.echo(sentence(error), err=True)
        raise SystemExit(1) from None


def sentence(error: Exception) -> str:
    """Say in one line what went wrong.

    >>> from superlearner.errors import ClusterNotFound
    >>> sentence(ClusterNotFound("No local cluster is running."))
    'No local cluster is running. Start one with `superlearner start`, or with superlearner.Cluster().'
    >>> sentence(KeyError("x"))
    "Unexpected KeyError: 'x'. Run again with SUPERLEARNER_DEBUG=1 to see where."
    """
    if isinstance(error, SuperlearnerError):
        return " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError) and not (error.name or "").startswith("superlearner"):
        return f'The package {error.name} is not installed: run `{sys.executable} -m pip install "superlearner[lab]"`.'
    text = " ".join(str(error).split())
    return f"Unexpected {type(error).__name__}: {text}. Run again with SUPERLEARNER_DEBUG=1 to see where."


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="superlearner")
def main() -> None:
    """Learn how systems stay up: supervised, checkpointed, migratable sandboxes on a Dask cluster."""
