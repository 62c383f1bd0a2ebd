"""Pages of get_batches while batches come and go: each existing batch is listed once."""

from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from batchd.bootstrap import Components
from batchd.domain.batches import Status
from tests.support.fixtures import MakeCaller
from tests.support.rows import at, insert_batches

SECONDS = st.integers(0, 12)
"""Few, so that many batches are of the same millisecond and the cursor stands between equals."""
STATUSES = st.sampled_from(Status)
MEANWHILE = st.lists(
    st.one_of(
        st.tuples(st.just("make"), SECONDS),
        st.tuples(st.just("change"), st.integers(0, 39), STATUSES),
        st.tuples(st.just("remove"), st.integers(0, 39)),
    ),
    max_size=6,
)
"""What happens between two pages; batches of the start are told by their number."""
Happening = tuple[str, int] | tuple[str, int, Status]


@pytest.mark.slow
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    start=st.lists(st.tuples(SECONDS, STATUSES), min_size=1, max_size=40),
    limit=st.integers(1, 9),
    window=st.sampled_from(["", "ge", "le", "ge le"]),
    meanwhile=st.lists(MEANWHILE, max_size=10),
)
async def test_paging_neither_skips_nor_repeats_existing_batches(
    make_caller: MakeCaller,
    components: Components,
    start: list[tuple[int, Status]],
    limit: int,
    window: str,
    meanwhile: list[list[Happening]],
) -> None:
    caller = await make_caller()
    rows = await insert_batches(
        components, caller, [(at(second), status) for second, status in start]
    )
    bounds = {"ge": at(0).timestamp(), "le": at(12).timestamp()}
    query = {"limit": str(limit), **{name: str(bounds[name]) for name in window.split()}}
    removed: set[str] = set()
    listed_batches: list[str] = []
    happenings = iter(meanwhile)
    while True:
        reply = await caller.get("/batches", params=query)
        assert reply.status == 200, reply
        assert set(listed_batches).isdisjoint(reply.body["batches"])
        listed_batches += reply.body["batches"]
        assert len(reply.body["batches"]) <= limit
        if "cursor" not in reply.body:
            break
        query["cursor"] = reply.body["cursor"]
        for happening in next(happenings, []):
            match happening:
                case "make", second:
                    await insert_batches(components, caller, [(at(second), Status.NEW)])
                case "change", number, Status() as status:
                    await run(
                        components,
                        "UPDATE batches SET status = $2, updated_ts = now() WHERE batch = $1",
                        UUID(rows[number % len(rows)].batch),
                        status,
                    )
                case _, number, *_:
                    row = rows[number % len(rows)]
                    await run(components, "DELETE FROM batches WHERE batch = $1", UUID(row.batch))
                    removed.add(row.batch)

    there_throughout = [row.batch for row in rows if row.batch not in removed]
    if window == "ge":
        there_throughout.reverse()
    assert [batch for batch in listed_batches if batch in set(there_throughout)] == there_throughout


async def run(components: Components, statement: str, *arguments: object) -> None:
    async with components.database.connection() as connection:
        await connection.execute(statement, *arguments)
