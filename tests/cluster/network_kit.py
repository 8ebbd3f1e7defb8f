"""Machines that are none: network namespaces on a bridge, whose links are cut with the kernel's own means.

Everything is below names that begin with this process's id, and is removed by `Network.close`. A client runs
in a namespace as a process of its own (``network_client.py``), and is told what to do in expressions.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

#: Where frames go that nobody is to get: an address of local administration that no link has.
NOBODY = "02:00:00:00:00:01"

_numbers = itertools.count(1)


def ip(*words: str) -> None:
    """Run `ip`; a refusal of the kernel is raised with its words."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    if done.returncode:
        raise OSError(f"ip {' '.join(words)}: {done.stderr.strip()}")


def why_not() -> str | None:
    """Return what is missing here for networks of namespaces; None: nothing."""
    if os.geteuid() != 0:
        return "network namespaces need root"
    network = Network()
    try:
        network.open(["probe"])
    except FileNotFoundError:
        return "the command `ip` (iproute2) is not installed"
    except OSError as error:
        return f"the kernel refuses a bridge of network namespaces: {error}"
    finally:
        network.close()
    return None


class Network:
    """Namespaces that reach each other over a bridge, which is in a namespace of its own."""

    def __init__(self) -> None:
        self._prefix = f"sl{os.getpid()}-{next(_numbers)}"
        self._places: dict[str, int] = {}
        self._made: list[str] = []

    def open(self, names: Sequence[str]) -> Network:
        """Make a namespace for each name."""
        self._add_namespace("hub")
        ip("-n", self._space("hub"), "link", "add", "bridge", "type", "bridge")
        ip("-n", self._space("hub"), "link", "set", "bridge", "up")
        for place, name in enumerate(names, start=1):
            self._places[name] = place
            self._add_namespace(name)
            peer = ["peer", "name", "eth0", "netns", self._space(name)]
            ip("-n", self._space("hub"), "link", "add", f"port{place}", "type", "veth", *peer)
            ip("-n", self._space(name), "address", "add", f"{self.address(name)}/24", "dev", "eth0")
            ip("-n", self._space(name), "link", "set", "eth0", "up")
            self.plug(name)
        return self

    def _add_namespace(self, name: str) -> None:
        ip("netns", "add", self._space(name))
        self._made.append(self._space(name))
        ip("-n", self._space(name), "link", "set", "lo", "up")

    def close(self) -> None:
        """Remove everything."""
        while self._made:
            ip("netns", "delete", self._made.pop())

    def _space(self, name: str) -> str:
        return f"{self._prefix}-{name}"

    def address(self, name: str) -> str:
        """Return the address of a namespace."""
        return f"10.77.0.{self._places[name]}"

    def within(self, name: str) -> list[str]:
        """Return the words before a command that is to run in a namespace."""
        return ["ip", "netns", "exec", self._space(name)]

    # -- Breaking and healing ------------------------------------------------------------------------

    def silence(self, name: str) -> None:
        """Drop every packet from and to a namespace: its own link is up, and nobody is told anything."""
        ip("-n", self._space("hub"), "link", "set", f"port{self._places[name]}", "nomaster")

    def unplug(self, name: str) -> None:
        """Pull the cable out: the link of the namespace is down."""
        ip("-n", self._space("hub"), "link", "set", f"port{self._places[name]}", "down")

    def plug(self, name: str) -> None:
        """Take `silence` and `unplug` back."""
        ip("-n", self._space("hub"), "link", "set", f"port{self._places[name]}", "master", "bridge", "up")

    def cut(self, one: str, other: str) -> None:
        """Drop the packets between two namespaces alone."""
        for here, there in ((one, other), (other, one)):
            entry = [self.address(there), "lladdr", NOBODY, "dev", "eth0", "nud", "permanent"]
            ip("-n", self._space(here), "neighbour", "replace", *entry)

    def heal(self, one: str, other: str) -> None:
        """Take `cut` back."""
        for here, there in ((one, other), (other, one)):
            ip("-n", self._space(here), "neighbour", "delete", self.address(there), "dev", "eth0")


class Refused(Exception):
    """What a client was told instead of a value; its text begins with the name of the error."""


class Remote:
    """A client in a namespace."""

    def __init__(self, network: Network, name: str, address: str, env: Mapping[str, str]) -> None:
        program = Path(__file__).with_name("network_client.py")
        self._process = subprocess.Popen(
            [*network.within(name), sys.executable, str(program), address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, **env},
        )
        self._read()

    def __call__(self, expression: str) -> Any:
        """Return what an expression gives there, as plain data; raise `Refused` when it raises."""
        self.begin(expression)
        return self._read()

    def begin(self, expression: str) -> None:
        """Have an expression evaluated; `end` gives what comes of it."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{expression}\n")
        self._process.stdin.flush()

    def end(self) -> Any:
        """Return what came of `begin`."""
        return self._read()

    def _read(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the client has ended; its standard error tells why"
        well, value = json.loads(line)
        if not well:
            raise Refused(value)
        return value

    def close(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
