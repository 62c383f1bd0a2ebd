"""Users and their secrets: when a secret is valid, and that only its hash is stored."""

from collections.abc import AsyncIterator
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from batchd.bootstrap import Components, TimeOrderedIds
from batchd.db.connection import open_database
from batchd.domain.errors import NotFound, Unauthorized
from batchd.domain.ids import AccountId, UserId
from batchd.domain.users import Caller
from batchd.services.users import SECRET_LENGTH, NewSecret, Users
from batchd.settings import Settings
from tests.support.callers import ApiCaller, Reply
from tests.support.clock import MovableClock
from tests.support.fixtures import MakeCaller
from tests.support.polling import eventually
from tests.support.refusals import assert_refused
from tests.support.secrets import holder, works

UNKNOWN = "x" * SECRET_LENGTH


@pytest.fixture
async def users(settings: Settings, clock: MovableClock) -> AsyncIterator[Users]:
    async with open_database(settings) as database:
        yield Users(database, clock, TimeOrderedIds())


async def new_user(users: Users, role: str = "reader", **more: object) -> NewSecret:
    return await users.create(account=None, role=role, name="Ada", **more)  # type: ignore[arg-type]


async def whoami(caller: ApiCaller, header: str) -> Reply:
    return await caller.get("/whoami", headers={"Authorization": header})


async def test_new_user_is_authenticated_by_its_secret(users: Users) -> None:
    account = AccountId(uuid4())
    new = await users.create(account=account, role="reader", name="Ada")

    assert len(new.secret) == SECRET_LENGTH == 64
    assert new.secret.isascii()
    assert await holder(users, new.secret) == Caller(
        account=account, user=new.user.user, role="reader"
    )
    assert await users.find_all(account) == [new.user]


async def test_user_without_an_account_gets_one_of_its_own(users: Users) -> None:
    first, second = await new_user(users), await new_user(users)

    assert first.user.account != second.user.account
    assert first.secret != second.secret
    assert await users.find_all(first.user.account) == [first.user]
    assert await users.find_all() == [first.user, second.user]
    assert await users.find_all(AccountId(uuid4())) == []


async def test_plain_secret_and_bearer_token_are_both_accepted(caller: ApiCaller) -> None:
    user = caller.user.user
    expected = {"account": str(user.account), "user": str(user.user), "role": "admin"}

    for header in (caller.user.secret, f"Bearer {caller.user.secret}"):
        reply = await whoami(caller, header)
        assert (reply.status, reply.body) == (200, expected)


async def test_every_invalid_secret_gets_the_same_error(
    caller: ApiCaller, make_caller: MakeCaller, components: Components, clock: MovableClock
) -> None:
    secret = caller.user.secret
    expired = await components.services.users.create(
        account=None, role="admin", name="", validity_ts=clock.now() - timedelta(seconds=1)
    )
    disabled = await make_caller()
    await components.services.users.disable(disabled.user.user.user)
    headers = ["", UNKNOWN, "Bearer", "Bearer ", f"Basic {secret}", secret[:-1], f"{secret}x"]
    headers += [secret.swapcase(), f"{secret} {secret}", "\u00e4" * 64, "\udcff" * 64]

    descriptions = {
        assert_refused(await whoami(caller, header), 401, 401000)
        for header in (*headers, expired.secret, disabled.user.secret)
    }
    async with caller.session.get(f"{caller.url}/whoami") as response:
        descriptions.add((await response.json())["description"])

    assert len(descriptions) == 1


async def test_secret_stops_working_when_it_expires(users: Users, clock: MovableClock) -> None:
    new = await new_user(users, validity_ts=clock.now() + timedelta(seconds=60))
    endless = await new_user(users)

    assert await works(users, new.secret)
    clock.move(61)
    assert not await works(users, new.secret)
    assert await works(users, endless.secret)


async def test_rotation_expires_the_old_secret_at_once(users: Users) -> None:
    old = await new_user(users)
    new = await users.rotate(old.user.user)

    assert new.user == old.user
    assert not await works(users, old.secret)
    assert await works(users, new.secret)


async def test_rotation_can_keep_the_old_secret_for_a_while(
    users: Users, clock: MovableClock
) -> None:
    old = await new_user(users)
    new = await users.rotate(old.user.user, old_until=clock.now() + timedelta(seconds=60))

    assert await works(users, old.secret)
    assert await works(users, new.secret)
    clock.move(61)
    assert not await works(users, old.secret)
    assert await works(users, new.secret)


async def test_rotation_revives_no_expired_secret(users: Users, clock: MovableClock) -> None:
    expired = await new_user(users, validity_ts=clock.now() + timedelta(seconds=10))
    clock.move(11)
    await users.rotate(expired.user.user, old_until=clock.now() + timedelta(days=1))
    ending = await new_user(users, validity_ts=clock.now() + timedelta(seconds=10))
    await users.rotate(ending.user.user, old_until=clock.now() + timedelta(days=1))

    assert not await works(users, expired.secret)
    assert await works(users, ending.secret)
    clock.move(11)
    assert not await works(users, ending.secret)


async def test_rotated_secret_can_expire(users: Users, clock: MovableClock) -> None:
    old = await new_user(users)
    new = await users.rotate(old.user.user, validity_ts=clock.now() + timedelta(seconds=10))

    assert await works(users, new.secret)
    clock.move(11)
    assert not await works(users, new.secret)


async def test_disabled_user_is_refused_at_once(caller: ApiCaller, users: Users) -> None:
    user = caller.user.user.user
    new = await users.rotate(user)
    assert (await whoami(caller, new.secret)).status == 200

    await users.disable(user)

    assert_refused(await whoami(caller, new.secret), 401, 401000)
    with pytest.raises(Unauthorized):
        await users.current(user)


async def test_disabling_again_keeps_the_first_time(users: Users, clock: MovableClock) -> None:
    user = (await new_user(users)).user.user
    await users.disable(user)
    since = (await users.find_all())[0].disabled_ts
    clock.move(60)
    await users.disable(user)
    rotated = await users.rotate(user)

    assert (await users.find_all())[0].disabled_ts == since
    assert since is not None
    assert not await works(users, rotated.secret)


async def test_new_role_takes_effect_at_once(make_caller: MakeCaller, users: Users) -> None:
    caller = await make_caller("nobody")
    user = caller.user.user.user
    assert_refused(await caller.get("/batches"), 403, 403535)

    await users.set_role(user, "reader")

    # The API process is notified, long before it would ask the database again by itself.
    await eventually(lambda: caller.get("/batches"), lambda reply: reply.status == 200)
    assert (await caller.get("/whoami")).body["role"] == "reader"
    assert (await users.current(user)).role == "reader"


async def test_unknown_user_cannot_be_changed(users: Users) -> None:
    nobody = UserId(UUID(int=0))
    for change in (users.rotate(nobody), users.disable(nobody), users.set_role(nobody, "admin")):
        with pytest.raises(NotFound, match=str(nobody)):
            await change
    with pytest.raises(Unauthorized):
        await users.current(nobody)


async def test_only_a_hash_of_a_secret_is_stored(components: Components) -> None:
    new = await components.services.users.create(account=None, role="admin", name="Ada")
    rotated = await components.services.users.rotate(new.user.user)

    rows = await dump_database(components)

    assert str(new.user.user) in rows
    for secret in (new.secret, rotated.secret):
        assert secret not in rows
        assert secret.encode().hex() not in rows


async def dump_database(components: Components) -> str:
    """Return every row of every table as text, binary columns in hexadecimal digits."""
    async with components.database.connection() as connection:
        tables = await connection.fetch(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'"
        )
        names = {row["table_name"] for row in tables}
        assert {"users", "secrets"} <= names
        rows = [
            row["text"]
            for name in sorted(names)
            for row in await connection.fetch(f'SELECT t::text AS text FROM "{name}" AS t')
        ]
    return "\n".join(rows)
