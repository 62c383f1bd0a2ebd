"""The credentials that sign requests; temporary ones are refreshed in time."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, NamedTuple

from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError, ClientError

from batchd.configuration import InvalidSettings
from batchd.plugins.s3.settings import S3Settings

if TYPE_CHECKING:
    from aiobotocore.credentials import AioCredentials

logger = logging.getLogger(__name__)

REFRESH_AHEAD_S = 870.0
"""botocore itself caches the credentials of a role up to 900 s before they expire."""
WAIT_AHEAD_S = 60.0
"""Calls wait for new credentials only if the current ones expire within this time."""
RETRY_DELAY_S = 10.0
FAILURE_CACHED_S = 1.0


class Session(NamedTuple):
    session: AioSession
    credentials: "AioCredentials | AioRefreshableCredentials"


@asynccontextmanager
async def open_session(settings: S3Settings) -> AsyncIterator[Session]:
    """Fetch the credentials, and refresh temporary ones while the block runs.

    Raises InvalidSettings if there are none.
    """
    session = AioSession()
    if settings.access_key is not None and settings.secret_key is not None:
        session.set_credentials(settings.access_key, settings.secret_key.get_secret_value())
    refresher: _CredentialRefresher | None = None
    try:
        credentials: Any = await session.get_credentials()
        if isinstance(credentials, AioRefreshableCredentials):
            refresher = _CredentialRefresher(credentials)
            await refresher.start()
    except (BotoCoreError, ClientError) as error:
        raise InvalidSettings(
            f"BATCHD_S3_ACCESS_KEY: not set, and the AWS credentials can't be used: {error}"
        ) from error
    if credentials is None:
        raise InvalidSettings(
            "BATCHD_S3_ACCESS_KEY: not set, and there are no AWS credentials either"
        )
    if refresher is None:
        yield Session(session, credentials)
        return
    task = asyncio.create_task(refresher.run())
    try:
        yield Session(session, credentials)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


class _CredentialRefresher:
    """Fetches new credentials ahead of expiry, so that no call waits for a slow endpoint.

    Left to itself aiobotocore has some call wait for each refresh. It refreshes 15 minutes ahead:
    credentials that are valid for no longer would be fetched for every call. If the endpoint
    fails, each waiting call would try again. There are no public names for any of this.
    """

    def __init__(self, credentials: Any) -> None:
        self._credentials = credentials
        self._fetch = credentials._protected_refresh  # noqa: SLF001
        credentials._protected_refresh = self._fetch_or_fail  # noqa: SLF001
        self._failure: Exception | None = None
        self._failed_at = 0.0
        self._refresh_ahead_s = 0.0
        self._set_wait_ahead(0.0)

    async def start(self) -> None:
        """Fetch the first credentials of a role."""
        await self._credentials.get_frozen_credentials()
        self._note_lifetime()

    async def run(self) -> None:
        """Refresh until cancelled."""
        while True:
            await asyncio.sleep(self._remaining_s() - self._refresh_ahead_s)
            async with self._credentials._refresh_lock:  # noqa: SLF001
                # Unless a call could wait no longer.
                if self._remaining_s() <= self._refresh_ahead_s:
                    await self._refresh()
            if self._remaining_s() > self._refresh_ahead_s:
                self._note_lifetime()
            else:
                await asyncio.sleep(RETRY_DELAY_S)

    async def _refresh(self) -> None:
        try:
            await self._fetch_or_fail(is_mandatory=False)
        except Exception as error:  # noqa: BLE001  # any error may be temporary
            logger.warning("storage: the credentials can't be refreshed: %s", error)

    async def _fetch_or_fail(self, *, is_mandatory: bool) -> None:
        """Fetch; a failure also fails the calls that have been waiting for it."""
        if self._failure is not None and time.monotonic() - self._failed_at < FAILURE_CACHED_S:
            raise self._failure
        try:
            await self._fetch(is_mandatory)
        except Exception as error:
            self._failure, self._failed_at = error, time.monotonic()
            raise
        self._failure = None

    def _remaining_s(self) -> float:
        seconds: float = self._credentials._seconds_remaining()  # noqa: SLF001
        return seconds

    def _note_lifetime(self) -> None:
        lifetime_s = max(0.0, self._remaining_s())
        self._refresh_ahead_s = min(REFRESH_AHEAD_S, lifetime_s / 2)
        self._set_wait_ahead(min(WAIT_AHEAD_S, lifetime_s / 4))

    def _set_wait_ahead(self, seconds: float) -> None:
        self._credentials._advisory_refresh_timeout = seconds  # noqa: SLF001
        self._credentials._mandatory_refresh_timeout = seconds  # noqa: SLF001
