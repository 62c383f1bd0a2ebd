"""From a method and a path to a route. What aiohttp's own router does beyond that, costs more."""

from collections.abc import Iterable, Mapping

from batchd.api.handlers import Parameters
from batchd.api.routes import ROUTES, Route
from batchd.domain.errors import MethodNotAllowed, NotFound

_ByMethod = dict[str, Route]


def find(method: str, path: str) -> tuple[Route, Parameters]:
    """Return the route of a request, and its parameters. Raises NotFound, MethodNotAllowed.

    In `path` slashes and percent signs are still encoded, as in yarl's `path_safe`: whatever stands
    in a parameter's place, braces and these two as well, is a parameter, if a malformed one.
    """
    by_method, parameters = _WHOLE.get(path), {}
    if by_method is None:
        above, _, value = path.rpartition("/")
        if above not in _WITH_PARAMETER or not value:
            raise NotFound("There is no such path.")
        name, by_method = _WITH_PARAMETER[above]
        parameters = {name: value.replace("%2F", "/").replace("%25", "%")}
    route = by_method.get(method)
    if route is None:
        raise MethodNotAllowed(
            f"This path does not take {method}, but {', '.join(sorted(by_method))}.",
            allowed=frozenset(by_method),
        )
    return route, parameters


def _sorted_by_path(
    routes: Iterable[Route],
) -> tuple[Mapping[str, _ByMethod], Mapping[str, tuple[str, _ByMethod]]]:
    """Return the routes by their path, and those with a parameter by what is above it."""
    whole: dict[str, _ByMethod] = {}
    with_parameter: dict[str, tuple[str, _ByMethod]] = {}
    for route in routes:
        above, braces, parameter = route.path.partition("/{")
        if braces:
            _, by_method = with_parameter.setdefault(above, (parameter.removesuffix("}"), {}))
        else:
            by_method = whole.setdefault(above, {})
        by_method[route.method] = route
    return whole, with_parameter


_WHOLE, _WITH_PARAMETER = _sorted_by_path(ROUTES)
