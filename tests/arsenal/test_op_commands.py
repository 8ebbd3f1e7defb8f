"""``op`` and ``openapi`` as a person types them."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from superlearner.arsenal import shared
from superlearner.cli.app import main


@pytest.fixture
def run():
    runner = CliRunner()
    return lambda *words: runner.invoke(main, list(words))


def test_op_lists_what_there_is(run):
    table = run("op", "--list")
    assert table.exit_code == 0, table.output
    assert "list_sandboxes         read      List the sandboxes of all nodes\n" in table.stdout
    assert "destroy_sandbox        operate ! " in table.stdout
    assert max(map(len, table.stdout.splitlines())) <= 80
    assert run("op", "--json").stdout == run("op", "--list", "--json").stdout
    document = json.loads(run("op", "--json").stdout)
    (one,) = [row for row in document if row["name"] == "destroy_sandbox"]
    assert (one["method"], one["path"]) == ("DELETE", "/api/v1/distributed/sandboxes/{id}")
    assert (one["access"], one["dangerous"], one["errors"]["no_sandbox"]) == ("operate", True, 404)


def test_op_explains_each_operation(run):
    told = " ".join(run("op", "migrate_sandbox", "--help").output.split())
    for word in (
        "ID: The sandbox's id.",
        "--node TEXT",
        "Move a sandbox",
        "Access: operate",
        "[default: auto]",
    ):
        assert word in told
    told = run("op", "create_sandbox", "--help").output
    assert "--placement [least_loaded|uniform]" in told
    assert told.index("--application TEXT") < told.index("--id TEXT") < told.index("--arguments JSON")
    assert "  superlearner op create_sandbox \\\n" in told
    assert "ResourceParams: memory, cpu," in " ".join(told.split())
    assert run("op", "migrate-sandbox", "--help").exit_code == 0


def test_an_operation_that_does_not_exist_is_told_with_the_nearest(run):
    done = run("op", "list_sandboxs")
    assert done.exit_code == 1
    assert "Did you mean 'list_sandboxes'?" in done.stderr


@pytest.mark.parametrize("operation", list(shared()), ids=lambda one: one.name)
def test_the_help_of_each_operation_fits_a_terminal(run, operation):
    done = run("op", operation.name, "--help")
    assert done.exit_code == 0
    wide = [line for line in done.output.splitlines() if len(line) > 80]
    assert all(line.lstrip().startswith(("--", "'")) for line in wide), (
        wide
    )  # an example's value is not broken


def test_a_token_file_without_a_server_is_refused(run, tmp_path):
    done = run("op", "list_sandboxes", "--token-file", str(tmp_path / "token"))
    assert (done.exit_code, "give its --url" in done.stderr) == (2, True)


def test_op_without_a_cluster_says_so_and_starts_none(run, tmp_path, monkeypatch):
    monkeypatch.setenv("SUPERLEARNER_RUNTIME_DIR", str(tmp_path / "run"))
    done = run("op", "list_sandboxes")
    assert (done.exit_code, done.stdout) == (1, "")
    assert done.stderr.startswith("No local cluster is running.")


def test_a_failure_is_one_sentence(run, cluster):
    for words, told in (
        (["get_sandbox", "nobody"], "There is no sandbox 'nobody'."),
        (["destroy_sandbox", "nobody"], "was not confirmed; nothing was done."),
        (["list_sandboxes", "--limit=many"], "limit: "),
    ):
        done = run("op", *words)
        assert (done.exit_code, done.stdout) == (1, "")
        assert told in done.stderr
        assert done.stderr.count("\n") == 1


def test_what_misses_a_pattern_is_told_what_is_wanted(run, cluster):
    done = run("op", "create_sandbox", "--id=shop", "--application=nonsense")
    assert (done.exit_code, 'such as "package.module:name"' in done.stderr) == (1, True)


def test_op_asks_a_server_where_it_is_told_to(run, server, world, tmp_path):
    sandbox = world.sandbox()
    path = server.served.tokens.path
    through = ["--url", f"{server.url}/api/v1", "--token-file", str(path)]
    done = run("op", "get_sandbox", sandbox.id, *through)
    assert json.loads(done.stdout)["sandbox"]["id"] == sandbox.id
    done = run("op", "list_sandboxes", "--limit=1", *through)
    assert len(json.loads(done.stdout)["sandboxes"]) == 1
    done = run("op", "create_sandbox", "--id=a/b", "--application=a:b", *through)
    assert (done.exit_code, "id: String should match" in done.stderr) == (1, True)
    (tmp_path / "token").write_text(server.tokens["read"])
    done = run(
        "op", "restart_sandbox", sandbox.id, "--url", server.url, "--token-file", str(tmp_path / "token")
    )
    assert "asks for operate access" in done.stderr
    done = run("op", "destroy_sandbox", sandbox.id, "--confirm", *through)
    assert (done.exit_code, done.stdout) == (0, "")


def test_a_server_that_is_not_there_is_said_in_one_sentence(run, tmp_path):
    (tmp_path / "token").write_text("x")
    done = run("op", "cluster_status", "--url", "http://127.0.0.1:9", "--token-file", str(tmp_path / "token"))
    assert done.exit_code == 1
    assert "No server answers at http://127.0.0.1:9" in done.stderr
    assert "superlearner serve" in done.stderr


def test_tokens_are_listed_without_their_secrets_added_shown_and_removed(run, tmp_path):
    file = ["--token-file", str(tmp_path / "tokens.json")]
    secret = run("token", "add", "ci", "--access", "read", "--hours", "1", *file).stdout.strip()
    assert run("token", "show", "ci", *file).stdout.strip() == secret
    listed = run("token", "list", "--json", *file).stdout
    assert secret not in listed
    assert [row["name"] for row in json.loads(listed)] == ["read", "operate", "admin", "ci"]
    assert "never" in run("token", "list", *file).stdout
    assert "already; nothing was changed" in run("token", "add", "ci", "--access", "read", *file).stderr
    assert run("token", "remove", "ci", *file).exit_code == 0
    for words in (["show", "ci"], ["remove", "ci"]):
        done = run("token", *words, *file)
        assert (done.exit_code, "no token 'ci'" in done.stderr) == (1, True)


def test_openapi_prints_the_document(run):
    done = run("openapi", "--server", "https://example.org/base")
    document = json.loads(done.stdout)
    assert len(document["paths"]) > 50
    assert document["servers"] == [{"url": "https://example.org/base"}]


def test_new_writes_a_module_that_works(run, cluster, tmp_path, monkeypatch):
    done = run("op", "new", "count_all", "--folder", str(tmp_path), "--json")
    assert done.exit_code == 0, done.output
    assert set(json.loads(done.stdout)) == {"module", "test"}
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("count_all_operation")
    cluster.ops.register(module.count_all)
    try:
        assert cluster.ops.count_all().sandboxes == len(cluster.sandboxes())
        assert json.loads(run("op", "count_all", "--node=alpha").stdout).keys() == {"sandboxes"}
        assert "count_all" in repr(cluster.ops)
    finally:
        cluster.ops.remove("count_all")
    again = run("op", "new", "count_all", "--folder", str(tmp_path))
    assert (again.exit_code, "nothing was written" in again.stderr) == (1, True)
    assert "is no name" in run("op", "new", "Count", "--folder", str(tmp_path)).stderr


@pytest.mark.slow
def test_the_test_that_new_writes_passes(run, tmp_path):
    written = json.loads(run("op", "new", "count_all", "--folder", str(tmp_path), "--json").stdout)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", written["test"]]
    tried = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "1 passed" in tried.stdout, tried.stdout + tried.stderr
