"""The permission check: what it caches, and how it handles failing authorizers."""

import asyncio
import logging
from dataclasses import replace
from typing import Any, cast

import pytest

from batchd.domain.errors import AccessForbidden, ProcessingTimeout
from batchd.domain.permission import OTHER_USER, Access, Decision, OwnerFilter
from batchd.domain.users import Caller
from batchd.operations.table import OPERATIONS, permissions_of
from batchd.services import authorization as access_module
from batchd.services.authorization import Grant, OwnershipScope, PermissionChecker
from tests.support.authorizers import Scripted, deciding
from tests.support.policies import COLLEAGUE, OTHER_ACCOUNT, OURS, USER

PERMISSIONS = permissions_of(OPERATIONS)
CLERK = Caller(account=OURS, user=USER, role="clerk")


async def test_authorizer_is_queried_once_for_own_and_once_for_others() -> None:
    authorizer = deciding(own=True, others=False)
    permissions = PermissionChecker(authorizer, PERMISSIONS)

    for _ in range(3):
        for operation in ("get_batch", "create_upload_url"):
            for caller in (
                CLERK,
                replace(CLERK, account=OTHER_ACCOUNT),
                replace(CLERK, role="boss"),
            ):
                await permissions.authorize(replace(caller, user=COLLEAGUE), operation)

    questions = [(access.operation, access.owner) for access in authorizer.requests]
    assert sorted(questions[:3], key=str) == sorted(
        [("get_batch", COLLEAGUE), ("get_batch", OTHER_USER), ("get_batch", COLLEAGUE)], key=str
    )
    assert questions.count(("get_batch", COLLEAGUE)) == 3
    assert questions.count(("get_batch", OTHER_USER)) == 3
    # It makes something: there is nothing yet that could be somebody else's.
    assert questions.count(("create_upload_url", None)) == 3
    assert len(questions) == 9


@pytest.mark.parametrize(
    ("own", "others", "scope", "owner"),
    [
        (True, True, OwnershipScope.ALL, OwnerFilter()),
        (True, False, OwnershipScope.OWN, OwnerFilter(only=USER)),
        (False, True, OwnershipScope.OTHERS, OwnerFilter(exclude=USER)),
    ],
)
async def test_grant_filters_the_rows_of_queries(
    own: bool, others: bool, scope: OwnershipScope, owner: OwnerFilter
) -> None:
    grant = await PermissionChecker(deciding(own=own, others=others), PERMISSIONS).authorize(
        CLERK, "get_batch"
    )

    assert grant.scope is scope
    assert grant.owner_filter(CLERK) == owner


async def test_cached_decisions_of_another_revision_are_dropped() -> None:
    authorizer = deciding(own=True, others=True)
    permissions = PermissionChecker(authorizer, PERMISSIONS)
    await permissions.authorize(CLERK, "get_batch")

    authorizer.revision = "2"
    assert permissions.cached(CLERK, "get_batch") is None
    grant = await permissions.authorize(CLERK, "get_batch")
    authorizer.revision = "1"

    assert grant.own.revision == "2"
    assert permissions.cached(CLERK, "get_batch") is None


async def test_policy_change_between_two_queries_repeats_both() -> None:
    """One that changes again and again is no policy."""
    revisions = iter("12334567890")

    async def decide(_: Access) -> Decision:
        return Decision(allowed=True, revision=next(revisions), rule=None)

    permissions = PermissionChecker(Scripted(decide, revision="3"), PERMISSIONS)
    grant = await permissions.authorize(CLERK, "get_batch")
    assert (grant.own.revision, grant.others.revision) == ("3", "3")
    with pytest.raises(ProcessingTimeout):
        await permissions.authorize(CLERK, "get_batches")


async def test_decisions_without_a_revision_are_not_cached() -> None:
    authorizer = deciding(own=True, others=True, revision=None)
    permissions = PermissionChecker(authorizer, PERMISSIONS)

    for _ in range(3):
        await permissions.authorize(CLERK, "create_upload_url")

    assert len(authorizer.requests) == 3


async def test_cache_size_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(access_module, "MAX_CACHED", 10)
    permissions = PermissionChecker(deciding(own=True, others=True), PERMISSIONS)

    for number in range(25):
        await permissions.authorize(replace(CLERK, role=f"role_{number}"), "get_batch")

    cached = [
        n for n in range(25) if permissions.cached(replace(CLERK, role=f"role_{n}"), "get_batch")
    ]
    assert cached == list(range(15, 25))


async def raising(_: Access) -> Decision:
    raise ValueError("out of order")


async def silent(_: Access) -> Decision:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def answering_nonsense(_: Access) -> Decision:
    return cast("Decision", None)


@pytest.mark.parametrize("decide", [raising, silent, answering_nonsense])
async def test_authorizer_without_a_decision_denies(
    decide: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    permissions = PermissionChecker(Scripted(decide), PERMISSIONS, timeout_s=0.05)

    with pytest.raises(ProcessingTimeout):
        await permissions.authorize(CLERK, "get_batch")

    assert permissions.cached(CLERK, "get_batch") is None
    (record,) = [record for record in caplog.records if record.name == "batchd.audit"]
    assert (vars(record)["decision"], vars(record)["rule"]) == ("deny", None)


@pytest.mark.parametrize("allowed", [1, "yes", None, object()])
async def test_only_true_itself_is_a_permission(allowed: Any) -> None:
    async def decide(_: Access) -> Decision:
        return Decision(allowed=allowed, revision="1", rule=None)

    with pytest.raises(AccessForbidden):
        await PermissionChecker(Scripted(decide), PERMISSIONS).authorize(CLERK, "get_batch")


async def test_cached_decision_needs_no_iteration_of_the_event_loop() -> None:
    permissions = PermissionChecker(deciding(own=True, others=True), PERMISSIONS)
    await permissions.authorize(CLERK, "get_batch")

    coroutine = permissions.authorize(CLERK, "get_batch")
    with pytest.raises(StopIteration) as stopped:
        coroutine.send(None)

    assert isinstance(stopped.value.value, Grant)
