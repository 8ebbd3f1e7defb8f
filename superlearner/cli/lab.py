"""``lab``: JupyterLab on the lessons, with a running cluster behind it."""

from __future__ import annotations

import importlib.util
import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from superlearner.cli.cluster import nodes_option
from superlearner.cli.server import LISTENS
from superlearner.cli.signals import stops_cleanly
from superlearner.errors import SuperlearnerError

#: Seconds that JupyterLab has to end its kernels before it is killed.
SHUTDOWN = 15.0

#: Below the server's base URL, where the extension serves the operations.
PREFIX = "superlearner"
_SETTINGS = Path(__file__).with_name("settings")


class LabFailed(SuperlearnerError):
    """JupyterLab could not be started."""

    code = "lab_failed"
    advice = "`superlearner doctor` tells what this machine lacks."


@click.command()
@click.argument(
    "folder", metavar="[DIR]", required=False, type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option("--no-browser", is_flag=True, help="Print the address, and open no browser.")
@click.option(
    "--port", type=click.IntRange(1, 65535), default=8888, show_default=True, help="The first port to try."
)
@nodes_option
def lab(folder: Path | None, port: int, nodes: int, *, no_browser: bool) -> None:
    """Open JupyterLab on the notebooks in DIR (else ./notebooks, else here), with a running cluster.

    A cluster that runs already is used and stays when you leave; else one is started, and stopped at the end.
    Ctrl-C stops everything.
    """
    if importlib.util.find_spec("jupyterlab") is None:
        raise LabFailed(
            f'JupyterLab is not installed: run `{sys.executable} -m pip install "superlearner[lab]"`.'
        )
    root = (folder or next((p for p in (Path("notebooks"),) if p.is_dir()), Path())).resolve()
    try:
        with stops_cleanly(), local_cluster(nodes):
            run(root, port=port, browser=not no_browser)
    except KeyboardInterrupt:
        click.echo("JupyterLab is stopped.", err=True)


@contextmanager
def local_cluster(nodes: int, *, quiet: bool = False) -> Iterator[None]:
    """Make sure that the shared local cluster runs; the one that was started here is stopped at the end."""
    from superlearner.cluster.local import find_connection, start_daemon, stop_daemon
    from superlearner.cluster.names import node_names

    running = find_connection()
    if running is not None:
        if not quiet:
            click.echo(f"Using the cluster that runs already: nodes {', '.join(running.nodes)}.")
        yield
        return
    started = start_daemon(node_names(nodes), detached=True)
    try:
        if not quiet:
            click.echo(f"The cluster is ready: nodes {', '.join(started.nodes)}.")
        yield
    finally:
        stop_daemon(started)


def arguments(root: Path, *, port: int, browser: bool) -> list[str]:
    """Return the settings of JupyterLab as flags, because an editable installation carries no settings files."""
    flags = [
        f"--ServerApp.root_dir={root}",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}",
        "--ServerApp.allow_unauthenticated_access=False",
        "--ServerApp.jpserver_extensions=superlearner.arsenal.jupyter=True",
        "--ServerApp.log_level=INFO",
        f"--LabApp.default_url={first_page(root)}",
        f"--LabApp.app_settings_dir={_SETTINGS}",
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.handlers.announcements.NeverCheckForUpdate",
        "--LabApp.extension_manager=readonly",
    ]
    if not browser:
        flags.append("--no-browser")
    if os.geteuid() == 0:  # Jupyter refuses root unless told; it listens on the loopback interface alone
        flags.append("--allow-root")
    return flags


def first_page(root: Path) -> str:
    """Return where JupyterLab opens: the first lesson of `root`, if it has one."""
    lessons = sorted(path.name for path in root.glob("[0-9][0-9]_*.ipynb"))
    return f"/lab/tree/{lessons[0]}" if lessons else "/lab"


def run(root: Path, *, port: int, browser: bool) -> None:
    """Run JupyterLab until it ends or the block is interrupted; it is gone when this returns or raises.

    Raises
    ------
    LabFailed
        It ended before it was ready.
    """
    token = secrets.token_urlsafe(24)
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "superlearner.cli.server",
            str(os.getpid()),
            *arguments(root, port=port, browser=browser),
        ],
        # By the environment: a command line can be read by every user of the machine.
        env=os.environ | {"JUPYTER_TOKEN": token},
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        # Ctrl-C in the terminal is for the command, which then stops JupyterLab without its question.
        start_new_session=True,
    )
    try:
        listened = follow(server, f"{first_page(root)}?token={token}")
        code = server.wait()
    finally:
        stop(server)
    if code != 0 or not listened:
        raise LabFailed(f"JupyterLab ended with exit code {code}.")


def follow(server: subprocess.Popen[str], page: str) -> bool:
    """Read the log until JupyterLab ends; print where `page` is once it listens, and pass on errors after that.

    What it says before it listens is only of interest when it never does. Returns whether it did.
    """
    listens, said = False, list[str]()
    assert server.stderr is not None
    for line in server.stderr:
        if line.startswith(LISTENS):
            listens = True
            address = line.removeprefix(LISTENS).strip().rstrip("/")
            click.echo(
                f"JupyterLab: {address}{page}\nThe operations: {address}/{PREFIX}/\nPress Ctrl-C to stop."
            )
        elif not listens:
            said.append(line)
        elif line.startswith(("[E", "[C")):
            click.echo(line.rstrip(), err=True)
    if not listens:
        click.echo("".join(said[-20:]).rstrip(), err=True)
    return listens


def stop(server: subprocess.Popen[str]) -> None:
    """Ask JupyterLab to end its kernels and itself, and see to it that it does."""
    if server.poll() is None:
        server.terminate()
        try:
            server.wait(timeout=SHUTDOWN)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
    if server.stderr is not None:
        server.stderr.close()
