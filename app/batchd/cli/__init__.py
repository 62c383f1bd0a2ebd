"""The command line: `batchd`. Only the command that is asked for is imported: it starts sooner."""

import gc
import os
import sys
from importlib import import_module

import typer

COMMANDS = ("dev", "api", "worker", "migrate", "users", "policy", "accounts")
"""Each is the name of a module beside this one, and in it of a function or of a group."""


def build(*names: str) -> typer.Typer:
    """Return the command line with these commands."""
    app = typer.Typer(
        name="batchd",
        help="The Batch API that a company runs itself.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        add_completion=False,
    )
    # A group, also with one command: its name is said.
    app.callback()(lambda: None)
    for name in names:
        command = getattr(import_module(f"batchd.cli.{name}"), name)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name)
        else:
            app.command(name)(command)
    return app


def main() -> None:
    """Run the command that the arguments name."""
    if sys.argv[1:2] not in (["api"], ["worker"]):
        # It has nothing to measure: its zeros must not stand among what the services say.
        os.environ.pop("PROMETHEUS_MULTIPROC_DIR", None)
    # Nothing that is imported becomes garbage: looking for some meanwhile takes a tenth longer.
    gc.disable()
    wanted = [name for name in sys.argv[1:2] if name in COMMANDS]
    app = build(*(wanted or COMMANDS))
    # Nor is it looked through ever after.
    gc.freeze()
    gc.enable()
    app()
