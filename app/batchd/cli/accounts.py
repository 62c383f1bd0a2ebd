"""`batchd accounts`: how the accounts share the fleet."""

import json
from collections.abc import Iterable
from typing import Annotated
from uuid import UUID

import typer

from batchd.bootstrap import open_accounts
from batchd.cli.runner import start
from batchd.domain.ids import AccountId
from batchd.settings import Settings

accounts = typer.Typer(help="Show and set how accounts share the workers.", no_args_is_help=True)


@accounts.command("list")
def list_accounts() -> None:
    """Print the accounts and their weights, one JSON object per line."""

    async def run(settings: Settings) -> Iterable[tuple[AccountId, float]]:
        async with open_accounts(settings) as service:
            return await service.weights()

    for account, weight in start(run):
        typer.echo(json.dumps({"account": str(account), "weight": weight}))


@accounts.command("set-weight")
def set_weight(
    account: UUID,
    weight: Annotated[
        float,
        typer.Argument(
            min=0.01, max=1000, help="share of the workers, relative to the default of 1"
        ),
    ],
) -> None:
    """Set an account's weight, its share of the workers relative to the others."""

    async def run(settings: Settings) -> None:
        async with open_accounts(settings) as service:
            await service.set_weight(AccountId(account), weight)

    start(run)
