"""get_batch, polled: the ETag, and the 304 for an unchanged batch."""

import re

import pytest

from batchd.bootstrap import Components
from batchd.domain.jobs import Stage
from tests.support.callers import ApiCaller, Reply, lines_of
from tests.support.refusals import assert_refused
from tests.support.stepping import TO_PROCESSED, ended_batch, step

LINES = lines_of({"path": {"batch": "00000000-0000-7000-8000-000000000000"}})


async def polled(caller: ApiCaller, path: str, *if_none_match: str) -> Reply:
    headers = {"If-None-Match": ", ".join(if_none_match)} if if_none_match else {}
    return await caller.get(path, headers=headers)


async def test_same_response_has_the_same_etag(caller: ApiCaller) -> None:
    path = f"/batches/{await caller.create(LINES)}"
    first, second = await polled(caller, path), await polled(caller, path)

    assert first.headers["ETag"] == second.headers["ETag"]
    assert re.fullmatch(r'"[\x21\x23-\x7e]+"', first.headers["ETag"])
    assert first.body == second.body


async def test_unchanged_response_is_not_sent_again(caller: ApiCaller) -> None:
    path = f"/batches/{await caller.create(LINES)}"
    first = await polled(caller, path)
    second = await polled(caller, path, first.headers["ETag"])

    assert (second.status, second.body) == (304, None)
    for name in ("ETag", "Cache-Control"):
        assert second.headers[name] == first.headers[name]
    assert second.headers["X-Request-Id"] != first.headers["X-Request-Id"]


async def test_etag_may_be_weak_or_one_of_several_or_any(
    caller: ApiCaller, subtests: pytest.Subtests
) -> None:
    path = f"/batches/{await caller.create(LINES)}"
    etag = (await polled(caller, path)).headers["ETag"]

    for validators in (
        [etag],
        [f"W/{etag}"],
        ['"x"', etag],
        ['W/"x"', f"W/{etag}", '""'],
        ["*"],
        [f"{etag},", '"x"'],
    ):
        with subtests.test(validators=validators):
            assert (await polled(caller, path, *validators)).status == 304, validators
    for other in ('"x"', etag.strip('"'), f"w/{etag}", '""', "W/*", f"{etag[:-1]}x{etag[-1]}"):
        with subtests.test(other=other):
            assert (await polled(caller, path, other)).status == 200, other


async def test_etags_may_come_in_several_header_lines(caller: ApiCaller) -> None:
    path = f"/batches/{await caller.create(LINES)}"
    etag = (await polled(caller, path)).headers["ETag"]
    headers = [("Authorization", caller.user.secret)]
    headers += [("If-None-Match", '"x"'), ("If-None-Match", etag)]

    async with caller.session.get(f"{caller.url}{path}", headers=headers) as response:
        assert response.status == 304


async def test_etag_changes_with_every_status(caller: ApiCaller, components: Components) -> None:
    batch = await caller.create(LINES)
    validators: list[str] = []
    for stage in (*TO_PROCESSED, Stage.RESULTS, Stage.DELETE):
        if stage is Stage.DELETE:
            await caller.call("DELETE", f"/batches/{batch}")
        reply = await polled(caller, f"/batches/{batch}", *validators)
        assert reply.status == 200, reply
        etag = reply.headers["ETag"]
        assert (await polled(caller, f"/batches/{batch}", *validators, etag)).status == 304
        validators.append(etag)
        await step(components, batch, stage)
    assert_refused(await polled(caller, f"/batches/{batch}", *validators), 404, 404653)
    assert_refused(await polled(caller, f"/batches/{batch}", "*"), 404, 404653)


async def test_etag_changes_with_the_requested_attributes(
    caller: ApiCaller, components: Components
) -> None:
    batch = await caller.create(LINES * 150)
    await step(components, batch, *TO_PROCESSED[:-1])
    path = f"/batches/{batch}?expand=progress"
    before = await polled(caller, path)
    plain = await polled(caller, f"/batches/{batch}")
    await step(components, batch, Stage.CHUNK)

    after = await polled(caller, path, before.headers["ETag"])
    assert after.status == 200
    assert after.body["progress"]["remaining"] == 50
    etags = {reply.headers["ETag"] for reply in (before, plain, after)}
    assert len(etags) == 3
    assert (await polled(caller, f"/batches/{batch}", plain.headers["ETag"])).status == 304


async def test_response_with_a_download_url_has_no_etag(
    caller: ApiCaller, components: Components, subtests: pytest.Subtests
) -> None:
    batch = await ended_batch(components, caller, LINES)
    etag = (await polled(caller, f"/batches/{batch}")).headers["ETag"]

    for validators in ([], ["*"], [etag]):
        with subtests.test(validators=validators):
            reply = await polled(caller, f"/batches/{batch}?download=true", *validators)
            assert reply.status == 200
            assert "ETag" not in reply.headers
            assert reply.headers["Cache-Control"] == "no-store"
            assert reply.body["download"]["url"]


async def test_polling_with_download_gets_304_before_the_end(
    caller: ApiCaller, components: Components
) -> None:
    batch = await caller.create(LINES)
    path = f"/batches/{batch}?download=true"
    etag = (await polled(caller, path)).headers["ETag"]

    assert (await polled(caller, path, etag)).status == 304
    await step(components, batch, *TO_PROCESSED, Stage.RESULTS)
    assert (await polled(caller, path, etag)).body["download"]


async def test_caller_that_may_not_see_the_batch_gets_no_304(
    caller: ApiCaller, components: Components, subtests: pytest.Subtests
) -> None:
    path = f"/batches/{await caller.create(LINES)}"
    etag = (await polled(caller, path)).headers["ETag"]
    account = caller.user.user.account
    nobody = await components.services.users.create(account=account, role="nobody", name="")
    stranger = await components.services.users.create(account=None, role="admin", name="")

    for user, status, subcode in ((nobody, 403, 403535), (stranger, 404, 404653)):
        other = ApiCaller(caller.session, caller.url, user)
        for validators in (etag, "*"):
            with subtests.test(user=user, status=status, subcode=subcode, validators=validators):
                assert_refused(await polled(other, path, validators), status, subcode)
