"""The storage plugin `s3`: any S3 service, by obstore and aiobotocore."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

from batchd.configuration import read_settings
from batchd.domain.ports import Storage, StorageContext
from batchd.plugins.s3.access import AccessProbe
from batchd.plugins.s3.client import open_clients
from batchd.plugins.s3.credentials import open_session
from batchd.plugins.s3.objects import ObjectClient
from batchd.plugins.s3.presigning import Presigner
from batchd.plugins.s3.region import find_region
from batchd.plugins.s3.settings import S3Settings
from batchd.plugins.s3.storage import S3Storage


@asynccontextmanager
async def s3_storage(context: StorageContext) -> AsyncIterator[Storage]:
    """Open the bucket that the settings name. Raises InvalidSettings, also without credentials."""
    settings = read_settings(S3Settings, context.environment)
    async with AsyncExitStack() as stack:
        session, credentials = await stack.enter_async_context(open_session(settings))
        clients = await stack.enter_async_context(
            open_clients(session, settings, region=settings.region)
        )
        region = await find_region(clients.storage, settings)
        if region != settings.region:
            clients = await stack.enter_async_context(
                open_clients(session, settings, region=region)
            )
        yield S3Storage(
            client=clients.storage,
            objects=ObjectClient(
                clients.storage,
                session,
                credentials,
                bucket=settings.bucket,
                region=region,
                find_region=partial(find_region, clients.storage, settings),
            ),
            bucket=settings.bucket,
            presigner=Presigner(clients.public, credentials, bucket=settings.bucket),
            access=AccessProbe(clients.storage, bucket=settings.bucket),
        )
