"""The leak fixture itself: a net is only worth something if it holds."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

CONFTEST = Path(__file__).parents[1] / "conftest.py"

LEAKS = {
    "process": """
        import subprocess, sys
        def test_leak():
            subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    """,
    "process ": """
        import subprocess, sys
        def test_leak_of_a_detached_process():
            code = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])"
            subprocess.run([sys.executable, "-c", code], start_new_session=True, check=True)
    """,
    "process  ": """
        import os, subprocess, sys
        def test_leak_of_a_detached_process_with_a_scrubbed_environment():
            code = "import subprocess; subprocess.Popen(['sleep', '60'])"
            env = {"TMPDIR": os.environ["TMPDIR"], "PATH": os.environ["PATH"]}
            subprocess.run([sys.executable, "-c", code], start_new_session=True, check=True, env=env)
    """,
    "thread": """
        import threading, time
        def test_leak():
            threading.Thread(target=time.sleep, args=(1.5,), name="forgotten").start()
    """,
    "socket": """
        import socket
        kept = []
        def test_leak():
            kept.append(socket.socket())
    """,
    "runtime file": """
        import os, pathlib
        def test_leak():
            pathlib.Path(os.environ["SUPERLEARNER_RUNTIME_DIR"], "left.json").write_text("{}")
    """,
    "temporary folder": """
        import tempfile
        def test_leak():
            tempfile.mkdtemp(prefix="superlearner-")
    """,
}


def run_pytest(folder: Path, body: str) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST.read_text().replace("GRACE = 10.0", "GRACE = 0.2"))
    (folder / "test_sample.py").write_text(textwrap.dedent(body))
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-W", "ignore", str(folder)]
    # The plugins that happen to be installed cost seconds each and have no part in this.
    env = os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    return subprocess.run(
        command, capture_output=True, text=True, check=False, cwd=folder, env=env, timeout=60
    )


@pytest.mark.parametrize(
    "kind", [pytest.param(one, marks=[pytest.mark.slow] * (one != "thread")) for one in LEAKS]
)
def test_a_module_that_leaves_something_behind_fails(kind: str, tmp_path: Path):
    done = run_pytest(tmp_path, LEAKS[kind])
    assert done.returncode == 1, done.stdout
    assert f"left behind: {kind.strip()} " in done.stdout


def test_a_module_that_cleans_up_passes(tmp_path: Path):
    body = "import socket\ndef test_clean():\n    with socket.socket():\n        pass\n"
    done = run_pytest(tmp_path, body)
    assert done.returncode == 0, done.stdout


def test_every_test_runs_with_a_runtime_directory_of_its_own(runtime_dir: Path):
    assert os.environ["SUPERLEARNER_RUNTIME_DIR"] == str(runtime_dir)
    # A Unix socket's whole path must fit into 107 bytes.
    assert len(str(runtime_dir)) < 60
    with socket.socket(socket.AF_UNIX) as sock:
        path = runtime_dir / "probe.sock"
        sock.bind(str(path))
        path.unlink()
