"""The settings of the S3 storage, and the validation of their values."""

import re
from ipaddress import IPv6Address, ip_address
from typing import ClassVar, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator, model_validator

from batchd.configuration import EnvironmentSettings

_LABEL = r"(?!-)[A-Za-z0-9-]{1,63}(?<!-)"
_REGION = re.compile(_LABEL)
_HOST = re.compile(rf"({_LABEL}\.)*{_LABEL}\.?")


class S3Settings(EnvironmentSettings):
    prefix: ClassVar[str] = "BATCHD_S3_"

    bucket: str = Field(description="Existing bucket")
    endpoint: str | None = Field(None, description="URL of the S3 service; unset: AWS")
    public_endpoint: str | None = Field(
        None, description="URL by which callers reach the S3 service; unset: BATCHD_S3_ENDPOINT"
    )
    region: str = Field("us-east-1", description="Region in signatures")
    access_key: str | None = Field(
        None, description="Access key; unset: the ambient AWS credentials"
    )
    secret_key: SecretStr | None = Field(None, description="Secret key of BATCHD_S3_ACCESS_KEY")
    addressing: Literal["path", "virtual"] = Field(
        "path", description="Place of the bucket's name in URLs: the path or the host name"
    )

    @field_validator("endpoint", "public_endpoint")
    @classmethod
    def _check_endpoint(cls, url: str | None) -> str | None:
        if url is not None and not _is_endpoint(url):
            raise ValueError(f"'{url}' is not a URL like https://s3.example.com:9000")
        return url

    @field_validator("region")
    @classmethod
    def _check_region(cls, region: str) -> str:
        if not _REGION.fullmatch(region) or region.isdigit():
            raise ValueError(f"'{region}' can't be the name of a region")
        return region

    @model_validator(mode="after")
    def _check_keys(self) -> Self:
        if (self.access_key is None) != (self.secret_key is None):
            raise ValueError("BATCHD_S3_ACCESS_KEY and BATCHD_S3_SECRET_KEY go together")
        return self

    @model_validator(mode="after")
    def _check_addressing(self) -> Self:
        for endpoint in (self.endpoint, self.public_endpoint):
            if self.addressing == "virtual" and endpoint is not None and _is_address(endpoint):
                raise ValueError(
                    "BATCHD_S3_ADDRESSING: an IP address can't have a bucket in its host name: "
                    "use 'path', or an endpoint with a name"
                )
        return self


def _is_address(url: str) -> bool:
    try:
        ip_address(urlsplit(url).hostname or "")
    except ValueError:
        return False
    return True


def _is_endpoint(url: str) -> bool:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        valid_host = IPv6Address(host) if ":" in host else _HOST.fullmatch(host)
    except ValueError:  # of the address or the port
        return False
    return parts.scheme in {"http", "https"} and valid_host is not None
