"""The settings: BATCHD_* environment variables, read here and nowhere else."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from batchd.shipped import shipped_folder

GIB = 1024**3
MIB = 1024**2


class InvalidSettings(Exception):
    """A setting is missing or has an impossible value; the message names each one."""


class Settings(BaseSettings):
    """One field a variable: `database_url` is BATCHD_DATABASE_URL. Durations are seconds."""

    model_config = SettingsConfigDict(env_prefix="BATCHD_", frozen=True, extra="ignore")

    database_url: SecretStr = Field(description="PostgreSQL 15 or newer, postgresql://…")
    database_pool: PositiveInt = Field(10, description="connections a process holds at most")
    database_timeout_s: PositiveFloat = Field(5.0, description="after this a query is given up")

    storage: str = Field("s3", description="storage plugin (entry points batchd.storages)")
    s3_bucket: str = Field(description="the bucket; it must exist")
    s3_endpoint: str | None = Field(None, description="URL of the S3 service; unset: AWS")
    s3_public_endpoint: str | None = Field(
        None, description="the same service as callers reach it; unset: s3_endpoint"
    )
    s3_region: str = Field("us-east-1", description="region to sign for")
    s3_access_key: str | None = Field(None, description="unset: the ambient AWS credentials")
    s3_secret_key: SecretStr | None = Field(None, description="goes with s3_access_key")
    s3_addressing: Literal["path", "virtual"] = Field(
        "path", description="bucket in the path, or in the host name"
    )

    authorizer: str = Field(
        "casbin", description="authorizer plugin (entry points batchd.authorizers)"
    )
    policies: Path = Field(
        default_factory=lambda: shipped_folder("policies"),
        description="folder of the policy files; unset: the shipped ones",
    )
    operations: Path | None = Field(
        None, description="file of the HTTP operations (docs/batches.md); unset: none"
    )

    listen: str = Field(
        "127.0.0.1:8080", pattern=r"^.+:\d{1,5}$", description="host:port of the API"
    )
    shutdown_timeout_s: PositiveFloat = Field(
        20.0, description="how long running requests may take to end at SIGTERM"
    )
    max_requests: PositiveInt = Field(
        1_000, description="requests one API process works on at once; more are refused with 503"
    )
    body_timeout_s: PositiveFloat = Field(
        30.0, description="how long the body of a request may be in coming"
    )
    rate_per_s: float = Field(
        0.0, ge=0, description="requests a second each user may make of one API process; 0: any"
    )

    upload_validity_s: PositiveInt = Field(3600, description="life of an upload URL")
    download_validity_s: PositiveInt = Field(3600, description="life of a download URL")

    max_file_bytes: PositiveInt = Field(5 * GIB, description="of a batch file, also unpacked")
    max_lines: PositiveInt = Field(10_000_000, description="of a batch file")
    max_line_bytes: PositiveInt = Field(MIB, description="of one line")
    max_open_batches: PositiveInt = Field(
        10_000, description="batches an account may have that are not at an end"
    )

    chunk_lines: PositiveInt = Field(1_000, description="lines a worker takes at a time, at most")
    chunk_bytes: PositiveInt = Field(8 * MIB, description="bytes a worker takes at a time, about")
    line_concurrency: PositiveInt = Field(64, description="lines of one chunk that run at once")
    worker_slots: PositiveInt = Field(
        4, description="chunks one worker runs at once; small batches have places of their own"
    )
    lease_s: PositiveFloat = Field(
        10.0, description="a worker silent for so long is taken for dead"
    )
    sweep_s: PositiveFloat = Field(5.0, description="how often lost work is looked for")

    metrics_listen: str | None = Field(
        None,
        pattern=r"^.+:\d{1,5}$",
        description="host:port where a worker serves its metrics; the API does so at /metrics",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="of the log"
    )


def read_settings(**overrides: object) -> Settings:
    """Read the environment; `overrides` win. Raises InvalidSettings."""
    try:
        return Settings(**overrides)  # type: ignore[arg-type]  # the model checks them
    except ValidationError as error:
        raise InvalidSettings(
            "\n".join(
                f"BATCHD_{'_'.join(map(str, problem['loc'])).upper()}: {problem['msg']}"
                for problem in error.errors(include_url=False, include_input=False)
            )
        ) from None


def policy_places() -> tuple[Path, Path | None]:
    """Return where policies and operations are, for tools that need to know no more."""
    policies = os.environ.get("BATCHD_POLICIES") or shipped_folder("policies")
    operations = os.environ.get("BATCHD_OPERATIONS")
    return Path(policies), Path(operations) if operations else None


def environment() -> Mapping[str, str]:
    """Return the variables that a file of the operator's may refer to as `${NAME}`."""
    return os.environ


def to_environment(values: Mapping[str, object]) -> dict[str, str]:
    """Return the variables that make `read_settings` read these fields."""
    return {f"BATCHD_{name.upper()}": str(value) for name, value in values.items()}
