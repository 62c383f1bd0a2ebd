"""docker-compose.yml, as Docker Compose reads it."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
SECRETS = {
    "POSTGRES_PASSWORD": "superuser-secret",
    "DATABASE_OWNER_PASSWORD": "owner-secret",
    "DATABASE_PASSWORD": "user-secret",
    "S3_ACCESS_KEY": "access-secret",
    "S3_SECRET_KEY": "key-secret",
}
OF_SERVICE = {
    "api": {"DATABASE_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY"},
    "worker": {"DATABASE_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY"},
    "migrate": {"DATABASE_OWNER_PASSWORD", "S3_ACCESS_KEY", "S3_SECRET_KEY"},
    "postgres": {"POSTGRES_PASSWORD", "DATABASE_OWNER_PASSWORD", "DATABASE_PASSWORD"},
    "s3": {"S3_ACCESS_KEY", "S3_SECRET_KEY"},
}


def compose(environment: Mapping[str, str]) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).parent / "docker-compose"
    command = [
        *(program, "--file", ROOT / "docker-compose.yml", "--env-file", os.devnull),
        *("config", "--format", "json"),
    ]
    return subprocess.run(
        list(map(str, command)),
        env={"PATH": os.defpath, "HOME": "/", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    ended = compose(SECRETS)
    assert ended.returncode == 0, ended.stderr
    services: dict[str, Any] = json.loads(ended.stdout)["services"]
    return services


@pytest.mark.parametrize("name", SECRETS)
def test_secret_has_no_default(name: str) -> None:
    ended = compose({key: value for key, value in SECRETS.items() if key != name})

    assert ended.returncode != 0
    assert f"required variable {name} is missing" in ended.stderr


@pytest.mark.parametrize("service", OF_SERVICE)
def test_service_gets_the_secrets_that_it_needs(services: dict[str, Any], service: str) -> None:
    text = json.dumps(services[service])
    assert {name for name, value in SECRETS.items() if value in text} == OF_SERVICE[service]


@pytest.mark.parametrize("service", ["api", "worker", "migrate"])
def test_no_service_of_ours_is_the_superuser_of_the_database(
    services: dict[str, Any], service: str
) -> None:
    url = services[service]["environment"]["BATCHD_DATABASE_URL"]
    assert url.startswith(("postgresql://batchd:", "postgresql://batchd_owner:"))
    assert "POSTGRES_USER" not in services["postgres"]["environment"]


def test_only_the_api_and_s3_are_published_and_to_this_machine(services: dict[str, Any]) -> None:
    published = {
        name: {port["host_ip"] for port in service["ports"]}
        for name, service in services.items()
        if service.get("ports")
    }
    assert published == {"api": {"127.0.0.1"}, "s3": {"127.0.0.1"}}
