"""The operation: one declaration from which every face is made.

>>> class Greet(Params):
...     name: str = Field(description="Whom to greet.")
>>> class Greeting(Result):
...     text: str
>>> @operation("GET", "/greetings/{name}", access="read", timeout=1.0)
... async def greet(cluster: AwaitedCluster, params: Greet) -> Greeting:
...     '''Say good day.'''
...     return Greeting(text=f"Good day, {params.name}!")
>>> greet.name, greet.summary, greet.idempotent
('greet', 'Say good day.', True)
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, get_args, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError

from superlearner.arsenal.access import LEVELS, Access
from superlearner.arsenal.failures import STATUSES, status_of
from superlearner.arsenal.refusals import InvalidOperation
from superlearner.arsenal.routes import InvalidPath, Route
from superlearner.errors import SuperlearnerError

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
METHODS: tuple[str, ...] = get_args(Method)
#: The cluster that an operation gets: a `Manager` whose methods are awaited, whatever its annotations say.
AwaitedCluster = Any
Execute = Callable[[Any, Any], Awaitable[Any]]
#: Methods that HTTP lets anybody send again.
_AGAIN = frozenset({"GET", "PUT", "DELETE"})
#: What faces add to every operation, so that no parameter may be called that.
RESERVED = frozenset({"confirm", "self", "help", "list", "json", "url", "token_file"})
_NAME = re.compile(r"[a-z][a-z0-9_]*")
#: Above that many seconds nobody waits for an answer.
LONGEST = 600.0


class Params(BaseModel):
    """The parameters of an operation; what it does not know is refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Result(BaseModel):
    """The result of an operation."""

    model_config = ConfigDict(extra="forbid", frozen=True)


@dataclass(frozen=True, slots=True, eq=False)
class Operation:
    """One declared action; made by `operation`, which see for the fields."""

    name: str
    method: Method
    route: Route
    summary: str
    #: The rest of the docstring, for the reference.
    description: str
    params: type[BaseModel]
    #: A model, or None where there is nothing to tell.
    result: type[BaseModel] | None
    access: Access
    idempotent: bool
    dangerous: bool
    timeout: float
    errors: Mapping[type[SuperlearnerError], int]
    #: Where that which is made can be found: a path whose parameters are fields of the result.
    creates: Route | None
    #: What it is about, for the reference: the name of the module that declares it.
    group: str
    execute: Execute = field(repr=False)

    def __repr__(self) -> str:
        return f"<Operation {self.name}: {self.method} {self.route.path}>"

    @property
    def place(self) -> str:
        """Its method and route, without the names of parameters: no two operations may share that."""
        return f"{self.method} /{'/'.join(self.route.shape)}"

    @property
    def reads(self) -> bool:
        """Whether it changes nothing."""
        return self.access == "read"

    @property
    def status(self) -> int:
        """The HTTP status of its success."""
        if self.creates is not None:
            return 201
        return 204 if self.result is None else 200

    @property
    def in_path(self) -> tuple[str, ...]:
        """The names of the parameters that stand in the path."""
        return self.route.parameters

    @property
    def beside_path(self) -> tuple[str, ...]:
        """The names of the others, as they are written in requests."""
        return tuple(name for name in self.params.model_fields if name not in self.in_path)

    @property
    def takes_body(self) -> bool:
        """Whether the others are sent as a JSON body; else they are in the query."""
        return self.method in {"POST", "PUT", "PATCH"}


def operation(
    method: Method,
    path: str,
    *,
    access: Access,
    timeout: float,
    idempotent: bool | None = None,
    dangerous: bool = False,
    errors: Mapping[type[SuperlearnerError], int | None] | Iterable[type[SuperlearnerError]] = (),
    creates: str | None = None,
    name: str | None = None,
) -> Callable[[Execute], Operation]:
    """Declare an operation: ``@operation(...)`` on ``async def name(cluster, params: Model) -> Model``.

    The function gets a cluster whose methods are to be awaited, and its parameters as a valid model. The
    annotations say which models; the docstring's first line is the summary, the rest the description.

    Parameters
    ----------
    method
        The HTTP method. GET reads: its access must be ``"read"``.
    path
        Below ``/api/v1``, with ``{parameters}`` that are fields of the model. The model's other fields are
        in the query of GET and DELETE, and in the JSON body of the others.
    access
        ``"read"`` (changes nothing), ``"operate"`` (works with what is there) or ``"admin"`` (may end it all).
    timeout
        Seconds after which it is broken off.
    idempotent
        Whether doing it twice does as much as doing it once; by default as HTTP says of the method.
    dangerous
        Whether it cannot be undone, so that the caller must confirm it.
    errors
        The errors of superlearner that it may raise, with their HTTP status where that is not the usual one (None).
    creates
        The path of that which is made, with fields of the result for parameters: it answers 201 with Location.
    name
        The function's name by default.

    Raises
    ------
    InvalidOperation
        Something is wrong with the declaration; the sentence says what.
    """

    def declare(execute: Execute) -> Operation:
        called = name or str(getattr(execute, "__name__", ""))
        refuse = _Refusal(called)
        if not _NAME.fullmatch(called):
            refuse(f"{called!r} is no name: write small letters, digits and _")
        if method not in METHODS:
            refuse(f"method={method!r} must be one of {', '.join(METHODS)}")
        if access not in LEVELS:
            refuse(f"access={access!r} must be one of {', '.join(LEVELS)}")
        if isinstance(timeout, bool) or not isinstance(timeout, int | float) or not 0 < timeout <= LONGEST:
            refuse(f"timeout={timeout!r} must be seconds above 0 and up to {LONGEST:g}")
        again = method in _AGAIN if idempotent is None else idempotent
        if method in _AGAIN and not again:
            refuse(f"{method} may be sent again by anybody, so it must be idempotent: use POST")
        if method == "GET" and (access != "read" or dangerous):
            refuse("GET changes nothing, so its access is read and it is not dangerous: use POST or DELETE")
        if access == "read" and dangerous:
            refuse("what only reads is not dangerous: say which access it needs")
        params, result = _models(execute, refuse)
        summary, description = _texts(execute, refuse)
        route = _route(path, "path", params, refuse)
        made = None
        if creates is not None:
            if result is None:
                refuse("creates= needs a result whose fields fill the path")
            made = _route(creates, "creates", result, refuse)
        return Operation(
            name=called,
            method=method,
            route=route,
            summary=summary,
            description=description,
            params=params,
            result=result,
            access=access,
            idempotent=again,
            dangerous=dangerous,
            timeout=float(timeout),
            errors=_errors(errors, refuse),
            creates=made,
            group=_group(execute),
            execute=execute,
        )

    return declare


class _Refusal:
    """Refuses a declaration, by the name of its operation."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, why: str) -> NoReturn:
        raise InvalidOperation(f"The operation {self._name!r} was refused: {why}.")


def _group(execute: Any) -> str:
    """Return the name of the module that declares an operation; a notebook's or a script's tells nothing."""
    name = str(getattr(execute, "__module__", "")).rpartition(".")[2].strip("_")
    return name if name not in {"", "main"} else "other"


def _models(execute: Any, refuse: _Refusal) -> tuple[type[BaseModel], type[BaseModel] | None]:
    """Return the parameter model and the result model, by the annotations of the function."""
    if not inspect.iscoroutinefunction(execute):
        refuse("it is no coroutine function: write `async def`")
    arguments = list(inspect.signature(execute).parameters)
    if len(arguments) != 2:
        refuse(f"it takes ({', '.join(arguments)}): write (cluster, params: YourParams)")
    try:
        hints = get_type_hints(execute, include_extras=True)
    except NameError as error:
        refuse(f"its annotations name what is not known at the top of its module ({error})")
    params, result = hints.get(arguments[1]), hints.get("return", ...)
    if not (isinstance(params, type) and issubclass(params, BaseModel)):
        refuse(f"its parameter {arguments[1]!r} has no model: annotate it with a subclass of Params")
    if params.model_config.get("extra") != "forbid":
        refuse(
            f"{params.__name__} would take anything: derive it from Params, which refuses what it does not know"
        )
    for name, given in params.model_fields.items():
        if given.alias or given.validation_alias or given.serialization_alias:
            refuse(f"the parameter {name!r} has an alias: call it by the one name that requests use")
    if taken := RESERVED & set(params.model_fields):
        refuse(f"the parameter {min(taken)!r} belongs to every operation: choose another name")
    if result in {None, type(None)}:
        return params, None
    if not (isinstance(result, type) and issubclass(result, BaseModel)):
        refuse("it says not what it returns: annotate that with a subclass of Result, or with None")
    for model in (params, result):
        try:
            model.model_json_schema(mode="validation" if model is params else "serialization")
        except (PydanticUserError, ValueError) as error:
            refuse(f"{model.__name__} cannot be written as JSON ({str(error).splitlines()[0]})")
    return params, result


def _texts(execute: Any, refuse: _Refusal) -> tuple[str, str]:
    text = inspect.getdoc(execute) or ""
    summary, _, description = text.partition("\n")
    if not summary.strip():
        refuse("it has no docstring, whose first line is its summary everywhere")
    return summary.strip(), description.strip()


def _route(path: str, option: str, model: type[BaseModel], refuse: _Refusal) -> Route:
    """Read a path; its parameters must be fields of `model` that one word can stand for."""
    try:
        route = Route.parse(path)
    except InvalidPath as error:
        refuse(f"{option}={path!r} is no path: {error}")
    for parameter in route.parameters:
        if parameter not in model.model_fields:
            refuse(f"{{{parameter}}} in {path!r} is no field of {model.__name__}")
        if option == "path" and not model.model_fields[parameter].is_required():
            refuse(f"{{{parameter}}} is in the path, so it cannot have a default")
    return route


def _errors(
    errors: Mapping[type[SuperlearnerError], int | None] | Iterable[type[SuperlearnerError]],
    refuse: _Refusal,
) -> dict[type[SuperlearnerError], int]:
    own: dict[type[SuperlearnerError], int | None]
    own = dict(errors) if isinstance(errors, Mapping) else dict.fromkeys(errors)
    found = {}
    for error, status in own.items():
        if not (isinstance(error, type) and issubclass(error, SuperlearnerError)):
            refuse(f"{error!r} in errors= is no error of superlearner")
        found[error] = status_of(error) if status is None else status
        if found[error] not in STATUSES:
            refuse(
                f"{error.__name__} has the status {found[error]}: use one of {', '.join(map(str, STATUSES))}"
            )
    return found


__all__ = ["Access", "AwaitedCluster", "Field", "Method", "Operation", "Params", "Result", "operation"]
