"""Finds plugins by their entry points."""

import sys
from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any


class UnknownPlugin(Exception):
    """A setting names a plugin that is not installed."""


def installed(group: str) -> Collection[EntryPoint]:
    """Return the installed plugins of an entry-point group."""
    return _installed(tuple(sys.path)).get(group, ())


@lru_cache(maxsize=1)
def _installed(_path: tuple[str, ...]) -> Mapping[str, Collection[EntryPoint]]:
    """Read the metadata of all packages once: for one group it would be the same work."""
    all_entry_points = entry_points()
    return {group: all_entry_points.select(group=group) for group in all_entry_points.groups}


def load(group: str, name: str) -> Callable[[Any], Any]:
    """Return what the entry point of a plugin names, a factory. Raises UnknownPlugin."""
    names = {plugin.name: plugin for plugin in installed(group)}
    if name not in names:
        available = ", ".join(sorted(names)) or "none"
        raise UnknownPlugin(f"there is no plugin '{name}' in {group}; installed: {available}")
    try:
        factory: Callable[[Any], Any] = names[name].load()
    except ModuleNotFoundError as error:
        raise UnknownPlugin(
            f"the plugin '{name}' of {group} needs the package '{error.name}', which is missing: "
            f"install batchd[{name}]"
        ) from error
    return factory


def declared_operations(environment: Mapping[str, str]) -> frozenset[str] | None:
    """Return the names that operation sources declare now; None if no source is configured.

    A source without an entry point for its names counts as configured: it may have any operation.
    Raises StartupError if a source can't read what it is configured with.
    """
    declaring = {plugin.name: plugin for plugin in installed("batchd.operation_names")}
    configured: list[frozenset[str]] = []
    for source in installed("batchd.operation_sources"):
        plugin = declaring.get(source.name)
        names = frozenset() if plugin is None else plugin.load()(environment)
        if names is not None:
            configured.append(names)
    return frozenset().union(*configured) if configured else None
