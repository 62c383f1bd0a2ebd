"""A line of the results file is one line for every reader."""

import json

import pytest

from batchd.domain.operations import OperationResult
from batchd.pipeline.result_lines import CANCELLED, encode

TEXT = "a\u2028b\u2029c\u0085d"


@pytest.mark.parametrize("result", [CANCELLED, OperationResult(status=200, body=b"null")])
def test_id_with_line_separators_stays_on_one_line(result: OperationResult | None) -> None:
    line = encode(1, TEXT, result).decode()
    assert len(line.splitlines()) == 1
    assert json.loads(line)["id"] == TEXT


def test_body_with_line_separators_stays_on_one_line() -> None:
    body = json.dumps({TEXT: TEXT}, ensure_ascii=False).encode()
    line = encode(1, None, OperationResult(status=200, body=body)).decode()
    assert len(line.splitlines()) == 1
    assert json.loads(line)["body"] == {TEXT: TEXT}
