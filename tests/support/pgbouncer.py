"""A real PgBouncer in front of a database of the tests."""

import asyncio
import os
import shutil
import socket
import tempfile
import warnings
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit, urlunsplit

import pytest

from tests.support.polling import eventually

HOST = "127.0.0.1"
PROGRAM = shutil.which("pgbouncer", path=f"{os.environ.get('PATH', os.defpath)}:/usr/sbin")

PoolMode = Literal["session", "transaction"]


def require_pgbouncer() -> str:
    """Return the program, or skip the test with a visible reason."""
    if PROGRAM is None:
        reason = "pgbouncer is not installed: nothing was tested with it"
        warnings.warn(pytest.PytestWarning(reason), stacklevel=2)
        pytest.skip(reason)
    return PROGRAM


def _configuration(url: str, *, port: int, mode: PoolMode) -> str:
    parts = urlsplit(url)
    database = parts.path.lstrip("/")
    return f"""
[databases]
{database} = host={parts.hostname} port={parts.port} dbname={database} \
user={parts.username} password={unquote(parts.password or "")}
[pgbouncer]
listen_addr = {HOST}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = {mode}
default_pool_size = 20
"""


async def _accepts(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


@asynccontextmanager
async def pgbouncer_to(url: str, mode: PoolMode) -> AsyncIterator[str]:
    """Run PgBouncer; yield the URL of the database through it."""
    program = require_pgbouncer()
    with socket.create_server((HOST, 0)) as server:
        port: int = server.getsockname()[1]
    # It refuses to run as root, and so must be able to read its file as somebody else.
    user = "nobody" if os.geteuid() == 0 else None
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pgbouncer.ini"
        file.write_text(_configuration(url, port=port, mode=mode), encoding="utf-8")
        if user is not None:
            shutil.chown(folder, user)
            shutil.chown(file, user)
        process = await asyncio.create_subprocess_exec(
            program, "--quiet", file, user=user, stderr=asyncio.subprocess.DEVNULL
        )
        try:
            await eventually(lambda: _accepts(port), bool)
            netloc = f"{urlsplit(url).username}@{HOST}:{port}"
            yield urlunsplit(urlsplit(url)._replace(netloc=netloc))
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
