"""What came back for a request, as a value or as the error that it stands for."""

from __future__ import annotations

from typing import Any

from superlearner.core.retry import Outcome
from superlearner.errors import (
    CallTimeout,
    NoConnection,
    NotDurable,
    NotSerializable,
    ProcessDied,
    StaleEpoch,
    SuperlearnerError,
)
from superlearner.sandbox import payload


def unpack(status: int, body: Any, target: str | None = None) -> Any:
    """Return an answer's value, or raise its error."""
    match status:
        case 0:
            return payload.loads(body, "the answer")
        case 1:
            raise payload.loads(body, "the error")
    match body:
        case ("process_died", _, reason, *_):
            raise ProcessDied(reason, target)
        case ("no_connection", _, reason, *_):
            raise NoConnection(target, reason)
        case ("call_timeout", _, _, _, timeout):
            raise CallTimeout(target, timeout)
        case ("not_durable", _, reason, *_):
            raise NotDurable(target, reason)
        case ("not_serializable", _, what, reason, *_):
            raise NotSerializable(what, reason)
        case (_, definite, message, *_):
            error = SuperlearnerError(message)
            error.definite = bool(definite)
            raise error
    raise SuperlearnerError(
        f"The node refused the request in words that this version does not know: {body!r}."
    )


def outcome(status: int, body: Any) -> Outcome:
    """Tell what an answer that brings no value means for the request."""
    return _OUTCOMES.get(body[0], "refused") if status == 2 else "refused"


_OUTCOMES: dict[str, Outcome] = {
    StaleEpoch.code: "stale",
    ProcessDied.code: "died",
    NoConnection.code: "closed",  # the lease of its node ran out under it
}
