"""Polls a child process over HTTP until it is ready."""

import asyncio

import aiohttp

from batchd.devstack.errors import StackFailed

POLL_INTERVAL_S = 0.05


async def wait_until_ready(name: str, url: str, path: str, *, timeout_s: float) -> None:
    """Return once the path responds with 200. Raises StackFailed, with the last response.

    The death of the process is not detected here: the shutdown guard cancels the waiting task.
    """
    last_response = "no response"
    try:
        async with asyncio.timeout(timeout_s), aiohttp.ClientSession(url) as session:
            while True:
                try:
                    async with session.get(path) as response:
                        if response.status == 200:
                            return
                        last_response = f"{response.status}: {await response.text()}"
                except aiohttp.ClientError as error:
                    last_response = str(error)
                await asyncio.sleep(POLL_INTERVAL_S)
    except TimeoutError:
        raise StackFailed(f"{name} is not ready after {timeout_s:g} s ({last_response}).") from None
