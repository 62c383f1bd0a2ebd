"""The ready file: exists while the stack is ready, and describes how other programs connect."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from batchd.devstack.private_files import write_private
from batchd.devstack.stack import Stack


@contextmanager
def ready_file(path: Path | None, stack: Stack) -> Iterator[None]:
    """Write the file, and delete it on leaving."""
    if path is None:
        yield
        return
    write_private(path, json.dumps(_description(stack), indent=2) + "\n")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def _description(stack: Stack) -> dict[str, object]:
    return {
        "api_url": stack.api_url,
        "account": stack.user.account,
        "user": stack.user.user,
        "role": stack.user.role,
        "secret": stack.user.secret,
        "database_url": stack.postgres.url,
        "s3_endpoint": stack.s3.endpoint,
        "s3_access_key": stack.s3.access_key,
        "s3_secret_key": stack.s3.secret_key,
        "bucket": stack.s3.bucket,
        "policies_dir": str(stack.policies),
        "pids": {
            "api": [child.pid for child in stack.api],
            "worker": [child.pid for child in stack.worker],
            "postgres": stack.postgres.pid,
            "s3": stack.s3.pid,
        },
        "env": dict(stack.env),
    }
