"""``op new NAME``: write the module of an operation, and its test."""

from __future__ import annotations

from pathlib import Path

import click

from superlearner.cli.output import json_option, print_json
from superlearner.errors import SuperlearnerError

_MODULE = '''"""An operation of our own: {name}."""

from __future__ import annotations

from superlearner.arsenal import AwaitedCluster, Field, Params, Result, operation


class {title}Params(Params):
    """What {name} takes."""

    node: str | None = Field(None, description="Only the sandboxes on this node.")


class {title}Result(Result):
    """What {name} tells."""

    sandboxes: int = Field(description="How many there are.")


@operation("GET", "/{path}", access="read", timeout=5.0)
async def {name}(cluster: AwaitedCluster, params: {title}Params) -> {title}Result:
    """Say in one sentence what it does."""
    found = await cluster.sandboxes(node=params.node)
    return {title}Result(sandboxes=len(found))
'''

_TEST = '''"""{name} does what it says, on a real cluster."""

from __future__ import annotations

import pytest
import {module} as module

import superlearner as sl


@pytest.fixture
def cluster():
    """A cluster of one node."""
    with sl.Cluster(nodes=1) as running:
        yield running


def test_{name}(cluster):
    cluster.ops.register(module.{name}, replace=True)
    assert cluster.ops.{name}().sandboxes == 0
'''

_POINT = """
[project.entry-points."superlearner.operations"]
{name} = "{module}:{name}"
"""


class NotWritten(SuperlearnerError):
    """A module could not be written; nothing was changed."""

    code = "not_written"


@click.command()
@click.argument("name")
@click.option(
    "--folder",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="Where the two files go; here by default.",
)
@json_option
def new(name: str, folder: Path, *, as_json: bool) -> None:
    """Write a module with an operation called NAME, and its test; both work as they are."""
    if not (name.isidentifier() and name.islower() and not name.startswith("_")):
        raise NotWritten(f"{name!r} is no name for an operation: write small letters, digits and _.")
    module = folder / f"{name}_operation.py"
    test = folder / f"test_{name}_operation.py"
    for path in (module, test):
        if path.exists():
            raise NotWritten(
                f"{path} is there already; nothing was written. Choose another name or --folder."
            )
    title = "".join(word.capitalize() for word in name.split("_"))
    words = {"name": name, "title": title, "path": name.replace("_", "-"), "module": module.stem}
    module.write_text(_MODULE.format(**words), encoding="utf-8")
    test.write_text(_TEST.format(**words), encoding="utf-8")
    if as_json:
        print_json({"module": str(module), "test": str(test)})
        return
    click.echo(f"Written: {module} and {test}. Try it with `pytest {test}`.")
    click.echo(f"From a notebook, for the whole cluster: `cluster.ops.register({module.stem}.{name})`.")
    click.echo(
        f"To have it in one server: `superlearner serve --operations {module.stem}`, from that folder."
    )
    click.echo(
        f"To have it everywhere, name it in the pyproject.toml of your package:\n{_POINT.format(**words)}"
    )
