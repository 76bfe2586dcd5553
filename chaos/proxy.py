"""A TCP proxy that misbehaves when told, in front of a cloud (HTTP) or of a database (plain bytes).

On HTTP it reads a whole request before it acts, so a rule can strike one kind of call: its request
lost, its reply lost, sent twice, answered by the proxy itself. Each request has a connection of its
own to the server. Plain bytes are passed on as they come and can be cut, frozen or slowed.
"""

import asyncio
import re
import socket
import struct
import threading
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass
from email.utils import formatdate
from typing import Any, Self, TypeVar

CHUNK = 65_536
STOP_SECONDS = 5.0
_LENGTH = re.compile(rb"(?im)^content-length:\s*(\d+)\s*$")
_CONNECTION = re.compile(rb"(?im)^(?:connection|expect):[^\r\n]*\r\n")
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST

Done = TypeVar("Done")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What happens to a request that has `containing` in it.

    Attributes:
        act: `slow` (passed on after `seconds`), `reset` (RST, the server never hears of it),
            `lose_reply` (done, then closed without an answer), `reset_mid` (done, RST in the middle
            of the answer), `half_open` (never passed on and never answered), `twice` (done twice,
            one answer), `answer` (the proxy says `status` and `body`; the server hears nothing).
        count: how many requests it strikes; None: all, until `clear`.
    """

    act: str
    containing: bytes = b""
    count: int | None = None
    seconds: float = 0.0
    status: int = 200
    body: bytes = b""


class FaultProxy:
    """Listens on a free port of 127.0.0.1 for the server at `port`. A context manager.

    `struck` counts requests by the rule's act; `lost` holds the replies that were made and lost.
    """

    def __init__(self, port: int, *, http: bool = True) -> None:
        self._upstream, self._http = port, http
        self._rules: list[tuple[Rule, int | None]] = []
        self._clients: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._cut = False
        self._flowing = threading.Event()
        self._flowing.set()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self.delay = 0.0
        self.struck: dict[str, int] = {}
        self.lost: list[bytes] = []
        self.port = 0

    @property
    def url(self) -> str:
        """Where it listens, for HTTP clients."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        """Listening."""
        self._thread.start()
        self.port = self._do(self._listen())
        return self

    def __exit__(self, *_: object) -> None:
        """No longer, and every connection is closed, to either side."""
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_SECONDS)

    def add(self, *rules: Rule) -> None:
        """Add rules; the first that fits a request strikes it."""
        self._rules += [(rule, rule.count) for rule in rules]

    def clear(self) -> None:
        """Every rule is forgotten, nothing is cut, frozen or slow."""
        self._rules, self._cut, self.delay = [], False, 0.0
        self._flowing.set()

    def cut(self) -> None:
        """Reset every connection, and every new one, until `clear`."""
        self._cut = True
        self._do(self._drop())

    def freeze(self) -> None:
        """Half-open: connections stay and are taken, and nothing passes until `clear`."""
        self._flowing.clear()

    def _do(self, work: Coroutine[Any, Any, Done]) -> Done:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(STOP_SECONDS)

    async def _listen(self) -> int:
        server = await asyncio.start_server(self._meet, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    async def _end(self) -> None:
        await self._drop()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:  # one that is left would keep its connection, and the server reading it
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _drop(self) -> None:
        for writer in tuple(self._clients):
            _reset(writer)

    async def _meet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._cut:
            _reset(writer)
            return
        self._clients.add(writer)
        try:
            if self._http:
                await self._request(reader, writer)
            else:
                await self._pipe(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            _reset(writer)
        finally:
            self._clients.discard(writer)
            with suppress(OSError):
                writer.close()

    async def _request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        found = _LENGTH.search(head)
        body = await reader.readexactly(int(found[1])) if found else b""
        whole = _CONNECTION.sub(b"", head[:-2]) + b"connection: close\r\n\r\n" + body
        rule = self._take(head + body)
        await self._gate(rule.seconds if rule else 0.0)
        match rule.act if rule else "":
            case "reset":
                _reset(writer)
            case "half_open":
                await reader.read()  # until the client gives up
            case "answer" if rule:
                writer.write(_answer(rule))
                await writer.drain()
            case "lose_reply":
                self.lost.append(await self._ask(whole))
                _reset(writer)
            case "reset_mid":
                reply = await self._ask(whole)
                writer.write(reply[: len(reply) // 2])
                await writer.drain()
                _reset(writer)
            case act:
                reply = await self._ask(whole)
                if act == "twice":
                    await self._ask(whole)
                await self._gate(0.0)
                writer.write(reply)
                await writer.drain()

    async def _ask(self, request: bytes) -> bytes:
        """The server's whole answer to `request`."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self._upstream)
        try:
            writer.write(request)
            await writer.drain()
            return _closing(await reader.read())
        finally:
            writer.close()

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._upstream)
        self._clients.add(back)
        ways = [
            asyncio.ensure_future(self._pass_on(reader, back)),
            asyncio.ensure_future(self._pass_on(there, writer)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            self._clients.discard(back)
            back.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await reader.read(CHUNK):
                await self._gate(0.0)
                writer.write(data)
                await writer.drain()

    async def _gate(self, seconds: float) -> None:
        """Wait as long as it is slow, and while nothing flows."""
        await asyncio.sleep(seconds + self.delay)
        while not self._flowing.is_set():
            await asyncio.sleep(0.02)

    def _take(self, request: bytes) -> Rule | None:
        for index, (rule, left) in enumerate(self._rules):
            if left != 0 and rule.containing in request:
                self._rules[index] = (rule, None if left is None else left - 1)
                self.struck[rule.act] = self.struck.get(rule.act, 0) + 1
                return rule
        return None


def _reset(writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, AttributeError):
        raw: socket.socket = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    writer.transport.abort()


def _closing(reply: bytes) -> bytes:
    """`reply` with the word that its connection ends with it: else a client may send on it again,
    and takes for a lost request what is only our way.
    """
    first, end, rest = reply.partition(b"\r\n")
    if not end:
        return reply
    head, blank, body = rest.partition(b"\r\n\r\n")
    head = _CONNECTION.sub(b"", head + b"\r\n")
    return first + end + b"connection: close\r\n" + head.removesuffix(b"\r\n") + blank + body


def _answer(rule: Rule) -> bytes:
    date = formatdate(usegmt=True)  # AWS clients' users read the cloud's clock off it
    head = f"HTTP/1.1 {rule.status} -\r\ncontent-type: text/xml\r\nconnection: close\r\n"
    head += f"date: {date}\r\n"
    return f"{head}content-length: {len(rule.body)}\r\n\r\n".encode() + rule.body
