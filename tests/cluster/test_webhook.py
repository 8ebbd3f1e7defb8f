"""Alerts that are posted to a URL: each once and in order, and what could not be is told."""

from __future__ import annotations

import json
import queue
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer

import dask.config
import pytest
from cluster_kit import awaiting, run

import superlearner as sl
from superlearner.cluster import webhook
from superlearner.core.alerts import Alert
from superlearner.errors import InvalidSpec

COUNTER = "superlearner.cli.demo_app:Counter"


@pytest.fixture
def posted() -> Iterator[tuple[str, queue.SimpleQueue]]:
    """A server that takes what is posted, and its URL."""
    taken: queue.SimpleQueue = queue.SimpleQueue()

    class Takes(BaseHTTPRequestHandler):
        def do_POST(self):
            taken.put(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Takes) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/alerts", taken
        server.shutdown()
        thread.join()


def test_an_alert_is_posted_when_it_fires_when_it_is_known_and_when_it_ends(posted):
    url, taken = posted
    with dask.config.set({"superlearner.alerts.webhook": url}), sl.LocalSandboxManager() as manager:
        manager.create_sandbox("shop", COUNTER, restart="temporary")
        manager.chaos.kill_sandbox("shop")
        fired = taken.get(timeout=20)
        assert (fired["event"], fired["alert"]["sandbox"]) == ("alert_firing", "shop")
        manager.acknowledge_alert(fired["alert"]["id"], "ann")
        manager.destroy_sandbox("shop")
        told = [taken.get(timeout=20) for _ in range(2)]
    assert [one["event"] for one in told] == ["alert_acknowledged", "alert_resolved"]
    assert {one["alert"]["acknowledged"]["by"] for one in told} == {"ann"}


def test_what_nobody_takes_is_told_and_hurts_nothing(unused_port):
    url = f"http://127.0.0.1:{unused_port}/"
    with dask.config.set({"superlearner.alerts.webhook": url}), sl.LocalSandboxManager() as manager:
        sandbox = manager.create_sandbox("shop", COUNTER, restart="temporary")
        with awaiting(manager, "alert_not_sent") as failed:
            manager.chaos.kill_sandbox("shop")
            event = failed()
        assert (event.sandbox, event.detail["rule"]) == ("shop", "sandbox_failure")
        assert "refused" in event.reason
        assert manager.alerts("firing")[0].sandbox == "shop"
        sandbox.stop()


def test_more_than_can_wait_are_told_to_be_lost():
    alert, lost = Alert("flapping-1", "flapping", "warning", "firing", "It is.", since=0.0), []

    async def work():
        hook = webhook.Webhook("http://127.0.0.1:9/", lambda alert, why: lost.append((alert.id, why)))
        for _ in range(webhook.WAITING + 1):
            hook.send("alert_firing", alert)
        await hook.close()

    run(work())
    assert lost == [("flapping-1", "100 others wait already")]


@pytest.mark.parametrize("url", ["", "ftp://host/", "https:///path", "host/path"])
def test_what_is_no_url_is_refused(url):
    with pytest.raises(InvalidSpec, match="webhook"):
        webhook.Webhook(url, lambda *_: None)
