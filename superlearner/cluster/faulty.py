"""The transports ``faulty://`` and ``faulty+tls://``: TCP and TLS whose links can be broken on purpose.

What travels is the same as with ``tcp://`` and ``tls://``; a client without superlearner may use those
schemes with the same port. Each end tells its name in Dask's own handshake, so that both know which link a
connection is on, and asks for each message whether that link is open (`superlearner.cluster.lanes`): a
look at an attribute as long as it is.

What a fault does to a connection:

- **cut**: nothing passes, in both directions or in one. The connection stays open; what is written waits,
  and so does what was on its way. The end of a connection does not pass either: nobody learns that the
  other side has closed or died. A new connection waits until the caller's timeout.
- **delay**, **slow**: messages arrive later; those of one connection never overtake each other.
- **drop**: these are streams, and TCP would send again what a network loses. So a lost message breaks its
  connection, as a reset does: both ends see it closed, and whoever used it must connect again.

What is held when its own side closes the connection is dropped. A connection that declares itself *exempt*
in its handshake passes all faults: it carries the faults themselves.
"""

from __future__ import annotations

import re
from functools import partial
from typing import Any

from distributed.comm.core import CommClosedError
from distributed.comm.registry import backends
from distributed.comm.tcp import (
    BaseTCPBackend,
    BaseTCPConnector,
    BaseTCPListener,
    TCPConnector,
    TCPListener,
    TLSConnector,
    TLSListener,
)

from superlearner.cluster.faulty_comm import FaultyTCP, FaultyTLS
from superlearner.cluster.lanes import HERE, Endpoint

#: Added to Dask's connection arguments, it makes a connection exempt; other transports ignore it.
EXEMPT = {"exempt": True}


class _FaultyConnector(BaseTCPConnector):
    def __init__(self, endpoint: Endpoint, scheme: str) -> None:
        self.prefix = f"{scheme}://"
        self.comm_class = partial(FaultyTLS if self.encrypted else FaultyTCP, endpoint)

    async def connect(
        self, address: str, deserialize: bool = True, *, exempt: bool = False, **connection_args: Any
    ) -> FaultyTCP:
        """Connect, and wait until the link lets the new connection pass."""
        try:
            comm: FaultyTCP = await super().connect(address, deserialize, **connection_args)
        except ValueError as error:
            # Tornado's word for a peer that closes between TCP's handshake and that of TLS. Dask tries again.
            raise CommClosedError(f"{self.prefix}{address} has closed: {error}") from error
        comm.exempt = exempt
        try:
            await comm.greet()
        except BaseException:
            comm.abort()
            raise
        return comm


class _FaultyTCPConnector(_FaultyConnector, TCPConnector):
    """Connects without TLS."""


class _FaultyTLSConnector(_FaultyConnector, TLSConnector):
    """Connects with TLS."""


class _FaultyListener(BaseTCPListener):
    def __init__(self, endpoint: Endpoint, scheme: str, *args: Any, **options: Any) -> None:
        self.prefix = f"{scheme}://"
        self.comm_class = partial(FaultyTLS if self.encrypted else FaultyTCP, endpoint)
        super().__init__(*args, **options)


class _FaultyTCPListener(_FaultyListener, TCPListener):
    """Listens without TLS."""


class _FaultyTLSListener(_FaultyListener, TLSListener):
    """Listens with TLS."""


class FaultyBackend(BaseTCPBackend):
    """``faulty://``: TCP that can be broken.

    Parameters
    ----------
    endpoint
        The end of the links that it opens and accepts; this process by default.
    scheme
        What its addresses begin with.
    """

    scheme = "faulty"
    _connector: type[_FaultyConnector] = _FaultyTCPConnector
    _listener: type[_FaultyListener] = _FaultyTCPListener

    def __init__(self, endpoint: Endpoint = HERE, scheme: str | None = None) -> None:
        self._endpoint = endpoint
        self.scheme = scheme or self.scheme

    def get_connector(self) -> _FaultyConnector:
        """Return what connects."""
        return self._connector(self._endpoint, self.scheme)

    def get_listener(self, loc: str, handle_comm: Any, deserialize: bool, **connection_args: Any) -> Any:
        """Return what listens at `loc`; a server may have an `endpoint` of its own, other than its process."""
        endpoint = getattr(getattr(handle_comm, "__self__", None), "endpoint", self._endpoint)
        return self._listener(endpoint, self.scheme, loc, handle_comm, deserialize, **connection_args)


class FaultyTLSBackend(FaultyBackend):
    """``faulty+tls://``: TLS that can be broken."""

    scheme = "faulty+tls"
    _connector = _FaultyTLSConnector
    _listener = _FaultyTLSListener


def register() -> None:
    """Make the schemes known to Dask, which else finds them by their entry points where this is installed."""
    for backend in (FaultyBackend, FaultyTLSBackend):
        backends.setdefault(backend.scheme, backend())


register()


def can_break(address: str) -> bool:
    """Tell whether the links to this address can be broken.

    >>> can_break("faulty+tls://127.0.0.1:1"), can_break("tls://127.0.0.1:1")
    (True, False)
    """
    return isinstance(backends.get(address.partition("://")[0]), FaultyBackend)


def plain_address(address: str) -> str:
    """Return the address by which any Dask client reaches the same server, also one that knows no faults.

    >>> plain_address("faulty+tls://127.0.0.1:1"), plain_address("faulty://a:1"), plain_address("tcp://a:1")
    ('tls://127.0.0.1:1', 'tcp://a:1', 'tcp://a:1')
    """
    return re.sub(r"^faulty://", "tcp://", re.sub(r"^faulty\+", "", address))
