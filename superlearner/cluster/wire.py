r"""Dask's messages on the wire, by a shorter way than Dask's: the same bytes, for a third of the time.

Dask's `TCP` is made for arrays that travel beside a message: it gathers frames before it writes, and reads
the length of a message and each array by themselves. Nearly everything between the parts of a cluster is one small
message without arrays. In Dask's format (``distributed.comm.tcp``, ``distributed.protocol``) that is three numbers and
a msgpack object, which are written here as one piece and read with one look at the socket. Whatever else comes is
taken apart by Dask's own functions.

======================  ==========================================================================================
bytes                   meaning
======================  ==========================================================================================
8                       how many bytes follow, without arrays that were written by themselves
8                       how many frames the message has
8 for each frame        its length
the rest                the frames; the first is a msgpack object, which names the others where they belong
======================  ==========================================================================================

>>> encode("ping")
[b'\x15\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x05\x00\x00\x00\x00\x00\x00\x00\xa4ping']
"""

from __future__ import annotations

import struct
from typing import Any

import msgpack
from distributed.comm.utils import from_frames
from distributed.protocol.serialize import msgpack_decode_default
from distributed.protocol.utils import host_array, msgpack_opts, unpack_frames
from tornado.iostream import IOStream

from superlearner.sandbox.frames import packed, pieces

#: Bytes that are read ahead: what one TLS record carries at most.
_AHEAD = 2**14
#: Bytes that may be read at once: OpenSSL counts them by a C int, as Dask has found.
_MOST = 2**31 - 1
_LENGTH = struct.Struct("Q")
#: The begin of a message of one frame.
_HEAD = struct.Struct("QQQ")
#: The bytes of `_HEAD` behind the first number.
_BEHIND = 16


def encode(message: Any) -> list[bytes]:
    """Return a message that consists of what msgpack knows, as Dask writes it: in one piece, or two if it is large.

    Raises
    ------
    TypeError, ValueError, OverflowError
        There is something else in it.
    """
    body = packed(message)
    size = len(body)
    return pieces(_HEAD.pack(_BEHIND + size, 1, size), body)


class MessageReader:
    """Reads the messages of one stream, on which nobody else reads.

    Parameters
    ----------
    stream
        Where they come from.
    """

    def __init__(self, stream: IOStream) -> None:
        self._stream = stream
        self._buffer = bytearray(_AHEAD)
        self._view = memoryview(self._buffer)
        #: The part of the buffer that was read and not used.
        self._start = 0
        self._end = 0

    async def read(self, *, deserialize: bool, deserializers: Any, allow_offload: bool) -> Any:
        """Read the next message; the options are those of ``distributed.comm.utils.from_frames``.

        Raises
        ------
        StreamClosedError, SSLError
            The stream has ended.
        EOFError
            What came is no message.
        """
        while True:
            start, end = self._start, self._end
            if end - start >= _HEAD.size:
                behind, frames, size = _HEAD.unpack_from(self._buffer, start)
                stop = start + 8 + behind
                if frames != 1 or behind != _BEHIND + size or stop - start > _AHEAD:
                    break
                if stop <= end:
                    self._start = stop
                    return msgpack.loads(
                        self._view[stop - size : stop],
                        object_hook=msgpack_decode_default,
                        use_list=False,
                        **msgpack_opts,
                    )
            elif end - start >= 8 and _LENGTH.unpack_from(self._buffer, start)[0] < _BEHIND:
                break
            if start:
                # The begin of a message moves to the front, so that the rest of it has room.
                self._view[: end - start] = self._buffer[start:end]
                self._start, self._end = 0, end - start
            self._end += await self._stream.read_into(self._view[self._end :], partial=True)  # type: ignore[arg-type]
        return await self._read_frames(deserialize, deserializers, allow_offload)

    async def _read_frames(self, deserialize: bool, deserializers: Any, allow_offload: bool) -> Any:
        """Read a message as Dask does: arrays into memory of their own, which is free when they are."""
        (size,) = _LENGTH.unpack(await self._take(8))
        frames, missing = unpack_frames(await self._take(size), partial=True)
        for length in missing:
            frames.append(await self._take(length))
        return await from_frames(
            frames, deserialize=deserialize, deserializers=deserializers, allow_offload=allow_offload
        )

    async def _take(self, size: int) -> memoryview:
        """Return the next `size` bytes, in memory of their own."""
        taken = host_array(size)
        ahead = min(size, self._end - self._start)
        taken[:ahead] = self._view[self._start : self._start + ahead]
        self._start += ahead
        while ahead < size:
            ahead += await self._stream.read_into(taken[ahead : ahead + _MOST])
        return taken
