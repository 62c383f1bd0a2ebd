"""An IAM policy as S3 evaluates it, for the requests that a proxy sees."""

import fnmatch
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from tests.support.s3_proxy import ProxyResponse, Request, error

STORAGE_DOCS = Path(__file__).parents[2] / "docs" / "storage.md"


def documented_policy(bucket: str) -> dict[str, Any]:
    """Return the policy that the documentation recommends, for this bucket."""
    (block,) = re.findall(r"```json\n(.*?)```", STORAGE_DOCS.read_text(encoding="utf-8"), re.DOTALL)
    policy: dict[str, Any] = json.loads(block.replace("BUCKET", bucket))
    return policy


class PolicyCheck:
    """Refuses what the policy does not allow, and keeps which actions were needed."""

    def __init__(self, policy: dict[str, Any]) -> None:
        self._statements = policy["Statement"]
        self.used: set[str] = set()

    def __call__(self, request: Request) -> ProxyResponse | None:
        needed = list(_needed(request))
        if not all(self._is_allowed(*each) for each in needed):
            return error(403, "AccessDenied")
        self.used |= {action for action, _, _ in needed}
        return None

    def _is_allowed(self, action: str, resource: str, prefix: str) -> bool:
        return any(
            action in _list(statement["Action"])
            and any(fnmatch.fnmatchcase(resource, each) for each in _list(statement["Resource"]))
            and fnmatch.fnmatchcase(
                prefix, statement.get("Condition", {}).get("StringLike", {}).get("s3:prefix", "*")
            )
            for statement in self._statements
        )


def _list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _needed(request: Request) -> Iterator[tuple[str, str, str]]:
    """Yield the actions that a request needs, each with its resource and the prefix listed."""
    bucket, _, key = unquote(request.path).strip("/").partition("/")
    arn = f"arn:aws:s3:::{bucket}"
    if "delete" in request.query:
        for name in re.findall(rb"<Key>(.*?)</Key>", request.body):
            yield "s3:DeleteObject", f"{arn}/{name.decode()}", ""
    elif not key:
        yield "s3:ListBucket", arn, request.query.get("prefix", "")
    elif request.method == "DELETE":
        is_upload = "uploadId" in request.query
        yield "s3:AbortMultipartUpload" if is_upload else "s3:DeleteObject", f"{arn}/{key}", ""
    elif request.method in {"GET", "HEAD"}:
        yield "s3:GetObject", f"{arn}/{key}", ""
    else:
        yield "s3:PutObject", f"{arn}/{key}", ""
        if source := request.headers.get("x-amz-copy-source"):
            yield "s3:GetObject", f"arn:aws:s3:::{unquote(source).lstrip('/')}", ""
