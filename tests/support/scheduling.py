"""How pytest-xdist spreads the tests over its processes."""

from collections.abc import Sequence

import pytest
from xdist.scheduler import LoadScopeScheduling

_WHOLE_MODULES = frozenset(
    {
        "tests/db/test_query_plans.py",
        "tests/devstack/test_postgres.py",
        "tests/test_dev_stack.py",
        "tests/test_wheel.py",
    }
)
"""Their tests share a module's fixture that takes seconds to set up."""
_LONG_TESTS = frozenset(
    {
        "tests/api/test_concurrent_reads.py",
        "tests/test_transitions_property.py",
        "tests/worker/test_large_results.py",
        "tests/worker/test_lost_time.py",
        "tests/worker/test_restarts.py",
        "tests/worker/test_worker_crash.py",
    }
)
"""One of them at the very end would keep a single process busy while the others are idle."""


def longest_first(items: Sequence[pytest.Item]) -> list[pytest.Item]:
    """Return the tests in the order in which they are started, after the whole modules."""
    return sorted(items, key=lambda item: _module_of(item.nodeid) not in _LONG_TESTS)


def _module_of(nodeid: str) -> str:
    return nodeid.partition("::")[0]


class ModuleScheduling(LoadScopeScheduling):  # type: ignore[misc]  # it is untyped
    """Hands out whole modules where their tests share an expensive fixture, else single tests.

    The larger units come first. The mark `xdist_group`, which is meant for this, has no effect
    under pytest 9.2 (pytest-xdist 3.8 writes the group into an attribute that is gone).
    """

    def _split_scope(self, nodeid: str) -> str:
        module = _module_of(nodeid)
        return module if module in _WHOLE_MODULES else nodeid
