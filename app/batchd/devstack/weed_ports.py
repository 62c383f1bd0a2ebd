"""The ports of one SeaweedFS server: two for each of its parts, the same ones at every start."""

import json
import secrets
import socket
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

from batchd.devstack.errors import StackFailed
from batchd.devstack.private_files import write_private

HOST = "127.0.0.1"
PARTS = ("master", "volume", "filer", "s3", "admin")
GRPC_OFFSET = 10_000
FIRST_PORT, LAST_PORT = 12_000, 32_767
"""Below those that the system gives to clients, where another could appear at any moment."""


def choose_ports(path: Path, *, s3_port: int | None, fresh: bool) -> dict[str, int]:
    """Return a free port for each part, and for its gRPC as `part.grpc`, and keep them in `path`.

    Those of the last time, where they are still free and not `fresh` ones are asked for: the
    server names some of its files after them. Two servers that start at the same moment may
    choose the same port; one of them then refuses to start.
    """
    ports = {} if fresh else _kept(path)
    if s3_port is not None:
        if not _free(s3_port):
            raise StackFailed(f"Port {s3_port} on {HOST} is in use. Free it, or choose another.")
        ports["s3"] = s3_port
    for part in PARTS:
        if part not in ports:
            # The worker inside dials the admin part at its port + 10,000, whatever the flag says.
            beyond = GRPC_OFFSET if part == "admin" else 0
            ports[part] = _free_port(ports.values(), beyond=beyond)
    for part in PARTS:
        if part == "admin":
            ports["admin.grpc"] = ports["admin"] + GRPC_OFFSET
        elif f"{part}.grpc" not in ports:
            ports[f"{part}.grpc"] = _free_port(
                [*ports.values(), ports["admin"] + GRPC_OFFSET], beyond=0
            )
    write_private(path, json.dumps(ports))
    return ports


def sockets(ports: Iterable[int]) -> list[Path]:
    """Return the sockets that the server makes outside its folder; it has no option for them."""
    return [
        Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock")  # noqa: S108  # the server's choice
        for part in PARTS
        for port in ports
    ]


def _kept(path: Path) -> dict[str, int]:
    """Return the ports of the last time that are still free, the admin part's only as a pair."""
    ports: dict[str, int] = {}
    with suppress(OSError, ValueError):
        ports = json.loads(path.read_text())
    ports = {name: port for name, port in ports.items() if _unbound(port)}
    # A server that was killed left its sockets behind; whoever lives has its port bound.
    for socket_path in sockets(ports.values()):
        with suppress(OSError):
            socket_path.unlink()
    ports = {name: port for name, port in ports.items() if _free(port)}
    if not {"admin", "admin.grpc"} <= ports.keys():
        ports.pop("admin", None)
        ports.pop("admin.grpc", None)
    return ports


def _free_port(taken: Iterable[int], *, beyond: int) -> int:
    """Return a free port; the one `beyond` it is free, too."""
    taken = set(taken)
    for _ in range(1_000):
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - beyond - FIRST_PORT)
        if not {port, port + beyond} & taken and _free(port) and _free(port + beyond):
            return port
    raise StackFailed(f"There is no free port on {HOST} from {FIRST_PORT} to {LAST_PORT}.")


def _free(port: int) -> bool:
    """Tell whether nobody listens there, and no dead server's socket has this number."""
    return _unbound(port) and not any(path.exists() for path in sockets([port]))


def _unbound(port: int) -> bool:
    # The server insists on both: its own address and all of them.
    for host in (HOST, ""):
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True
