"""`batchd accounts`: sets and lists weights."""

from collections.abc import Mapping
from uuid import uuid4

import pytest

from tests.support.command import batchd

pytestmark = pytest.mark.slow


@pytest.fixture
def env(process_environment: Mapping[str, str]) -> Mapping[str, str]:
    return process_environment


async def test_weight_is_set_and_listed(env: Mapping[str, str]) -> None:
    users = [(await batchd("users", "create", "--role=reader", env=env)).printed[0] for _ in "ab"]
    first, second = (user["account"] for user in users)
    assert (await batchd("accounts", "set-weight", second, "2.5", env=env)).printed == []
    assert (await batchd("accounts", "list", env=env)).printed == [
        {"account": first, "weight": 1.0},
        {"account": second, "weight": 2.5},
    ]


async def test_invalid_weight_is_refused(env: Mapping[str, str]) -> None:
    refused = await batchd("accounts", "set-weight", str(uuid4()), "0", env=env)
    assert refused.code == 2
    assert "0.01" in refused.errors
