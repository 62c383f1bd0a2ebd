"""The setting that authorizers made of files have in common."""

from pathlib import Path

from pydantic import Field

from batchd.configuration import EnvironmentSettings
from batchd.shipped import shipped_folder


class PolicySettings(EnvironmentSettings):
    policies: Path = Field(
        default_factory=lambda: shipped_folder("policies"),
        description="Folder of the policy files; unset: the shipped ones",
    )
