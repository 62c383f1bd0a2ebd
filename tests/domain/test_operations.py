"""What an operation may return."""

import json

import pytest

from batchd.domain.errors import RequestFormat
from batchd.domain.operations import OperationResult, error_result


@pytest.mark.parametrize("status", [-1, 0, 99, 600, 999, 100_000])
def test_result_has_an_http_status(status: int) -> None:
    with pytest.raises(ValueError, match=f"{status} is not an HTTP status"):
        OperationResult(status=status, body=b"{}")


def test_error_may_quote_what_is_not_utf_8() -> None:
    quoted = b"a\x88\xc3\xa9".decode(errors="surrogateescape")
    result = error_result(RequestFormat(f"'{quoted}' is not known."), "t")
    assert json.loads(result.body)["description"] == "'a\\udc88é' is not known."
