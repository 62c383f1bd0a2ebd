"""The port of the API: checked before anything starts, and held as long as the stack runs."""

import errno
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

from batchd.devstack.errors import StackFailed

HOST = "127.0.0.1"


@contextmanager
def hold_port(port: int) -> Iterator[int]:
    """Keep the port, 0 being any free one, for API processes, which share it by SO_REUSEPORT."""
    try:
        # Without SO_REUSEPORT it fails even where other API processes would share.
        with closing(_socket()) as probe:
            probe.bind((HOST, port))
            port = probe.getsockname()[1]
        holder = _socket()
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        with closing(holder):
            holder.bind((HOST, port))
            yield port
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise StackFailed(
                f"Port {port} on {HOST} is in use. Stop what uses it, or name another with --port."
            ) from None
        if error.errno == errno.EACCES:
            raise StackFailed(f"Port {port} needs root; name another with --port.") from None
        raise


def _socket() -> socket.socket:
    made = socket.socket()
    # Connections of an earlier run that are still fading away don't count.
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return made
