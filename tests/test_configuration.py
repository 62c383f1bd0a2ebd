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


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("listen", "8080", "must be a host and a port, such as 127.0.0.1:8080 or [::1]:8080"),
        ("listen", ":8080", "must be a host and a port, such as 127.0.0.1:8080 or [::1]:8080"),
        (
            "listen",
            "http://a:80",
            "must be a host and a port, such as 127.0.0.1:8080 or [::1]:8080",
        ),
        ("listen", "127.0.0.1:99999", "the port must be a number from 0 to 65535"),
        ("metrics_listen", "[::1]:99999", "the port must be a number from 0 to 65535"),
        ("max_requests", "1e3", "must be a whole number, without a unit"),
        ("max_requests", "0", "must be greater than 0"),
        ("max_file_bytes", "5GB", "must be a whole number, without a unit"),
        ("max_chunks", "10", "must be at least 1000"),
        ("body_timeout_s", "5s", "must be a number, without a unit"),
        ("body_timeout_s", "inf", "must be a finite number"),
        ("rate_per_s", "nan", "must be a finite number"),
        ("graveyard_s", "-1", "must be at least 0"),
        ("upload_validity_s", "604801", "must be at most 604800"),
        ("download_validity_s", "604801", "must be at most 604800"),
        ("database_prepared", "maybe", "must be true or false"),
        ("log_level", "debug", "must be one of 'DEBUG', 'INFO', 'WARNING' or 'ERROR'"),
        ("help_url", "errors.md", "must be a URL like https://example.com/errors.html#"),
    ],
)
def test_a_wrong_value_is_explained_in_words(name: str, value: str, reason: str) -> None:
    environment = to_environment({"database_url": URL, name: value})
    assert faults(Settings, environment) == [f"{Settings.variable(name)}: {reason}"]


@pytest.mark.parametrize("address", ["127.0.0.1:0", "[::1]:8080", "api.example.com:65535"])
def test_an_address_has_a_host_and_a_port(address: str) -> None:
    environment = to_environment({"database_url": URL, "listen": address})
    assert read_core_settings(environment).listen == address
