"""The operations in a Jupyter server: under its own URL, with its own token; works behind Binder's proxy, too.

Who is logged in there may run code in a kernel anyway, so they may do everything here.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado.web import authenticated

from superlearner.arsenal import refusals as r
from superlearner.arsenal.access import Caller
from superlearner.arsenal.http.handlers import OpenAPI, Operations, Talks
from superlearner.arsenal.http.house import Door, House
from superlearner.arsenal.http.server import Reference
from superlearner.arsenal.http.streams import Events
from superlearner.arsenal.openapi import ROOT
from superlearner.arsenal.registry import shared

#: What stands between the server's base URL and ``/api/v1``: Jupyter has an ``/api`` of its own.
PREFIX = "superlearner"


class InJupyter(Talks, APIHandler):  # type: ignore[misc]
    """Jupyter says who asks, checks the Host and the Origin, and wants its XSRF token."""

    #: Programs ask here: that is no sign that a person is still there.
    _track_activity = False

    def finish(self, *args: Any, **kwargs: Any) -> Any:
        """Answer with the type that was set: Jupyter would call everything JSON."""
        kind = self._headers.get("Content-Type", "application/json")
        return super().finish(*args, set_content_type=kind, **kwargs)

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Say in our words what Jupyter has refused before anything of ours was asked."""
        self.set_header("Connection", "close")
        if status_code in {403, 404} and not self._from_here():
            self.fail(r.WrongOrigin("The request comes from another site's page; nothing was done."))
        elif status_code == 403 and not self.current_user:
            self.fail(r.Unauthenticated("Nobody is logged in here; nothing was done."))
        elif status_code == 405:  # a verb that no route knows: Jupyter has not looked yet who asks
            self.fail(r.MethodNotAllowed(str(self.request.method), ("GET",)))
        else:
            super().write_error(status_code, **kwargs)

    def guard(self) -> None:
        """Refuse another site's page also for what only reads."""
        if not self._from_here():
            raise r.WrongOrigin("The request comes from another site's page; nothing was done.")

    head = post = put = patch = delete = options = authenticated(Talks.refuse)

    def _from_here(self) -> bool:
        """Ask Jupyter, and be stricter than it: a token in a header does not excuse another site's page."""
        origin = self.request.headers.get("Origin")
        allows_others = self.allow_origin or self.allow_origin_pat
        if origin is not None and not allows_others and urlsplit(origin).netloc != self.request.host:
            return False
        return bool(self.check_host() and self.check_origin())

    def caller(self) -> Caller:
        """Return who is logged in."""
        user = self.current_user
        if not user:
            raise r.Unauthenticated("Nobody is logged in here; nothing was done.")
        return Caller(str(getattr(user, "username", user))[:100], "admin", "jupyter")


class JupyterOperations(InJupyter, Operations):
    """The operations."""

    @authenticated
    async def get(self) -> None:
        """Answer."""
        await self.answer()

    head = post = put = patch = delete = options = get


class JupyterOpenAPI(InJupyter, OpenAPI):
    """The document."""

    @authenticated
    async def get(self) -> None:
        """Answer with the document."""
        await super().get()

    head = get


class JupyterEvents(InJupyter, Events):
    """The events."""

    @authenticated
    async def get(self) -> None:
        """Send events."""
        await super().get()


class JupyterReference(InJupyter, Reference):
    """The page."""

    def get_login_url(self) -> str:
        """Lead a person to where one logs in; a program learns that nobody vouches for it."""
        if "text/html" in self.request.headers.get("Accept", ""):
            return str(self.settings["login_url"])
        return str(super().get_login_url())

    @authenticated
    async def get(self) -> None:
        """Answer with the page."""
        await super().get()

    head = get


class JupyterNothing(InJupyter):
    """Whatever else."""

    @authenticated
    def get(self) -> None:
        """Answer that there is nothing."""
        if self.admit():
            self.fail(r.NoRoute())

    head = post = put = patch = delete = options = get


async def connect() -> Any:
    """Return the local cluster; Dask is imported with the first request."""
    from superlearner.arsenal.local import connect as to_local_cluster

    return await to_local_cluster()


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "superlearner.arsenal.jupyter"}]


def _load_jupyter_server_extension(server: Any) -> None:
    base = url_path_join(server.web_app.settings["base_url"], PREFIX)
    house = House(shared(), Door(connect), base=base.rstrip("/"), face="jupyter")
    share: dict[str, Any] = {"house": house}
    root = f"{base}{ROOT}"
    server.web_app.add_handlers(
        ".*$",
        [
            (rf"{root}/openapi\.json", JupyterOpenAPI, share),
            (rf"{root}/events/stream", JupyterEvents, share),
            (rf"{root}/?", JupyterReference, share),
            (rf"{base}/?", JupyterReference, share),
            (rf"{root}/.+", JupyterOperations, share),
            (rf"{base}/.*", JupyterNothing, share),
        ],
    )
