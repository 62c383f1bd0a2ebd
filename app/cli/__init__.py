"""The command line: `batchd`."""

import typer

from batchd.cli.accounts import accounts
from batchd.cli.api import api
from batchd.cli.dev import dev
from batchd.cli.migrate import migrate
from batchd.cli.policy import policy
from batchd.cli.users import users
from batchd.cli.worker import worker

main = typer.Typer(
    name="batchd",
    help="The Batch API that a company runs itself.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
main.command()(dev)
main.command()(api)
main.command()(worker)
main.command()(migrate)
main.add_typer(users, name="users")
main.add_typer(policy, name="policy")
main.add_typer(accounts, name="accounts")
