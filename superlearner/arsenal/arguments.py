"""From what a request carries (texts in a path and a query, JSON in a body) to a valid model. Pure."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import pydantic_core
from pydantic import BaseModel, ValidationError

from superlearner.arsenal.operation import Operation
from superlearner.arsenal.refusals import BadRequest, InvalidParameters

Schema = Mapping[str, Any]


def from_texts(
    operation: Operation, path: Mapping[str, str], query: Mapping[str, Sequence[str]]
) -> dict[str, Any]:
    """Return the parameters in a path and a query as JSON values, by what the model takes.

    What is given twice, or is not known, is refused. Whether a value is right is seen by `validated`.
    """
    found: dict[str, Any] = {}
    for name, text in path.items():
        found[name] = value_of(operation.params, name, [text])
    for name, texts in query.items():
        if name not in operation.beside_path:
            known = ", ".join(operation.beside_path) or "none"
            raise InvalidParameters(
                operation.name, ((name, f"there is no such parameter (there are: {known})"),)
            )
        found[name] = value_of(operation.params, name, texts)
    return found


def value_of(model: type[BaseModel], name: str, texts: Sequence[str]) -> Any:
    """Return what the texts given for a field stand for: texts, where it takes these, else JSON."""
    schema, definitions = _schemas(model)
    field = schema.get(name, {})
    if _takes(field, "array", definitions) and not _takes(field, "string", definitions):
        items = field.get("items", {})
        return [_one(text, items, definitions) for text in texts]
    if len(texts) != 1:
        raise InvalidParameters(model.__name__, ((name, "it is given more than once"),))
    return _one(texts[0], field, definitions)


def as_words(value: Any) -> Any:
    """Return a value as a query or a command has it, a list item by item: what `value_of` reads.

    >>> as_words("shop"), as_words(5), as_words(["a", True])
    ('shop', '5', ['a', 'true'])
    """
    if isinstance(value, list):
        return [as_words(item) for item in value]
    return value if isinstance(value, str) else json.dumps(value)


def _one(text: str, schema: Schema, definitions: Schema) -> Any:
    words_only = _takes(schema, "string", definitions) and not _takes(schema, "number", definitions)
    if words_only and not _is_any(schema):
        return text
    try:
        return pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError:
        return text  # a model that wants something else says so


def _is_any(schema: Schema) -> bool:
    return not {"type", "anyOf", "oneOf", "allOf", "$ref", "enum", "const"} & set(schema)


def _takes(schema: Schema, kind: str, definitions: Schema) -> bool:
    """Tell whether a JSON schema lets values of a kind through."""
    if "$ref" in schema:
        return _takes(definitions.get(str(schema["$ref"]).rpartition("/")[2], {}), kind, definitions)
    if "enum" in schema or "const" in schema:
        values = schema.get("enum", [schema.get("const")])
        return kind == "string" and any(isinstance(value, str) for value in values)
    for key in ("anyOf", "oneOf", "allOf"):
        if key in schema:
            return any(_takes(inner, kind, definitions) for inner in schema[key])
    return bool(schema.get("type", kind) == kind)


@functools.lru_cache(maxsize=1024)
def _schemas(model: type[BaseModel]) -> tuple[Schema, Schema]:
    schema = model.model_json_schema()
    return schema.get("properties", {}), schema.get("$defs", {})


def from_body(operation: Operation, body: bytes) -> dict[str, Any]:
    """Return the parameters in a JSON body; nothing at all stands for ``{}``."""
    if not body.strip():
        return {}
    try:
        found = pydantic_core.from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise BadRequest(f"The body of the request is not JSON ({error}); nothing was done.") from None
    if not isinstance(found, dict):
        raise InvalidParameters(operation.name, (("", "the body must be a JSON object"),))
    for name in found:
        if name in operation.in_path:
            raise InvalidParameters(operation.name, ((name, "it stands in the path already"),))
    return found


def validated(operation: Operation, given: Mapping[str, Any], *, strict: bool) -> BaseModel:
    """Return the model; `strict` for what was JSON, which has types of its own: ``"5"`` is no number there."""
    try:
        if not strict:
            return operation.params.model_validate(dict(given))
        try:
            return _from_json(operation, given)
        except ValidationError as error:
            whole = _whole_numbers(given, error)
            if whole is given:
                raise
            return _from_json(operation, whole)
    except ValidationError as error:
        raise InvalidParameters(operation.name, _problems(error, operation.params)) from None
    except ValueError as error:  # a text that no JSON can carry, such as half a surrogate
        raise InvalidParameters(operation.name, (("", str(error)),)) from None


def _from_json(operation: Operation, given: Mapping[str, Any]) -> BaseModel:
    return operation.params.model_validate_json(pydantic_core.to_json(given), strict=True)


def _whole_numbers(given: Mapping[str, Any], error: ValidationError) -> Mapping[str, Any]:
    """Return what was given, with ``3`` for ``3.0`` where a whole number was wanted: JSON knows no difference."""
    places = [one["loc"] for one in error.errors(include_url=False) if one["type"] == "int_type"]
    changed = copy.deepcopy(given) if places else given
    found = False
    for place in places:
        holder: Any = None
        last, value = None, changed
        for step in place:  # a step that leads nowhere names one of several types
            if (isinstance(value, dict) and step in value) or (
                isinstance(value, list) and step in range(len(value))
            ):
                holder, last, value = value, step, value[step]
        if holder is not None and isinstance(value, float) and value.is_integer():
            holder[last] = int(value)
            found = True
    return changed if found else given


def _problems(error: ValidationError, model: type[BaseModel]) -> tuple[tuple[str, str], ...]:
    """Say where and what; never the value itself, which may be a secret."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return tuple((".".join(map(str, one["loc"])), _why(one, model)) for one in found[:20])


def _why(problem: Mapping[str, Any], model: type[BaseModel]) -> str:
    """Return what is wrong; where a pattern is missed, with the words that say what is wanted."""
    known = model.model_fields.get(str(problem["loc"][0])) if len(problem["loc"]) == 1 else None
    if problem["type"] == "string_pattern_mismatch" and known is not None and known.description:
        return f"{problem['msg']}. {known.description.rstrip('.')}"
    return str(problem["msg"])
