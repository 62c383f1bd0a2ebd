"""Free ports for servers: two that start at the same moment never get the same one."""

import secrets
import socket
import sys
from collections.abc import Callable
from contextlib import closing
from types import TracebackType
from typing import Self

from batchd.devstack.errors import StackFailed

HOST = "127.0.0.1"
FIRST_PORT, LAST_PORT = 12_000, 32_767
"""Below those that the system gives to clients, which may take one at any moment."""


class PortReservation:
    """Ports that no other reservation on this machine gets until the block ends.

    A reservation outlives neither its process nor, therefore, a crash. It is known to other
    processes on Linux only.
    """

    def __init__(self) -> None:
        self._markers: dict[int, socket.socket] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for marker in self._markers.values():
            marker.close()
        self._markers.clear()

    def reserve(self, port: int) -> bool:
        """Reserve this port; False if it is reserved already or in use."""
        if port in self._markers:
            return False
        marker = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            if sys.platform == "linux":
                # An abstract name: unique in the network namespace, as ports are; never a file.
                marker.bind(f"\0batchd-port-{port}")
            if not _is_free(port):
                raise OSError
        except OSError:
            marker.close()
            return False
        self._markers[port] = marker
        return True

    def release(self, port: int) -> None:
        self._markers.pop(port).close()

    def reserve_any(
        self, *, offset: int = 0, usable: Callable[[int], bool] = lambda _: True
    ) -> int:
        """Reserve some port, and the one `offset` above it as well. Raises StackFailed."""
        for _ in range(1_000):
            port = FIRST_PORT + secrets.randbelow(LAST_PORT - offset - FIRST_PORT)
            ports = [port, port + offset] if offset else [port]
            if not all(map(usable, ports)):
                continue
            reserved = [each for each in ports if self.reserve(each)]
            if reserved == ports:
                return port
            for each in reserved:
                self.release(each)
        raise StackFailed(f"There is no free port on {HOST} from {FIRST_PORT} to {LAST_PORT}.")


def _is_free(port: int) -> bool:
    # SeaweedFS insists on both: its own address and all of them.
    for host in (HOST, ""):
        with closing(socket.socket()) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((host, port))
            except OSError:
                return False
    return True
