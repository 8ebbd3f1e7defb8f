"""``serve``: the operations over HTTP, alone."""

from __future__ import annotations

import asyncio
import importlib
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from superlearner.cli.cluster import nodes_option
from superlearner.cli.lab import local_cluster
from superlearner.cli.output import print_json
from superlearner.cli.signals import asked_to_stop, stops_cleanly
from superlearner.errors import SuperlearnerError

if TYPE_CHECKING:
    from superlearner.arsenal.http.house import Limits


class NotServed(SuperlearnerError):
    """The server could not be started."""

    code = "not_served"
    advice = "`superlearner serve --help` tells the options."


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen on.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, show_default=True, help="0: the system chooses one."
)
@click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Who may do what; made where there is none. By default tokens.json in the state directory.",
)
@click.option("--name", "names", multiple=True, help="Another host name by which this server may be asked.")
@click.option("--operations", "modules", multiple=True, help="Import path of a module with more operations.")
@click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document instead of text, once it serves."
)
@nodes_option
def serve(
    host: str,
    port: int,
    token_file: Path | None,
    names: tuple[str, ...],
    modules: tuple[str, ...],
    nodes: int,
    *,
    as_json: bool,
) -> None:
    """Serve every operation over HTTP, to callers that show a token. Ctrl-C stops it.

    A cluster that runs already is used and stays; else one is started, and stopped at the end.
    """
    from superlearner.arsenal.registry import add, shared

    if modules:
        sys.path.insert(0, str(Path.cwd()))  # where `superlearner op new` writes
    for module in modules:
        try:
            add(shared(), importlib.import_module(module))
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            raise NotServed(
                f"There is no module {module!r} here or among what is installed; nothing was served."
            ) from None
    with suppress(KeyboardInterrupt), stops_cleanly(), local_cluster(nodes, quiet=as_json):
        asyncio.run(_serve(host, port, token_file, names, None, as_json=as_json))
    click.echo("The server is stopped.", err=True)


async def _serve(
    host: str,
    port: int,
    token_file: Path | None,
    names: tuple[str, ...],
    limits: Limits | None,
    *,
    as_json: bool,
) -> None:
    from superlearner.arsenal.http.server import Served
    from superlearner.arsenal.http.tokens import token_path
    from superlearner.arsenal.local import connect
    from superlearner.arsenal.openapi import ROOT

    try:
        served = Served(connect, token_file or token_path(), host=host, port=port, names=names, limits=limits)
    except OSError as error:
        raise NotServed(
            f"Nothing can listen at {host}, port {port}: {error.strerror}. Nothing was served."
        ) from None
    try:
        served.announce()
        told = {"url": f"{served.url}{ROOT}", "token_file": str(served.tokens.path)}
        if as_json:
            print_json(told)
        else:
            click.echo(
                f"The operations: {told['url']}/\n"
                "A browser asks for a name and a password: any name, and what\n"
                "`superlearner token show read` prints.\n"
                f"The tokens: {told['token_file']}\nPress Ctrl-C to stop."
            )
        await asked_to_stop()
    finally:
        await served.close()
