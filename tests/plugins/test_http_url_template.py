"""The path of a call: the short way for plain values leads where the long one does."""

from urllib.parse import quote, unquote

from hypothesis import given
from hypothesis import strategies as st

from batchd.plugins.http_operations.url_template import climbs, encode, is_plain, parse_template

VALUES = st.text(max_size=8) | st.text(alphabet="./%2eE~_-a1", max_size=8)


@given(value=VALUES)
def test_a_value_is_encoded_as_the_standard_library_does(value: str) -> None:
    assert encode(value) == quote(value, safe="")


@given(value=VALUES)
def test_what_is_plain_needs_no_encoding_and_climbs_nowhere(value: str) -> None:
    if is_plain(value):
        assert value
        assert quote(value, safe="") == value
        assert not climbs(value)


@given(value=VALUES)
def test_a_value_stays_one_segment_of_the_path(value: str) -> None:
    path = parse_template("https://host/a/{x}/b").path({"x": value})

    assert [unquote(segment) for segment in path.split("/")] == ["", "a", value, "b"]
