"""What an operation may return."""

import pytest

from batchd.domain.operations import OperationResult


@pytest.mark.parametrize("status", [-1, 0, 99, 600, 999, 100_000])
def test_a_result_has_an_http_status(status: int) -> None:
    with pytest.raises(ValueError, match=f"{status} is not an HTTP status"):
        OperationResult(status=status, body=b"{}")
