"""A real JupyterLab and a headless Chromium, for the browser tests."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
TOKEN = "for-the-tests-only"
#: No pop-ups.
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
}
#: Nothing leaves the machine, and nothing asks.
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


def chromium() -> str | None:
    """Return the path of the system's Chromium, None when there is none."""
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@contextlib.contextmanager
def jupyterlab(folder: Path) -> Iterator[str]:
    """Serve `folder` with JupyterLab on a free port; yield the base URL."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = folder / ".lab"
    environment = os.environ | {
        "PYTHONPATH": str(ROOT),
        "JUPYTER_CONFIG_DIR": str(settings / "config"),
        "JUPYTER_RUNTIME_DIR": str(settings / "runtime"),
        "IPYTHONDIR": str(settings / "ipython"),
    }
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={folder}", f"--LabApp.user_settings_dir={settings / 'user'}",
        f"--LabApp.workspaces_dir={settings / 'workspaces'}", "--LabApp.news_url=None",
        "--LabApp.expose_app_in_browser=True",
    ]  # fmt: skip
    settings.mkdir()
    (settings / "user" / "@jupyterlab" / "apputils-extension").mkdir(parents=True)
    notification = (
        settings / "user" / "@jupyterlab" / "apputils-extension" / "notification.jupyterlab-settings"
    )
    notification.write_text('{"fetchNews": "false", "checkForUpdates": false}')
    with (settings / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_for(server, f"{url}/api/status?token={TOKEN}", settings / "log")
            yield url
        finally:
            server.terminate()
            server.wait(timeout=20)


def _wait_for(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    """Wait until the server answers; its port tells nobody when it opens, so this one must ask again."""
    import time

    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):
                return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            assert server.poll() is None, f"JupyterLab ended: {log.read_text()[-2000:]}"
            assert time.monotonic() < deadline, f"JupyterLab does not answer: {log.read_text()[-2000:]}"
            time.sleep(0.2)


@contextlib.contextmanager
def browser_page(width: int = 1300, height: int = 1500) -> Iterator[Any]:
    """Open an empty page in headless Chromium."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=list(FLAGS))
        try:
            yield browser.new_page(viewport={"width": width, "height": height})
        finally:
            browser.close()


def open_notebook(page: Any, url: str, name: str) -> None:
    """Open a notebook in Lab with nothing else on the screen, and wait for its kernel.

    Lab's own indicator says idle before there is a kernel, and what is run then is lost.
    """
    page.goto(f"{url}/lab/tree/{name}?reset&token={TOKEN}")
    page.wait_for_selector(".jp-NotebookPanel .jp-Cell", timeout=60_000)
    session = "window.jupyterapp?.shell.currentWidget?.sessionContext?.session"
    page.wait_for_function(f"{session}?.kernel?.connectionStatus === 'connected'", timeout=60_000)
    page.wait_for_function(f"{session}.kernel.status === 'idle'", timeout=60_000)
    close_side_bar(page)


def close_side_bar(page: Any) -> None:
    """Give the whole width to the notebook."""
    if page.locator("#jp-left-stack:not(.lm-mod-hidden)").count():
        page.keyboard.press("Control+b")


def run_all(page: Any) -> None:
    """Run all cells from the menu and wait until the last one has its number."""
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    # The kernel's status may say idle while a cell blocks; the number of the last code cell does not.
    done = (
        "/\\[\\d+\\]/.test([...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')].at(-1).textContent)"
    )
    page.wait_for_function(done, timeout=30_000)
