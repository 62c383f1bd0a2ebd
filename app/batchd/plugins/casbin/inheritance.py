"""The check of role inheritance: no cycles, and no chain longer than Casbin follows."""

from collections.abc import Callable, Mapping
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from pathlib import Path

from batchd.plugins.casbin.errors import Fault, InvalidPolicy
from batchd.plugins.casbin.statements import Link, Location

MAX_INHERITANCE_DEPTH = 9
"""Casbin's role manager follows no more links, and would miss a deny beyond them."""


def check_inheritance(
    folder: Path, links: Mapping[Link, Location], yield_control: Callable[[], None]
) -> None:
    """Raise InvalidPolicy if a role inherits from itself or through too many levels."""
    parents: dict[str, set[str]] = {}
    for role, parent in links:
        yield_control()
        parents.setdefault(role, set()).add(parent)
    try:
        roles = list(TopologicalSorter(parents).static_order())
    except CycleError as error:
        cycle = error.args[1][::-1]
        file, line = max(links[pair] for pair in pairwise(cycle))
        reason = f"role {cycle[0]} inherits from itself: {' > '.join(cycle)}"
        raise InvalidPolicy(Fault(folder / file, line, reason)) from None

    depth: dict[str, int] = {}
    for role in roles:  # parents come before the roles that inherit from them
        yield_control()
        depth[role] = max((depth[parent] + 1 for parent in parents.get(role, ())), default=0)
        if depth[role] > MAX_INHERITANCE_DEPTH:
            file, line = max(location for link, location in links.items() if link[0] == role)
            reason = f"role {role} inherits through more than {MAX_INHERITANCE_DEPTH} levels"
            raise InvalidPolicy(Fault(folder / file, line, reason))
