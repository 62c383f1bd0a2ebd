"""A second S3 server, of another origin than SeaweedFS: moto's, in a process of its own."""

import asyncio
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp

BUCKET = "batchd"


@asynccontextmanager
async def running_moto() -> AsyncIterator[dict[str, str]]:
    """Run the server; yield the settings with which batchd uses it, named without BATCHD_S3_."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "ignore",
        "-m",
        __name__,
        cwd=Path(__file__).parents[2],
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        endpoint = (await process.stdout.readline()).decode().strip()
        # moto checks no signatures.
        async with (
            aiohttp.ClientSession() as session,
            session.put(f"{endpoint}/{BUCKET}") as response,
        ):
            response.raise_for_status()
        yield {
            "endpoint": endpoint,
            "bucket": BUCKET,
            "access_key": "access",
            "secret_key": "secret",
        }
    finally:
        process.stdin.close()
        await process.wait()


def main() -> None:
    """Serve until the standard input ends, as it does when the tests end in whatever way."""
    from moto.server import ThreadedMotoServer  # in its own process only

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    sys.stdout.write(f"http://{host}:{port}\n")
    sys.stdout.flush()
    sys.stdin.buffer.read()
    server.stop()


if __name__ == "__main__":
    main()
