"""From an HTTP request to an operation and back; the same for a server of our own and for Jupyter's."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qsl

from pydantic import BaseModel
from pydantic_core import PydanticSerializationError
from tornado import httputil
from tornado.ioloop import IOLoop
from tornado.web import RequestHandler, stream_request_body

from superlearner.arsenal import refusals as r
from superlearner.arsenal.access import Caller, Rate
from superlearner.arsenal.arguments import from_body, from_texts
from superlearner.arsenal.failures import FailureBody, failure_of, foreseen, status_of
from superlearner.arsenal.http.house import LOST, House, etag
from superlearner.arsenal.openapi import JSON, ROOT
from superlearner.arsenal.operation import Operation
from superlearner.arsenal.pipeline import carry_out
from superlearner.arsenal.plain import to_json
from superlearner.errors import SuperlearnerError

#: Bytes of a body that is refused and still read, so that its sender can read why.
DISCARDED = 16 * 2**20
#: What no answer lets a browser do with it.
HEADERS = {
    "Cache-Control": "no-cache",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class Talks(RequestHandler):
    """What every handler has in common: who asks, how often, and one body for all failures.

    A face says who asks (`caller`) and refuses who must not (`guard`).
    """

    house: House
    #: How a token can be shown.
    challenges: tuple[str, ...] = ('Bearer realm="superlearner"',)
    #: Who asks; set once they are known.
    asker: Caller

    def initialize(self, house: House) -> None:
        """Take what the server's handlers share."""
        self.house = house

    def set_default_headers(self) -> None:
        """Let browsers keep and run nothing of it."""
        super().set_default_headers()
        for name, value in HEADERS.items():
            self.set_header(name, value)
        self.clear_header("Server")

    def guard(self) -> None:
        """Refuse a request that another site's page makes, or that comes by another name of this server."""

    def caller(self) -> Caller:
        """Return who asks; raise `Unauthenticated`."""
        raise NotImplementedError

    def admit(self) -> bool:
        """Let the caller in, or answer why not."""
        try:
            self.let_in()
        except SuperlearnerError as error:
            self.fail(error)
            return False
        return True

    def let_in(self) -> None:
        """Learn who asks; raise why they must not."""
        try:
            self.guard()
            self.asker = self.caller()
        except r.Unauthenticated:
            self._count(self.house.strangers, str(self.request.remote_ip))
            raise
        self._count(self.house.rate, f"{self.asker.face}:{self.asker.name}")

    def _count(self, rate: Rate, who: str) -> None:
        if wait := rate.take(who, time.monotonic()):
            raise r.TooManyRequests(wait)

    def refuse(self) -> Any:
        """Refuse what is no GET."""
        if self.admit():
            self.fail(r.MethodNotAllowed(str(self.request.method), ("GET",)))

    head = post = put = patch = delete = options = refuse

    # -- Answers -----------------------------------------------------------------------------------

    def fail(self, error: BaseException, own: Mapping[type[SuperlearnerError], int] | None = None) -> None:
        """Answer with a failure."""
        known = foreseen(error, f"{self.request.method} {self.request.path}", own)
        status = status_of(known, own)
        self.set_status(status)
        if isinstance(known, r.MethodNotAllowed):
            self.set_header("Allow", ", ".join(known.allowed))
        if isinstance(known, r.TooManyRequests):
            self.set_header("Retry-After", str(max(1, round(known.wait + 0.5))))
        if isinstance(known, r.Unauthenticated):
            # A header for each: browsers read several in one line wrongly.
            for challenge in self.challenges:
                self.add_header("WWW-Authenticate", challenge)
        self._finish_json(FailureBody(error=failure_of(known)).model_dump_json().encode())

    def _finish_json(self, body: bytes) -> None:
        self.set_header("Content-Type", JSON)
        self.finish(body)

    def finish_marked(self, body: bytes, mark: str) -> None:
        """Answer with what may be asked for again: not at all where the client has it by its ETag."""
        self.set_header("ETag", mark)
        if self.check_etag_header():
            self.set_status(304)
            self.finish()
        else:
            self._finish_json(body)

    def compute_etag(self) -> str | None:
        """Leave that to `finish_marked`."""
        return None

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answer what tornado itself has refused, or what has failed outside of an operation."""
        self.set_header("Connection", "close")  # that is what tornado does where it has not read the body
        error = kwargs.get("exc_info", (None, None, None))[1]
        if status_code == 405 and not self.admit():
            return  # it came before anybody asked who this is
        self.fail(_of_tornado(status_code, error, str(self.request.method)))


def _of_tornado(status: int, error: Any, method: str) -> BaseException:
    match status:
        case 401:
            return r.Unauthenticated("Nobody vouches for the caller; nothing was done.")
        case 403:
            return r.Forbidden("The server does not let that request in; nothing was done.")
        case 404:
            return r.NoRoute()
        case 405:
            return r.MethodNotAllowed(method, ("GET",))
        case _ if 400 <= status < 500:
            return r.BadRequest("The request cannot be read; nothing was done.")
    return error if isinstance(error, BaseException) else RuntimeError(f"status {status}")


@stream_request_body
class Operations(Talks):
    """Every operation: which one a request means is looked up when it comes."""

    def initialize(self, house: House) -> None:
        """Take what the server's handlers share."""
        super().initialize(house)
        self._body = bytearray()
        self._has_body, self._length = False, 0
        #: Why the request is refused, once all of its body has come.
        self._refused: SuperlearnerError | None = None
        self._slow: object | None = None

    async def prepare(self) -> None:
        """Let the caller in and find the operation, before the body is read."""
        waiting = super().prepare()
        if waiting is not None:  # a Jupyter server looks up its user
            await waiting
        if not self._finished:
            await self._begin()

    async def _begin(self) -> None:
        try:
            self._check_length()
            self.let_in()
            self._operation = await self._found()
            self._check_body()
        except SuperlearnerError as error:
            if self._length > DISCARDED:
                self.set_header("Connection", "close")
                self.fail(error)
                return
            # Answered once all has come: else the connection ends, and who is still sending never reads why.
            self._refused = error
        self._slow = IOLoop.current().call_later(self.house.limits.body_time, self._too_slow)

    async def _found(self) -> Operation:
        # The raw path: a slash that is written as %2F belongs to a value.
        raw = self.request.path.partition(ROOT)[2]
        method = "GET" if self.request.method == "HEAD" else str(self.request.method)
        match = await self.house.find(method, raw)
        if match.target is not None:
            self._values = match.values
            return match.target
        if match.allowed:
            raise r.MethodNotAllowed(str(self.request.method), match.allowed)
        raise r.NoRoute

    def _check_length(self) -> None:
        headers = self.request.headers
        length = headers.get("Content-Length", "0")
        self._has_body = length != "0" or "Transfer-Encoding" in headers
        if not (length.isascii() and length.isdecimal()):
            raise r.BadRequest("The request has no length that can be read; nothing was done.")
        self._length = int(length)

    def _too_large(self) -> r.TooLarge:
        return r.TooLarge(
            f"The body of the request is larger than {self.house.limits.body} bytes; nothing was done."
        )

    def _check_body(self) -> None:
        headers = self.request.headers
        if self._length > self.house.limits.body:
            raise self._too_large()
        if not self._has_body:
            return
        if not self._operation.takes_body:
            raise r.BadRequest(f"{self.request.method} takes no body; nothing was done.")
        kind, options = httputil._parse_header(headers.get("Content-Type", ""))  # noqa: SLF001 - the only parser there is
        if kind.lower() != JSON or options.get("charset", "utf-8").lower() != "utf-8":
            raise r.UnknownContent(
                "The body of the request is no JSON by its Content-Type; nothing was done."
            )

    def data_received(self, chunk: bytes) -> None:
        """Gather the body, as far as it may go."""
        if self._finished:
            return
        if self._refused is None and len(self._body) + len(chunk) > self.house.limits.body:
            self._refused = self._too_large()
            self._body.clear()
        if self._refused is None:
            self._body += chunk

    def on_connection_close(self) -> None:
        """Wait for nothing more."""
        super().on_connection_close()
        self._no_longer_slow()

    def on_finish(self) -> None:
        """Wait for nothing more."""
        super().on_finish()
        self._no_longer_slow()

    def _no_longer_slow(self) -> None:
        if self._slow is not None:
            IOLoop.current().remove_timeout(self._slow)
            self._slow = None

    def _too_slow(self) -> None:
        """End a request whose body does not come: its sender would hold the connection for ever."""
        self._slow = None
        stream = getattr(self.request.connection, "stream", None)
        if stream is not None:
            stream.close()

    async def answer(self) -> None:
        """Carry out the operation that the request means."""
        self._no_longer_slow()
        if self._finished:
            return
        if self._refused is not None:
            self.fail(self._refused)
            return
        with self.house.at_work():
            await self._carry_out(self._operation)

    async def _carry_out(self, operation: Operation) -> None:
        cluster = None
        try:
            given, confirm = self._given(operation)
            cluster = await self.house.door.cluster()
            result = await carry_out(operation, cluster, given, self.asker, confirm=confirm)
            self._succeed(operation, result)
        except LOST as error:
            if cluster is not None:
                await self.house.door.lost(cluster)
            self.fail(error, operation.errors)
        except Exception as error:
            self.fail(error, operation.errors)

    def _given(self, operation: Operation) -> tuple[dict[str, Any], bool]:
        """Return the parameters of the request, and whether it is confirmed."""
        try:
            pairs = parse_qsl(
                self.request.query,
                keep_blank_values=True,
                strict_parsing=bool(self.request.query),
                errors="strict",
            )
        except (ValueError, UnicodeDecodeError):
            raise r.BadRequest("The query of the request cannot be read; nothing was done.") from None
        query: dict[str, list[str]] = {}
        for name, text in pairs:
            query.setdefault(name, []).append(text)
        confirm = False
        if operation.dangerous and "confirm" in query:
            word = query.pop("confirm")
            if word not in (["true"], ["false"]):
                raise r.InvalidParameters(operation.name, (("confirm", "it must be true or false"),))
            confirm = word == ["true"]
        if operation.takes_body and query:
            raise r.InvalidParameters(operation.name, ((min(query), "there is no such query parameter"),))
        given = from_texts(operation, self._values, query)
        return (given | from_body(operation, bytes(self._body)) if operation.takes_body else given), confirm

    def _succeed(self, operation: Operation, result: BaseModel | None) -> None:
        self.set_status(operation.status)
        if result is None:
            self.clear_header("Content-Type")
            self.finish()
            return
        try:
            body = to_json(result)
        except PydanticSerializationError as error:
            raise RuntimeError(f"{operation.name} returned what JSON cannot carry: {error}") from None
        if operation.creates is not None:
            place = operation.creates.fill(
                {name: getattr(result, name) for name in operation.creates.parameters}
            )
            self.set_header("Location", f"{self.house.base}{ROOT}{place}")
        if operation.method == "GET":
            self.finish_marked(body, etag(body))
        else:
            self._finish_json(body)

    async def get(self) -> None:
        """Answer."""
        await self.answer()

    head = post = put = patch = delete = options = get


class OpenAPI(Talks):
    """``openapi.json``."""

    async def get(self) -> None:
        """Answer with the document."""
        if self.admit():
            await self.house.learn()
            self.finish_marked(*self.house.openapi())

    head = get
