"""Calls that leave in one batch and go the same way travel as one message.

What a message costs a node and a host, whatever is in it, is then paid once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from superlearner.sandbox.asked import MOST, SMALL


def together(messages: Iterable[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return a batch to a node with the small calls in it put together: ``id`` and ``body`` become lists of them.

    What one sandbox gets stays in order, whatever it is; between sandboxes there is none.

    >>> call = ("shop", 1, "counter")
    >>> together([("call", 1, *call, b"a", 5.0), ("call", 2, *call, b"b", 5.0), ("cast", 0, *call, b"c", None)])
    [('calls', [1, 2], 'shop', 1, 'counter', [b'a', b'b'], 5.0), ('cast', 0, 'shop', 1, 'counter', b'c', None)]
    """
    found: list[tuple[Any, ...]] = []
    #: By sandbox: the place of its last message, as long as more may join that.
    places: dict[str, int] = {}
    for message in messages:
        verb, id, sandbox, epoch, target, body, timeout = message
        place = places.get(sandbox)
        # The keys of partitions may be equal and not the same, as 1 and 1.0 are.
        if verb != "call" or target.__class__ is tuple or len(body) > SMALL:
            places.pop(sandbox, None)
            found.append(message)
            continue
        if place is not None:
            last = found[place]
            if last[4] == target and last[6] == timeout and last[3] == epoch:
                if last[0] == "call":
                    found[place] = ("calls", [last[1], id], sandbox, epoch, target, [last[5], body], timeout)
                    continue
                if len(last[1]) < MOST:
                    last[1].append(id)
                    last[5].append(body)
                    continue
        places[sandbox] = len(found)
        found.append(message)
    return found
