"""get_batch: the attributes of its responses, their types, and those added on request."""

import hashlib
import re
import time
from typing import Any
from uuid import UUID, uuid4

import pytest

from batchd.bootstrap import Components
from batchd.domain.batches import Status
from batchd.domain.jobs import Stage
from tests.support.callers import ApiCaller, lines_of
from tests.support.clock import MovableClock
from tests.support.refusals import assert_refused
from tests.support.rows import at, insert_batches
from tests.support.stepping import TO_COPIED, TO_PROCESSED, TO_PROCESSING, ended_batch, step

ALWAYS = {"batch", "created_ts", "status", "updated_ts"}
NOWHERE = "00000000-0000-7000-8000-000000000000"
ONE_LINE = lines_of({"path": {"batch": NOWHERE}})
EXPANDABLE = ("operation", "batch_dict", "progress", "errors", "results")


async def get_batch(caller: ApiCaller, batch: str, query: str = "") -> Any:
    reply = await caller.get(f"/batches/{batch}{query}")
    assert reply.status == 200, reply
    return reply.body


async def test_new_batch_has_only_the_mandatory_attributes(caller: ApiCaller) -> None:
    batch = await caller.create(ONE_LINE, batch_dict={"a": 1})

    body = await get_batch(caller, batch)

    assert body.keys() == ALWAYS
    assert (body["batch"], body["status"]) == (batch, "new")


async def test_hash_is_returned_if_one_was_given(caller: ApiCaller) -> None:
    digest = hashlib.sha256(ONE_LINE).hexdigest()
    batch = await caller.create(ONE_LINE, hash=digest)

    for query in ("", "?download=true"):
        body = await get_batch(caller, batch, query)
        assert body.keys() == ALWAYS | {"hash"}
        assert body["hash"] == digest


async def test_each_of_the_fourteen_statuses_is_returned(
    caller: ApiCaller, components: Components, subtests: pytest.Subtests
) -> None:
    rows = await insert_batches(components, caller, [(at(n), s) for n, s in enumerate(Status)])

    assert len(rows) == 14
    for row in rows:
        with subtests.test(row=row):
            assert (await get_batch(caller, row.batch))["status"] == row.status


async def test_batch_id_is_returned_in_lower_case(caller: ApiCaller) -> None:
    batch = await caller.create(ONE_LINE)

    assert batch == str(UUID(batch))
    assert (await get_batch(caller, batch.upper()))["batch"] == batch


async def test_times_are_seconds_with_milliseconds(
    caller: ApiCaller, components: Components, clock: MovableClock, subtests: pytest.Subtests
) -> None:
    before = time.time() - 0.001
    batch = await caller.create(ONE_LINE)
    created = await get_batch(caller, batch)
    clock.move(60.0)
    await step(components, batch, *TO_COPIED)
    copied = await get_batch(caller, batch)

    assert isinstance(created["created_ts"], float)
    assert before <= created["created_ts"] == created["updated_ts"] <= time.time()
    assert copied["created_ts"] == created["created_ts"]
    assert 60 <= copied["updated_ts"] - copied["created_ts"] <= 75
    for timestamp in (created["created_ts"], copied["updated_ts"]):
        with subtests.test(timestamp=timestamp):
            assert timestamp == round(timestamp, 3)


async def test_times_have_at_most_three_decimals(caller: ApiCaller, components: Components) -> None:
    timestamps = [at(milliseconds) for milliseconds in (0, 1, 3, 10, 57, 100, 333, 999, 1009)]
    rows = await insert_batches(
        components, caller, [(timestamp, Status.NEW) for timestamp in timestamps]
    )

    for row in rows:
        url = f"{caller.url}/batches/{row.batch}"
        headers = {"Authorization": caller.user.secret}
        async with caller.session.get(url, headers=headers) as response:
            texts = re.findall(r'"(?:created|updated)_ts":([^,}]+)', await response.text())
        assert len(texts) == 2
        for text in texts:
            assert re.fullmatch(r"\d{10}\.\d{1,3}", text), text
            assert float(text) == row.created_ts.timestamp()


async def test_responses_are_json_in_utf_8_and_private(caller: ApiCaller) -> None:
    reply = await caller.get(f"/batches/{await caller.create(ONE_LINE)}")

    assert reply.headers["Content-Type"] == "application/json; charset=utf-8"
    assert reply.headers["Cache-Control"] == "private, no-cache"
    assert reply.headers["X-Request-Id"]


async def test_malformed_uuid_is_refused(caller: ApiCaller, subtests: pytest.Subtests) -> None:
    batch = str(uuid4())
    others = ["1", "x", batch[:-1], f"{batch}0", batch.replace("-", ""), f"{{{batch}}}"]
    others += [f"urn:uuid:{batch}", f"%20{batch}", f"{batch}%0a", f"{batch[:-1]}g", "%00"]
    for other in others:
        with subtests.test(other=other):
            description = assert_refused(await caller.get(f"/batches/{other}"), 400, 400589)
            assert "batch" in description


async def test_unknown_batch_is_not_found(caller: ApiCaller, subtests: pytest.Subtests) -> None:
    for batch in (str(uuid4()), NOWHERE):
        with subtests.test(batch=batch):
            assert_refused(await caller.get(f"/batches/{batch}"), 404, 404653)


async def test_deleted_batch_is_not_found(caller: ApiCaller, components: Components) -> None:
    batch = await ended_batch(components, caller, ONE_LINE)
    await caller.call("DELETE", f"/batches/{batch}")

    assert (await get_batch(caller, batch))["status"] == "deleting"
    await step(components, batch, Stage.DELETE)
    assert_refused(await caller.get(f"/batches/{batch}"), 404, 404653)


async def test_unknown_parameter_is_refused(caller: ApiCaller, subtests: pytest.Subtests) -> None:
    batch = await caller.create(ONE_LINE)

    for query in ("Download=true", "downloads=true", "x=", "=", "download=true&x=1"):
        with subtests.test(query=query):
            assert_refused(await caller.get(f"/batches/{batch}?{query}"), 400, 400589)


async def test_each_expansion_adds_only_its_attribute(
    caller: ApiCaller, components: Components
) -> None:
    batch = await caller.create(ONE_LINE)
    for _ in range(2):
        for name in EXPANDABLE:
            assert (await get_batch(caller, batch, f"?expand={name}")).keys() == ALWAYS | {name}
        everything = await get_batch(caller, batch, f"?expand={','.join(EXPANDABLE)}")
        assert everything.keys() == ALWAYS | set(EXPANDABLE)
        assert (await get_batch(caller, batch, "?expand=")).keys() == ALWAYS
        twice = await get_batch(caller, batch, "?expand=progress,operation,progress")
        assert twice.keys() == ALWAYS | {"progress", "operation"}
        await step(components, batch, *TO_PROCESSED, Stage.RESULTS)


async def test_unknown_expansion_is_refused(caller: ApiCaller, subtests: pytest.Subtests) -> None:
    batch = await caller.create(ONE_LINE)
    others = ["x", "Progress", "progress,", ",progress", "progress,,errors", "progress;errors"]
    others += ["progress,x", "hashes", "download", "*"]
    for other in others:
        with subtests.test(other=other):
            reply = await caller.get(f"/batches/{batch}", params={"expand": other})
            assert "progress" in assert_refused(reply, 400, 400589)
    reply = await caller.get(f"/batches/{batch}?expand=progress&expand=errors")
    assert_refused(reply, 400, 400589)
    reply = await caller.get(f"/batches/{batch}", params={"expand": "progress, errors"})
    assert "space before or after 'errors'" in assert_refused(reply, 400, 400589)


async def test_operation_and_batch_dict_are_returned_on_request(
    caller: ApiCaller,
) -> None:
    own = {"zeta": [1, {"ä": None}], "alpha": 1.5, "_": ""}
    batch = await caller.create(ONE_LINE, "update_batch", batch_dict=own)
    plain = await caller.create(ONE_LINE)

    body = await get_batch(caller, batch, "?expand=operation,batch_dict")
    assert body["operation"] == "update_batch"
    assert body["batch_dict"] == own
    assert list(body["batch_dict"]) == list(own)
    assert (await get_batch(caller, plain, "?expand=batch_dict"))["batch_dict"] is None


async def test_progress_is_null_before_validation_and_then_adds_up(
    caller: ApiCaller, components: Components
) -> None:
    other = await caller.create(ONE_LINE)
    lines = lines_of(*({"path": {"batch": other if n % 3 else NOWHERE}} for n in range(250)))
    batch = await caller.create(lines)

    async def progress() -> dict[str, int | None]:
        body = await get_batch(caller, batch, "?expand=progress")
        line_counts: dict[str, int | None] = body["progress"]
        return line_counts

    none = {"succeeded": 0, "failed": 0, "cancelled": 0}
    assert await progress() == {"total": None, **none, "remaining": None}
    await step(components, batch, *TO_PROCESSING)
    assert await progress() == {"total": 250, **none, "remaining": 250}
    await step(components, batch, Stage.CHUNK)
    outcomes = {"succeeded": 66, "failed": 34, "cancelled": 0}
    assert await progress() == {"total": 250, **outcomes, "remaining": 150}
    await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
    await step(components, batch, Stage.CANCEL)
    assert (await get_batch(caller, batch))["status"] == "cancelled"
    outcomes["cancelled"] = 150
    assert await progress() == {"total": 250, **outcomes, "remaining": 0}


@pytest.mark.parametrize("stages", [TO_PROCESSED, (*TO_PROCESSED, Stage.RESULTS)])
async def test_errors_are_counted_by_status_with_their_first_five_lines(
    caller: ApiCaller, components: Components, stages: tuple[Stage, ...]
) -> None:
    other = await caller.create(ONE_LINE)
    cancel = {"status": "cancel"}
    await caller.call("PATCH", f"/batches/{other}", json=cancel)
    missing = [{"path": {"batch": NOWHERE}, "body": cancel}] * 7
    cancels = [{"path": {"batch": other}, "body": cancel}] * 2
    batch = await caller.create(lines_of(*missing, *cancels), "update_batch")
    assert (await get_batch(caller, batch, "?expand=errors"))["errors"] == {}

    await step(components, batch, *stages)

    assert (await get_batch(caller, batch, "?expand=errors"))["errors"] == {
        "404": {"count": 7, "lines": [1, 2, 3, 4, 5]},
        "400": {"count": 2, "lines": [8, 9]},
    }


async def test_results_are_described_once_they_exist(
    caller: ApiCaller, components: Components
) -> None:
    batch = await caller.create(ONE_LINE * 3)
    assert (await get_batch(caller, batch, "?expand=results"))["results"] is None

    await step(components, batch, *TO_PROCESSED, Stage.RESULTS)

    body = await get_batch(caller, batch, "?expand=results&download=true")
    async with caller.session.get(body["download"]["url"]) as response:
        file = await response.read()
    sha256 = hashlib.sha256(file).hexdigest()
    assert body["results"] == {"size": len(file), "lines": 3, "sha256": sha256}
