"""Who is to be told of events."""

from __future__ import annotations

import logging
from collections.abc import Callable

from superlearner.core.history import Event

logger = logging.getLogger(__name__)
Handler = Callable[[Event], None]


class Handlers:
    """The handlers that were given to ``subscribe``; the failure of one is logged and concerns no other."""

    def __init__(self) -> None:
        self._handlers: dict[object, tuple[Handler, str | None]] = {}

    def __len__(self) -> int:
        return len(self._handlers)

    def add(self, handler: Handler, kind: str | None) -> Callable[[], None]:
        """Call `handler` with every event of a kind (None: all) from now on; return what ends that."""
        key = object()
        self._handlers[key] = (handler, kind)
        return lambda: self._handlers.pop(key, None) and None

    def tell(self, event: Event) -> None:
        """Tell everybody who asked for events of this kind."""
        for handler, wanted in list(self._handlers.values()):
            if wanted is None or wanted == event.kind:
                try:
                    handler(event)
                except Exception:
                    logger.exception("superlearner: a handler given to subscribe() failed on %s", event.kind)
