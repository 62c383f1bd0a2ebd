"""URL paths: values that need no encoding give the same path as with encoding."""

from urllib.parse import quote, unquote

from hypothesis import given
from hypothesis import strategies as st

from batchd.plugins.http_operations.url_template import (
    encode,
    has_dot_segments,
    needs_no_encoding,
    parse_template,
)

VALUES = st.text(max_size=8) | st.text(alphabet="./%2eE~_-a1", max_size=8)


@given(value=VALUES)
def test_a_value_is_encoded_as_by_the_standard_library(value: str) -> None:
    assert encode(value) == quote(value, safe="")


@given(value=VALUES)
def test_a_value_that_needs_no_encoding_has_no_dot_segments(value: str) -> None:
    if needs_no_encoding(value):
        assert value
        assert quote(value, safe="") == value
        assert not has_dot_segments(value)


@given(value=VALUES)
def test_a_value_stays_one_segment_of_the_path(value: str) -> None:
    path = parse_template("https://host/a/{x}/b").path({"x": value})

    assert [unquote(segment) for segment in path.split("/")] == ["", "a", value, "b"]
