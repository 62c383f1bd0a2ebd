"""`batchd migrate`: brings the database's schema up to date."""

from batchd.cli.runner import start
from batchd.db import migrations
from batchd.settings import Settings


def migrate() -> None:
    """Apply pending migrations; safe to run concurrently."""
    start(_migrate, log_refusal=True)


async def _migrate(settings: Settings) -> None:
    await migrations.migrate(
        settings.direct_url.get_secret_value(), setting=settings.direct_url_variable
    )
