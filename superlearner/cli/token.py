"""``token``: who may ask the server of ``superlearner serve``, and for what."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from superlearner.cli.output import json_option, print_json
from superlearner.errors import SuperlearnerError
from superlearner.views import format as fmt

if TYPE_CHECKING:
    from superlearner.arsenal.access import Token

_file = click.option(
    "--token-file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Another file than tokens.json in the state directory.",
)


class NoToken(SuperlearnerError):
    """There is no token of that name, or one already; nothing was changed."""

    code = "no_token"
    advice = "`superlearner token list` names those there are."


@click.group()
def token() -> None:
    """List, show, add or remove tokens of `superlearner serve`; a running server takes note at once."""


def _read(path: Path | None) -> tuple[Path, list[Token]]:
    from superlearner.arsenal.http.tokens import TokenFile, read, token_path

    where = path or token_path()
    TokenFile(where)  # one with a token of each access is made where there is none
    return where, read(where)


@token.command("list")
@_file
@json_option
def list_tokens(token_file: Path | None, *, as_json: bool) -> None:
    """List the tokens, without their secrets."""
    _, tokens = _read(token_file)
    rows: list[dict[str, Any]] = [{"name": t.name, "access": t.access, "expires": t.expires} for t in tokens]
    if as_json:
        print_json(rows)
        return
    header = ("name", "access", "expires")
    click.echo(fmt.table(header, [(t.name, t.access, _until(t.expires)) for t in tokens]))


def _until(expires: float | None) -> str:
    return "never" if expires is None else time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(expires))


@token.command()
@click.argument("name")
@_file
def show(name: str, token_file: Path | None) -> None:
    """Print the secret of the token NAME, for a header or a file."""
    _, tokens = _read(token_file)
    for one in tokens:
        if one.name == name:
            click.echo(one.secret)
            return
    raise NoToken(f"There is no token {name!r}.")


@token.command()
@click.argument("name")
@click.option(
    "--access", type=click.Choice(["read", "operate", "admin"]), required=True, help="What it lets one do."
)
@click.option(
    "--hours", type=click.FloatRange(min=0, min_open=True), help="How long it is good; for ever by default."
)
@_file
def add(name: str, access: str, hours: float | None, token_file: Path | None) -> None:
    """Make the token NAME and print its secret."""
    from superlearner.arsenal.http.tokens import new_token, write

    where, tokens = _read(token_file)
    if any(one.name == name for one in tokens):
        raise NoToken(f"There is a token {name!r} already; nothing was changed.")
    made = new_token(name, access, None if hours is None else time.time() + hours * 3600)
    write(where, [*tokens, made])
    click.echo(made.secret)


@token.command()
@click.argument("name")
@_file
def remove(name: str, token_file: Path | None) -> None:
    """Remove the token NAME: it is refused from the next request on."""
    from superlearner.arsenal.http.tokens import write

    where, tokens = _read(token_file)
    kept = [one for one in tokens if one.name != name]
    if len(kept) == len(tokens):
        raise NoToken(f"There is no token {name!r}; nothing was changed.")
    write(where, kept)
    click.echo(f"The token {name} is removed.")
