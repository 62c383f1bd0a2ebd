"""Waits until a child serves: it answers 200 on the path that says so."""

import asyncio

import aiohttp

from batchd.devstack.errors import StackFailed

POLL_S = 0.05


async def until_ready(name: str, url: str, path: str, *, within_s: float) -> None:
    """Raise StackFailed, with the last answer, if `name` does not serve in time.

    That it has died is not seen here: whoever watches it cancels us.
    """
    answer = "no answer"
    try:
        async with asyncio.timeout(within_s), aiohttp.ClientSession(url) as session:
            while True:
                try:
                    async with session.get(path) as response:
                        if response.status == 200:
                            return
                        answer = f"{response.status}: {await response.text()}"
                except aiohttp.ClientError as error:
                    answer = str(error)
                await asyncio.sleep(POLL_S)
    except TimeoutError:
        raise StackFailed(f"{name} is not ready after {within_s:g} s ({answer}).") from None
