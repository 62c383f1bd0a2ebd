"""The setting of the HTTP operations."""

from pathlib import Path

from pydantic import Field

from batchd.configuration import EnvironmentSettings


class HttpOperationsSettings(EnvironmentSettings):
    operations: Path | None = Field(
        None, description="File of the HTTP operations (docs/batches.md); unset: none"
    )
