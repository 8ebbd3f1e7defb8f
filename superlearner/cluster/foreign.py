"""Somebody else's Dask cluster: look whether it can carry sandboxes, then put the control plane there."""

from __future__ import annotations

import asyncio
import pkgutil
from typing import Any

from distributed import Client, Security
from distributed.comm.addressing import parse_address, parse_host_port
from distributed.comm.registry import get_backend

from superlearner import config
from superlearner.cluster.session import Found
from superlearner.errors import ClusterNotFound, InvalidSpec, Unsupported

_EXAMPLE = 'write one such as "tls://host:8786", or give a Dask client'


def check_address(address: Any, security: Security) -> str:
    """Return `address` if it may be that of a scheduler which these keys can reach, else raise `InvalidSpec`."""
    if not isinstance(address, str):
        raise InvalidSpec(f"{address!r} is not the address of a Dask scheduler: {_EXAMPLE}.")
    if address.startswith("inproc:"):
        raise InvalidSpec(
            f"{address} is known in its own process alone: give the Dask client of that cluster."
        )
    try:
        scheme, location = parse_address(address)
        get_backend(scheme)
        parse_host_port(location)
    except ValueError as error:
        raise InvalidSpec(
            f"{address!r} is not the address of a Dask scheduler ({error}): {_EXAMPLE}."
        ) from None
    if ("tls" in scheme or scheme == "wss") and security.get_connection_args("client").get(
        "ssl_context"
    ) is None:
        raise InvalidSpec(f"{address} is encrypted: give its keys with security=distributed.Security(...).")
    return address


async def install(address: str, security: Security) -> Found:
    """Put the control plane on the scheduler at `address`, once it is known that all of the cluster can carry it.

    Raises
    ------
    ClusterNotFound
        No Dask scheduler answers within the setting ``superlearner.connect-timeout``.
    Unsupported
        The scheduler or a worker lacks superlearner, or has another version; nothing was changed there.
    """
    # Not before it is needed: a kernel that uses a cluster of its own does without the control plane.
    from superlearner.cluster.plane import ControlPlane

    timeout = config.get("connect-timeout")
    try:
        async with (
            asyncio.timeout(3 * timeout),
            Client(
                address, security=security, asynchronous=True, set_as_default=False, timeout=timeout
            ) as client,
        ):
            await _check_scheduler(client)
            if not await client.run_on_scheduler(_has_plane):
                await _check_workers(client, timeout)
            await client.register_plugin(ControlPlane())
    except (OSError, TimeoutError) as error:
        reason = str(error) or f"not within {timeout:g} s"
        raise ClusterNotFound(f"No Dask scheduler answers at {address} ({reason}).") from None
    return Found(address, security)


# Asked in the words of the standard library: what is superlearner's own could not be unpickled where it is missing.
_ASK = (pkgutil.resolve_name, "superlearner:__version__")


def _has_plane(dask_scheduler: Any) -> bool:
    from superlearner.cluster.plane import PLUGIN_NAME

    return PLUGIN_NAME in dask_scheduler.plugins


async def _check_scheduler(client: Client) -> None:
    try:
        found = await client.run_on_scheduler(*_ASK)
    except (ImportError, AttributeError) as error:
        found = error
    _refuse({"The scheduler": found})


async def _check_workers(client: Client, timeout: float) -> None:
    try:
        async with asyncio.timeout(timeout):
            found = await client.run(*_ASK, on_error="return")
    except TimeoutError:
        raise Unsupported(
            f"A worker has not answered within {timeout:g} s, so it is not known whether it has superlearner; "
            "nothing was changed there. Connect again when all workers answer."
        ) from None
    workers = (await client.scheduler.identity(n_workers=-1))["workers"]
    names = {address: f"the worker {worker['name']}" for address, worker in workers.items()}
    _refuse(
        {
            names.get(address, f"the worker {address}"): answer
            for address, answer in found.items()
            if not isinstance(answer, OSError)  # it has gone meanwhile
        }
    )


def _refuse(found: dict[str, Any]) -> None:
    """Raise `Unsupported` unless everybody has this version."""
    own = pkgutil.resolve_name(*_ASK[1:])
    complaints = [
        f"{who} has superlearner {answer}" if isinstance(answer, str) else f"{who} lacks superlearner"
        for who, answer in sorted(found.items())
        if answer != own
    ]
    if complaints:
        listed = ", ".join(complaints[:10]) + (f" and {len(complaints) - 10} more" if complaints[10:] else "")
        listed = listed[0].upper() + listed[1:]
        raise Unsupported(
            f"{listed}; nothing was changed there. Install superlearner {own}, as here, on the scheduler and all "
            "workers, then connect again."
        )
