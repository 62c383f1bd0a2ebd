"""Which roles may inherit from which: no circle, and no chain longer than Casbin follows."""

from collections.abc import Callable, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

from batchd.plugins.casbin.errors import Fault, InvalidPolicy
from batchd.plugins.casbin.statements import Link, Place

LONGEST_CHAIN = 9
"""Links. Casbin's role manager looks no further, and would not see a deny at the end."""


def check_inheritance(
    folder: Path, links: Mapping[Link, Place], breathe: Callable[[], None]
) -> None:
    """Raise InvalidPolicy if a role inherits itself or too far."""
    inherited: dict[str, set[str]] = {}
    for role, other in links:
        breathe()
        inherited.setdefault(role, set()).add(other)
    try:
        roles = list(TopologicalSorter(inherited).static_order())
    except CycleError as error:
        circle = error.args[1][::-1]
        file, line = max(links[pair] for pair in pairwise(circle))
        reason = f"role {circle[0]} inherits itself: {' > '.join(circle)}"
        raise InvalidPolicy(Fault(folder / file, line, reason)) from None

    chain: dict[str, int] = {}
    for role in roles:  # an inherited role comes before those that inherit it
        breathe()
        chain[role] = max((chain[other] + 1 for other in inherited.get(role, ())), default=0)
        if chain[role] > LONGEST_CHAIN:
            file, line = max(place for link, place in links.items() if link[0] == role)
            reason = f"role {role} inherits over more than {LONGEST_CHAIN} steps"
            raise InvalidPolicy(Fault(folder / file, line, reason))
