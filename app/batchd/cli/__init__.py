"""The command line: `batchd`. Only the requested command is imported, so that it starts sooner."""

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from importlib import import_module, metadata
from typing import Annotated, Any

import typer

from batchd import plugin_loader
from batchd.domain.permission import AuthorizerContext

COMMANDS = ("dev", "api", "worker", "migrate", "users", "accounts")
"""Each names a module beside this one, and in it a function or a command group."""
COMMANDS_OF_PLUGINS = "batchd.commands"
"""The entry-point group of command groups that plugins bring: `(load_context) -> typer.Typer`."""


def build(*names: str) -> typer.Typer:
    """Return the command line with these commands. Raises UnknownPlugin."""
    app = typer.Typer(
        name="batchd",
        help="The Batch API that a company runs itself.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    # With a callback it stays a group even with a single command.
    app.callback()(_root)
    for name in names:
        command = _load(name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def command_names() -> Sequence[str]:
    """Return all commands; a plugin can't replace one of batchd's own."""
    of_plugins = {plugin.name for plugin in plugin_loader.installed(COMMANDS_OF_PLUGINS)}
    return (*COMMANDS, *sorted(of_plugins.difference(COMMANDS)))


def _load(name: str) -> Any:
    if name in COMMANDS:
        return getattr(import_module(f"batchd.cli.{name}"), name)
    return plugin_loader.load(COMMANDS_OF_PLUGINS, name)(_authorizer_context)


def _print_version(requested: bool) -> None:  # typer calls it with the value
    if requested:
        typer.echo(f"batchd {metadata.version('batchd')}")
        raise typer.Exit


def _root(
    *,
    version: Annotated[  # its callback does the work
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", is_eager=True, callback=_print_version
        ),
    ] = False,
) -> None:
    """Take the options of `batchd` itself."""


def _authorizer_context(environment: Mapping[str, str]) -> AuthorizerContext:
    from batchd.bootstrap import authorizer_context, visible_to_tools  # noqa: PLC0415  # other commands start sooner

    return authorizer_context(visible_to_tools(environment))


def main() -> None:
    """Run the command that the arguments name."""
    if sys.argv[1:2] not in (["api"], ["worker"]):
        # A command that serves nothing must not add its zeros to the metrics of the services.
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    # Importing creates no garbage, and collecting meanwhile takes a tenth longer.
    gc.disable()
    available = command_names()
    requested = [name for name in sys.argv[1:2] if name in available]
    try:
        app = build(*(requested or available))
    except plugin_loader.UnknownPlugin as refusal:
        typer.echo(f"batchd: {refusal}", err=True)
        sys.exit(1)
    # What was imported need not be scanned by any later collection.
    gc.freeze()
    gc.enable()
    app()
