"""The environment of the commands under test."""

from collections.abc import Mapping

import pytest


@pytest.fixture
def env(process_environment: Mapping[str, str]) -> Mapping[str, str]:
    """Return the environment of a process that logs nothing but what is serious."""
    return {**process_environment, "BATCHD_LOG_LEVEL": "ERROR"}
