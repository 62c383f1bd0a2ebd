"""The ports of one SeaweedFS server: two for each of its parts, the same ones at every start."""

import json
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from batchd.devstack.errors import StackFailed
from batchd.devstack.port_reservation import HOST, PortReservation
from batchd.devstack.private_files import write_private

COMPONENTS = ("master", "volume", "filer", "s3", "admin")
GRPC_OFFSET = 10_000


def choose_ports(
    path: Path, reservation: PortReservation, *, s3_port: int | None, fresh: bool
) -> dict[str, int]:
    """Reserve a port for each part, and for its gRPC as `part.grpc`, and keep them in `path`.

    Those of the last time, where they are still free and not `fresh` ones are asked for: the
    server names some of its files after them. Raises StackFailed.
    """
    ports: dict[str, int] = {}
    if s3_port is not None:
        if not _reserve_unused(reservation, s3_port):
            raise StackFailed(f"Port {s3_port} on {HOST} is in use. Free it, or choose another.")
        ports["s3"] = s3_port
    if not fresh:
        ports = _reserve_previous(path, reservation) | ports
    for part in COMPONENTS:
        if part not in ports:
            # The worker inside dials the admin part at its port + 10,000, whatever the flag says.
            offset = GRPC_OFFSET if part == "admin" else 0
            ports[part] = reservation.reserve_any(offset=offset, usable=_has_no_sockets)
    ports["admin.grpc"] = ports["admin"] + GRPC_OFFSET
    for part in COMPONENTS:
        if f"{part}.grpc" not in ports:
            ports[f"{part}.grpc"] = reservation.reserve_any(usable=_has_no_sockets)
    write_private(path, json.dumps(ports))
    return ports


def socket_paths(ports: Iterable[int]) -> list[Path]:
    """Return the sockets that the server makes outside its folder; it has no option for them."""
    return [
        Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock")  # noqa: S108  # the server's choice
        for part in COMPONENTS
        for port in ports
    ]


def _reserve_previous(path: Path, reservation: PortReservation) -> dict[str, int]:
    """Reserve the ports of the last time that are still free, the admin part's only as a pair."""
    ports: dict[str, int] = {}
    with suppress(OSError, ValueError):
        ports = json.loads(path.read_text())
    ports = {name: port for name, port in ports.items() if _reserve_unused(reservation, port)}
    if not {"admin", "admin.grpc"} <= ports.keys():
        for name in ("admin", "admin.grpc"):
            if name in ports:
                reservation.release(ports.pop(name))
    return ports


def _reserve_unused(reservation: PortReservation, port: int) -> bool:
    """Reserve the port, if nobody uses it, and remove the sockets that a killed server left."""
    if not reservation.reserve(port):
        return False
    for socket_path in socket_paths([port]):
        with suppress(OSError):
            socket_path.unlink()
    if _has_no_sockets(port):
        return True
    reservation.release(port)
    return False


def _has_no_sockets(port: int) -> bool:
    return not any(path.exists() for path in socket_paths([port]))
