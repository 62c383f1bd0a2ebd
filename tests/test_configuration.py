"""Settings are read from variables: which values count as set, and the errors for invalid ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

import pytest
from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, ValidationError

from batchd.configuration import (
    EnvironmentSettings,
    InvalidSettings,
    read_settings,
    to_environment,
)
from batchd.settings import Settings, plugin_environment, read_core_settings

URL = "postgresql://batchd:hidden@db/batchd"


@pytest.fixture(scope="module")
def example() -> type[EnvironmentSettings]:
    class Example(EnvironmentSettings):
        bucket: str
        pool: PositiveInt = Field(10)
        timeout_s: PositiveFloat = Field(5.0)
        folder: Path | None = Field(None)
        level: Literal["LOW", "HIGH"] = Field("LOW")

    return Example


def faults(cls: type[EnvironmentSettings], environment: Mapping[str, str]) -> list[str]:
    with pytest.raises(InvalidSettings) as caught:
        read_settings(cls, environment)
    return str(caught.value).splitlines()


def test_values_are_read_as_what_they_are(example: type[EnvironmentSettings]) -> None:
    values = {"bucket": "b", "pool": 3, "timeout_s": 0.5, "folder": Path("/etc"), "level": "HIGH"}
    assert read_settings(example, to_environment(values)).model_dump() == values


def test_empty_variable_counts_as_unset(example: type[EnvironmentSettings]) -> None:
    values = {"bucket": "b", "pool": "", "timeout_s": "", "folder": "", "level": ""}
    assert read_settings(example, to_environment(values)) == example(bucket="b")  # type: ignore[call-arg]
    assert faults(example, {"BATCHD_BUCKET": ""}) == ["BATCHD_BUCKET: required, but not set"]


def test_each_fault_is_one_line_that_names_the_variable(
    example: type[EnvironmentSettings],
) -> None:
    values = {"pool": "none", "timeout_s": 0, "level": "low"}
    named = [line.partition(": ")[0] for line in faults(example, to_environment(values))]
    assert named == ["BATCHD_BUCKET", "BATCHD_POOL", "BATCHD_TIMEOUT_S", "BATCHD_LEVEL"]


def test_variables_of_others_are_no_concern(example: type[EnvironmentSettings]) -> None:
    environment = {"BATCHD_BUCKET": "b", "BATCHD_OTHER": "1", "POOL": "none"}
    assert read_settings(example, environment) == example(bucket="b")  # type: ignore[call-arg]


def test_settings_do_not_change() -> None:
    settings = Settings(database_url=SecretStr(URL))
    with pytest.raises(ValidationError):
        settings.listen = "other"  # type: ignore[misc]


def test_core_needs_a_database_alone() -> None:
    assert read_core_settings({"BATCHD_DATABASE_URL": URL}) == Settings(database_url=SecretStr(URL))


def test_plugins_see_neither_the_settings_of_the_core_nor_the_database_url() -> None:
    environ = {
        "BATCHD_DATABASE_URL": URL,
        "BATCHD_LISTEN": "0.0.0.0:80",
        "BATCHD_S3_BUCKET": "b",
        "AWS_PROFILE": "batchd",
        "DATABASE_URL": URL,
        "DATABASE_URLS": f"{URL},{URL}",
    }
    visible = {"BATCHD_S3_BUCKET": "b", "AWS_PROFILE": "batchd"}
    assert plugin_environment(environ, SecretStr(URL), None) == visible
