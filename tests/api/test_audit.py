"""The audit record: each denial and each permission to change something, once."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from batchd.bootstrap import Components
from batchd.observability import logs
from tests.support.callers import ApiCaller, lines_of
from tests.support.fixtures import MakeCaller
from tests.support.policies import write_policy
from tests.support.stepping import TO_THE_END, ended_batch, step

LINES = lines_of({"path": {"batch": "00000000-0000-7000-8000-000000000000"}})
FIELDS = (
    "trace",
    "account",
    "user",
    "role",
    "operation",
    "batch",
    "handler",
    "decision",
    "revision",
    "rule",
)


@pytest.fixture
def plugin_environment(plugin_environment: Mapping[str, str], tmp_path: Path) -> Mapping[str, str]:
    folder = tmp_path / "policies"
    folder.mkdir()
    write_policy(
        folder,
        "p, admin, *, *, allow",
        "p, clerk, *, *, allow, own",
        "p, clerk, *, update_batch, deny",
    )
    return {**plugin_environment, "BATCHD_POLICIES": str(folder)}


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Iterator[list[dict[str, Any]]]:
    """Return what is recorded from now on, in a list that grows."""
    records: list[dict[str, Any]] = []

    class Collector(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            records.append({name: vars(record)[name] for name in FIELDS})

    logger = logging.getLogger(logs.AUDIT)
    caplog.set_level(logging.INFO, logger=logs.AUDIT)
    collector = Collector()
    logger.addHandler(collector)
    yield records
    logger.removeHandler(collector)


async def test_denial_is_recorded_with_its_reasons(
    make_caller: MakeCaller, components: Components, records: list[dict[str, Any]]
) -> None:
    clerk = await make_caller("clerk")
    batch = uuid4()

    reply = await clerk.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})

    assert reply.status == 403
    assert records == [
        {
            "trace": reply.body["trace"],
            "account": clerk.user.user.account,
            "user": clerk.user.user.user,
            "role": "clerk",
            "operation": "update_batch",
            "batch": batch,
            "handler": None,
            "decision": "deny",
            "revision": components.services.health.policy["revision"],
            "rule": "roles.csv:3: p, clerk, *, update_batch, deny",
        }
    ]


async def test_denied_malformed_request_is_recorded_without_its_batch(
    make_caller: MakeCaller, records: list[dict[str, Any]]
) -> None:
    clerk = await make_caller("clerk")

    await clerk.call("PATCH", "/batches/x", data=b"{")

    assert [(record["operation"], record["batch"]) for record in records] == [
        ("update_batch", None)
    ]


async def test_permitted_reads_are_not_recorded(
    caller: ApiCaller, records: list[dict[str, Any]], subtests: pytest.Subtests
) -> None:
    batch = await caller.create(LINES)
    records.clear()

    for path in (f"/batches/{batch}", "/batches", "/whoami", "/roles", "/roles/clerk"):
        with subtests.test(path=path):
            assert (await caller.get(path)).status == 200

    assert records == []


async def test_access_to_another_users_batch_is_recorded_as_a_denial(
    caller: ApiCaller,
    make_caller: MakeCaller,
    records: list[dict[str, Any]],
    subtests: pytest.Subtests,
) -> None:
    clerk = await make_caller("clerk", account=caller.user.user.account)
    batch = await caller.create(LINES)
    records.clear()

    for method in ("GET", "DELETE"):
        with subtests.test(method=method):
            reply = await clerk.call(method, f"/batches/{batch}")
            assert reply.status == 404
            record = records.pop()
            assert (record["decision"], str(record["batch"])) == ("deny", batch)
            assert record["trace"] == reply.body["trace"]
    assert records == []


async def test_each_permitted_change_is_recorded_once(
    caller: ApiCaller, components: Components, records: list[dict[str, Any]]
) -> None:
    handler = (await caller.call("POST", "/cache")).body["handler"]
    await caller.call("DELETE", f"/cache/{handler}")
    batch = await caller.create(LINES, "update_batch")
    await caller.call("PATCH", f"/batches/{batch}", json={"status": "cancel"})
    completed = await ended_batch(components, caller, LINES)
    await caller.call("DELETE", f"/batches/{completed}")

    assert {record["decision"] for record in records} == {"allow"}
    assert {record["rule"] for record in records} == {"roles.csv:1: p, admin, *, *, allow"}
    assert all(record["trace"] for record in records)
    about = [(record["operation"], str(record["batch"])) for record in records]
    assert about == [
        ("create_upload_url", "None"),
        ("invalidate_upload_url", "None"),
        ("create_upload_url", "None"),
        ("create_batch", batch),
        ("update_batch", batch),  # may be run in the batch
        ("update_batch", batch),
        ("create_upload_url", "None"),
        ("create_batch", completed),
        ("delete_batch", completed),
    ]
    assert str(records[0]["handler"]) == handler


async def test_denied_line_is_recorded_with_the_trace_of_its_result(
    make_caller: MakeCaller, components: Components, records: list[dict[str, Any]]
) -> None:
    admin = await make_caller("admin")
    call = {"path": {"batch": str(uuid4())}, "body": {"status": "cancel"}}
    batch = await admin.create(lines_of(call, call), "update_batch")
    await components.services.users.set_role(admin.user.user.user, "clerk")
    records.clear()

    await step(components, batch, *TO_THE_END)

    results = await admin.download(batch)
    assert [line["status"] for line in results] == [403, 403]
    assert [record["trace"] for record in records] == [line["body"]["trace"] for line in results]
    assert {(record["decision"], str(record["batch"])) for record in records} == {("deny", batch)}
