"""Tries bytes on a connection of the API: each gets responses of the API, and never a 500."""

import asyncio
import json
import logging
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import atheris
import coverage_guided

with atheris.instrument_imports(
    include=["batchd.api", "batchd.operations", "aiohttp.web_protocol"]
):
    from batchd.api.app import create_app
    from batchd.api.server import Runner, runner_of

from batchd.domain.commands import valid
from batchd.domain.errors import NotFound, Unauthorized
from batchd.domain.ids import AccountId, UserId
from batchd.domain.users import Caller
from batchd.settings import Settings

SECRET = "s" * 64
EXAMPLES = (
    b"\x10GET /batches/01a20aac-0000-7000-8000-000000000000?download=true HTTP/1.1\r\nHost: a\r\n"
    b"Authorization: Bearer " + SECRET.encode() + b"\r\n\r\n",
    b"\x20POST /batches HTTP/1.1\r\nHost: a\r\nAuthorization: " + SECRET.encode() + b"\r\n"
    b"Content-Length: 2\r\nExpect: 100-continue\r\n\r\n{}",
    b"\x30PATCH /batches/x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: A\r\n"
    b"Authorization: " + SECRET.encode() + b"\r\n\r\n2\r\n{}\r\n0\r\nAuthorization: x\r\n\r\n"
    b"GET /whoami HTTP/1.1\r\nHost: a\r\n\r\n",
    b"\x05HEAD /whoami HTTP/1.0\r\nConnection: keep-alive\r\n\r\nOPTIONS * HTTP/1.1\r\n\r\n",
    b"\x01PUT /%2e%2e/../whoami?a[]=%00&a=1&=&&%ff HTTP/1.1\r\nHost: a\r\nA: \xff\r\n\tb\r\n\r\n",
    b"\x01PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"\x02GET http://a/healthz HTTP/1.1\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    b"\x00CONNECT a:1 HTTP/1.1\r\n\r\n",
    b"\x00\x16\x03\x01\x02\x00\x01\x00",
)
WORDS = (
    *(
        b"GET ",
        b"HEAD ",
        b"POST ",
        b"DELETE ",
        b"OPTIONS ",
        b"TRACE ",
        b" HTTP/1.1\r\n",
        b"\r\n\r\n",
    ),
    *(b"Content-Length: ", b"Transfer-Encoding: chunked\r\n", b"Content-Encoding: gzip\r\n"),
    *(
        b"Expect: 100-continue\r\n",
        b"Connection: close\r\n",
        b"Authorization: ",
        b"If-None-Match: *\r\n",
    ),
    *(
        b"/batches",
        b"/cache/",
        b"/whoami",
        b"/roles/",
        b"/openapi.json",
        b"0\r\n\r\n",
        SECRET.encode(),
    ),
)
STATUSES = {100, 200, 204, 304, 400, 401, 404, 405, 431}
_RESPONSE = re.compile(rb"(?=HTTP/[0-9]\.[0-9] [0-9]{3} )")
"""aiohttp repeats the version of the request, also one that is refused."""
_TURNS = 40
"""Of the event loop, in which a request is answered: nothing here waits for anything else."""


class Transport(asyncio.Transport):
    """Keeps what is written, and closes the protocol as a socket would."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self._protocol = protocol
        self.written = b""
        self.closed = False

    def write(self, data: Any) -> None:
        self.written += bytes(data)

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            asyncio.get_running_loop().call_soon(self._protocol.connection_lost, None)

    abort = close

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass

    def get_write_buffer_size(self) -> int:
        return 0


class Failures(logging.Handler):
    """Keeps what was logged as an error: a defect that is answered with 500 is one."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.records: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(logging.Formatter().format(record))


class Authenticator:
    async def authenticate(self, secret: str | None) -> Caller:
        if secret != SECRET:
            raise Unauthorized("The secret is missing, unknown or expired.")
        return Caller(account=AccountId(UUID(int=1)), user=UserId(UUID(int=2)), role="admin")


class Nothing:
    """A service whose account has nothing: every command is parsed, and nothing is found."""

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def find(_: Caller, command: Any) -> Any:
            valid(command)
            raise NotFound("There is no such thing in this account.")

        return find


@asynccontextmanager
async def services() -> AsyncIterator[Any]:
    nothing = Nothing()
    health = SimpleNamespace(check=_checks, policy={"revision": None, "current": True})
    yield SimpleNamespace(
        authenticator=Authenticator(),
        batches=nothing,
        batch_creation=nothing,
        uploads=nothing,
        roles=nothing,
        health=health,
    )


async def _checks() -> dict[str, bool]:
    return {"database": True}


class Api:
    """The API on an event loop of its own, without a socket."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._note)
        self._failures = Failures()
        logging.getLogger().addHandler(self._failures)
        logging.getLogger("batchd").setLevel(logging.ERROR)
        self._runner: Runner = self._loop.run_until_complete(self._open())

    async def _open(self) -> Runner:
        settings = Settings.model_construct(
            database_url="", storage="", authorizer="", header_timeout_s=60, keepalive_timeout_s=60
        )
        runner = runner_of(settings, create_app(settings, services))
        await runner.setup()
        return runner

    def _note(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._failures.records.append(f"{context.get('message')}: {context.get('exception')!r}")

    def check(self, data: bytes) -> None:
        if data:
            written = self._loop.run_until_complete(self._send(data[1:], split=data[0]))
            assert not self._failures.records, self._failures.records
            _assert_responses(written)

    async def _send(self, data: bytes, *, split: int) -> bytes:
        protocol = self._runner.server()
        transport = Transport(protocol)
        protocol.connection_made(transport)
        for piece in (data[:split], data[split:]):
            if piece and not transport.closed:
                protocol.data_received(piece)
            await self._turn()
        if not transport.closed and not protocol.eof_received():
            transport.close()
        await self._turn()
        transport.close()
        await self._turn()
        return transport.written

    async def _turn(self) -> None:
        for _ in range(_TURNS):
            await asyncio.sleep(0)


def _assert_responses(written: bytes) -> None:
    before, *responses = _RESPONSE.split(written)
    assert not before, before
    for position, response in enumerate(responses):
        head, separator, body = response.partition(b"\r\n\r\n")
        status = int(head[9:12])
        assert separator, response
        assert status in STATUSES, response
        if status == 100:
            continue
        assert b"X-Request-Id: " in head, response
        assert b"connection: close" not in head.lower() or position == len(responses) - 1, written
        if status >= 400 and body:
            assert json.loads(body).keys() == {"subcode", "trace", "description"}, response


coverage_guided.run("http-heads", Api().check, examples=EXAMPLES, words=WORDS)
