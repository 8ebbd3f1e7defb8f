"""Both faces keep to the document that they serve: schemathesis asks what it allows, and what it does not."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from arsenal_kit import JUPYTER_TOKEN

from superlearner.cli import demo_app

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

#: What there is, so that not all that is asked ends with 404.
SETTINGS = """
[dictionaries]
sandboxes = { values = ["shop"] }
processes = { values = ["counter", "greeter"] }
supervisors = { values = ["root"] }
nodes = { values = ["alpha", "beta", "gamma"] }
applications = { values = ["superlearner.cli.demo_app:Counter"] }

[parameters]
"path.id" = { dictionary = "sandboxes", probability = 0.6 }
"path.process" = { dictionary = "processes", probability = 0.6 }
"path.child" = { dictionary = "processes", probability = 0.6 }
"path.supervisor" = { dictionary = "supervisors", probability = 0.6 }
"path.node" = { dictionary = "nodes", probability = 0.6 }
"query.node" = { dictionary = "nodes", probability = 0.6 }
"body.application" = { dictionary = "applications", probability = 0.6 }

# A message may well crash the process that it is for, or come to one that is suspended: 503 and 504 say that.
[[operations]]
include-operation-id = "send_message"
checks.not_a_server_error.expected-statuses = ["2xx", "3xx", "4xx", "503", "504"]
"""
#: They would end what the others are asked about: nodes, or that one sandbox. They get only what they must refuse;
#: test_contract.py carries them out.
ENDING = ["add_node", "drain_node", "remove_node", "kill", "inject_fault", "run_schedule"]
ENDING += ["destroy_sandbox", "destroy_sandboxes"]


def keeps_to_its_document(folder: Path, url: str, authorization: str) -> None:
    """Run all phases with all checks; the same requests each time."""
    (folder / "settings.toml").write_text(SETTINGS)
    words = [sys.executable, "-m", "schemathesis.cli", "--config-file", str(folder / "settings.toml"), "run"]
    words += [f"{url}/api/v1/openapi.json", "--header", f"Authorization: {authorization}"]
    words += ["--generation-deterministic", "--max-examples=8", "--continue-on-failure"]
    words += ["--request-timeout=70", "--warnings=off", "--no-color"]
    rest = [f"--exclude-operation-id={name}" for name in ENDING]
    ending = [f"--include-operation-id={name}" for name in ENDING]
    ending += ["--mode=negative", "--phases=coverage,fuzzing"]
    for more, least in ((rest, 3000), (ending, 300)):
        done = subprocess.run([*words, *more], cwd=folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert int(re.findall(r"(\d+) generated", done.stdout)[0]) > least, done.stdout


@pytest.fixture
def shop(cluster):
    """A sandbox with what the settings name."""
    sandbox = cluster.create_sandbox("shop", demo_app.application())
    yield sandbox
    sandbox.stop()


def test_the_own_server_keeps_to_its_document(shop, server, tmp_path):
    keeps_to_its_document(tmp_path, server.url, f"Bearer {server.tokens['admin']}")


def test_the_jupyter_server_keeps_to_its_document(shop, jupyter, tmp_path):
    keeps_to_its_document(tmp_path, jupyter.url, f"token {JUPYTER_TOKEN}")
