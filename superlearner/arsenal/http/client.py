"""Ask a server for an operation, as a command does."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

from superlearner.arsenal.access import LEVELS, may
from superlearner.arsenal.arguments import as_words
from superlearner.arsenal.http.tokens import read, token_path
from superlearner.arsenal.openapi import JSON, ROOT
from superlearner.arsenal.operation import Operation
from superlearner.arsenal.refusals import FailedElsewhere


def ask(
    url: str, operation: Operation, given: Mapping[str, Any], *, confirm: bool, token_file: Path | None = None
) -> bytes:
    """Ask the server at `url` and return the JSON of the result.

    Raises
    ------
    FailedElsewhere
        It said no, or failed.
    """
    parts = urlsplit(url if "://" in url else f"http://{url}")
    base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix(ROOT)}"
    beside = {name: given[name] for name in operation.beside_path if name in given}
    query: dict[str, Any] = {} if operation.takes_body else beside
    if confirm:
        query = {**query, "confirm": True}
    words = {name: as_words(value) for name, value in query.items()}
    target = f"{base}{ROOT}{operation.route.fill(given)}" + (
        f"?{urlencode(words, doseq=True)}" if words else ""
    )
    body = json.dumps(beside).encode() if operation.takes_body else None
    headers = {"Authorization": f"Bearer {token_for(operation, token_file)}", "Content-Type": JSON}
    request = urllib.request.Request(target, data=body, headers=headers, method=operation.method)  # noqa: S310
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect)
    try:
        with opener.open(request, timeout=operation.timeout + 10) as answer:
            return bytes(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            raise _refused(error.read(), error.code) from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise FailedElsewhere(
            {
                "message": f"No server answers at {base} ({reason}).",
                "definite": False,
                "advice": "Start one with `superlearner serve`.",
            }
        ) from None


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args: Any, **kwargs: Any) -> None:
        """Take a token nowhere else."""


def _refused(body: bytes, status: int) -> FailedElsewhere:
    try:
        told = json.loads(body)["error"]
        return FailedElsewhere(told if isinstance(told, dict) else None, status)
    except (ValueError, TypeError, KeyError):
        return FailedElsewhere(None, status)


def token_for(operation: Operation, path: Path | None) -> str:
    """Return the token of a file that can do the least of what the operation asks for, or the text of the file."""
    path = path or token_path()
    try:
        text = path.read_text(encoding="utf-8").strip()
    except OSError as error:
        raise FailedElsewhere(
            {"message": f"The token file {path} cannot be read: {error.strerror}.", "definite": True}
        ) from None
    if not text.startswith("{"):
        return text
    tokens = sorted(read(path), key=lambda token: LEVELS.index(token.access))
    able = [token for token in tokens if may(token.access, operation.access)] or tokens
    return able[0].secret if able else ""
