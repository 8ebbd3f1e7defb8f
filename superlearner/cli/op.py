"""``op`` and ``openapi``: every operation as a command, made from its declaration."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from superlearner.cli.output import print_json
from superlearner.errors import SuperlearnerError
from superlearner.views import format as fmt

if TYPE_CHECKING:
    from superlearner.arsenal.operation import Operation
    from superlearner.arsenal.registry import Registry


#: Where a command keeps the operations that it has looked up.
_KNOWN = "superlearner.operations"
#: The columns of a terminal.
WIDTH = 80


class OperationCommands(click.Group):
    """One command for each operation that is registered."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all operations."""
        return [operation.name for operation in everything()]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Make the command of an operation; ``new`` makes an operation."""
        if cmd_name == "new":
            from superlearner.cli.op_new import new

            return new
        from superlearner.arsenal.registry import shared

        name = cmd_name.replace("-", "_")
        known = shared() if name in shared() else everything()
        return command_of(known.get(name)) if name in known else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the operations by what they are about."""
        formatter.write_paragraph()
        for line in listed():
            formatter.write(f"{line}\n")

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; one that does not exist is told with the nearest that does."""
        from superlearner.arsenal.refusals import NoOperation

        name = args[0] if args else ""
        if name and not name.startswith("-") and self.get_command(ctx, name) is None:
            raise NoOperation(name, (*self.list_commands(ctx), "new"))
        return super().resolve_command(ctx, args)


@click.group(cls=OperationCommands, invoke_without_command=True, subcommand_metavar="NAME [ARGS]...")
@click.option("--list", "list_them", is_flag=True, help="List all operations.")
@click.option("--json", "as_json", is_flag=True, help="List them as one JSON document.")
@click.pass_context
def op(ctx: click.Context, *, list_them: bool, as_json: bool) -> None:
    """Run an operation on the local cluster, or through a server. `op NAME --help` tells what it takes.

    The result is one JSON document. `op new NAME` writes the module of an operation of your own, with its test.
    """
    if ctx.invoked_subcommand is not None:
        return
    if as_json:
        print_json([described(operation) for operation in everything()])
    elif list_them:
        click.echo("\n".join(listed()))
    else:
        click.echo(ctx.get_help())


def everything() -> Registry:
    """Return the operations of this process, and those that others have registered in the local cluster that runs.

    They are looked up once for each command.
    """
    kept = click.get_current_context().meta
    if _KNOWN not in kept:
        kept[_KNOWN] = asyncio.run(_learned())
    found: Registry = kept[_KNOWN]
    return found


async def _learned() -> Registry:
    from superlearner.arsenal.elsewhere import PATIENCE, Table
    from superlearner.arsenal.local import connect
    from superlearner.arsenal.registry import shared
    from superlearner.cluster.local import find_connection

    table = Table(shared())
    try:
        if find_connection() is not None:
            async with asyncio.timeout(PATIENCE), await connect() as cluster:
                await table.learn(cluster)
    except (SuperlearnerError, TimeoutError, OSError) as error:
        why = str(error) or f"It has not answered within {PATIENCE:g} s."
        click.echo(f"What others have registered in the local cluster is not known. {why}", err=True)
    return table.all


def listed() -> list[str]:
    """Return all operations by what they are about, a line for each; "!" marks those that ask for --confirm."""
    from superlearner.arsenal.registry import by_group

    lines: list[str] = []
    for group, operations in by_group(everything()):
        lines += ["", group.replace("_", " ").capitalize()] if lines else [group.capitalize()]
        for one in operations:
            mark = "!" if one.dangerous else " "
            what = re.split("[;:] ", one.summary)[0].removesuffix(".")
            lines.append(fmt.shorten(f"  {one.name:<22} {one.access:<7} {mark} {what}", WIDTH))
    return [*lines, "", 'Those with "!" ask for --confirm. `superlearner op NAME --help` tells the rest.']


def described(operation: Operation) -> dict[str, Any]:
    """Return what a program wants to know of an operation."""
    from superlearner.arsenal.openapi import ROOT

    return {
        "name": operation.name,
        "group": operation.group,
        "method": operation.method,
        "path": ROOT + operation.route.path,
        "summary": operation.summary,
        "access": operation.access,
        "idempotent": operation.idempotent,
        "dangerous": operation.dangerous,
        "timeout": operation.timeout,
        "parameters": operation.params.model_json_schema(),
        "errors": {error.code: status for error, status in operation.errors.items()},
    }


def command_of(operation: Operation) -> click.Command:
    """Return an operation as a command: what is in its path as arguments, the others as options."""
    from superlearner.arsenal.examples import as_command, example

    parameters: list[click.Parameter] = [click.Argument([name], required=True) for name in operation.in_path]
    parameters += sorted(
        (option(operation, name) for name in operation.beside_path), key=lambda one: not one.required
    )
    if operation.dangerous:
        parameters.append(
            click.Option(["--confirm"], is_flag=True, help="It cannot be undone: say that you mean it.")
        )
    parameters += [
        click.Option(
            ["--url"], help="Ask a server there (as `superlearner serve` prints it), not the local cluster."
        ),
        click.Option(
            ["--token-file"],
            type=click.Path(path_type=Path),
            help="With --url: its token file, or one with a token.",
        ),
        click.Option(["--json", "as_json"], is_flag=True, help="Changes nothing: the result is JSON anyway."),
    ]

    def run(
        url: str | None, token_file: Path | None, *, confirm: bool = False, as_json: bool, **words: Any
    ) -> None:
        if token_file is not None and url is None:
            raise click.UsageError("--token-file is for a server: give its --url, too.")
        body = run_operation(operation, words, confirm=confirm, url=url, token_file=token_file)
        if body:
            click.echo(json.dumps(json.loads(body), indent=2))

    notes = [operation.summary, operation.description]
    notes.append(f"Access: {operation.access}. Time limit: {operation.timeout:g} s.")
    notes.append(f"{operation.method} {operation.route.path}")
    fields = operation.params.model_fields
    notes += [f"{name.upper()}: {fields[name].description or ''}" for name in operation.in_path]
    shown = as_command(operation, example(operation), width=WIDTH - 4).replace("\n", "\n  ")
    return click.Command(
        operation.name,
        callback=run,
        params=parameters,
        help="\n\n".join(note for note in notes if note),
        epilog=f"\b\nExample:\n  {shown}",
    )


def option(operation: Operation, name: str) -> click.Option:
    """Return a parameter as an option; one that is a list may be given more than once."""
    from superlearner.arsenal.shapes import held, in_short

    given = operation.params.model_fields[name]
    schema = operation.params.model_json_schema()
    field = schema["properties"][name]
    many = field.get("type") == "array"
    kinds = schema.get("$defs", {})
    told = [given.description or "", "May be given more than once." if many else ""]
    told += [f"Of {kind}: {', '.join(kinds[kind]['properties'])}." for kind in held(field, kinds)]
    default = field.get("default")
    if default is not None:
        told.append(f"[default: {default if isinstance(default, str) else json.dumps(default)}]")
    return click.Option(
        [f"--{name.replace('_', '-')}", name],
        required=given.is_required(),
        multiple=many,
        help=" ".join(word for word in told if word),
        metavar=in_short(field.get("items", {}) if many else field, kinds),
    )


def from_words(operation: Operation, words: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters that the words of a command line stand for."""
    from superlearner.arsenal.arguments import from_texts

    path = {name: words[name] for name in operation.in_path}
    beside: dict[str, list[str]] = {}
    for name in operation.beside_path:
        value = words[name]
        if isinstance(value, tuple) and value:
            beside[name] = list(value)
        elif isinstance(value, str):
            beside[name] = [value]
    return from_texts(operation, path, beside)


def run_operation(
    operation: Operation, words: dict[str, Any], *, confirm: bool, url: str | None, token_file: Path | None
) -> bytes:
    """Carry out an operation with what the command line says, here or through a server; return its JSON."""
    given = from_words(operation, words)
    if url is not None:
        from superlearner.arsenal.http.client import ask

        return ask(url, operation, given, confirm=confirm, token_file=token_file)
    return asyncio.run(on_local_cluster(operation, given, confirm=confirm))


async def on_local_cluster(operation: Operation, given: dict[str, Any], *, confirm: bool) -> bytes:
    """Carry out an operation on the local cluster that runs; none is started."""
    from superlearner.arsenal.access import Caller
    from superlearner.arsenal.local import connect
    from superlearner.arsenal.ops import user
    from superlearner.arsenal.pipeline import carry_out
    from superlearner.arsenal.plain import to_json

    cluster = await connect()
    try:
        result = await carry_out(operation, cluster, given, Caller(user(), "admin", "cli"), confirm=confirm)
        return b"" if result is None else to_json(result)
    finally:
        await cluster.close()


@click.command()
@click.option("--server", default="/", show_default=True, help="The URL at which the operations are served.")
def openapi(server: str) -> None:
    """Print the OpenAPI document of all operations."""
    from superlearner.arsenal.openapi import document

    click.echo(json.dumps(document(everything(), server=server), indent=2))
