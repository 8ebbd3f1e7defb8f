"""How commands print for programs: one JSON document. (For people, the views write text.)"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping
from typing import Any

import click

json_option: Callable[[Any], Any] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document instead of text."
)


def plain(value: Any) -> Any:
    """Turn frozen snapshots into what JSON knows; anything else foreign becomes its text.

    >>> from superlearner.core.history import Event
    >>> plain((Event("node_joined", node="alpha"),))[0]["node"]
    'alpha'
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if hasattr(value, "_asdict"):
        return plain(value._asdict())
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, str | int | float | bool):
        return value
    return str(value)


def print_json(value: Any) -> None:
    """Print `value` as one indented JSON document."""
    click.echo(json.dumps(plain(value), indent=2))
