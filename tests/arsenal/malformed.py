"""Ten thousand ways to ask wrongly, from one seed: bytes to send, and what a server may say to them.

It is long because it is a table: each kind lists its tricks, one a line.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

STATUS = "/api/v1/distributed/cluster/status"
SANDBOXES = "/api/v1/distributed/sandboxes"
#: How an attempt ends. refused: one answer below 500 that is no success, or none, and the connection is closed.
#: answered: the same, and the good request that follows on the connection is answered, too.
#: broken off: the client goes away in the middle.
Ending = Literal["refused", "answered", "broken off"]


@dataclass(frozen=True)
class Attempt:
    """One malformed request."""

    kind: str
    sent: bytes
    ending: Ending


class Malformed:
    """Makes attempts against one server."""

    def __init__(self, seed: int, host: str, token: str) -> None:
        self._random = random.Random(seed)
        self._host, self._token = host, token
        self._kinds: list[Callable[[], tuple[bytes, Ending]]] = [
            self.first_line,
            self.header,
            self.length,
            self.chunks,
            self.smuggled,
            self.place,
            self.query,
            self.body,
            self.kind_of_body,
            self.no_http,
            self.broken_off,
        ]

    def attempts(self, number: int) -> Iterator[Attempt]:
        """Make so many; every kind in turn."""
        for count in range(number):
            kind = self._kinds[count % len(self._kinds)]
            sent, ending = kind()
            yield Attempt(kind.__name__, sent, ending)

    def good(self, *headers: str) -> bytes:
        """Return a request that is right."""
        return self._head("GET", STATUS, *headers)

    def last(self) -> bytes:
        """Return a request that is right, after which the server closes the connection."""
        return self.good("Connection: close")

    def post(self, body: bytes, *headers: str) -> bytes:
        """Return a request with a body."""
        kind = (
            ()
            if any(one.startswith("Content-Type") for one in headers)
            else ("Content-Type: application/json",)
        )
        return self._head("POST", SANDBOXES, *headers, *kind, f"Content-Length: {len(body)}") + body

    def _head(self, method: str, path: str, *headers: str, version: str = "HTTP/1.1") -> bytes:
        lines = [f"{method} {path} {version}", f"Host: {self._host}", f"Authorization: Bearer {self._token}"]
        return "\r\n".join([*lines, *headers, "", ""]).encode("latin-1")

    def _noise(self, most: int = 60) -> bytes:
        return self._random.randbytes(self._random.randint(1, most))

    # -- What is no HTTP, or hardly

    def first_line(self) -> tuple[bytes, Ending]:
        """Another first line."""
        rest = self._head("GET", STATUS, "Connection: close").partition(b"\r\n")[2]
        text = f"{self._random.getrandbits(40):x}"
        line = self._random.choice(
            [
                f"GET {STATUS}",
                f"GET  {STATUS} HTTP/1.1",
                f"GET {STATUS} HTTP/1.1 {text}",
                f"GET {STATUS} HTTP/{text}",
                f"GET {STATUS} HTTP/2.0",
                f"GET {STATUS} HTTP/0.9",
                f"GET {STATUS} http/1.1",
                f"GET\t{STATUS}\tHTTP/1.1",
                f"GET {STATUS}\0{text} HTTP/1.1",
                f"GET {STATUS} x HTTP/1.1",
                f"G\0ET {STATUS} HTTP/1.1",
                f"{text.upper() * 400} {STATUS} HTTP/1.1",
                f"get{text} {STATUS} HTTP/1.1",
                f"GET /{text * 4000} HTTP/1.1",
                f"CONNECT {text}:443 HTTP/1.1",
                f"GET http://{text}.example{STATUS} HTTP/1.1",
                "OPTIONS * HTTP/1.1",
                f" GET {STATUS} HTTP/1.1",
                f"GET {STATUS}#{text} HTTP/9.9",
                text,
                "",
            ]
        )
        return line.encode("latin-1") + b"\r\n" + rest, "refused"

    def no_http(self) -> tuple[bytes, Ending]:
        """Another protocol, or none."""
        hello = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + self._noise(400)
        return self._random.choice(
            [
                (hello + b"\r\n\r\n", "refused"),
                (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "refused"),
                (self._noise(2000).replace(b"\n", b" ") + b"\r\n\r\n", "refused"),
                (b"GET /\r\n\r\n", "refused"),
                (b"\0" * 3000 + b"\r\n\r\n", "refused"),
                (b"\r\n" * 40_000, "refused"),
                (b"A" * 70_000, "refused"),
                (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", "refused"),
                (b"EHLO example.org\r\n\r\n", "refused"),
            ]
        )

    def header(self) -> tuple[bytes, Ending]:
        """A header that no request has."""
        text = f"{self._random.getrandbits(40):x}"
        header = self._random.choice(
            [
                f"{text}",
                f": {text}",
                f"X-{text} : spaced",
                f"X-{text}: a\0b",
                f"X\0{text}: b",
                f"X-{text}: a\rb",
                f"X({text}): b",
                f"X-Long: {text * 4000}",
                "\r\n".join(f"X-{n}-{text}: {n}" for n in range(3000)),
                f"Host: {text}.example",
                f"Host: {self._host}",
                f"Authorization: Bearer {text}",
                f"Origin: https://{text}.example",
                "Origin: null",
                "Sec-Fetch-Site: cross-site",
                f"Content-Length: {text}x",
            ]
        )
        return self._head("GET", STATUS, "Connection: close", header), "refused"

    # -- What frames a body

    def length(self) -> tuple[bytes, Ending]:
        """A length that is none."""
        length = self._random.choice(
            [
                "-1",
                "+2",
                "0x2",
                "2_0",
                "two",
                "",
                "2, 3",
                "2.0",
                "1e3",
                "\xb2",
                str(10**30),
                str(2**63),
                "99999999",
            ]
        )
        head = self._head("POST", SANDBOXES, "Content-Type: application/json", f"Content-Length: {length}")
        if self._random.random() < 0.3:
            head = self._head("POST", SANDBOXES, "Content-Length: 2", "Content-Length: 3")
        return head + b"{}", "refused"

    def chunks(self) -> tuple[bytes, Ending]:
        """Chunks that are none."""
        head = self._head("POST", SANDBOXES, "Content-Type: application/json", "Transfer-Encoding: chunked")
        text = f"{self._random.getrandbits(20):x}"
        body = self._random.choice(
            [
                "x\r\n{}\r\n0\r\n\r\n",
                "-2\r\n{}\r\n0\r\n\r\n",
                "+2\r\n{}\r\n0\r\n\r\n",
                "0x2\r\n{}\r\n0\r\n\r\n",
                "1_0\r\n{}              \r\n0\r\n\r\n",
                " 2\r\n{}\r\n0\r\n\r\n",
                "2\r\n{}xx0\r\n\r\n",
                "2\r\n{}}}\r\n0\r\n\r\n",
                f"{text * 20}\r\n{{}}\r\n0\r\n\r\n",
                f"2;{text * 4000}\r\n{{}}\r\n0\r\n\r\n",
                "\r\n\r\n",
                "ffffffffffffffff\r\n{}\r\n0\r\n\r\n",
                f"2\r\n{{}}\r\n0\r\nX: {text}\r\n\r\n",
            ]
        )
        return head + body.encode(), "refused"

    def smuggled(self) -> tuple[bytes, Ending]:
        """A second request where two readers would see another end of the first."""
        inner = self.last()
        codings = self._random.choice(
            [
                "chunked, chunked",
                "xchunked",
                "chunked, identity",
                "identity, chunked",
                "\x0bchunked",
                "CHUNKED x",
                "gzip",
            ]
        )
        chunked = b"0\r\n\r\n" + inner
        sent = self._random.choice(
            [
                self._head(
                    "POST", SANDBOXES, f"Content-Length: {len(chunked)}", "Transfer-Encoding: chunked"
                ),
                self._head(
                    "POST", SANDBOXES, "Transfer-Encoding: chunked", f"Content-Length: {len(chunked)}"
                ),
                self._head("POST", SANDBOXES, f"Transfer-Encoding: {codings}"),
                self._head("POST", SANDBOXES, "Transfer-Encoding: chunked", "Transfer-Encoding: identity"),
                self._head("POST", SANDBOXES, "Transfer-Encoding : chunked", "Content-Length: 5"),
                self._head("POST", SANDBOXES, "Content-Length: 0", f"Content-Length: {len(chunked)}"),
                self._head("POST", SANDBOXES, f"Content-Length: 0\n{len(chunked)}"),
                self._head("POST", SANDBOXES, "Transfer-Encoding:\r\n chunked, x", "Content-Length: 5"),
            ]
        )
        return sent + chunked, "refused"

    # -- What reads well and is wrong: the next request on the connection is answered

    def place(self) -> tuple[bytes, Ending]:
        """A path that leads nowhere."""
        text = f"{self._random.getrandbits(40):x}"
        path = self._random.choice(
            [
                f"/api/v1/../../{text}",
                f"/api/v1/%2e%2e/%2e%2e/etc/{text}",
                f"/api/v1/..%2f..%2fetc%2f{text}",
                f"/api/v1/..%5c{text}",
                f"/api/v1/%252e%252e/{text}",
                f"/api/v1/%c0%ae%c0%ae/{text}",
                f"/api/v1/distributed/sandboxes/%00{text}",
                f"/api/v1/distributed/sandboxes/%ff{text}",
                f"/api/v1/distributed/sandboxes/{text}%",
                f"/api/v1/distributed/sandboxes/{text}%zz",
                f"/api/v1/distributed/sandboxes/%ed%a0%80{text}",
                f"/api/v1/distributed/sandboxes/{text}/{'x/' * 200}",
                f"/api/v1/distributed/sandboxes/{text * 200}",
                f"/api/v1//distributed/sandboxes/{text}",
                f"//{text}.example/api/v1/distributed/sandboxes",
                f"/api/v1/distributed/sandboxes;{text}",
                f"/api/v1/distributed/sandboxes/\xff{text}",
                f"/api/v1/distributed/sandboxes/{text}/tree",
                f"/API/V1/distributed/{text}",
                f"/{text}",
            ]
        )
        return self._head("GET", path) + self.last(), "answered"

    def query(self) -> tuple[bytes, Ending]:
        """A query that says nothing."""
        text = f"{self._random.getrandbits(40):x}"
        query = self._random.choice(
            [
                f"{text}=1",
                f"limit={text}x",
                f"limit={10**40}",
                "limit=1&limit=2",
                "limit=-1",
                "limit=NaN",
                "limit=[1]",
                "limit=%00",
                f"cursor=%ff{text}",
                f"&&&{text}",
                f"node={text * 10}",
                f"cursor={text * 300}",
                "status=%F0%9F%92%A9",
                "&".join(f"a{n}={n}" for n in range(900)),
                f"cursor={'%' * 50}%zz&limit=0",
            ]
        )
        return self._head("GET", f"{SANDBOXES}?{query}") + self.last(), "answered"

    def body(self) -> tuple[bytes, Ending]:
        """A body that is not what is wanted."""
        depth = self._random.choice([200, 1000, 100_000])
        text = f"{self._random.getrandbits(40):x}"
        wrong = self._random.choice(
            [None, True, 5, -1.5, "", "\0", text, [], {}, [[]], {"a": 1}, "x" * 10_000, 10**400, "\u202e"]
        )
        name = self._random.choice(
            ["id", "application", "node", "arguments", "resources", "labels", "max_restarts"]
        )
        body = self._random.choice(
            [
                b"[" * depth + b"]" * depth,
                b'{"id":' * depth + b"1" + b"}" * depth,
                b'{"arguments":' + b"[" * depth + b"]" * depth + b"}",
                b'{"id": "a", "id": 5}',
                b'{"id": NaN}',
                b'{"id": 1e999999}',
                b'{"id": ' + b"9" * 20_000 + b"}",
                b'{"id": "\\ud800"}',
                b'{"id": "a\0b"}',
                b'{"id": "' + self._noise() + b'"}',
                b"\xef\xbb\xbf{}",
                "{}".encode("utf-16"),
                b'{"id": "a",}',
                b"{'id': 'a'}",
                b'{"id": "a"} {"id": "b"}',
                b"{",
                self._noise(2000),
                json.dumps(text).encode(),
                json.dumps({text: 1}).encode(),
                json.dumps({f"{text}{n}": n for n in range(2000)}).encode(),
                json.dumps({"id": "/" + text, "application": "a:b", name: wrong}).encode(),
                b'{"id": "' + b"x" * 300_000 + b'"}',
            ]
        )
        return self.post(body) + self.last(), "answered"

    def kind_of_body(self) -> tuple[bytes, Ending]:
        """A body of another kind than it says, or where there is to be none."""
        kind = self._random.choice(
            [
                "text/plain",
                "text/html; charset=x",
                "application/x-www-form-urlencoded",
                "multipart/form-data; boundary=x",
                "application/json; charset=utf-16",
                "application/jsonx",
                "",
                "\xff",
                "application/" + "x" * 2000,
                ";;;=",
            ]
        )
        text = f"{self._random.getrandbits(40):x}".encode()
        method, path = self._random.choice(
            [
                ("POST", SANDBOXES),
                ("GET", SANDBOXES),
                ("DELETE", f"{SANDBOXES}/x"),
                ("PATCH", SANDBOXES),
                ("PUT", STATUS),
            ]
        )
        head = self._head(method, path, f"Content-Type: {kind}", f"Content-Length: {len(text)}")
        return head + text + self.last(), "answered"

    # -- Who goes away in the middle

    def broken_off(self) -> tuple[bytes, Ending]:
        """A part of a request, of whatever kind."""
        whole = self._random.choice([self.good(), self.post(b"{" * 5000), self.body()[0], self.chunks()[0]])
        return whole[: self._random.randrange(min(len(whole), 20_000))], "broken off"
