"""What a client looks at before it sends anything: refused here, it certainly did not happen."""

from __future__ import annotations

from typing import Any

from superlearner import config
from superlearner.errors import InvalidSpec, MessageTooLarge
from superlearner.sandbox import payload

#: Bytes that are never too many: nearly all messages, for which the setting is not looked up.
_SMALL = 64 * 1024
_TEXTS = (bytes, bytearray, str)


def message(value: Any, what: str = "the request") -> bytes:
    """Serialise what is to be sent.

    What is under way on a connection holds up what comes behind it, so nothing may be of any size.

    Raises
    ------
    NotSerializable
        It cannot be serialised.
    MessageTooLarge
        It is above the setting ``superlearner.message-limit``.
    """
    # What is plainly too large is refused before another copy of it is made.
    plain = len(value) if isinstance(value, _TEXTS) else getattr(value, "nbytes", 0)
    if type(plain) is int and plain > _SMALL:
        _check_size(what, plain)
    data = payload.dumps(value, what)
    if len(data) > _SMALL:
        _check_size(what, len(data))
    return data


def _check_size(what: str, size: int) -> None:
    limit = config.get("message-limit")
    if size > limit:
        raise MessageTooLarge(what, size, limit)


def address(target: Any) -> Any:
    """Return a process's address as a frame can carry it, else raise `InvalidSpec`.

    >>> address("counter"), address(("shards", 7))
    ('counter', ('shards', 7))
    """
    if (isinstance(target, str) and target) or (isinstance(target, tuple) and len(target) == 2):
        return target
    raise InvalidSpec(
        f"{target!r} names no process; nothing was sent. Write a registered name such as 'counter', a pid, "
        "or ('shards', key) for a partition."
    )


def split(target: Any) -> tuple[str, str]:
    """Split ``"sandbox/process"``.

    >>> split("shop/counter")
    ('shop', 'counter')
    """
    sandbox, slash, process = target.partition("/") if isinstance(target, str) else ("", "", "")
    if not slash or not sandbox or not process:
        raise InvalidSpec(
            f'{target!r} names no process; nothing was sent. Write "sandbox/process", such as "shop/counter".'
        )
    return sandbox, process
