"""The token file of ``superlearner serve``: who may do what, readable by its owner alone."""

from __future__ import annotations

import json
import os
import secrets
import stat
import time
from dataclasses import asdict
from pathlib import Path

from superlearner import config
from superlearner.arsenal.access import LEVELS, Token, vouched
from superlearner.errors import SuperlearnerError

#: Bytes of randomness in a token.
STRENGTH = 32


class TokenFileBroken(SuperlearnerError):
    """The token file cannot be used; nothing was served."""

    code = "token_file_broken"
    advice = "Remove it, and `superlearner serve` makes a new one."


def token_path() -> Path:
    """Return where the token file is, unless another is named."""
    return config.state_dir() / "tokens.json"


def new_token(name: str, access: str, expires: float | None = None) -> Token:
    """Return a token that nobody can guess."""
    if access not in LEVELS:
        raise TokenFileBroken(f"The access {access!r} of the token {name!r} is none of {', '.join(LEVELS)}.")
    return Token(name, access, secrets.token_urlsafe(STRENGTH), expires)


def write(path: Path, tokens: list[Token]) -> None:
    """Write the file, whole or not at all, for its owner alone."""
    config.write_private(path, json.dumps({"tokens": [asdict(token) for token in tokens]}, indent=2))


def read(path: Path) -> list[Token]:
    """Return the tokens in a file; refuse one that others may read or write.

    Raises
    ------
    TokenFileBroken
        It is somebody else's, is open to others, or is no token file.
    """
    try:
        with path.open(encoding="utf-8") as file:
            facts = os.fstat(file.fileno())
            if facts.st_uid != os.getuid() or stat.S_IMODE(facts.st_mode) & 0o077:
                raise TokenFileBroken(
                    f"The token file {path} is open to others: run `chmod 600 {path}`, or remove it."
                )
            found = json.load(file)["tokens"]
        tokens = [Token(t["name"], t["access"], t["secret"], t.get("expires")) for t in found]
    except (OSError, ValueError, TypeError, KeyError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no token file"
        raise TokenFileBroken(f"The token file {path} cannot be read: {why}.") from None
    for token in tokens:
        texts = (token.name, token.secret)
        if not all(isinstance(text, str) and text for text in texts) or token.access not in LEVELS:
            raise TokenFileBroken(f"The token file {path} has a token without a name, a secret or an access.")
        if token.expires is not None and not isinstance(token.expires, int | float):
            raise TokenFileBroken(f"The token {token.name!r} in {path} expires at no time.")
        if len(token.secret) < 16:
            raise TokenFileBroken(f"The secret of the token {token.name!r} in {path} is too short to be one.")
    return tokens


class TokenFile:
    """The tokens of a running server: a change of the file counts from the next request on.

    Parameters
    ----------
    path
        The file; one with a token of each access is made where there is none.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._seen: tuple[int, int, int] | None = None
        self._tokens: list[Token] = []
        if not path.exists():
            write(path, [new_token(level, level) for level in LEVELS])
        self._look()

    def vouched(self, shown: str) -> Token | None:
        """Return the token that was shown, where it is good now."""
        self._look()
        return vouched(self._tokens, shown, time.time())

    def _look(self) -> None:
        try:
            facts = self.path.stat()
        except FileNotFoundError:
            self._tokens, self._seen = [], None  # whoever removed it wants nobody let in
            return
        seen = (facts.st_ino, facts.st_mtime_ns, facts.st_mode)
        if seen != self._seen:
            self._tokens = read(self.path)
            self._seen = seen
