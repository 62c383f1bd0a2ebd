"""How every command starts: settings, log, event loop; and how it ends when it can't."""

import asyncio
import logging
import os
import signal
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, TypeAlias, TypeVar

import typer
import uvloop

from batchd.api.server import CannotListen
from batchd.configuration import InvalidSettings, unknown_variables
from batchd.db.migrations import MigrationFailed, SchemaTooOld
from batchd.db.server import DatabaseUnavailable
from batchd.domain.errors import BatchdError, ProcessingTimeout, StorageRefused
from batchd.domain.ports import StartupError
from batchd.observability import logs
from batchd.plugin_loader import UnknownPlugin
from batchd.settings import Settings, read_core_settings

logger = logging.getLogger(__name__)

T = TypeVar("T")
Stop: TypeAlias = asyncio.Event
"""Set when the process is asked to end."""

_EXIT_UNAVAILABLE = 69
_EXIT_INVALID_SETTINGS = 78
"""Both from sysexits.h: whether it helps to start again, or only to correct a setting."""
_EXIT_TERMINATED = 128 + signal.SIGTERM

_REFUSALS = (
    InvalidSettings,
    BatchdError,
    CannotListen,
    DatabaseUnavailable,
    MigrationFailed,
    StartupError,
    OSError,
    SchemaTooOld,
    UnknownPlugin,
)


def _exit_code(refusal: Exception) -> int:
    match refusal:
        case InvalidSettings() | UnknownPlugin():
            return _EXIT_INVALID_SETTINGS
        case DatabaseUnavailable() | ProcessingTimeout() | StorageRefused():
            return _EXIT_UNAVAILABLE
        case _:
            return 1


def start(
    command: Callable[[Settings], Coroutine[Any, Any, T]],
    *,
    quiet: bool = False,
    log_refusal: bool = False,
    loads_plugins: bool = False,
) -> T:
    """Run the command; what it refuses to start for is one clear message and an exit code.

    With `quiet` the log has only what goes wrong. With `log_refusal` the message is in the log, for
    commands that no person watches. A command that loads plugins warns of unknown variables itself,
    once it knows theirs; the others warn of those that are similar to one of the core.
    """

    async def until_terminated(settings: Settings) -> T:
        task = asyncio.create_task(command(settings))
        # What the command has started is ended with it: no child process stays.
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
        return await task

    logs.configure("INFO")
    try:
        settings = read_core_settings()
        logs.configure(settings.log_level)
        if quiet:
            logging.disable(logging.INFO)
        if not loads_plugins:
            warn_of_unknown_variables(os.environ, only_similar=True)
        return uvloop.run(until_terminated(settings))
    except asyncio.CancelledError:
        raise typer.Exit(_EXIT_TERMINATED) from None
    except _REFUSALS as refusal:
        # One line for each setting.
        for line in (
            str(refusal).splitlines() if isinstance(refusal, InvalidSettings) else [refusal]
        ):
            if log_refusal:
                logger.critical("%s", line)
            else:
                typer.echo(f"batchd: {line}", err=True)
        raise typer.Exit(_exit_code(refusal)) from None


def serve(service: Callable[[Settings, Stop], Coroutine[Any, Any, None]]) -> None:
    """Run a service like a command, until SIGTERM or SIGINT."""

    async def until_signal(settings: Settings) -> None:
        stop = Stop()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await service(settings, stop)

    start(until_signal, log_refusal=True, loads_plugins=True)


def warn_of_unknown_variables(
    environment: Mapping[str, str], *, only_similar: bool = False
) -> None:
    """Log each variable that no setting reads; plugins must be loaded, theirs count too."""
    for name, nearest in unknown_variables(environment).items():
        if only_similar and nearest is None:
            continue
        hint = f": did you mean {nearest}?" if nearest else ""
        logger.warning("the environment variable %s is no setting%s", name, hint)
