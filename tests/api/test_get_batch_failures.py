"""get_batch reports on request why a batch ended before its lines ran."""

import hashlib
import json
import logging

import pytest

from batchd.bootstrap import Components
from batchd.domain.jobs import Stage
from tests.support.callers import ApiCaller, lines_of
from tests.support.openapi import validator
from tests.support.stepping import TO_PROCESSED, ended_batch, step

NOWHERE = {"path": {"batch": "00000000-0000-7000-8000-000000000000"}}
TWO_LINES = lines_of(NOWHERE, NOWHERE)
GIVEN_HASH = hashlib.sha256(TWO_LINES).hexdigest()
STRIPPED = TWO_LINES.replace(b"\n", b"")
UPLOAD_HASH = hashlib.sha256(STRIPPED).hexdigest()


async def test_mismatch_names_both_hashes_on_request(
    caller: ApiCaller, components: Components, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "batchd")
    batch = await caller.create(STRIPPED, hash=GIVEN_HASH)
    assert (await caller.get(f"/batches/{batch}?expand=hash")).body["hash"] == GIVEN_HASH

    await step(components, batch, Stage.COPY)

    plain = (await caller.get(f"/batches/{batch}?expand=errors,progress")).body
    assert (plain["status"], plain["hash"]) == ("hash_mismatch", GIVEN_HASH)
    body = (await caller.get(f"/batches/{batch}?expand=hash,errors")).body
    assert body["hash"] == {"given": GIVEN_HASH, "found": UPLOAD_HASH}
    validator("BatchResponse").validate(body)
    (logged,) = [r.getMessage() for r in caplog.records if "hash_mismatch" in r.getMessage()]
    assert GIVEN_HASH in logged
    assert UPLOAD_HASH in logged
    assert batch in logged


async def test_mismatch_names_both_hashes_while_the_batch_is_deleted(
    caller: ApiCaller, components: Components
) -> None:
    batch = await caller.create(STRIPPED, hash=GIVEN_HASH)
    await step(components, batch, Stage.COPY)
    await caller.call("DELETE", f"/batches/{batch}")
    body = (await caller.get(f"/batches/{batch}?expand=hash")).body
    assert (body["status"], body["hash"]["found"]) == ("deleting", UPLOAD_HASH)


async def test_matching_hash_is_returned_as_text(caller: ApiCaller, components: Components) -> None:
    batch = await caller.create(TWO_LINES, hash=GIVEN_HASH)
    await step(components, batch, *TO_PROCESSED, Stage.RESULTS)
    body = (await caller.get(f"/batches/{batch}?expand=hash")).body
    assert (body["status"], body["hash"]) == ("completed", GIVEN_HASH)
    plain = await caller.create(TWO_LINES)
    assert "hash" not in (await caller.get(f"/batches/{plain}?expand=hash")).body


async def test_invalid_lines_are_counted_by_the_codes_of_the_report(
    caller: ApiCaller, components: Components
) -> None:
    valid = json.dumps({**NOWHERE, "id": "a"}).encode()
    lines = [b"{,", valid, b'{"path": {}, "id": "b"}', b'{"id": "\xff"}', *[b"{}"] * 7, valid, b"["]
    batch = await ended_batch(components, caller, b"\n".join(lines))

    body = (await caller.get(f"/batches/{batch}?expand=errors,progress")).body
    assert body["status"] == "validation_failed"
    assert body["errors"] == {
        "not_a_valid_json": {"count": 2, "lines": [1, 13]},
        "request_format": {"count": 9, "lines": [3, 5, 6, 7, 8]},
        "invalid_characters": {"count": 1, "lines": [4]},
    }
    validator("BatchResponse").validate(body)
    assert "errors" not in (await caller.get(f"/batches/{batch}?expand=hash")).body
