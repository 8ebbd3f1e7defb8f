"""What the caller is told when something fails: one body, and the HTTP status that is meant.

Nothing leaves here that would help an attacker, or hurt a reader: no traceback, no path of this machine, no key.
"""

from __future__ import annotations

import logging
import re
import secrets
from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from superlearner import errors as e
from superlearner.arsenal import refusals as r
from superlearner.cluster.offers import NotOffered, OfferTaken
from superlearner.errors import SuperlearnerError

logger = logging.getLogger(__name__)

#: The statuses that a failure may have.
STATUSES = (400, 401, 403, 404, 405, 409, 413, 415, 422, 429, 500, 503, 504)

#: The usual status of each class of errors; the nearest class in an error's ancestry counts.
_USUAL: Mapping[type[SuperlearnerError], int] = {
    # The request itself.
    r.BadRequest: 400,
    r.Unauthenticated: 401,
    r.Forbidden: 403,
    r.NoOperation: 404,
    r.MethodNotAllowed: 405,
    r.NotConfirmed: 409,
    r.TooLarge: 413,
    r.UnknownContent: 415,
    r.InvalidParameters: 422,
    r.TooManyRequests: 429,
    r.OperationTimeout: 504,
    NotOffered: 404,
    OfferTaken: 409,
    # What it names is not there.
    e.NoProcess: 404,
    e.NoGroup: 404,
    e.NoFault: 404,
    e.NoAlert: 404,
    e.UnknownNode: 404,
    e.ChildNotFound: 404,
    e.NoTrace: 404,
    # What it names is not in a state for that.
    e.SandboxExists: 409,
    e.SandboxFailed: 409,
    e.SandboxDown: 409,
    e.StartFailed: 409,
    e.ReloadFailed: 409,
    e.GroupExists: 409,
    e.GroupFailed: 409,
    e.NameTaken: 409,
    e.AlreadyStarted: 409,
    e.AlreadyPresent: 409,
    e.ChildRunning: 409,
    e.MaxChildren: 409,
    e.TooManyTraces: 409,
    e.NoPlacement: 409,
    e.StaleEpoch: 409,
    e.MoveFailed: 409,
    e.DrainFailed: 409,
    e.CheckpointFailed: 409,
    e.RequestIdTaken: 409,
    e.CallsItself: 409,
    e.Unsupported: 409,
    # It reads well, and cannot be carried out.
    e.InvalidSpec: 422,
    e.BadReturn: 422,
    e.NotSerializable: 422,
    e.MessageTooLarge: 413,
    # The cluster, or a part of it, is not able to.
    e.ProcessDied: 503,
    e.NoConnection: 503,
    e.NodeDown: 503,
    e.NodeNotAvailable: 503,
    e.NoQuorum: 503,
    e.NotDurable: 503,
    e.ClusterNotFound: 503,
    e.ClusterClosed: 503,
    e.CallTimeout: 504,
}


class Failure(BaseModel):
    """What failed."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    code: str = Field(description="A stable name for programs.")
    message: str = Field(description="What happened, as a sentence.")
    definite: bool = Field(description="True: it certainly did not take effect. False: it may have.")
    details: dict[str, Any] = Field(description="What else is known, by name.")
    advice: str = Field(description="What to do.")


class FailureBody(BaseModel):
    """The body of every answer that is no success."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    error: Failure


def status_of(
    error: SuperlearnerError | type[SuperlearnerError],
    own: Mapping[type[SuperlearnerError], int] | None = None,
) -> int:
    """Return the HTTP status of an error, or of a class of them, by an operation's own table and the usual one.

    >>> status_of(e.NoSandbox), status_of(e.NoQuorum), status_of(SuperlearnerError)
    (404, 503, 500)
    """
    if isinstance(error, r.FailedElsewhere):
        return error.status
    for kind in (error if isinstance(error, type) else type(error)).__mro__:
        for table in (own or {}, _USUAL):
            if kind in table:
                return table[kind]
    return 500


#: For an error that says in its message what to write instead.
ADVICE = "Mend what the message names, then ask again."
#: Absolute paths of a machine, as they stand in texts; ``'/word'`` alone is none.
_PATH = re.compile(r"(?<![\w/.:<])/(?:[\w.+@~-]+/)+[\w.+@~-]*")
_TRACE = re.compile(r"Traceback \(most recent call last\):.*", re.DOTALL)
#: The longest text that is told.
LONGEST = 2000


def told(text: str) -> str:
    r"""Return a text as it may leave: in one line, without paths, tracebacks and what is too long.

    >>> told("No file /home/ann/secret/key.pem here;\nask 'shop/counter'.")
    "No file <path> here; ask 'shop/counter'."
    """
    line = " ".join(_PATH.sub("<path>", _TRACE.sub("<traceback>", text)).split())
    return line if len(line) <= LONGEST else f"{line[:LONGEST]}..."


def foreseen(
    error: BaseException,
    operation: str = "a request",
    own: Mapping[type[SuperlearnerError], int] | None = None,
) -> SuperlearnerError:
    """Return an error of superlearner: the error itself, or `Unexpected` with the id under which it is logged.

    `own` is the table of the operation that raised it.
    """
    if isinstance(error, r.FailedElsewhere | r.Unexpected):
        return error  # it is logged already
    if isinstance(error, SuperlearnerError) and status_of(error, own) != 500:
        return error
    id = secrets.token_hex(6)
    logger.error("superlearner: %s failed unexpectedly (id %s)", operation, id, exc_info=error)
    return r.Unexpected(id)


def failure_of(error: SuperlearnerError) -> Failure:
    """Return what is told of an error."""
    return Failure(
        code=error.code,
        message=told(error.what()),
        definite=error.definite,
        details=_details(error),
        advice=told(str(error).removeprefix(error.what()).strip() or error.advice or ADVICE),
    )


def _details(error: SuperlearnerError) -> dict[str, Any]:
    """Return the fields of an error that are plain."""
    match error:
        case r.FailedElsewhere(told=there):
            return dict(there.get("details", {}))
        case r.InvalidParameters(problems=problems):
            return {"problems": [{"where": where, "message": told(why)} for where, why in problems]}
        case e.NoPlacement(id=id, reasons=reasons):
            return {"id": id, "reasons": {node: told(reason) for node, reason in reasons}}
    found: dict[str, Any] = {}
    for name, value in vars(error).items():
        if name.startswith("_") or name in {"advice", "definite", "hint"}:
            continue
        if value is None or isinstance(value, bool | int | float):
            found[name] = value
        elif isinstance(value, tuple) and all(isinstance(item, str) for item in value):
            found[name] = [told(item) for item in value]
        else:
            found[name] = told(e.in_words(value))
    return found
