"""A webhook: each alert that fires, is acknowledged or ends is posted to a URL as JSON, one after the other.

The body is ``{"event": "alert_firing", "alert": {...}}`` with the fields of `superlearner.core.alerts.Alert`. What
cannot be delivered is tried no second time, and told by the event ``alert_not_sent``: the event log has them all.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import asdict
from urllib.parse import urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPError

from superlearner.core.alerts import Alert
from superlearner.errors import InvalidSpec

#: Seconds that the other side has to take one, and how many may wait for it.
TIMEOUT, WAITING = 5.0, 100


class Webhook:
    """Posts alerts; making one does nothing until something is sent.

    Parameters
    ----------
    url
        Where to, by ``http`` or ``https``.
    failed
        Called with the alert that was not delivered, and why.
    """

    def __init__(self, url: str, failed: Callable[[Alert, str], None]) -> None:
        if urlsplit(url).scheme not in {"http", "https"} or not urlsplit(url).hostname:
            raise InvalidSpec(
                f'The setting superlearner.alerts.webhook is {url!r}: write "https://host/path", or null for none.'
            )
        self._url = url
        self._failed = failed
        self._waiting: asyncio.Queue[tuple[str, Alert]] = asyncio.Queue(WAITING)
        self._task: asyncio.Task[None] | None = None

    def send(self, kind: str, alert: Alert) -> None:
        """Post an alert as soon as those before it are."""
        try:
            self._waiting.put_nowait((kind, alert))
        except asyncio.QueueFull:
            self._failed(alert, f"{WAITING} others wait already")
            return
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="webhook of alerts")

    async def close(self) -> None:
        """Send no more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        client = AsyncHTTPClient(force_instance=True)
        try:
            while True:
                kind, alert = await self._waiting.get()
                try:
                    await client.fetch(
                        self._url,
                        method="POST",
                        headers={"Content-Type": "application/json"},
                        body=json.dumps({"event": kind, "alert": asdict(alert)}),
                        follow_redirects=False,
                        connect_timeout=TIMEOUT,
                        request_timeout=TIMEOUT,
                    )
                except (HTTPError, OSError) as error:
                    self._failed(alert, str(error))
        finally:
            client.close()
