"""Connection files, names, the journal and the settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from importlib.resources import files

import dask.config
import jsonschema
import psutil
import pytest
import yaml

from superlearner import config
from superlearner.cluster.journal import Journal, read_journal
from superlearner.cluster.local import Connection, connection_path, find_connection, stop_daemon
from superlearner.cluster.locks import LockHeld, locked
from superlearner.cluster.names import node_names
from superlearner.core.history import Event
from superlearner.errors import ClusterNotFound, InvalidSpec, SuperlearnerError


@pytest.mark.parametrize("nodes", [0, 25, True, "alpha", [], ["a", "a"], ["a/b"], None, 1.5])
def test_node_names_that_cannot_be_are_refused(nodes):
    with pytest.raises(InvalidSpec):
        node_names(nodes)


def test_a_connection_file_survives_a_round_trip_and_is_private(tmp_path):
    connection = Connection("tls://x", os.getpid(), 0.0, ("alpha",), {"tls_ca_file": "secret"})
    connection.save(tmp_path / "cluster.json")
    assert (tmp_path / "cluster.json").stat().st_mode & 0o777 == 0o600
    assert Connection.parse((tmp_path / "cluster.json").read_text()) == connection
    assert "secret" not in repr(connection)


def test_a_pid_that_belongs_to_another_process_by_now_is_not_a_running_cluster():
    Connection("tls://x", os.getpid(), 0.0, ("alpha",), {}).save(connection_path())
    assert find_connection() is None
    assert not connection_path().exists()


def test_a_daemon_that_has_ended_is_not_waited_for_until_its_parent_takes_notice():
    program = (
        "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as parent:
        pid = int(parent.stdout.readline())
        began = time.monotonic()
        stop_daemon(Connection("tls://x", pid, psutil.Process(pid).create_time(), ("alpha",), {}))
        assert time.monotonic() - began < 5
        assert psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        parent.stdin.close()


def test_an_unreadable_connection_file_is_named():
    connection_path().write_text("{")
    try:
        with pytest.raises(ClusterNotFound, match="remove it"):
            find_connection()
    finally:
        connection_path().unlink()


def test_a_journal_is_private_and_can_be_read_after_its_writer_has_gone(tmp_path):
    path = tmp_path / "journal.sqlite"
    journal = Journal(path)
    assert journal.last_seq == 0
    journal.append(Event("sandbox_created", seq=1, at=1.0, sandbox="shop", detail={"node": "alpha"}))
    journal.append(Event("node_lost", seq=2, at=2.0, node="alpha"))
    assert [event.kind for event in read_journal(path)] == ["sandbox_created", "node_lost"]
    journal.close()
    assert path.stat().st_mode & 0o777 == 0o600
    assert [event.detail for event in read_journal(path, sandbox="shop")] == [{"node": "alpha"}]
    assert [event.seq for event in read_journal(path, since=1)] == [2]
    again = Journal(path)
    assert again.last_seq == 2
    again.close()


def test_a_missing_journal_is_said_in_a_sentence(tmp_path):
    with pytest.raises(SuperlearnerError, match="no cluster has run"):
        list(read_journal(tmp_path / "journal.sqlite"))


def test_the_schema_describes_every_setting_and_no_other():
    package = files("superlearner")
    defaults = yaml.safe_load((package / "superlearner.yaml").read_text())
    schema = yaml.safe_load((package / "superlearner-schema.yaml").read_text())
    jsonschema.validate(defaults, schema)

    def keys(value, at=""):
        for key, below in value.items():
            nested = isinstance(below, dict) and below  # an empty one is a setting of its own
            yield from keys(below, f"{at}.{key}") if nested else [f"{at}.{key}"]

    def described(node, at=""):
        for key, below in node.get("properties", {}).items():
            yield from described(below, f"{at}.{key}") if "properties" in below else [f"{at}.{key}"]

    assert set(keys(defaults)) == set(described(schema))
    json.dumps(defaults)


def test_a_setting_can_be_changed_as_any_of_dask(monkeypatch):
    assert config.get("nodes") == 3
    with dask.config.set({"superlearner.nodes": 5}):
        assert config.get("nodes") == 5


def test_a_directory_of_keys_is_closed_to_others(tmp_path, monkeypatch):
    wide = tmp_path / "run"
    wide.mkdir(mode=0o755)
    wide.chmod(0o755)
    monkeypatch.setenv("SUPERLEARNER_RUNTIME_DIR", str(wide))
    assert config.runtime_dir().stat().st_mode & 0o777 == 0o700


GARBAGE = [
    "",
    "{",
    "[]",
    "null",
    '{"address": 5}',
    '{"address": "x", "pid": "SECRET", "nodes": [], "tls": {}}',
    "\x00",
]


@pytest.mark.parametrize("text", GARBAGE)
def test_a_connection_file_that_is_none_is_named_without_a_word_of_what_stands_in_it(text):
    connection_path().write_text(text)
    try:
        with pytest.raises(ClusterNotFound, match=r"cut off, or none of superlearner's.*remove it") as caught:
            find_connection()
    finally:
        connection_path().unlink()
    assert "SECRET" not in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.skipif(os.getuid() != 0, reason="needs the right to give a file away")
def test_a_connection_file_of_another_user_is_not_believed():
    Connection("tls://x", os.getpid(), 0.0, ("alpha",), {}).save(connection_path())
    os.chown(connection_path(), 12345, -1)
    try:
        with pytest.raises(ClusterNotFound, match="belongs to another user"):
            find_connection()
    finally:
        connection_path().unlink()


def test_a_lock_names_its_holder_and_is_free_when_that_has_ended(tmp_path):
    held = tmp_path / "lock"
    program = f"""
from pathlib import Path
from superlearner.cluster.locks import locked
with locked(Path({str(held)!r})):
    print("held", flush=True)
    input()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        holder.stdout.readline()
        with pytest.raises(LockHeld, match=f"in use by process {holder.pid}"), locked(held):
            pass
        readable, abort = os.pipe()
        os.write(abort, b"!")
        with pytest.raises(LockHeld), locked(held, wait=True, abort=readable):
            pass
        os.close(readable)
        os.close(abort)
        holder.kill()
    with locked(held, wait=True):
        pass


@pytest.mark.parametrize(
    ("variable", "directory"),
    [("SUPERLEARNER_RUNTIME_DIR", config.runtime_dir), ("SUPERLEARNER_STATE_DIR", config.state_dir)],
)
def test_a_directory_that_cannot_be_made_is_named_with_the_way_out(
    tmp_path, monkeypatch, variable, directory
):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv(variable, str(tmp_path / "file" / "below"))
    with pytest.raises(
        SuperlearnerError, match=f"cannot be made .* Set {variable} to a directory of your own"
    ):
        directory()
