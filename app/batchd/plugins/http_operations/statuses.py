"""Sets of HTTP statuses, as the file writes them: 409, "2xx", "500-504"."""

import re

_CLASS = re.compile(r"([1-5])xx")
_RANGE = re.compile(r"(\d{3})-(\d{3})")
_FINAL = range(200, 600)


def parse_statuses(value: object) -> frozenset[int]:
    """Raise ValueError for what is no list of them."""
    match value:
        case list():
            return frozenset().union(*map(_parse, value))
        case _:
            raise ValueError('must be a list of statuses, such as [200, "4xx", "500-504"]')


def _parse(item: object) -> range | frozenset[int]:
    found: range | frozenset[int] = frozenset()
    if isinstance(item, int) and not isinstance(item, bool):
        found = frozenset((item,))
    elif isinstance(item, str):
        if match := _CLASS.fullmatch(item):
            found = range(int(match[1]) * 100, int(match[1]) * 100 + 100)
        elif match := _RANGE.fullmatch(item):
            found = range(int(match[1]), int(match[2]) + 1)
    if not found or not _FINAL.start <= min(found) <= max(found) < _FINAL.stop:
        raise ValueError(f'{item!r} is no status from 200 to 599, class ("2xx") or range')
    return found
