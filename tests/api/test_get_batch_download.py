"""get_batch with `download`: spellings of the boolean, when there is a URL, and its content."""

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from batchd.bootstrap import Components
from batchd.domain.batches import DOWNLOAD_STATUSES, Status
from batchd.domain.jobs import Stage
from batchd.settings import Settings
from tests.support.callers import ApiCaller, lines_of
from tests.support.refusals import assert_refused
from tests.support.rows import at, insert_batches
from tests.support.stepping import TO_PROCESSED, TO_PROCESSING, cancelled_batch, ended_batch, step

ALWAYS = {"batch", "created_ts", "status", "updated_ts"}
NOWHERE = "00000000-0000-7000-8000-000000000000"
LINE = lines_of({"path": {"batch": NOWHERE}})
LINES = lines_of({"id": "a", "path": {"batch": NOWHERE}}) + LINE
NOT_BOOLEANS = ["TRUE", "FALSE", "tRue", "yes", "no", "on", "t", "", "2", "-1", "00", "01", "1.0"]
NOT_BOOLEANS += ["null", "None", " true", "true ", "true,true", "\u0661", "\uff11", "true\x00"]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"download_validity_s": 1234})


async def get_batch(caller: ApiCaller, batch: str, query: str = "?download=true") -> Any:
    reply = await caller.get(f"/batches/{batch}{query}")
    assert reply.status == 200, reply
    return reply.body


async def test_six_spellings_are_booleans(
    caller: ApiCaller, components: Components, subtests: pytest.Subtests
) -> None:
    batch = await ended_batch(components, caller, LINES)

    for value in ("true", "True", "1"):
        with subtests.test(value=value):
            assert (await get_batch(caller, batch, f"?download={value}")).keys() == ALWAYS | {
                "download"
            }
    for value in ("false", "False", "0"):
        with subtests.test(value=value):
            assert (await get_batch(caller, batch, f"?download={value}")).keys() == ALWAYS
    assert (await get_batch(caller, batch, "")).keys() == ALWAYS


async def test_any_other_spelling_is_refused(
    caller: ApiCaller, components: Components, subtests: pytest.Subtests
) -> None:
    batch = await ended_batch(components, caller, LINES)

    for value in NOT_BOOLEANS:
        with subtests.test(value=value):
            reply = await caller.get(f"/batches/{batch}", params={"download": value})
            assert "download" in assert_refused(reply, 400, 400589), value
    for query in (
        "download",
        "download=true&download=true",
        "download=0&download=1",
        "download[]=1",
    ):
        with subtests.test(query=query):
            assert_refused(await caller.get(f"/batches/{batch}?{query}"), 400, 400589)


async def test_new_batch_has_no_download(
    caller: ApiCaller, components: Components, subtests: pytest.Subtests
) -> None:
    others = sorted(set(Status) - DOWNLOAD_STATUSES)
    rows = await insert_batches(components, caller, [(at(n), s) for n, s in enumerate(others)])

    assert len(rows) == 11
    for row in rows:
        with subtests.test(row=row):
            assert (await get_batch(caller, row.batch)).keys() == ALWAYS, row.status


async def test_open_batch_never_has_a_download(caller: ApiCaller, components: Components) -> None:
    batch = await caller.create(LINES)
    for stage in TO_PROCESSED:
        assert (await get_batch(caller, batch)).keys() == ALWAYS
        await step(components, batch, stage)
    assert (await get_batch(caller, batch)).keys() == ALWAYS
    await step(components, batch, Stage.RESULTS)
    assert (await get_batch(caller, batch)).keys() == ALWAYS | {"download"}


async def test_completed_batch_has_its_results(caller: ApiCaller, components: Components) -> None:
    batch = await ended_batch(components, caller, LINES)

    first, second = await caller.download(batch)
    assert first["body"]["subcode"] == 404653
    first.pop("body")
    second.pop("body")
    assert first == {"line": 1, "id": "a", "outcome": "failed", "status": 404}
    assert second == {"line": 2, "outcome": "failed", "status": 404}


async def test_batch_cancelled_while_running_has_partial_results(
    caller: ApiCaller, components: Components
) -> None:
    batch = await cancelled_batch(components, caller, LINE * 150, *TO_PROCESSED)

    assert (await get_batch(caller, batch))["status"] == "cancelled"
    outcomes = [line["outcome"] for line in await caller.download(batch)]
    assert outcomes == ["failed"] * 100 + ["cancelled"] * 50


async def test_batch_cancelled_before_running_has_only_cancelled_lines(
    caller: ApiCaller, components: Components
) -> None:
    batch = await cancelled_batch(components, caller, LINES, *TO_PROCESSING)

    assert await caller.download(batch) == [
        {"line": 1, "id": "a", "outcome": "cancelled"},
        {"line": 2, "outcome": "cancelled"},
    ]


async def test_batch_cancelled_before_validation_has_no_download(
    caller: ApiCaller, components: Components
) -> None:
    batch = await cancelled_batch(components, caller, LINES)

    body = await get_batch(caller, batch)
    assert (body["status"], body.keys()) == ("cancelled", ALWAYS)


async def test_batch_that_failed_validation_has_the_report(
    caller: ApiCaller, components: Components
) -> None:
    batch = await ended_batch(components, caller, LINES + b"{}\n")

    assert (await get_batch(caller, batch))["status"] == "validation_failed"
    assert (await get_batch(caller, batch, "")).keys() == ALWAYS
    (line,) = await caller.download(batch)
    assert (line["line"], line["outcome"]) == (3, "invalid")


async def test_batch_with_a_hash_mismatch_has_no_download(
    caller: ApiCaller, components: Components
) -> None:
    batch = await ended_batch(components, caller, LINES, hash="0" * 64)

    body = await get_batch(caller, batch)
    assert (body["status"], body.keys()) == ("hash_mismatch", ALWAYS | {"hash"})


async def test_batch_being_deleted_has_no_download(
    caller: ApiCaller, components: Components
) -> None:
    batch = await ended_batch(components, caller, LINES)
    await caller.call("DELETE", f"/batches/{batch}")

    body = await get_batch(caller, batch)
    assert (body["status"], body.keys()) == ("deleting", ALWAYS)


async def test_url_needs_no_credential_and_names_the_file_after_the_batch(
    caller: ApiCaller, components: Components
) -> None:
    for lines in (LINES, b"no json\n"):
        batch = await ended_batch(components, caller, lines)
        url = (await get_batch(caller, batch))["download"]["url"]
        async with caller.session.get(url) as response:
            assert response.status == 200
            assert "Authorization" not in response.request_info.headers
            disposition = response.headers["Content-Disposition"]
        assert disposition == f'attachment; filename="{batch}.jsonl"'


async def test_url_contains_no_secret_key(
    caller: ApiCaller, components: Components, plugin_environment: Mapping[str, str]
) -> None:
    batch = await ended_batch(components, caller, LINES)
    url = (await get_batch(caller, batch))["download"]["url"]

    assert caller.user.secret not in url
    assert plugin_environment["BATCHD_S3_SECRET_KEY"] not in url


async def test_validity_is_the_time_that_the_storage_enforces(
    caller: ApiCaller, components: Components
) -> None:
    batch = await ended_batch(components, caller, LINES)
    before = int(time.time())
    download = (await get_batch(caller, batch))["download"]

    assert download.keys() == {"validity_ts", "url"}
    query = parse_qs(urlsplit(download["url"]).query)
    signed = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    end = signed + timedelta(seconds=int(query["X-Amz-Expires"][0]))
    assert isinstance(download["validity_ts"], float)
    assert download["validity_ts"] == end.timestamp()
    assert before + 1234 <= download["validity_ts"] <= time.time() + 1234


async def test_reader_of_the_account_may_download_as_well(
    caller: ApiCaller, components: Components
) -> None:
    batch = await ended_batch(components, caller, LINES)
    account = caller.user.user.account
    user = await components.services.users.create(account=account, role="reader", name="")
    reader = ApiCaller(caller.session, caller.url, user)

    assert await reader.download(batch) == await caller.download(batch)
