"""Any bytes of a line are reported within bounds, or parsed as any parser would."""

from hypothesis import given
from hypothesis import strategies as st

from tests.support.line_properties import assert_line_properties

numbers = st.from_regex(
    r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,25})?([eE][+-]?[0-9]{1,4})?", fullmatch=True
)
strings = st.text(max_size=6).map(repr).map(lambda text: '"' + text[1:-1].replace('"', "") + '"')
scalars = numbers | strings | st.sampled_from(["null", "true", "NaN", '"\\ud83d"', '"\\u0000"'])
names = st.sampled_from(['"path"', '"query"', '"body"', '"id"', '"i\\u0064"', '"a"', '""'])


def joined(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Return lists and objects of these values, as programs write them and as they should not."""
    lists = st.lists(values, max_size=4).map(lambda items: f"[{','.join(items)}]")
    members = st.tuples(names | strings, values).map(":".join)
    objects = st.lists(members, max_size=4).map(lambda items: f"{{{' , '.join(items)}}}")
    return lists | objects


texts = joined(st.recursive(scalars, joined, max_leaves=8))
MARKS = st.sampled_from([b"", b"", b"", b"\xef\xbb\xbf", b" ", b"\xff\xfe", b"\x00"])


@given(data=st.binary(max_size=60), number=st.integers(1, 2))
def test_any_bytes_are_reported_or_parsed(data: bytes, number: int) -> None:
    assert_line_properties(data, number=number)


@given(text=texts, mark=MARKS, end=MARKS, number=st.integers(1, 2))
def test_nearly_valid_json_is_reported_or_parsed(
    text: str, mark: bytes, end: bytes, number: int
) -> None:
    assert_line_properties(mark + text.encode() + end, number=number)


@given(text=texts, position=st.integers(0, 200), replacement=st.binary(max_size=2))
def test_damaged_json_is_reported_or_parsed(text: str, position: int, replacement: bytes) -> None:
    data = text.encode()
    assert_line_properties(data[:position] + replacement + data[position + 1 :], number=2)
