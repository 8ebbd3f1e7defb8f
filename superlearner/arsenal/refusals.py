"""Why the arsenal itself refuses a request, before or instead of the cluster."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from superlearner.errors import SuperlearnerError, did_you_mean


class InvalidOperation(SuperlearnerError, TypeError):
    """An operation was declared wrongly; it was not registered."""

    code = "invalid_operation"


class BadRequest(SuperlearnerError):
    """A request cannot be read at all, such as a body that is no JSON; nothing was done."""

    code = "bad_request"
    advice = "GET openapi.json tells what each operation takes."


class InvalidParameters(SuperlearnerError, ValueError):
    """The parameters of an operation are not what it takes; nothing was done.

    Parameters
    ----------
    operation
        Its name.
    problems
        For each: where it is, and what is wrong with it.
    """

    code = "invalid_parameters"

    def __init__(self, operation: str = "it", problems: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(operation, problems)
        self.operation = operation
        self.problems = problems
        self.advice = f"`superlearner op {operation} --help` tells what it takes."

    def what(self) -> str:
        """Say what happened."""
        told = "; ".join(f"{where}: {why}" if where else why for where, why in self.problems)
        return f"The parameters of {self.operation} are not valid; nothing was done: {told}."


class NotConfirmed(SuperlearnerError):
    """A dangerous operation was asked for without confirm; nothing was done.

    Parameters
    ----------
    operation
        Its name.
    """

    code = "not_confirmed"
    advice = "Add confirm=true to the request, confirm=True in Python, or --confirm to the command."

    def __init__(self, operation: str = "it") -> None:
        super().__init__(operation)
        self.operation = operation

    def what(self) -> str:
        """Say what happened."""
        return f"{self.operation} cannot be undone and was not confirmed; nothing was done."


class Unauthenticated(SuperlearnerError):
    """Nobody vouches for the caller; nothing was done."""

    code = "unauthenticated"
    advice = (
        "Send the header `Authorization: Bearer TOKEN` with a token of the server's token file; to a Jupyter server, "
        "`Authorization: token TOKEN` with its own."
    )


class Forbidden(SuperlearnerError):
    """The caller may not do that; nothing was done."""

    code = "forbidden"
    advice = "Use a token with the access that the operation asks for."


class WrongOrigin(Forbidden):
    """The request comes from another site's page, or by another name of this server; nothing was done."""

    code = "wrong_origin"
    advice = "Ask the server by the address that it printed, and not from another site's page."


class NoOperation(SuperlearnerError):
    """There is no such operation, route or page.

    Parameters
    ----------
    wanted
        What was asked for.
    known
        What there is, to find the one that was meant.
    """

    code = "no_operation"

    def __init__(self, wanted: str = "it", known: tuple[str, ...] = ()) -> None:
        super().__init__(wanted, known)
        self.wanted = wanted
        near = did_you_mean(wanted, known)
        self.advice = f"{near} " * bool(near) + "`superlearner op --list` tells all operations."

    def what(self) -> str:
        """Say what happened."""
        return f"There is no operation {self.wanted!r}; nothing was done."


class NoRoute(NoOperation):
    """There is nothing at that path."""

    code = "no_route"

    def __init__(self) -> None:
        super().__init__()
        self.advice = "GET openapi.json tells all routes."

    def what(self) -> str:
        """Say what happened."""
        return "There is nothing at this path; nothing was done."


class MethodNotAllowed(SuperlearnerError):
    """The route knows other methods only; nothing was done.

    Parameters
    ----------
    method
        The method that was asked for.
    allowed
        Those that it knows.
    """

    code = "method_not_allowed"
    advice = "Use one of those."

    def __init__(self, method: str = "GET", allowed: tuple[str, ...] = ()) -> None:
        super().__init__(method, allowed)
        self.method = method
        self.allowed = allowed

    def what(self) -> str:
        """Say what happened."""
        return f"This route does not know {self.method}, but {', '.join(self.allowed)}; nothing was done."


class TooLarge(SuperlearnerError):
    """The body of a request is larger than the server takes; nothing was done."""

    code = "too_large"
    advice = "Put large data into a file that the nodes can read, and send its path."


class UnknownContent(SuperlearnerError):
    """The body of a request is no JSON by its own word; nothing was done."""

    code = "unknown_content"
    advice = "Send JSON with the header `Content-Type: application/json`."


class TooManyRequests(SuperlearnerError):
    """The caller asks faster than the server lets it; nothing was done.

    Parameters
    ----------
    wait
        Seconds until the next request is taken.
    """

    code = "too_many_requests"
    advice = "Wait as long as the Retry-After header says, or follow events/stream in place of polling."

    def __init__(self, wait: float = 1.0) -> None:
        super().__init__(wait)
        self.wait = wait

    def what(self) -> str:
        """Say what happened."""
        return "There were too many requests; nothing was done."


class OperationTimeout(SuperlearnerError, TimeoutError):
    """An operation took longer than it is declared to.

    Parameters
    ----------
    operation
        Its name.
    timeout
        Seconds that it had.
    reads
        Whether it changes nothing.
    """

    code = "operation_timeout"

    def __init__(self, operation: str = "it", timeout: float = 0.0, *, reads: bool = False) -> None:
        super().__init__(operation, timeout)
        self.operation = operation
        self.timeout = timeout
        self.definite = reads
        self.advice = "Ask again." if reads else "It may still take effect: look before you ask again."

    def what(self) -> str:
        """Say what happened."""
        return f"{self.operation} has not ended within {self.timeout:g} s."


class FailedElsewhere(SuperlearnerError):
    """An operation was refused, or has failed, in another process; code, status and sentences are that one's.

    Parameters
    ----------
    told
        The `Failure` there, as plain data.
    status
        The HTTP status.
    """

    code = "failed_elsewhere"

    def __init__(self, told: Mapping[str, Any] | None = None, status: int = 503) -> None:
        super().__init__(told, status)
        self.told = dict(told or {})
        self.status = status
        self.code = str(self.told.get("code", type(self).code))
        self.definite = bool(self.told.get("definite", False))
        self.advice = str(self.told.get("advice", ""))

    def what(self) -> str:
        """Say what happened."""
        return str(
            self.told.get("message", f"It has failed with the status {self.status}; nothing tells why.")
        )


class Unexpected(SuperlearnerError):
    """Something that no one has foreseen; the server's log tells it under the same id.

    Parameters
    ----------
    id
        Where it stands in the log.
    """

    code = "internal_error"
    definite = False
    advice = "It may have taken effect. The server's log has the details under this id."

    def __init__(self, id: Any = None) -> None:
        super().__init__(id)
        self.id = id

    def what(self) -> str:
        """Say what happened."""
        return f"Something unexpected happened (id {self.id})."
