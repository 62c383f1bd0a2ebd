"""Settings classes that are read from environment variables, the core's and each plugin's."""

from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError


class InvalidSettings(Exception):
    """A setting is missing or has an impossible value; the message has one line for each fault."""


class EnvironmentSettings(BaseModel):
    """One field for each variable: `database_url` is BATCHD_DATABASE_URL. Durations are seconds.

    A validator of a single field says what is wrong with its value; one of several names variables.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    prefix: ClassVar[str] = "BATCHD_"

    @classmethod
    def variable(cls, field: str) -> str:
        return f"{cls.prefix}{field.upper()}"


_REASONS = {
    "bool_parsing": "must be true or false",
    "finite_number": "must be a finite number",
    "float_parsing": "must be a number, without a unit",
    "greater_than": "must be greater than {gt:g}",
    "greater_than_equal": "must be at least {ge:g}",
    "int_parsing": "must be a whole number, without a unit",
    "less_than_equal": "must be at most {le:g}",
    "literal_error": "must be one of {expected}",
}
"""What is said of a value, by the type of error that pydantic reports."""
_SIMILAR = 0.85
"""How near two names must be for one to be the other, misspelt; 1.0 means equal."""

S = TypeVar("S", bound=EnvironmentSettings)


def read_settings(cls: type[S], environment: Mapping[str, str]) -> S:
    """Read the variables of the class; an empty one counts as unset. Raises InvalidSettings."""
    values = {name: environment.get(cls.variable(name)) for name in cls.model_fields}
    try:
        return cls.model_validate({name: value for name, value in values.items() if value})
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise InvalidSettings(
            "\n".join(_describe(cls, fault, environment) for fault in faults)
        ) from None


def to_environment(values: Mapping[str, object]) -> dict[str, str]:
    """Return the variables with these names, as people write them without the prefix."""
    return {EnvironmentSettings.variable(name): str(value) for name, value in values.items()}


def _classes(cls: type[EnvironmentSettings]) -> Iterator[type[EnvironmentSettings]]:
    yield cls
    for subclass in cls.__subclasses__():
        yield from _classes(subclass)


def unknown_variables(environment: Mapping[str, str]) -> Mapping[str, str | None]:
    """Return the BATCHD_ variables of no loaded settings class, each with the nearest that is one.

    An empty one counts as unset.
    """
    setting_names = {
        cls.variable(name) for cls in _classes(EnvironmentSettings) for name in cls.model_fields
    }
    return {
        name: next(iter(get_close_matches(name, setting_names, 1, _SIMILAR)), None)
        for name, value in sorted(environment.items())
        if name.startswith(EnvironmentSettings.prefix) and value and name not in setting_names
    }


def _misspelt(variable: str, environment: Mapping[str, str]) -> str:
    """Return a hint at a variable that may have been meant to be this one."""
    unknown = list(unknown_variables(environment))
    similar = get_close_matches(variable, unknown, 1, _SIMILAR)
    return f" ({similar[0]} is set: is it misspelt?)" if similar else ""


def _describe(cls: type[EnvironmentSettings], fault: Any, environment: Mapping[str, str]) -> str:
    """Return one line for a fault as pydantic reports it."""
    match fault["type"]:
        case "missing":
            variable = cls.variable(str(fault["loc"][0]))
            reason = f"required, but not set{_misspelt(variable, environment)}"
        case "value_error":
            reason = str(fault["ctx"]["error"])
        case kind if kind in _REASONS:
            reason = _REASONS[kind].format(**fault.get("ctx", {}))
        case _:
            reason = fault["msg"]
    # A rule about several fields has no location.
    return f"{cls.variable(str(fault['loc'][0]))}: {reason}" if fault["loc"] else reason
