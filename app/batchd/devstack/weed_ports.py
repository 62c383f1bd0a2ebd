"""The ports of one SeaweedFS server: two for each component, kept from one start to the next."""

import json
import secrets
import socket
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path

from batchd.devstack.errors import StackFailed
from batchd.devstack.private_files import write_private

HOST = "127.0.0.1"
COMPONENTS = ("master", "volume", "filer", "s3", "admin")
GRPC_OFFSET = 10_000
FIRST_PORT, LAST_PORT = 12_000, 32_767
"""Below the ephemeral range, from which the system may assign a port at any moment."""


def choose_ports(path: Path, *, s3_port: int | None, reuse: bool) -> dict[str, int]:
    """Choose and save free ports for HTTP, as `component`, and for gRPC, as `component.grpc`.

    With `reuse`, saved ports that are still free are kept, because the server names some of its
    files after them. Two servers that start at the same moment may choose the same port; one of
    them then fails to start.
    """
    ports = _reusable_ports(path) if reuse else {}
    if s3_port is not None:
        if not _is_free(s3_port):
            raise StackFailed(
                f"Port {s3_port} on {HOST} is in use. Free it, or choose another one."
            )
        ports["s3"] = s3_port
    for component in COMPONENTS:
        if component not in ports:
            # The embedded worker connects to the admin port + 10,000, whatever the flag says.
            offset = GRPC_OFFSET if component == "admin" else 0
            ports[component] = _free_port(ports.values(), offset=offset)
    for component in COMPONENTS:
        if component == "admin":
            ports["admin.grpc"] = ports["admin"] + GRPC_OFFSET
        elif f"{component}.grpc" not in ports:
            ports[f"{component}.grpc"] = _free_port(
                [*ports.values(), ports["admin"] + GRPC_OFFSET], offset=0
            )
    write_private(path, json.dumps(ports))
    return ports


def socket_paths(ports: Iterable[int]) -> list[Path]:
    """Return the sockets that the server creates outside its folder, for which it has no option."""
    return [
        Path(f"/tmp/seaweedfs-{component}-grpc-{port}.sock")  # noqa: S108  # chosen by the server
        for component in COMPONENTS
        for port in ports
    ]


def _reusable_ports(path: Path) -> dict[str, int]:
    """Return the saved ports that are still free; the two admin ports only together."""
    ports: dict[str, int] = {}
    with suppress(OSError, ValueError):
        ports = json.loads(path.read_text())
    ports = {name: port for name, port in ports.items() if _is_unbound(port)}
    # Sockets of a killed server remain; a server that is running has its ports bound.
    for socket_path in socket_paths(ports.values()):
        with suppress(OSError):
            socket_path.unlink()
    ports = {name: port for name, port in ports.items() if _is_free(port)}
    if not {"admin", "admin.grpc"} <= ports.keys():
        ports.pop("admin", None)
        ports.pop("admin.grpc", None)
    return ports


def _free_port(used: Iterable[int], *, offset: int) -> int:
    """Return a port that is free, as is the one `offset` above it."""
    used_ports = set(used)
    for _ in range(1_000):
        port = FIRST_PORT + secrets.randbelow(LAST_PORT - offset - FIRST_PORT)
        if not {port, port + offset} & used_ports and _is_free(port) and _is_free(port + offset):
            return port
    raise StackFailed(f"There is no free port on {HOST} from {FIRST_PORT} to {LAST_PORT}.")


def _is_free(port: int) -> bool:
    """Return whether the port is unbound and no socket of a killed server has its number."""
    return _is_unbound(port) and not any(path.exists() for path in socket_paths([port]))


def _is_unbound(port: int) -> bool:
    # The server binds both: its own address and the wildcard address.
    for host in (HOST, ""):
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True
