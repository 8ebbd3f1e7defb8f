"""The process of a local cluster: Dask's scheduler with the control plane, and a nanny for each node.

Started by its guardian as ``python -m superlearner.cluster.daemon SETTINGS``, with what the daemon was that it
takes over from, or ``null``, as the first line of its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import importlib.util
import json
import logging
import os
import signal
import sys
import warnings
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import dask
import psutil
from distributed import Nanny, Scheduler, Security, Status
from distributed.utils import get_mp_context
from distributed.versions import optional_packages

from superlearner.cluster.lanes import Endpoint
from superlearner.cluster.local import REFUSED, Connection, tls_of
from superlearner.cluster.locks import LockHeld, locked, who
from superlearner.cluster.plane import ControlPlane

# Workers fork from one warm server instead of importing everything again: three nodes are up in a
# third of the time and share memory.
_DASK_SETTINGS = {
    "distributed.worker.multiprocessing-method": "forkserver",
    "distributed.worker.daemon": True,
    "distributed.admin.tick.limit": "30s",
    "distributed.comm.timeouts.connect": "10s",
}

#: TLS whose links can be broken on purpose; see `superlearner.cluster.faulty`.
PROTOCOL = "faulty+tls"
#: Seconds that a killed node's new worker waits, at the longest, for the sandboxes of the old one.
_PATIENCE = 5.0
#: Seconds after which a worker that could not register is given up: over a lossy link it may wait for ever.
_DEATH = 30.0
#: Seconds until a node is started again that could not start.
_AGAIN = 1.0


class _PatientNanny(Nanny):
    """Starts a killed worker again after its sandboxes have found other nodes.

    A worker that boots takes most of a core for half a second: on a small machine that doubles the time in
    which nobody answers.
    """

    plane: ControlPlane
    #: Whether a signal ended the worker before the nanny knew that it runs. Dask starts such a worker no more.
    killed_early = False

    @functools.cached_property
    def endpoint(self) -> Endpoint:
        """The end of links that it listens at: its node, whose worker may always talk to it."""
        return Endpoint(self.name, deaf=True)

    def _on_worker_exit_sync(self, exitcode: int) -> None:
        self.killed_early = self.status == Status.init and exitcode < 0
        super()._on_worker_exit_sync(exitcode)

    async def _on_worker_exit(self, exitcode: Any) -> None:
        if self.status == Status.running:  # else it is being closed, and starts none again
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_PATIENCE):
                    await self.plane.calm(self.name)
            # A nanny belongs to its node: what it tells passes a cut link as little as what its worker tells.
            await self.plane.faults.rules.revealed(self.name)
        await super()._on_worker_exit(exitcode)


class LocalNodes:
    """The nannies of this machine, by node name; the control plane adds and removes nodes through it."""

    def __init__(self, scheduler: Scheduler, security: Security, directory: str) -> None:
        #: Set before the first node is added.
        self.plane: ControlPlane
        self._scheduler = scheduler
        self._security = security
        self._directory = directory
        self._nannies: dict[str, Nanny] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}

    async def add(self, name: str, labels: Mapping[str, str] | None = None) -> None:
        """Start a node, and again whenever it ends unasked; its agent reports when it is ready, with its labels."""
        nanny = await self._start(name, labels)
        self._keepers[name] = asyncio.create_task(self._keep(name, labels, nanny))
        self._note()

    async def _keep(self, name: str, labels: Mapping[str, str] | None, nanny: Nanny) -> None:
        """Start a node again when its nanny has given up.

        A nanny starts a worker that died again, but not one that has lost the scheduler, nor one that could
        not start. Here the scheduler lives: only a link between them was broken.
        """
        while True:
            await nanny.finished()
            # A worker whose registration was answered over a connection that broke stays registered.
            if (stale := self._scheduler.aliases.get(name)) in self._scheduler.workers:
                await self._scheduler.remove_worker(stale, stimulus_id=f"superlearner-{name}-again")
            with contextlib.suppress(Exception):  # Dask has logged it; the link is still broken
                nanny = await self._start(name, labels)
                continue
            await asyncio.sleep(_AGAIN)

    async def _start(self, name: str, labels: Mapping[str, str] | None) -> Nanny:
        while True:
            nanny = self._nanny(name, labels)
            try:
                return await nanny
            except RuntimeError:
                if not nanny.killed_early:
                    raise

    def _nanny(self, name: str, labels: Mapping[str, str] | None) -> _PatientNanny:
        self._nannies[name] = nanny = _PatientNanny(
            self._scheduler.address,
            name=name,
            nthreads=1,
            host="127.0.0.1",
            protocol=PROTOCOL,
            preload=["superlearner.cluster.preload"],
            security=self._security,
            memory_limit=0,  # sandboxes have limits of their own; a node is never killed for its size
            local_directory=self._directory,
            silence_logs=logging.ERROR,
            dashboard=False,
            # A worker that is started again has the labels of the one before it.
            config={"superlearner.labels": dict(labels)} if labels else None,
            death_timeout=_DEATH,
        )
        nanny.plane = self.plane
        return nanny

    def _note(self) -> None:
        """Keep the names of the nodes for a daemon that takes over."""
        _names_file(self._directory).write_text(json.dumps(list(self._nannies)), encoding="utf-8")

    async def remove(self, name: str) -> None:
        """Stop a node for good."""
        keeper, nanny = self._keepers.pop(name, None), self._nannies.pop(name, None)
        if keeper is not None:
            keeper.cancel()
            await asyncio.gather(keeper, return_exceptions=True)
        if nanny is not None:
            self._note()
            await nanny.close(timeout=5)

    def signal(self, name: str, number: int) -> None:
        """Send a signal to a node's worker process, if it lives."""
        nanny = self._nannies.get(name)
        if nanny is not None and nanny.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(nanny.pid, number)

    async def close(self) -> None:
        """Stop all nodes."""
        keepers, self._keepers = self._keepers, {}
        for keeper in keepers.values():
            keeper.cancel()
        await asyncio.gather(*keepers.values(), return_exceptions=True)
        nannies, self._nannies = self._nannies, {}
        await asyncio.gather(*(nanny.close(timeout=5) for nanny in nannies.values()))


def _names_file(directory: str) -> Path:
    return Path(directory) / "nodes.json"


async def run(settings: dict[str, Any], before: Connection | None) -> None:
    """Run a cluster until SIGTERM, SIGINT, or the end of the guardian's pipe.

    `before` is what the daemon was that this one takes over from: it gets the same address and keys.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    def guardian_ended() -> None:
        loop.remove_reader(0)  # the end of a pipe stays readable
        stop.set()

    loop.add_reader(0, guardian_ended)  # nothing more is ever written there: readable means its end

    directory = settings["directory"]
    security = Security.temporary() if before is None else before.security
    if before is not None:
        settings["nodes"] = json.loads(_names_file(directory).read_text(encoding="utf-8"))
    dask.config.set({"temporary-directory": directory})  # the scheduler's scratch space too
    served = settings["dashboard"] and importlib.util.find_spec("bokeh") is not None
    async with Scheduler(
        host="127.0.0.1",
        port=0 if before is None else int(before.address.rpartition(":")[2]),
        protocol=PROTOCOL,
        security=security,
        dashboard=served,
        dashboard_address="127.0.0.1:0",  # ":0" would listen on every interface
    ) as scheduler:
        nodes = LocalNodes(scheduler, security, directory)
        journal = settings["journal"] or str(Path(directory) / "journal.sqlite")
        state = settings["state"] or str(Path(directory) / "state")
        plane = nodes.plane = ControlPlane(journal, nodes, state, takes_over=before is not None)
        await plane.start(scheduler)
        scheduler.add_plugin(plane)
        serving = asyncio.create_task(_serve(settings, scheduler, plane, nodes, served=served))
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([serving, stopping], return_when=asyncio.FIRST_COMPLETED)
            if serving.done():
                serving.result()  # it never returns: it raises what kept the cluster from starting
        finally:
            serving.cancel()
            stopping.cancel()
            await asyncio.gather(serving, stopping, return_exceptions=True)
            plane.stop()
            await plane.faults.close()  # nobody can leave over a broken link
            await nodes.close()


async def _serve(
    settings: dict[str, Any], scheduler: Scheduler, plane: ControlPlane, nodes: LocalNodes, *, served: bool
) -> None:
    """Start the nodes, tell that the cluster is ready, and serve until cancelled."""
    await asyncio.gather(*(nodes.add(name, settings["labels"].get(name)) for name in settings["nodes"]))
    await plane.wait_for_nodes(settings["nodes"])
    plane.restore()
    _tell_ready(settings, scheduler, served=served)
    await asyncio.Event().wait()


def _tell_ready(settings: dict[str, Any], scheduler: Scheduler, *, served: bool) -> None:
    """Write the connection file, and the same to whoever waits for the start."""
    connection = Connection(
        address=scheduler.address,
        pid=os.getppid(),  # its guardian, which outlives it
        started=psutil.Process(os.getppid()).create_time(),
        nodes=tuple(settings["nodes"]),
        tls=tls_of(scheduler.security),
        dashboard=f"http://127.0.0.1:{scheduler.http_server.port}/status" if served else None,
        path=settings["path"],
        directory=settings["directory"],
        state=settings["state"],
    )
    if settings["path"]:
        connection.save(Path(settings["path"]))
    with os.fdopen(settings["ready"], "w", encoding="utf-8") as ready:
        json.dump(asdict(connection), ready)


def _share_imports() -> None:
    """Have the server that workers are forked from import what every node needs, and nothing else.

    Dask's own list adds NumPy, pandas and more where they are installed: tens of megabytes for each node.
    """
    theirs = optional_packages.copy()
    optional_packages.clear()  # while its context is made, which imports them; later it tells their versions
    context = get_mp_context()
    optional_packages.extend(theirs)
    context.set_forkserver_preload(["distributed", "superlearner.cluster.preload"])


def _alone(journal: str | None) -> contextlib.AbstractContextManager[None]:
    """Hold the journal for this process alone: two histories in one file would be none."""
    # Its guardian is the process that a person knows.
    return locked(Path(f"{journal}.lock"), holder=os.getppid()) if journal else contextlib.nullcontext()


def main() -> None:
    """Run the daemon with the settings given as JSON on the command line."""
    settings = json.loads(sys.argv[1])
    line = sys.stdin.readline().strip()
    before = None if line == "null" else Connection.parse(line)
    warnings.simplefilter("ignore")
    logging.getLogger("distributed").setLevel(logging.ERROR)
    try:
        changed = {**_DASK_SETTINGS, "superlearner": settings["config"]}
        with dask.config.set(changed), _alone(settings["journal"]):
            _share_imports()
            asyncio.run(run(settings, before))
    except LockHeld as error:
        sys.exit(
            f"{REFUSED}The state directory {Path(settings['journal']).parent} is in use by the local cluster of "
            f"{who(error.holder)}, whose journal would be mixed up; nothing was started. End that cluster, or set "
            "SUPERLEARNER_STATE_DIR to another directory."
        )


if __name__ == "__main__":
    main()
