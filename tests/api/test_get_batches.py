"""get_batches: which batches a page has, in which order, and how pages follow each other."""

import base64
from typing import Any

import msgspec
import pytest

from batchd.bootstrap import Components
from batchd.domain.batches import Status
from tests.support.callers import ApiCaller, lines_of
from tests.support.fixtures import MakeCaller
from tests.support.refusals import assert_refused
from tests.support.rows import Row, at, insert_batches

DONE = Status.COMPLETED
MALFORMED_TIMESTAMPS = ["", "now", "nan", "inf", "-inf", "-1", "%201", "1_0", "1e300", "2026-01-01"]


async def listed(caller: ApiCaller, **query: object) -> Any:
    reply = await caller.get("/batches", params={name: str(query[name]) for name in query})
    assert reply.status == 200, reply
    return reply.body


async def pages(caller: ApiCaller, **query: object) -> list[list[str]]:
    """Return the ids of all the pages."""
    body = await listed(caller, **query)
    all_pages = [list(body["batches"])]
    while "cursor" in body:
        body = await listed(caller, **query, cursor=body["cursor"])
        assert list(body["batches"]) not in all_pages
        all_pages.append(list(body["batches"]))
    return all_pages


def ids(rows: list[Row]) -> list[str]:
    return [row.batch for row in rows]


async def assert_malformed(caller: ApiCaller, **query: str) -> None:
    assert_refused(await caller.get("/batches", params=query), 400, 400589)


async def test_account_without_batches_has_an_empty_list(caller: ApiCaller) -> None:
    assert await listed(caller) == {"batches": {}}


async def test_created_batch_is_listed(caller: ApiCaller) -> None:
    batch = await caller.create(lines_of({}))

    assert await listed(caller) == {"batches": {batch: "new"}}


async def test_each_batch_is_listed_with_its_status(
    caller: ApiCaller, components: Components
) -> None:
    rows = await insert_batches(components, caller, [(at(n), s) for n, s in enumerate(Status)])

    assert await listed(caller) == {"batches": {row.batch: str(row.status) for row in rows}}


async def test_only_batches_of_the_account_are_listed(
    caller: ApiCaller, make_caller: MakeCaller, components: Components
) -> None:
    other = await make_caller()
    colleague = await make_caller("reader", account=caller.user.user.account)
    own = await insert_batches(components, caller, [(at(n), DONE) for n in range(3)])
    await insert_batches(components, other, [(at(n), DONE) for n in range(3)])
    cursor = (await listed(other, limit=1))["cursor"]

    assert await pages(caller) == [ids(own)]
    assert await pages(colleague, limit=2) == [ids(own)[:2], ids(own)[2:]]
    assert set((await listed(caller, cursor=cursor))["batches"]) <= set(ids(own))


async def test_newest_batches_come_first_and_ties_are_ordered_by_id(
    caller: ApiCaller, components: Components
) -> None:
    rows = await insert_batches(components, caller, [(at(n // 4), DONE) for n in range(20)])

    assert await pages(caller) == [ids(rows)]
    assert await pages(caller, limit=3) == [ids(rows)[n : n + 3] for n in range(0, 20, 3)]


async def test_page_has_a_thousand_batches_by_default(
    caller: ApiCaller, components: Components
) -> None:
    rows = await insert_batches(components, caller, [(at(n), DONE) for n in range(2001)])

    assert await pages(caller) == [ids(rows)[:1000], ids(rows)[1000:2000], ids(rows)[2000:]]
    assert list((await listed(caller, limit=1000))["batches"]) == ids(rows)[:1000]


async def test_last_page_has_no_cursor(
    caller: ApiCaller, components: Components, subtests: pytest.Subtests
) -> None:
    rows = await insert_batches(components, caller, [(at(n), DONE) for n in range(6)])

    for limit in (1, 2, 6):
        with subtests.test(limit=limit):
            assert await pages(caller, limit=limit) == [
                ids(rows)[n : n + limit] for n in range(0, 6, limit)
            ]


async def test_limit_is_a_number_from_1_to_1000(
    caller: ApiCaller, subtests: pytest.Subtests
) -> None:
    for limit in ("0", "-1", "1001", "", "ten", "1.5", " 1", "0x1", "null"):
        with subtests.test(limit=limit):
            await assert_malformed(caller, limit=limit)


async def test_ge_and_le_are_inclusive(caller: ApiCaller, components: Components) -> None:
    rows = await insert_batches(components, caller, [(at(n), DONE) for n in range(6)])
    ge, le = at(2).timestamp(), at(4).timestamp()

    assert await pages(caller, ge=ge) == [ids(rows)[3::-1]]
    assert await pages(caller, le=le) == [ids(rows)[1:]]
    assert await pages(caller, ge=ge, le=le) == [ids(rows)[1:4]]
    assert await pages(caller, ge=le, le=ge) == [[]]
    assert await pages(caller, ge=ge, le=ge) == [[ids(rows)[3]]]


async def test_times_of_get_batch_are_valid_for_ge_and_le(caller: ApiCaller) -> None:
    batches = [await caller.create(lines_of({})) for _ in range(3)]
    timestamp = (await caller.get(f"/batches/{batches[1]}")).body["created_ts"]

    assert await pages(caller, ge=timestamp) == [batches[1:]]
    assert await pages(caller, le=timestamp) == [batches[1::-1]]


async def test_oldest_batches_come_first_with_ge_alone(
    caller: ApiCaller, components: Components
) -> None:
    rows = await insert_batches(components, caller, [(at(n // 3), DONE) for n in range(12)])
    oldest_first = ids(rows)[::-1]

    assert await pages(caller, ge=at(1).timestamp(), limit=4) == [
        oldest_first[3:7],
        oldest_first[7:11],
        oldest_first[11:],
    ]


async def test_newest_batches_come_first_with_ge_and_le(
    caller: ApiCaller, components: Components
) -> None:
    rows = await insert_batches(components, caller, [(at(n // 3), DONE) for n in range(12)])
    ge, le = at(1).timestamp(), at(2).timestamp()

    assert await pages(caller, ge=ge, le=le, limit=4) == [ids(rows)[3:7], ids(rows)[7:9]]


async def test_malformed_parameter_is_refused(caller: ApiCaller, subtests: pytest.Subtests) -> None:
    timestamps = [f"{name}={text}" for name in ("ge", "le") for text in MALFORMED_TIMESTAMPS]
    others = ["since=1", "limit=1&limit=1", "status=new&status=copied", "ge=1&ge=1", "cursor"]
    for query in timestamps + others:
        with subtests.test(query=query):
            assert_refused(await caller.get(f"/batches?{query}"), 400, 400589)


async def test_extreme_times_are_accepted(caller: ApiCaller, components: Components) -> None:
    rows = await insert_batches(components, caller, [(at(0), DONE)])

    assert await pages(caller, ge=0, le=253_402_300_799) == [ids(rows)]
    assert await pages(caller, ge=253_402_300_799) == [[]]


async def test_list_is_filtered_by_statuses(
    caller: ApiCaller, components: Components, subtests: pytest.Subtests
) -> None:
    statuses = [Status.NEW, Status.CANCELLED, Status.COMPLETED]
    rows = await insert_batches(
        components, caller, [(at(n // 5), statuses[n % 3]) for n in range(30)]
    )
    ge = at(0).timestamp()

    for status in ("new", "new,cancelled", "cancelled,new,new"):
        with subtests.test(status=status):
            matching = [row.batch for row in rows if row.status in status.split(",")]
            by_sevens = [slice(n, n + 7) for n in range(0, len(matching), 7)]
            assert await pages(caller, status=status) == [matching]
            assert await pages(caller, status=status, limit=7) == [
                matching[part] for part in by_sevens
            ]
            matching.reverse()
            assert await pages(caller, status=status, ge=ge) == [matching]
            assert await pages(caller, status=status, ge=ge, limit=7) == [
                matching[part] for part in by_sevens
            ]


async def test_list_can_be_filtered_by_all_statuses(
    caller: ApiCaller, components: Components
) -> None:
    rows = await insert_batches(components, caller, [(at(n), s) for n, s in enumerate(Status)])

    assert await pages(caller, status=",".join(Status)) == [ids(rows)]


async def test_unknown_status_is_refused(caller: ApiCaller, subtests: pytest.Subtests) -> None:
    for status in ("", "done", "New", "new,", ",new", "new, copied", "new;copied"):
        with subtests.test(status=status):
            await assert_malformed(caller, status=status)


def cursor_of(record: object) -> str:
    return base64.urlsafe_b64encode(msgspec.msgpack.encode(record)).decode().rstrip("=")


async def test_malformed_cursor_is_refused(caller: ApiCaller, subtests: pytest.Subtests) -> None:
    batch = "00000000-0000-7000-8000-000000000000"
    forged: list[object] = [None, [], [1, "x", False], [1, batch], [1, batch, False, 1]]
    timestamps: list[object] = [10**18, -(10**18), 1e308, 253_402_300_800_000, None]
    forged += [[timestamp, batch, False] for timestamp in timestamps]
    texts = ["", "a", "????", "no cursor", "bm8gY3Vyc29y", "\u00e4\u00e4\u00e4\u00e4"]
    for cursor in [*texts, *map(cursor_of, forged)]:
        with subtests.test(cursor=cursor):
            await assert_malformed(caller, cursor=cursor)


async def test_damaged_cursor_is_refused(
    caller: ApiCaller, components: Components, subtests: pytest.Subtests
) -> None:
    await insert_batches(components, caller, [(at(n), DONE) for n in range(2)])
    cursor = (await listed(caller, limit=1))["cursor"]

    for damaged in (cursor[:-3], cursor[3:], f"{cursor}AAAA", f"*{cursor[1:]}"):
        with subtests.test(damaged=damaged):
            await assert_malformed(caller, cursor=damaged)


async def test_cursor_of_the_opposite_order_is_refused(
    caller: ApiCaller, components: Components, subtests: pytest.Subtests
) -> None:
    await insert_batches(components, caller, [(at(n), DONE) for n in range(2)])
    ge = str(at(0).timestamp())
    newest_first = (await listed(caller, limit=1))["cursor"]
    oldest_first = (await listed(caller, limit=1, ge=ge))["cursor"]

    for query in (
        {"cursor": oldest_first},
        {"cursor": oldest_first, "le": ge},
        {"cursor": oldest_first, "ge": ge, "le": ge},
        {"cursor": newest_first, "ge": ge},
    ):
        with subtests.test(query=query):
            await assert_malformed(caller, **query)


async def test_permission_is_checked_before_the_form(
    make_caller: MakeCaller,
) -> None:
    nobody = await make_caller("nobody")

    assert_refused(await nobody.get("/batches", params={"limit": "x"}), 403, 403535)
