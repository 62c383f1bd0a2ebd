"""docs/errors.md has a section for each error, to which its `help` leads."""

from pathlib import Path

import pytest

from batchd.domain import errors
from batchd.domain.errors import BatchdError, help_url
from tests.test_links import anchors

PAGE = Path(__file__).parents[1] / "docs" / "errors.md"
ERRORS = [
    error
    for error in vars(errors).values()
    if isinstance(error, type) and issubclass(error, BatchdError) and error is not BatchdError
]


def rows() -> dict[str, list[str]]:
    """Return the cells of the table of errors, by name."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    cells = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return {row[2].partition("]")[0].strip("["): row for row in cells if "](#" in row[2]}


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_each_error_is_documented(error: type[BatchdError]) -> None:
    statuses, subcode, link, _ = rows()[error.name]
    assert str(error.status) in statuses.split(", ")
    assert subcode == str(error.subcode)
    assert link == f"[{error.name}](#{error.name})"
    assert error.name in anchors(PAGE)


def test_no_other_error_is_documented() -> None:
    assert rows().keys() == {error.name for error in ERRORS}
    assert anchors(PAGE) == {"errors"} | rows().keys()


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: error.__name__)
def test_help_leads_to_the_section_of_the_error(error: type[BatchdError]) -> None:
    base, _, anchor = (help_url(error, "https://docs.example.com/errors.md#") or "").partition("#")
    assert base == "https://docs.example.com/errors.md"
    assert anchor in anchors(PAGE)
    assert help_url(error, None) is None
