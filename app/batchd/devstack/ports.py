"""The API's port: checked before anything starts, and reserved for as long as the stack runs."""

import errno
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

from batchd.devstack.errors import StackFailed

HOST = "127.0.0.1"


@contextmanager
def reserve_port(port: int) -> Iterator[int]:
    """Reserve the port, or any free one for 0; API processes share it by SO_REUSEPORT."""
    try:
        # Without SO_REUSEPORT, so that it fails even if API processes of another stack share it.
        with closing(_new_socket()) as probe:
            probe.bind((HOST, port))
            port = probe.getsockname()[1]
        reserved = _new_socket()
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with closing(reserved):
            reserved.bind((HOST, port))
            yield port
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StackFailed(
                f"Port {port} on {HOST} is in use. Stop the program that uses it, or choose "
                "another port with --port."
            ) from None
        if error.errno == errno.EACCES:
            raise StackFailed(
                f"Port {port} requires root; choose another port with --port."
            ) from None
        raise


def _new_socket() -> socket.socket:
    new = socket.socket()
    # Connections of an earlier run in TIME_WAIT don't count.
    new.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return new
