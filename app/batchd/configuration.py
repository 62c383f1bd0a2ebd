"""Settings classes that are read from environment variables, the core's and each plugin's."""

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError


class InvalidSettings(Exception):
    """A setting is missing or has an impossible value; the message has one line for each fault."""


class EnvironmentSettings(BaseModel):
    """One field for each variable: `database_url` is BATCHD_DATABASE_URL. Durations are seconds.

    A validator of a single field says what is wrong with its value; one of several names variables.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    prefix: ClassVar[str] = "BATCHD_"

    @classmethod
    def variable(cls, field: str) -> str:
        return f"{cls.prefix}{field.upper()}"


S = TypeVar("S", bound=EnvironmentSettings)


def read_settings(cls: type[S], environment: Mapping[str, str]) -> S:
    """Read the variables of the class; an empty one counts as unset. Raises InvalidSettings."""
    values = {name: environment.get(cls.variable(name)) for name in cls.model_fields}
    try:
        return cls.model_validate({name: value for name, value in values.items() if value})
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
        raise InvalidSettings("\n".join(_describe(cls, fault) for fault in faults)) from None


def to_environment(values: Mapping[str, object]) -> dict[str, str]:
    """Return the variables with these names, as people write them without the prefix."""
    return {EnvironmentSettings.variable(name): str(value) for name, value in values.items()}


def _describe(cls: type[EnvironmentSettings], fault: Any) -> str:
    """Return one line for a fault as pydantic reports it."""
    match fault["type"]:
        case "missing":
            reason = "required, but not set"
        case "value_error":
            reason = str(fault["ctx"]["error"])
        case _:
            reason = fault["msg"]
    # A rule about several fields has no location.
    return f"{cls.variable(str(fault['loc'][0]))}: {reason}" if fault["loc"] else reason
