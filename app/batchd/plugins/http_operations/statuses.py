"""Sets of HTTP statuses as written in the file: 409, "2xx", "500-504"."""

import re

_CLASS = re.compile(r"([1-5])xx")
_RANGE = re.compile(r"(\d{3})-(\d{3})")
_FINAL = range(200, 600)


def parse_statuses(value: object) -> frozenset[int]:
    """Raise ValueError for anything but a list of statuses."""
    match value:
        case list():
            return frozenset().union(*map(_parse_item, value))
        case _:
            raise ValueError('must be a list of statuses, such as [200, "4xx", "500-504"]')


def _parse_item(item: object) -> range | frozenset[int]:
    statuses: range | frozenset[int] = frozenset()
    if isinstance(item, int) and not isinstance(item, bool):
        statuses = frozenset((item,))
    elif isinstance(item, str):
        if match := _CLASS.fullmatch(item):
            statuses = range(int(match[1]) * 100, int(match[1]) * 100 + 100)
        elif match := _RANGE.fullmatch(item):
            statuses = range(int(match[1]), int(match[2]) + 1)
    if not statuses or not _FINAL.start <= min(statuses) <= max(statuses) < _FINAL.stop:
        raise ValueError(
            f'{item!r} is not a status from 200 to 599, a class ("2xx") or a range ("500-504")'
        )
    return statuses
