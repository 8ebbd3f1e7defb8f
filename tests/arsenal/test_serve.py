"""``superlearner serve`` from its start to its end."""

from __future__ import annotations

import gc
import json
import signal
import socket
import subprocess
import sys
import tempfile
import threading

import psutil
import pytest
from arsenal_kit import fetch, serving
from click.testing import CliRunner

from superlearner.arsenal.http.server import serve_path
from superlearner.arsenal.http.tokens import read, token_path
from superlearner.cli.app import main
from superlearner.cluster.local import find_connection


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
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


# -- With a cluster that runs already ------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # tornado's, of the taken port
def test_what_cannot_be_served_is_said_in_one_sentence(cluster):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = CliRunner().invoke(main, ["serve", "--port", str(port)])
    assert done.exit_code == 1
    assert f"Nothing can listen at 127.0.0.1, port {port}: Address already in use." in done.stderr
    done = CliRunner().invoke(main, ["serve", "--operations", "no_such_module"])
    assert (done.exit_code, done.stderr.startswith("There is no module 'no_such_module' here")) == (1, True)
    del done
    gc.collect()


@pytest.mark.slow
def test_ctrl_c_ends_an_operation_that_waits(cluster):
    heard = threading.Event()
    stop = cluster.subscribe(lambda _: heard.set(), kind="fault_injected")
    faults = [{"kind": "delay", "a": "alpha", "b": b, "seconds": 0.001} for b in ("beta", "gamma")]
    steps = [
        json.dumps({"after": after, "fault": fault}) for after, fault in zip((0, 60), faults, strict=True)
    ]
    command = [sys.executable, "-m", "superlearner", "op", "run_schedule", "--confirm"]
    command += [f"--steps={step}" for step in steps]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        assert heard.wait(timeout=30)
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(timeout=30) == 130
        assert (waiting.stdout.read(), waiting.stderr.read()) == ("", "")
    stop()
    assert cluster.chaos.faults() == []
