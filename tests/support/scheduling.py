"""How pytest-xdist spreads the tests over its processes."""

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


class ModuleScheduling(LoadScopeScheduling):  # type: ignore[misc]  # it is untyped
    """Hands out whole modules where their tests share an expensive fixture, else single tests.

    The larger units come first. The mark `xdist_group`, which is meant for this, has no effect
    under pytest 9.2 (pytest-xdist 3.8 writes the group into an attribute that is gone).
    """

    def _split_scope(self, nodeid: str) -> str:
        module = nodeid.partition("::")[0]
        return module if module in _WHOLE_MODULES else nodeid
