"""``superlearner serve`` from its start to its end."""

from __future__ import annotations

import signal
import tempfile

import psutil
import pytest
from arsenal_kit import fetch, serving
from click.testing import CliRunner

from superlearner.arsenal.http.server import serve_path
from superlearner.arsenal.http.tokens import read, token_path
from superlearner.cli.app import main
from superlearner.cluster.local import find_connection


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_serve_serves_until_it_is_stopped_and_leaves_nothing(number, tmp_path, monkeypatch):
    """With a cluster of its own, which it takes along, and with an operation of somebody else's module."""
    with tempfile.TemporaryDirectory(prefix="run-") as folder:  # short: it holds Unix sockets
        monkeypatch.setenv("SUPERLEARNER_RUNTIME_DIR", folder)
        monkeypatch.setenv("SUPERLEARNER_STATE_DIR", str(tmp_path / "state"))
        serves_until_it_is_stopped(number, tmp_path)


def serves_until_it_is_stopped(number, tmp_path):
    CliRunner().invoke(main, ["op", "new", "count_all", "--folder", str(tmp_path)])
    options = ["--nodes", "1", "--operations", "count_all_operation"]
    with serving(*options, PYTHONPATH=str(tmp_path)) as (server, where):
        token = next(token.secret for token in read(token_path()) if token.access == "read")
        assert where["token_file"] == str(token_path())
        assert serve_path().stat().st_mode & 0o777 == 0o600
        status = fetch(f"{where['url']}/distributed/cluster/status", token=token)
        assert status.json["cluster"]["total_nodes"] == 1
        assert fetch(f"{where['url']}/count-all", token=token).json == {"sandboxes": 0}
        family = psutil.Process(server.pid).children(recursive=True)
        server.send_signal(number)
        assert server.wait(timeout=30) == 0
        assert server.stderr.read() == "The server is stopped.\n"
    assert not serve_path().exists()
    assert find_connection() is None
    assert not psutil.wait_procs(family, timeout=10)[1]
