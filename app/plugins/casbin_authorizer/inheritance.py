"""Which roles may inherit from which: no circle, and no chain longer than Casbin follows."""

from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from batchd.plugins.casbin_authorizer.bad_policy import BadPolicy
from batchd.plugins.casbin_authorizer.statements import Link, Place

LONGEST_CHAIN = 9
"""Links. Casbin's role manager looks no further, and would not see a deny at the end."""


def check_inheritance(links: Mapping[Link, Place]) -> None:
    """Raise BadPolicy if a role inherits itself or too far."""
    inherited: dict[str, set[str]] = {}
    for link in links:
        inherited.setdefault(link.role, set()).add(link.inherited)
    try:
        roles = list(TopologicalSorter(inherited).static_order())
    except CycleError as error:
        circle = error.args[1][::-1]
        place = max(links[Link(*pair)] for pair in pairwise(circle))
        reason = f"role {circle[0]} inherits itself: {' > '.join(circle)}"
        raise BadPolicy(*place, reason) from None

    chain: dict[str, int] = {}
    for role in roles:  # an inherited role comes before those that inherit it
        chain[role] = max((chain[other] + 1 for other in inherited.get(role, ())), default=0)
        if chain[role] > LONGEST_CHAIN:
            place = max(place for link, place in links.items() if link.role == role)
            reason = f"role {role} inherits over more than {LONGEST_CHAIN} steps"
            raise BadPolicy(*place, reason)
