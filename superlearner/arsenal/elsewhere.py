"""Operations of other processes: declared to the cluster as data, and carried out where they were registered.

Code of a notebook cell is run in that notebook's process and nowhere else. Every other process has a stand-in of it: an
`Operation` like all others, whose models hold the schemas of the real ones and whose work is to ask. So each face takes
it as its own. Whether parameters are right is decided by the real models, in the process that has them.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Hashable, Iterator
from typing import Annotated, Any, ClassVar, cast

import pydantic_core
from pydantic import BaseModel, ConfigDict, Field, RootModel, create_model
from pydantic.fields import FieldInfo
from pydantic_core import PydanticSerializationError

from superlearner.arsenal.audit import Hidden
from superlearner.arsenal.failures import failure_of, foreseen, status_of
from superlearner.arsenal.operation import AwaitedCluster, Operation, Params
from superlearner.arsenal.pipeline import work_of
from superlearner.arsenal.plain import to_json
from superlearner.arsenal.refusals import FailedElsewhere, InvalidParameters
from superlearner.arsenal.registry import Registry
from superlearner.arsenal.routes import Route
from superlearner.cluster.offers import Offer
from superlearner.errors import ClusterSilent, SuperlearnerError

logger = logging.getLogger(__name__)
#: Seconds that a cluster has to tell which operations it knows of.
PATIENCE = 3.0
Schema = dict[str, Any]


# -- As data ---------------------------------------------------------------------------------------------


def offer_of(operation: Operation) -> Offer:
    """Return an operation as the cluster is told of it."""
    params = _inlined(operation.params.model_json_schema())
    fields = operation.params.model_fields
    hidden = [name for name in fields if _is_hidden(fields[name], params["properties"][name])]
    told = {
        "name": operation.name,
        "method": operation.method,
        "path": operation.route.path,
        "summary": operation.summary,
        "description": operation.description,
        "params": params,
        "hidden": hidden,
        "result": None
        if operation.result is None
        else _inlined(operation.result.model_json_schema(mode="serialization")),
        "access": operation.access,
        "idempotent": operation.idempotent,
        "dangerous": operation.dangerous,
        "timeout": operation.timeout,
        "errors": {error.code: status for error, status in operation.errors.items()},
        "creates": None if operation.creates is None else operation.creates.path,
        "group": operation.group,
    }
    return Offer.new(operation.name, operation.place, json.dumps(told).encode())


def _is_hidden(field: FieldInfo, schema: Any) -> bool:
    """Tell whether no event may tell a field, or anything in it: the stand-in does not know which part is a secret."""
    return any(isinstance(mark, Hidden) for mark in field.metadata) or _holds_secret(schema)


def _holds_secret(schema: Any) -> bool:
    """Tell whether a `SecretStr` is in a schema."""
    if isinstance(schema, list):
        return any(map(_holds_secret, schema))
    return isinstance(schema, dict) and (
        schema.get("format") == "password" or any(map(_holds_secret, schema.values()))
    )


def _inlined(schema: Schema) -> Schema:
    """Return a schema that refers to nothing; what holds itself may hold anything.

    >>> _inlined({"properties": {"a": {"$ref": "#/$defs/A"}}, "$defs": {"A": {"type": "string"}}})
    {'properties': {'a': {'type': 'string'}}}
    """
    definitions = schema.get("$defs", {})

    def plain(value: Any, inside: tuple[str, ...]) -> Any:
        if isinstance(value, list):
            return [plain(item, inside) for item in value]
        if not isinstance(value, dict):
            return value
        rest = {key: plain(item, inside) for key, item in value.items() if key not in {"$defs", "$ref"}}
        if not isinstance(value.get("$ref"), str):
            return rest if "$ref" not in value else {**rest, "$ref": plain(value["$ref"], inside)}
        name = value["$ref"].rpartition("/")[2]
        return rest if name in inside else plain(definitions[name], (*inside, name)) | rest

    found: Schema = plain(schema, ())
    return found


# -- As an operation -------------------------------------------------------------------------------------


class _Told(BaseModel):
    """A model that is described by the schema of another process's model, and leaves its rules to that one."""

    __told__: ClassVar[Schema]

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: Any, handler: Any) -> Schema:
        return cls.__told__


class _Object(_Told):
    """A result with fields, as it came."""

    model_config = ConfigDict(extra="allow", frozen=True)


class _Value(RootModel[Any], _Told):
    """A result without fields, as it came."""


def stand_in(offer: Offer) -> Operation:
    """Return the operation by which an offer is asked for."""
    told: dict[str, Any] = json.loads(offer.declaration)

    async def execute(cluster: AwaitedCluster, params: BaseModel) -> Any:
        try:
            body = params.model_dump_json(exclude_unset=True).encode()
        except PydanticSerializationError as error:
            raise InvalidParameters(offer.name, (("", str(error)),)) from None
        answer = await cluster.offers.ask(offer, body)
        found: dict[str, Any] = pydantic_core.from_json(answer)
        if "failure" in found:
            raise FailedElsewhere(found["failure"], found["status"])
        return found["result"]

    execute.__module__ = "__main__"  # nobody's words about its group are here
    return Operation(
        name=told["name"],
        method=told["method"],
        route=Route.parse(told["path"]),
        summary=told["summary"],
        description=told["description"],
        params=_params(told["params"], frozenset(told["hidden"])),
        result=None if told["result"] is None else _result(told["result"]),
        access=told["access"],
        idempotent=told["idempotent"],
        dangerous=told["dangerous"],
        timeout=told["timeout"],
        errors={_error(code): status for code, status in told["errors"].items()},
        creates=None if told["creates"] is None else Route.parse(told["creates"]),
        group=told["group"],
        execute=execute,
    )


def _params(schema: Schema, hidden: frozenset[str]) -> type[BaseModel]:
    needed = schema.get("required", [])
    fields: dict[str, Any] = {}
    for name, field in schema.get("properties", {}).items():
        kind = Annotated[Any, Hidden()] if name in hidden else Any
        default = ... if name in needed else field.get("default")
        fields[name] = kind, Field(default, description=field.get("description"))
    return _model(schema, (_Told, Params), **fields)


def _result(schema: Schema) -> type[BaseModel]:
    return _model(schema, (_Object if schema.get("type") == "object" else _Value,))


def _model(schema: Schema, bases: tuple[type[BaseModel], ...], **fields: Any) -> type[BaseModel]:
    model = cast("Any", create_model(schema["title"], __base__=bases, **fields))
    model.__told__ = schema
    return cast("type[BaseModel]", model)


def _error(code: str) -> type[SuperlearnerError]:
    """Return a class that stands for the errors of a code: the real one may be known to its process alone."""
    return type("ErrorElsewhere", (SuperlearnerError,), {"code": code})


async def answer(operation: Operation, cluster: AwaitedCluster, body: bytes) -> bytes:
    """Carry out an operation of this process for another one; who may ask was decided there.

    >>> answer(operation, cluster, b'{"name": "ann"}')            # doctest: +SKIP
    b'{"result":{"text":"Good day, ann!"}}'
    """
    try:
        result = await work_of(operation, cluster, pydantic_core.from_json(body))
        return b'{"result":' + (b"null" if result is None else to_json(result)) + b"}"
    except Exception as error:
        known = foreseen(error, operation.name, operation.errors)
        told = failure_of(known).model_dump(mode="json")
        return json.dumps({"failure": told, "status": status_of(known, operation.errors)}).encode()


# -- Together with our own -------------------------------------------------------------------------------


class Table:
    """The operations that one cluster can be asked for: those of this process, then those of others.

    Those of others are looked up whenever one may be meant; `learn` says which there are.

    Parameters
    ----------
    own
        The operations of this process. One of another process that has a name or route of these is left out.
    """

    def __init__(self, own: Registry) -> None:
        self.own = own
        self._mark: str | None = None
        self._offered: tuple[Operation, ...] = ()
        self._both: tuple[Hashable, Registry] | None = None

    async def learn(self, cluster: AwaitedCluster) -> None:
        """Ask a cluster which operations of other processes there are now; raise `ClusterSilent` after `PATIENCE`."""
        try:
            async with asyncio.timeout(PATIENCE):
                found = await cluster.offers.listed(self._mark)
        except TimeoutError:
            raise ClusterSilent(
                f"The cluster has not told within {PATIENCE:g} s which operations other processes have registered."
            ) from None
        if found is not None:
            self._offered = tuple(_readable(found[1]))
            self._mark = found[0]

    def forget(self) -> None:
        """Know of no other process any more."""
        self._mark, self._offered = None, ()

    @property
    def version(self) -> Hashable:
        """What changes with every change."""
        return self.own.version, self._mark

    @property
    def all(self) -> Registry:
        """Every operation, of whichever process."""
        if self._both is None or self._both[0] != self.version:
            both = Registry()
            for operation in self.own:
                both.add(operation)
            for operation in self._offered:
                if operation.name not in both and both.in_place_of(operation) is None:
                    both.add(operation)
            self._both = self.version, both
        return self._both[1]


def _readable(offers: list[Offer]) -> Iterator[Operation]:
    for offer in offers:
        try:
            yield stand_in(offer)
        except (ValueError, TypeError, KeyError):
            logger.exception("superlearner: the declaration of %s cannot be read; it is left out", offer.name)
