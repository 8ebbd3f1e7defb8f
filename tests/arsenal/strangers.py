"""Every route, every verb, and a quick way to try them all."""

from __future__ import annotations

import contextlib
import http.client
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from urllib.parse import urlsplit

from superlearner.arsenal import shared

OPERATIONS = [f"/api/v1{o.route.fill(dict.fromkeys(o.in_path, 'nobody'))}" for o in shared()]
ROUTES = [
    "/",
    "/x",
    "/api/v1",
    "/api/v1/",
    "/api/v1/openapi.json",
    "/api/v1/events/stream",
    "/api/v1/nothing",
]
ROUTES += sorted(set(OPERATIONS))
VERBS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]
OTHER_SITES = [{"Origin": "https://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}]

#: Asks one server: verb, path and headers; status and the error's code.
Ask = Callable[[str, str, Mapping[str, str]], tuple[int, str | None]]


@contextlib.contextmanager
def asking(url: str) -> Iterator[Ask]:
    """Give a way to ask, on one connection."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)

    def ask(verb: str, path: str, headers: Mapping[str, str]) -> tuple[int, str | None]:
        connection.request(verb, parts.path + path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        return answer.status, json.loads(body)["error"]["code"] if body else None

    with contextlib.closing(connection):
        yield ask


def everywhere(
    url: str, headers: Mapping[str, str], verbs: Sequence[str] = VERBS
) -> Iterator[tuple[str, str, int, str | None]]:
    """Ask every route by every verb; yield the verb and the route, and what came of it."""
    with asking(url) as ask:
        for verb in verbs:
            for route in ROUTES:
                yield verb, route, *ask(verb, route, headers)
