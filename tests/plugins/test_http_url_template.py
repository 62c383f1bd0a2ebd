"""URL templates: a value stays one segment, and no server resolves it to another path."""

from urllib.parse import quote, unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchd.plugins.http_operations.url_template import (
    encode,
    find_hazard,
    needs_no_encoding,
    parse_template,
)

VALUES = st.text(max_size=8) | st.text(alphabet="./%2eE~_-a1", max_size=8)


@given(value=VALUES)
def test_value_is_encoded_as_by_the_standard_library(value: str) -> None:
    assert encode(value) == quote(value, safe="")


@given(value=VALUES)
def test_value_that_needs_no_encoding_is_no_hazard(value: str) -> None:
    if needs_no_encoding(value):
        assert value
        assert quote(value, safe="") == value
        assert find_hazard(value) is None


@given(value=VALUES)
def test_value_stays_one_segment_of_the_path(value: str) -> None:
    path = parse_template("https://host/a/{x}/b").path({"x": value})

    assert [unquote(segment) for segment in path.split("/")] == ["", "a", value, "b"]


DOTS = "the path segment '.' or '..'"
CONTROL = "a control character"
ENCODED = "text that is percent-encoded more than 7 times"


@pytest.mark.parametrize(
    ("value", "hazard"),
    [
        *((value, DOTS) for value in ("..", ".", "a/../b", "a/./b", "../", "/..", "a/..")),
        *((value, DOTS) for value in ("..\\", "a\\..\\b", "..%5c", "%5c..", "a%2f..%2Fb")),
        *((value, DOTS) for value in ("%2e%2e", ".%2E", "%252e%252e%252f", "%25252e.", "%2%65.")),
        *((value, DOTS) for value in ("..;", "..;x=1/a", "..?", "..#a", "..%3fa", "..%23")),
        *((value, DOTS) for value in ("..%20", ".. /a", "a/ ..", " .", "..\u00a0/a", "\u3000..")),
        *((value, DOTS) for value in ("%c0%ae%c0%ae/", "..%c0%af", "%u002e%u002E", "%e0%80%ae")),
        *((value, DOTS) for value in ("\uff0e\uff0e", "\u2025", "..\uff0fa", "%ef%bc%8e.")),
        *((value, CONTROL) for value in ("..\0", "..\t", "..\n", "a\r\nb", "a\x7f", "a\x85")),
        *((value, CONTROL) for value in ("..%00", "a%09", "%250a", "a%u0000", "%c2%80")),
        *((value, ENCODED) for value in ("%" + "25" * 7 + "2e", "%" + "25" * 100_000)),
        *((value, None) for value in ("a", "...", "a..b", ".a", "a.", "..a", "a/b", "a\\b", "a;b")),
        *(
            (value, None)
            for value in ("100%", "100%25", "%zz", "%", "..%ff", "é", "a b", "a.b/c.d")
        ),
        *((value, None) for value in ("%" + "25" * 6, "a?b#c", "v1.2.3", "\u2215", "1/2", "x@y.z")),
    ],
    ids=lambda text: ascii(text)[:40],
)
def test_what_a_server_could_resolve_is_a_hazard(value: str, hazard: str | None) -> None:
    assert find_hazard(value) == hazard
    assert find_hazard(f"/a/{quote(value, safe='')}/b") == hazard or hazard == ENCODED


@given(value=VALUES, times=st.integers(0, 7))
def test_hazard_stays_one_however_it_is_encoded(value: str, times: int) -> None:
    encoded = value
    for _ in range(times):
        encoded = quote(encoded, safe="")
    assert (find_hazard(encoded) is None) <= (find_hazard(value) is None)
    assert (find_hazard(f"/a/{encoded}") is None) <= (find_hazard(f"/a/{value}") is None)
