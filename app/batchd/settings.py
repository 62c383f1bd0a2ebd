"""The settings of the core; those of a plugin are the plugin's own."""

import os
import re
from collections.abc import Mapping
from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, SecretStr, field_validator

from batchd.configuration import EnvironmentSettings, read_settings
from batchd.database_url import check_database_url

GIB = 1024**3
MIB = 1024**2
_MAX_PORT = 65_535
_ADDRESS = re.compile(r"(?:[^:/\s\[\]]+|\[[0-9A-Fa-f:.]+\]):(?P<port>[0-9]{1,5})")
_MAX_VALIDITY_S = 7 * 24 * 3600
"""Of presigned URLs (AWS Signature Version 4)."""


class Settings(EnvironmentSettings):
    """What the API, the workers and the administration need, whatever plugins are chosen."""

    database_url: SecretStr = Field(description="URL of PostgreSQL 15 or newer, postgresql://…")
    database_direct_url: SecretStr | None = Field(
        None,
        description="URL for LISTEN and `batchd migrate` if BATCHD_DATABASE_URL is a pooler's; "
        "unset: BATCHD_DATABASE_URL",
    )
    database_prepared: bool = Field(
        True,
        description="Use of prepared statements; false for PgBouncer before 1.21 in transaction "
        "mode",
    )
    database_pool: PositiveInt = Field(
        10, description="Maximum number of database connections of one process"
    )
    database_timeout_s: PositiveFloat = Field(5.0, description="Time limit of a database query")

    storage: str = Field("s3", description="Storage plugin (entry points batchd.storages)")
    authorizer: str = Field(
        "casbin", description="Authorizer plugin (entry points batchd.authorizers)"
    )

    listen: str = Field("127.0.0.1:8080", description="Host and port of the API")
    shutdown_timeout_s: PositiveFloat = Field(
        20.0, description="Time that running requests have to finish after SIGTERM"
    )
    max_requests: PositiveInt = Field(
        1_000,
        description="Maximum number of concurrent requests of one API process; "
        "more are refused with 503",
    )
    body_timeout_s: PositiveFloat = Field(30.0, description="Request body timeout")
    header_timeout_s: PositiveFloat = Field(
        10.0,
        description="Timeout for the head of a request, and for the first byte after connecting",
    )
    keepalive_timeout_s: PositiveFloat = Field(
        75.0,
        description="Lifetime of an idle connection, and timeout for a client to read a response",
    )
    max_connections: PositiveInt = Field(
        10_000, description="Maximum number of open connections of one API process"
    )
    help_url: str | None = Field(
        None,
        description="Base URL of the documentation of errors (docs/errors.md, with a `#`); an "
        "error's name is appended to make its `help`; unset: no `help`",
    )
    rate_per_s: float = Field(
        0.0,
        ge=0,
        description="Maximum number of requests per second of each user to one API process; "
        "0 means unlimited",
    )

    upload_validity_s: PositiveInt = Field(
        3600, le=_MAX_VALIDITY_S, description="Validity of an upload URL, at most 7 days"
    )
    download_validity_s: PositiveInt = Field(
        3600, le=_MAX_VALIDITY_S, description="Validity of a download URL, at most 7 days"
    )

    max_file_bytes: PositiveInt = Field(
        5 * GIB, description="Maximum batch file size, before and after decompression"
    )
    max_lines: PositiveInt = Field(
        10_000_000, description="Maximum number of lines of a batch file"
    )
    max_line_bytes: PositiveInt = Field(MIB, description="Maximum size of one line")
    max_results_bytes: PositiveInt = Field(
        5 * GIB,
        description="Maximum size of a batch's results, after which lines fail without being run",
    )
    max_open_batches: PositiveInt = Field(
        10_000, description="Maximum number of unfinished batches of an account"
    )

    max_open_uploads: PositiveInt = Field(
        1_000,
        description="Maximum number of valid upload URLs of an account without a batch; "
        "invalidated ones count until they expire",
    )

    chunk_lines: PositiveInt = Field(1_000, description="Maximum number of lines of a chunk")
    chunk_bytes: PositiveInt = Field(8 * MIB, description="Approximate maximum size of a chunk")
    max_chunks: int = Field(
        20_000,
        ge=1_000,
        description="Maximum number of chunks of a batch; a file that would have more gets larger "
        "ones",
    )
    line_concurrency: PositiveInt = Field(
        64, description="Number of lines of one chunk that run concurrently"
    )
    worker_slots: PositiveInt = Field(
        4,
        description="Number of chunks that one worker runs concurrently; "
        "small batches have slots of their own",
    )
    worker_memory_bytes: PositiveInt = Field(
        256 * MIB,
        description="Memory of one worker for lines, results and responses; further results go "
        "to temporary files, further calls wait",
    )
    worker_grace_s: PositiveFloat = Field(
        5.0,
        description="Time that running lines have to finish after a worker's SIGTERM; "
        "storing what is finished takes up to 10 seconds more",
    )
    lease_s: PositiveFloat = Field(
        10.0, description="Time without a heartbeat after which a worker counts as dead"
    )
    graveyard_s: float = Field(
        86_400.0,
        ge=0,
        description="Time until files that are no longer needed are deleted; longer than a standby "
        "lags and a restored backup is old; 0 means at once",
    )
    sweep_s: PositiveFloat = Field(5.0, description="Interval between two rounds of the supervisor")

    metrics_listen: str | None = Field(
        None,
        description="Host and port of a worker's metrics; those of the API are at /metrics",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        "INFO", description="Lowest level of messages that are logged"
    )

    @field_validator("database_url", "database_direct_url")
    @classmethod
    def _check_database_url(cls, url: SecretStr | None) -> SecretStr | None:
        if url is not None:
            check_database_url(url.get_secret_value())
        return url

    @field_validator("listen", "metrics_listen")
    @classmethod
    def _check_address(cls, address: str | None) -> str | None:
        if address is None:
            return None
        match = _ADDRESS.fullmatch(address)
        if match is None:
            raise ValueError("must be a host and a port, such as 127.0.0.1:8080 or [::1]:8080")
        if int(match["port"]) > _MAX_PORT:
            raise ValueError(f"the port must be a number from 0 to {_MAX_PORT}")
        return address

    @field_validator("help_url")
    @classmethod
    def _check_help_url(cls, url: str | None) -> str | None:
        if url is not None and not url.startswith(("https://", "http://")):
            raise ValueError("must be a URL like https://example.com/errors.html#")
        return url

    @property
    def direct_url(self) -> SecretStr:
        """Where LISTEN and migrations go, which a pooler is not able to carry."""
        return self.database_direct_url or self.database_url

    @property
    def direct_url_variable(self) -> str:
        return self.variable("database_direct_url" if self.database_direct_url else "database_url")


def read_core_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings of the core. Raises InvalidSettings."""
    return read_settings(Settings, environ)


def plugin_environment(
    environ: Mapping[str, str], *database_urls: SecretStr | None
) -> Mapping[str, str]:
    """Return what plugins see of the environment.

    That is all but the core's own variables and those that hold a database URL by another name.
    """
    own = {Settings.variable(field) for field in Settings.model_fields}
    urls = [url.get_secret_value() for url in database_urls if url is not None]
    return {
        name: value
        for name, value in environ.items()
        if name not in own and not any(url in value for url in urls)
    }
