"""The OpenAPI 3.1 document of a registry. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from pydantic.json_schema import GenerateJsonSchema, models_json_schema

from superlearner.arsenal.failures import FailureBody
from superlearner.arsenal.operation import Operation

#: Below this stands the path of every operation.
ROOT = "/api/v1"
JSON = "application/json"
_REF = "#/components/schemas/{model}"
WHEN = {
    304: "It is as it was: the ETag is the one that was given.",
    400: "The request cannot be read.",
    401: "Nobody vouches for the caller.",
    403: "The caller may not do that, or comes from another site.",
    404: "What it names is not there.",
    405: "The route knows other methods.",
    409: "What it names is not in a state for that, or it was not confirmed.",
    413: "The body is too large.",
    415: "The body is no JSON.",
    422: "The parameters are not valid, or cannot be carried out.",
    429: "There were too many requests; Retry-After says how long to wait.",
    500: "Something unexpected happened; the server's log has it under the id.",
    503: "The cluster cannot be reached, or is not able to.",
    504: "It took too long.",
}
#: What any operation may answer.
ALWAYS = (400, 401, 403, 405, 413, 415, 422, 429, 500, 503, 504)


def document(operations: Iterable[Operation], *, server: str = "/") -> dict[str, Any]:
    """Return the document.

    Parameters
    ----------
    operations
        What it describes.
    server
        The URL, without ``/api/v1``, at which they are served; it may be relative.
    """
    listed = list(operations)
    pairs = [(operation.params, "validation") for operation in listed]
    pairs += [(operation.result, "serialization") for operation in listed if operation.result is not None]
    pairs.append((FailureBody, "serialization"))
    refs, definitions = models_json_schema(
        [*dict.fromkeys(pairs)],  # type: ignore[list-item]
        ref_template=_REF,
        schema_generator=GenerateJsonSchema,
    )
    schemas: dict[str, Any] = definitions.get("$defs", {})
    paths: dict[str, dict[str, Any]] = {}
    bodies: dict[str, Any] = {}
    for operation in listed:
        own = _resolved(refs[operation.params, "validation"], schemas)
        result = None if operation.result is None else refs[operation.result, "serialization"]
        entry = _entry(operation, own, result, refs[FailureBody, "serialization"], bodies)
        if links := _links(operation, listed):
            entry["responses"][str(operation.status)]["links"] = links
        paths.setdefault(ROOT + operation.route.path, {})[operation.method.lower()] = entry
    params = {ref["$ref"].rpartition("/")[2] for (model, mode), ref in refs.items() if mode == "validation"}
    used = _used({"paths": paths, "bodies": bodies}, schemas)
    kept = {name: schema for name, schema in schemas.items() if name in used or name not in params}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "superlearner",
            "version": _version(),
            "summary": "Supervised, checkpointed, migratable sandboxes on a Dask cluster.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": server}],
        "security": [{"token": []}],
        "tags": [{"name": group} for group in dict.fromkeys(operation.group for operation in listed)],
        "paths": paths,
        "components": {
            "schemas": dict(sorted((kept | bodies).items())),
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _entry(
    operation: Operation,
    own: Mapping[str, Any],
    result: Mapping[str, Any] | None,
    failure: Mapping[str, Any],
    bodies: dict[str, Any],
) -> dict[str, Any]:
    properties: dict[str, Any] = own.get("properties", {})
    required = own.get("required", [])
    parameters = [_parameter(name, "path", properties[name], required=True) for name in operation.in_path]
    entry: dict[str, Any] = {
        "operationId": operation.name,
        "summary": operation.summary,
        "tags": [operation.group],
        "parameters": parameters,
        "x-access": operation.access,
        "x-idempotent": operation.idempotent,
        "x-dangerous": operation.dangerous,
        "x-timeout": operation.timeout,
    }
    if operation.description:
        entry["description"] = operation.description
    beside = {name: properties[name] for name in operation.beside_path}
    if operation.takes_body:
        if beside:
            needed = [name for name in beside if name in required]
            name = f"{operation.name}_body"
            bodies[name] = {"type": "object", "properties": beside, "additionalProperties": False}
            if needed:
                bodies[name]["required"] = needed
            entry["requestBody"] = {
                "required": bool(needed),
                "content": {JSON: {"schema": {"$ref": _REF.format(model=name)}}},
            }
    else:
        parameters += [
            _parameter(name, "query", schema, required=name in required) for name, schema in beside.items()
        ]
    if operation.dangerous:
        described = "It cannot be undone: say that you mean it."
        schema = {"type": "boolean", "default": False}
        parameters.append(
            {"name": "confirm", "in": "query", "required": False, "description": described, "schema": schema}
        )
    entry["responses"] = _responses(operation, result, failure)
    return entry


def _parameter(name: str, place: str, schema: Mapping[str, Any], *, required: bool) -> dict[str, Any]:
    plain = {key: value for key, value in schema.items() if key != "description"}
    made: dict[str, Any] = {"name": name, "in": place, "required": required, "schema": plain}
    if "description" in schema:
        made["description"] = schema["description"]
    return made


def _responses(
    operation: Operation, result: Mapping[str, Any] | None, failure: Mapping[str, Any]
) -> dict[str, Any]:
    good: dict[str, Any] = {"description": operation.summary}
    if result is not None:
        good["content"] = {JSON: {"schema": dict(result)}}
    if operation.creates is not None:
        location = {"description": "Where it can be found.", "schema": {"type": "string"}}
        good["headers"] = {"Location": location}
    responses = {str(operation.status): good}
    if operation.method == "GET":
        good.setdefault("headers", {})["ETag"] = {
            "description": "Give it back as If-None-Match.",
            "schema": {"type": "string"},
        }
        responses["304"] = {"description": WHEN[304]}
    always = {*ALWAYS, *({404} if operation.in_path else ()), *({409} if operation.dangerous else ())}
    for status in sorted({*always, *operation.errors.values()}):
        names = [error.code for error, own in operation.errors.items() if own == status]
        told = f" ({', '.join(names)})" if names else ""
        responses[str(status)] = {
            "description": f"{WHEN[status]}{told}",
            "content": {JSON: {"schema": dict(failure)}},
        }
    responses["default"] = {
        "description": "What no one has foreseen.",
        "content": {JSON: {"schema": dict(failure)}},
    }
    return responses


def _links(operation: Operation, listed: Iterable[Operation]) -> dict[str, Any]:
    """Return what can be done with that which an operation has made: whatever stands at or below its place."""
    if operation.creates is None:
        return {}
    place = operation.creates
    found = {f"path.{name}": f"$response.body#/{name}" for name in place.parameters}
    return {
        other.name: {"operationId": other.name, "parameters": found}
        for other in listed
        if other.route.parts[: len(place.parts)] == place.parts
    }


def _resolved(schema: Mapping[str, Any], schemas: Mapping[str, Any]) -> Mapping[str, Any]:
    while "$ref" in schema:
        schema = schemas[str(schema["$ref"]).rpartition("/")[2]]
    return schema


def _used(tree: Any, schemas: Mapping[str, Any]) -> set[str]:
    """Return the names of the schemas that are referred to, also by each other."""
    found: set[str] = set()
    waiting = [tree]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            name = str(value.get("$ref", "")).rpartition("/")[2]
            if name in schemas and name not in found:
                found.add(name)
                waiting.append(schemas[name])
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
    return found


def _version() -> str:
    try:
        return version("superlearner")
    except PackageNotFoundError:
        return "0"
