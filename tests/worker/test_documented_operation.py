"""The example operation in docs/batches.md works."""

import re
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from batchd.domain.operations import OperationFactory
from tests.support.callers import ApiCaller, lines_of

PAGE = Path(__file__).parents[2] / "docs" / "batches.md"


@pytest.fixture
def operations() -> Sequence[OperationFactory]:
    (block,) = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(compile(block, str(PAGE), "exec"), names)  # our own page
    return (names["get_rate"],)


@pytest.mark.slow
async def test_it_runs_in_a_batch(
    caller: ApiCaller, worker: Callable[[], AbstractAsyncContextManager[None]]
) -> None:
    lines = lines_of({"path": {"currency": "CHF"}}, {"path": {"currency": "XXX"}})
    async with worker():
        batch = await caller.create(lines, "get_rate_of_day")
        assert await caller.end(batch) == "completed"
        results = await caller.download(batch)
        invalid = await caller.create(lines_of({"path": {}}), "get_rate_of_day")
        assert await caller.end(invalid) == "validation_failed"
    assert [(line["outcome"], line["status"], line["body"]) for line in results] == [
        ("succeeded", 200, {"rate": "0.9312"}),
        ("failed", 404, {"error": "no such currency"}),
    ]
    (line,) = await caller.download(invalid)
    assert line["errors"][0]["pointer"] == "/path/currency"
