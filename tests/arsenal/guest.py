"""A process that registers operations in the local cluster, as a notebook's kernel would; it obeys its standard input.

Each line is the path of `greet` from then on; ``-`` takes it away. The end of the input ends the process.
"""

from __future__ import annotations

import asyncio
import sys

from pydantic import SecretStr

import superlearner as sl
from superlearner.arsenal import AwaitedCluster, Field, Params, Result, operation
from superlearner.errors import SuperlearnerError


class NobodyThere(SuperlearnerError):
    """Nobody of that name is there; no other process has this class."""

    code = "nobody_there"
    advice = "Greet somebody else."


class Name(Result):
    first: str
    #: Schemas that refer to themselves have to pass, too.
    friends: list[Name] = Field([], description="Who comes along.")


class Greet(Params):
    name: str = Field(description="Whom to greet.")
    times: int = Field(1, ge=1, le=3, description="How often.")
    words: list[str] = Field([], description="What else to say.")
    pin: SecretStr | None = Field(None, description="Nobody's business.")
    key: SecretStr = Field(SecretStr(""), description="Nobody's business either.")


class Greeting(Result):
    name: Name
    text: str
    sandboxes: int


def say(word: str) -> None:
    """Tell the test."""
    sys.stdout.write(f"{word}\n")
    sys.stdout.flush()


async def greet(cluster: AwaitedCluster, params: Greet) -> Greeting:
    """Say good day.

    Friendly, and as often as wished.
    """
    match params.name:
        case "nobody":
            raise NobodyThere("Nobody is there; nobody was greeted.")
        case "sleeper":
            say("asleep")
            await asyncio.sleep(60)
        case "bug":
            raise RuntimeError("a bug in /home/ann/cell.py")
    return Greeting(
        name=Name(first=params.name, friends=[Name(first="bob")]),
        text=" ".join(["Good day!"] * params.times + params.words),
        sandboxes=len(await cluster.sandboxes()),
    )


class Guest(Params):
    name: str = Field(description="Who comes.")


class Invited(Result):
    name: str


@operation("POST", "/guests", access="admin", timeout=5.0, dangerous=True, creates="/guests/{name}")
async def invite(cluster: AwaitedCluster, params: Guest) -> Invited:
    """Invite somebody for good."""
    return Invited(name=params.name)


@operation("DELETE", "/guests/{name}", access="operate", timeout=5.0)
async def send_home(cluster: AwaitedCluster, params: Guest) -> None:
    """Send somebody home."""


def main() -> None:
    """Register, and do as told."""
    with sl.connect() as cluster:
        for one in (invite, send_home):
            cluster.ops.register(one)
        for line in sys.stdin:
            if (path := line.strip()) == "-":
                cluster.ops.remove("greet")
            else:
                declare = operation("GET", path, access="read", timeout=1.0, errors={NobodyThere: 404})
                cluster.ops.register(declare(greet), replace=True)
            say("done")


if __name__ == "__main__":
    main()
