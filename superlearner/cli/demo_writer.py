"""The client of ``demo --chaos``: it writes to a ledger, and records what it is told."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from superlearner.cli.demo_record import Answer, Record
from superlearner.cli.demo_tale import PATIENCE, DemoFailed
from superlearner.errors import SuperlearnerError

if TYPE_CHECKING:
    from superlearner import Sandbox

#: How many threads write while a sandbox moves, and how many answers each is to get before and after the move.
CALLERS, CALLS = 2, 50
#: How many entries are written before each fault.
ENTRIES = 20


class Writer:
    """A ledger in a sandbox, with the record of everything that it has answered."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.sandbox, self.record = sandbox, Record()
        self._numbers = itertools.count(1)

    def write(self, caller: str = "main", number: int | None = None) -> Answer:
        """Write an entry; it is sent once, and answered once."""
        entry = f"{caller}-{next(self._numbers) if number is None else number}"
        began = time.monotonic()
        _, os_pid = self.sandbox.call("ledger", ("write", entry), timeout=PATIENCE)
        answer = Answer(entry, os_pid, began, time.monotonic())
        self.record.add(answer)
        return answer

    def read(self) -> tuple[list[str], int]:
        """Return all entries, and the OS process that answered; reading may be repeated."""
        entries, os_pid = self.sandbox.call("ledger", "read", timeout=PATIENCE, idempotent=True)
        return list(entries), int(os_pid)

    def store(self) -> int:
        """Write some entries and take a checkpoint: all that was acknowledged is stored then; return how many."""
        for _ in range(ENTRIES):
            self.write()
        acknowledged = self.record.acknowledged
        self.sandbox.checkpoint()
        self.record.stored.update(acknowledged)
        return len(acknowledged)

    def first_other(self, os_pid: int) -> tuple[list[str], float]:
        """Read until another OS process than this one answers; return what it has, and when it answered."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            with suppress(SuperlearnerError):
                entries, who = self.read()
                if who != os_pid:
                    return entries, time.monotonic()
            # The one that is about to stop answers at once: leave it a moment.
            threading.Event().wait(0.002)
        raise DemoFailed(f"only OS process {os_pid} has answered for {self.sandbox.id} in {PATIENCE:g} s.")


@contextmanager
def callers(writer: Writer) -> Iterator[Waiter]:
    """Let several threads write, each as fast as it is answered, until the end of the block."""
    stop = threading.Event()

    def call(name: str) -> None:
        for number in itertools.count(1):
            if stop.is_set():
                return
            try:
                writer.write(name, number)
            except SuperlearnerError as error:
                writer.record.fail(str(error))
                return

    # Daemons: a cluster that is closed under them ends their calls.
    threads = [
        threading.Thread(target=call, args=(f"caller{number}",), daemon=True) for number in range(CALLERS)
    ]
    for thread in threads:
        thread.start()
    try:
        yield Waiter(writer.record)
    finally:
        stop.set()
        for thread in threads:
            thread.join(timeout=PATIENCE)


class Waiter:
    """Waits until a record holds so many answers."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def __call__(self, number: int) -> None:
        """Wait; raise `DemoFailed` when a call fails or the answers do not come."""
        record = self._record
        with record.changed:
            came = record.changed.wait_for(
                lambda: record.failed or len(record.answers) >= number, timeout=PATIENCE
            )
        if not came or record.failed:
            raise DemoFailed(
                f"the calls went unanswered: {', '.join(record.failed) or 'nothing came for long'}."
            )
