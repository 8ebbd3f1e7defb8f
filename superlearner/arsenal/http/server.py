"""The server of ``superlearner serve``: the operations alone, with tokens of its own."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application

from superlearner import config
from superlearner.arsenal import refusals as r
from superlearner.arsenal.access import Caller
from superlearner.arsenal.http.handlers import DISCARDED, OpenAPI, Operations, Talks
from superlearner.arsenal.http.house import Door, House, Limits
from superlearner.arsenal.http.streams import Events
from superlearner.arsenal.http.tokens import TokenFile
from superlearner.arsenal.openapi import ROOT
from superlearner.arsenal.pages import POLICY
from superlearner.arsenal.registry import Registry, shared

if TYPE_CHECKING:
    from superlearner.cluster.cluster import Manager

#: Seconds that a connection may be silent between requests, or take over the head of one.
IDLE = 60.0
#: Bytes of what stands before a body.
HEAD = 32 * 1024


class WithToken(Talks):
    """Callers show a token of the server's file; a page of another site is refused."""

    #: A browser asks its reader for a name and a password: any name, and a token.
    challenges = ('Basic realm="superlearner"', *Talks.challenges)

    def guard(self) -> None:
        """Refuse what a browser was made to send: by a name that was bent to this machine, or by another site."""
        served: Served = self.settings["served"]
        host = self.request.host
        if not served.is_me(host):
            raise r.WrongOrigin("The request comes by another name than this server's; nothing was done.")
        origin = self.request.headers.get("Origin")
        site = self.request.headers.get("Sec-Fetch-Site", "none")
        if (origin is not None and urlsplit(origin).netloc != host) or site not in {"none", "same-origin"}:
            raise r.WrongOrigin("The request comes from another site's page; nothing was done.")

    def caller(self) -> Caller:
        """Return whom the token stands for."""
        served: Served = self.settings["served"]
        token = served.tokens.vouched(_shown(self.request.headers.get_list("Authorization")))
        if token is None:
            raise r.Unauthenticated("No valid token was shown; nothing was done.")
        return Caller(token.name, token.access, self.house.face)


def _shown(headers: list[str]) -> str:
    """Return the token in the one Authorization header: Bearer, or the password of Basic, which browsers ask for.

    >>> _shown(["Bearer abc"]), _shown(["Basic YW5uOmFiYw=="]), _shown([]), _shown(["Basic ?"])
    ('abc', 'abc', '', '')
    """
    if len(headers) != 1:
        return ""
    scheme, _, value = headers[0].strip().partition(" ")
    if scheme.lower() == "bearer":
        return value.strip()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value.strip(), validate=True).decode().partition(":")[2]
        except (binascii.Error, UnicodeDecodeError):
            return ""
    return ""


class OwnOperations(WithToken, Operations):
    """The operations."""


class OwnOpenAPI(WithToken, OpenAPI):
    """The document."""


class OwnEvents(WithToken, Events):
    """The events."""


class Reference(Talks):
    """The reference page."""

    async def get(self) -> None:
        """Answer with the page."""
        if self.admit():
            await self.house.learn()
            self.set_header("Content-Type", "text/html; charset=utf-8")
            self.set_header("Content-Security-Policy", POLICY)
            self.finish(self.house.page(f"{self.request.protocol}://{self.request.host}"))

    head = get


class OwnReference(WithToken, Reference):
    """The page."""


class OwnNothing(WithToken):
    """Whatever else: also there nobody learns anything without a token."""

    def get(self) -> None:
        """Answer that there is nothing."""
        if self.admit():
            self.fail(r.NoRoute())

    head = post = put = patch = delete = options = get


class Served:
    """A running server.

    Parameters
    ----------
    connect
        Gives an open manager whose methods are awaited.
    tokens
        The token file.
    host, port
        Where it listens; port 0: the system chooses.
    registry
        The operations; those of this process by default.
    limits
        What it takes.
    names
        Other names by which it may be asked, where it does not listen on loopback.
    """

    def __init__(
        self,
        connect: Callable[[], Awaitable[Manager]],
        tokens: Path,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        registry: Registry | None = None,
        limits: Limits | None = None,
        names: tuple[str, ...] = (),
    ) -> None:
        self.tokens = TokenFile(tokens)
        self.house = House(registry or shared(), Door(connect), limits or Limits())
        self._names = frozenset(name.lower() for name in names)
        share: dict[str, Any] = {"house": self.house}
        self._application = Application(
            [
                (rf"{ROOT}/openapi\.json", OwnOpenAPI, share),
                (rf"{ROOT}/events/stream", OwnEvents, share),
                (rf"{ROOT}/?", OwnReference, share),
                (r"/", OwnReference, share),
                (rf"{ROOT}/.+", OwnOperations, share),
                (r".*", OwnNothing, share),
            ],
            served=self,
            log_function=lambda _: None,  # every call is an event; a request's line holds no more
        )
        self._server = HTTPServer(
            self._application,
            idle_connection_timeout=IDLE,
            max_header_size=HEAD,
            max_body_size=DISCARDED,
        )
        self._sockets = bind_sockets(port, address=host)
        self._server.add_sockets(self._sockets)
        self.host = host
        self.port: int = self._sockets[0].getsockname()[1]
        self._path: Path | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        host = "127.0.0.1" if self.host in {"", "0.0.0.0", "::"} else self.host  # noqa: S104 - it is compared
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}"

    def is_me(self, host: str) -> bool:
        """Tell whether a Host header names this server: an address of this machine, localhost, or a name it was given.

        Nobody can bend an address to another machine, as a name can be.
        """
        try:
            parsed = urlsplit(f"//{host}")
            name, port = (parsed.hostname or "").lower(), parsed.port
        except ValueError:
            return False
        if name in self._names:
            return True
        if port not in {self.port, None if self.port != 80 else 80}:
            return False
        if name == "localhost":
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or not self._on_loopback

    @property
    def _on_loopback(self) -> bool:
        return ipaddress.ip_address(str(self._sockets[0].getsockname()[0])).is_loopback

    def announce(self) -> Path:
        """Write where it is into the runtime directory, for commands; `close` removes that."""
        path = serve_path()
        told = {"url": self.url, "pid": os.getpid(), "token_file": str(self.tokens.path)}
        config.write_private(path, json.dumps(told))
        self._path = path
        return path

    async def close(self) -> None:
        """Stop listening, end what is under way, and leave nothing behind."""
        if self._path is not None:
            self._path.unlink(missing_ok=True)
        self._server.stop()
        await self.house.close()
        await self._server.close_all_connections()


def serve_path() -> Path:
    """Return where a running server tells its address."""
    return config.runtime_dir() / "serve.json"
