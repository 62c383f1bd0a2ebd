"""The credentials that requests are signed with."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, NamedTuple

from aiobotocore.session import AioSession
from botocore.exceptions import BotoCoreError

from batchd.configuration import InvalidSettings
from batchd.plugins.s3.settings import S3Settings

if TYPE_CHECKING:
    from aiobotocore.credentials import AioCredentials


class Session(NamedTuple):
    session: AioSession
    credentials: "AioCredentials"


@asynccontextmanager
async def open_session(settings: S3Settings) -> AsyncIterator[Session]:
    """Find the credentials. Raises InvalidSettings where there are none."""
    session = AioSession()
    if settings.access_key is not None and settings.secret_key is not None:
        session.set_credentials(settings.access_key, settings.secret_key.get_secret_value())
    try:
        credentials = await session.get_credentials()
    except BotoCoreError as error:
        raise InvalidSettings(
            f"BATCHD_S3_ACCESS_KEY: not set, and the AWS credentials can't be used: {error}"
        ) from error
    if credentials is None:
        raise InvalidSettings(
            "BATCHD_S3_ACCESS_KEY: not set, and there are no AWS credentials either"
        )
    yield Session(session, credentials)
