"""JSON schemas in words: what a value may be, and the fields that it has. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]
_WORDS = {"null": "null", "string": "string", "boolean": "true or false", "number": "number"}


@dataclass(frozen=True, slots=True)
class Row:
    """One field."""

    name: str
    type: str
    required: bool
    #: As JSON; None where there is none.
    default: str | None
    description: str
    #: The objects that it holds, by the name of each: what there is to say of their fields.
    within: tuple[tuple[str, Schema], ...]


def rows(schema: Schema, schemas: Mapping[str, Schema]) -> Iterator[Row]:
    """Return the fields of an object.

    >>> Greet = {"properties": {"times": {"type": "integer", "minimum": 1, "default": 1}}}
    >>> [(row.name, row.type, row.default) for row in rows(Greet, {})]
    [('times', 'integer, at least 1', '1')]
    """
    needed = schema.get("required", ())
    for name, field in schema.get("properties", {}).items():
        default = json.dumps(field["default"]) if "default" in field else None
        within = tuple(dict.fromkeys(held(field, schemas)))
        found = tuple((key, schemas[key]) for key in within)
        yield Row(
            name, in_words(field, schemas), name in needed, default, field.get("description", ""), found
        )


def in_words(schema: Schema, schemas: Mapping[str, Schema]) -> str:
    """Return what a value may be.

    >>> in_words({"anyOf": [{"type": "string", "maxLength": 63}, {"type": "null"}]}, {})
    'string, at most 63 characters; or null'
    >>> in_words({"type": "array", "items": {"enum": ["up", "down"]}}, {})
    'list of "up", "down"'
    >>> in_words({"type": "array", "items": {"type": "integer"}, "maxItems": 9}, {})
    'list (at most 9 items) of integer'
    """
    if "$ref" in schema:
        name = _name(schema)
        target = schemas.get(name, {})
        return title(name, target) if "properties" in target else in_words(target, schemas)
    if "const" in schema:
        return json.dumps(schema["const"])
    if "enum" in schema:
        return ", ".join(json.dumps(value) for value in schema["enum"])
    for key in ("anyOf", "oneOf"):
        if key in schema:
            kinds = list(dict.fromkeys(in_words(one, schemas) for one in schema[key]))
            glue = "; or " if any("," in kind for kind in kinds) else " or "
            return glue.join(kinds)
    match schema.get("type"):
        case None:
            return "any JSON"
        case "array":
            items = schema.get("prefixItems") or [schema.get("items", {})]
            inner = ", ".join(in_words(item, schemas) for item in items)
            bounds = _bounded("", schema, "minItems", "maxItems", "items").removeprefix(", ")
            return f"list of {inner}" if not bounds else f"list ({bounds}) of {inner}"
        case "object":
            values = schema.get("additionalProperties")
            return f"object of {in_words(values, schemas)}" if isinstance(values, Mapping) else "object"
        case "string":
            return _bounded("string", schema, "minLength", "maxLength", "characters")
        case "integer" | "number" as kind:
            return _bounded(kind, schema, "minimum", "maximum", "")
        case kind:
            return _WORDS.get(kind, str(kind))


def in_short(schema: Schema, schemas: Mapping[str, Schema]) -> str:
    """Return the word for a value where there is room for one: what stands for it in a command's help.

    >>> in_short({"anyOf": [{"enum": ["up", "down"]}, {"type": "null"}]}, {}), in_short({"type": "integer"}, {})
    ('[up|down]', 'INTEGER')
    """
    if "$ref" in schema:
        return in_short(schemas.get(_name(schema), {}), schemas)
    if "enum" in schema and all(isinstance(value, str) for value in schema["enum"]):
        return f"[{'|'.join(schema['enum'])}]"
    kinds = [one for key in ("anyOf", "oneOf") for one in schema.get(key, ()) if one.get("type") != "null"]
    if kinds:
        words = {in_short(one, schemas) for one in kinds}
        return words.pop() if len(words) == 1 else "JSON"
    return {"string": "TEXT", "integer": "INTEGER", "number": "NUMBER", "boolean": "[true|false]"}.get(
        schema.get("type", ""), "JSON"
    )


def _bounded(word: str, schema: Schema, low: str, high: str, unit: str) -> str:
    """Return a word with the limits of a schema; one that says nothing is left out."""
    least, most = schema.get(low), schema.get(high)
    unit = f" {unit}" if unit else ""
    told = []
    if least is not None and most is not None and (unit == "" or least > 1):
        told.append(f"{least:,} to {most:,}{unit}")
    elif most is not None:
        told.append(f"at most {most:,}{unit}")
    elif least is not None and (unit == "" or least > 1):
        told.append(f"at least {least:,}{unit}")
    told += [f"above {schema[key]:,}" for key in ("exclusiveMinimum",) if key in schema]
    told += [f"below {schema[key]:,}" for key in ("exclusiveMaximum",) if key in schema]
    return ", ".join([word, *told])


def held(schema: Schema, schemas: Mapping[str, Schema]) -> Iterator[str]:
    """Return the names of the objects with fields that a value is, or holds directly."""
    if "$ref" in schema:
        name = _name(schema)
        if "properties" in schemas.get(name, {}):
            yield name
        else:
            yield from held(schemas.get(name, {}), schemas)
    for key in ("anyOf", "oneOf", "allOf", "prefixItems"):
        for one in schema.get(key, ()):
            yield from held(one, schemas)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), Mapping):
            yield from held(schema[key], schemas)


def title(name: str, schema: Schema) -> str:
    """Return how an object is called: its class, without what only tells it from others in the document."""
    return str(schema.get("title", name))


def _name(schema: Schema) -> str:
    return str(schema["$ref"]).rpartition("/")[2]
