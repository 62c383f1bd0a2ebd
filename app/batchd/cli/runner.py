"""How every command starts: settings, log, event loop; and how it ends when it can't."""

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias, TypeVar

import typer
import uvloop

from batchd.api.server import CannotListen
from batchd.configuration import InvalidSettings
from batchd.db.migrations import MigrationFailed, SchemaTooOld
from batchd.domain.errors import BatchdError
from batchd.domain.ports import StartupError
from batchd.observability import logs
from batchd.plugin_loader import UnknownPlugin
from batchd.settings import Settings, read_core_settings

T = TypeVar("T")
Stop: TypeAlias = asyncio.Event
"""Set when the process is asked to end."""

_REFUSALS = (
    InvalidSettings,
    BatchdError,
    CannotListen,
    MigrationFailed,
    StartupError,
    OSError,
    SchemaTooOld,
    UnknownPlugin,
)


def start(command: Callable[[Settings], Coroutine[Any, Any, T]], *, quiet: bool = False) -> T:
    """Run the command; what it refuses to start for is one clear message and exit code 1.

    With `quiet` the log has only what goes wrong.
    """
    try:
        settings = read_core_settings()
        logs.configure(settings.log_level)
        if quiet:
            logging.disable(logging.INFO)
        return uvloop.run(command(settings))
    except _REFUSALS as refusal:
        typer.echo(f"batchd: {refusal}", err=True)
        raise typer.Exit(1) from None


def serve(service: Callable[[Settings, Stop], Coroutine[Any, Any, None]]) -> None:
    """Run a service like a command, until SIGTERM or SIGINT."""

    async def until_signal(settings: Settings) -> None:
        stop = Stop()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await service(settings, stop)

    start(until_signal)
