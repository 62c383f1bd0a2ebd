"""`batchd users`: creates and changes users, for whoever has access to the database."""

import json
import os
from datetime import UTC, datetime
from typing import Annotated
from uuid import UUID

import typer

from batchd.bootstrap import open_authorizer, open_users
from batchd.cli.runner import start
from batchd.domain.ids import AccountId, UserId
from batchd.domain.users import User
from batchd.services.users import NewSecret
from batchd.settings import Settings

users = typer.Typer(help="Create and manage users, who call the API.", no_args_is_help=True)


ValidityTs = Annotated[
    float | None,
    typer.Option(help="expiry of the secret, in seconds since the Unix epoch; default: none"),
]


def _parse_time(seconds: float | None) -> datetime | None:
    try:
        return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"{seconds:g} is no moment in seconds: {error}") from None


def _to_json(user: User) -> dict[str, object]:
    return {"account": str(user.account), "user": str(user.user), "role": user.role}


def _print(value: object) -> None:
    typer.echo(json.dumps(value))


def _print_secret(new: NewSecret) -> None:
    printed = _to_json(new.user) | {"secret": new.secret}
    if new.validity_ts is not None:
        printed["validity_ts"] = new.validity_ts.timestamp()
    _print(printed)


def _warn(text: str) -> None:
    typer.echo(f"batchd: {text}", err=True)


async def _doubt_role(settings: Settings, user: User) -> None:
    """Warn of a role that means nothing: a slip, or one that the policies will have later."""
    try:
        async with open_authorizer(settings, os.environ) as authorizer:
            defined_roles = await authorizer.find_roles(user.account, user.role)
    except Exception as error:  # noqa: BLE001  # an authorizer may be anybody's; the user is made
        _warn(f"whether there is a role '{user.role}' could not be looked up: {error}")
        return
    if not defined_roles:
        _warn(f"no policy names the role '{user.role}' in this account: it may do nothing")


@users.command()
def create(
    *,
    role: Annotated[str, typer.Option(help="name of a role in the policy files")],
    account: Annotated[
        UUID | None, typer.Option(help="account of the user; default: a new one")
    ] = None,
    name: Annotated[str, typer.Option(help="name shown in `batchd users list`")] = "",
    validity_ts: ValidityTs = None,
) -> None:
    """Create a user and print its secret, which is shown only once."""

    async def run(settings: Settings) -> None:
        async with open_users(settings) as service:
            new = await service.create(
                account=None if account is None else AccountId(account),
                role=role,
                name=name,
                validity_ts=_parse_time(validity_ts),
            )
        _print_secret(new)
        await _doubt_role(settings, new.user)

    start(run, quiet=True)


@users.command("list")
def list_users(
    *,
    account: Annotated[
        UUID | None, typer.Option(help="list only this account's users; default: all")
    ] = None,
) -> None:
    """Print the users, one JSON object per line."""

    async def run(settings: Settings) -> list[User]:
        async with open_users(settings) as service:
            return list(await service.find_all(None if account is None else AccountId(account)))

    for user in start(run):
        _print(
            _to_json(user)
            | {
                "name": user.name,
                "created_ts": user.created_ts.timestamp(),
                "disabled_ts": user.disabled_ts and user.disabled_ts.timestamp(),
            }
        )


@users.command()
def rotate(
    user: UUID,
    *,
    old_until: Annotated[
        float | None,
        typer.Option(
            help="expiry of the old secret, in seconds since the Unix epoch; default: at once"
        ),
    ] = None,
    validity_ts: ValidityTs = None,
) -> None:
    """Issue a new secret to a user and print it; it is shown only once."""

    async def run(settings: Settings) -> NewSecret:
        async with open_users(settings) as service:
            return await service.rotate(
                UserId(user), old_until=_parse_time(old_until), validity_ts=_parse_time(validity_ts)
            )

    rotated = start(run)
    _print_secret(rotated)
    if rotated.user.disabled_ts is not None:
        _warn("the user is disabled, so no secret of it works, not this one either")


@users.command()
def disable(user: UUID) -> None:
    """Disable a user: all of its requests are refused from now on."""

    async def run(settings: Settings) -> None:
        async with open_users(settings) as service:
            await service.disable(UserId(user))

    start(run)


@users.command("set-role")
def set_role(user: UUID, role: str) -> None:
    """Assign another role to a user."""

    async def run(settings: Settings) -> None:
        async with open_users(settings) as service:
            changed = await service.set_role(UserId(user), role)
        await _doubt_role(settings, changed)

    start(run, quiet=True)
