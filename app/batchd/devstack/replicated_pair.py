"""A primary PostgreSQL and its asynchronous standby, which a failover promotes."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from batchd.devstack.postgres import Postgres, run_postgres
from batchd.devstack.standby import promote, run_standby, stop_streaming, wait_until_caught_up


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicatedPair:
    primary: Postgres
    standby: Postgres

    @property
    def url(self) -> str:
        """The URL that names both: whoever connects gets the one that takes writes."""
        first, second = urlsplit(self.primary.url), urlsplit(self.standby.url)
        host = second.netloc.rpartition("@")[2]
        return urlunsplit(first._replace(netloc=f"{first.netloc},{host}"))

    async def cut_replication(self) -> None:
        """Have the standby receive nothing any more, after all that was written so far."""
        await wait_until_caught_up(self.standby, self.primary)
        # Pausing the replay would not do: a promoted server first replays what it has received.
        await stop_streaming(self.standby)

    async def crash(self) -> None:
        """End the primary without a checkpoint."""
        os.kill(self.primary.pid, signal.SIGQUIT)
        await self.primary.wait()

    async def fail_over(self) -> None:
        """Let the primary crash, and promote the standby."""
        await self.crash()
        await promote(self.standby)


@asynccontextmanager
async def replicated_pair(folder: Path) -> AsyncIterator[ReplicatedPair]:
    """Run a primary and its standby; both are empty."""
    async with (
        run_postgres(folder / "primary", durable=False) as primary,
        run_standby(primary, folder / "standby", durable=False) as standby,
    ):
        yield ReplicatedPair(primary=primary, standby=standby)
