"""Replaces itself with a command that ends with its parent and, on request, does not run as root.

Run by its path, `python -I -S child.py … -- command`: it needs only the standard library, and the
command keeps its process id. Outside Linux the command outlives a killed parent.
"""

import argparse
import ctypes
import os
import signal
import sys

# From linux/prctl.h, linux/securebits.h and linux/capability.h.
PR_SET_PDEATHSIG = 1
PR_SET_SECUREBITS = 28
PR_CAP_AMBIENT = 47
PR_CAP_AMBIENT_RAISE = 2
SECBIT_NO_SETUID_FIXUP = 1 << 2
CAP_DAC_OVERRIDE = 1
CAPABILITY_VERSION_3 = 0x20080522


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument(
        "--death-signal", metavar="NAME", help="signal sent when the parent dies, such as INT"
    )
    parser.add_argument("--uid", type=int, help="user to run as instead of root")
    parser.add_argument("--gid", type=int, help="group to run as; required with --uid")
    parser.add_argument("command", nargs="+")
    options = parser.parse_args()
    parent = os.getppid()
    try:
        if options.uid is not None:
            drop_root(options.uid, options.gid)
        # After the change of the user, which clears the death signal.
        if options.death_signal and sys.platform == "linux":
            prctl(PR_SET_PDEATHSIG, signal.Signals[f"SIG{options.death_signal}"])
            if os.getppid() != parent:
                sys.exit("the parent died")
        os.execv(options.command[0], options.command)  # noqa: S606  # no shell on purpose
    except OSError as error:
        sys.exit(f"{options.command[0]} can't be started: {error}")


def drop_root(uid: int, gid: int) -> None:
    """Switch to this user and keep access to every file, where the system permits it.

    So the command works below folders that are closed to other users, such as /root.
    """
    keeps_access = sys.platform == "linux" and _keep_capabilities()
    os.setgroups([])
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    if keeps_access:
        try:
            capset(1 << CAP_DAC_OVERRIDE)
            prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_DAC_OVERRIDE)
        except OSError:
            capset(0)


def _keep_capabilities() -> bool:
    # Otherwise access(2), with which PostgreSQL checks its own files, ignores capabilities.
    try:
        prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP)
    except OSError:
        return False
    return True


def prctl(option: int, *arguments: int) -> None:
    padded = [*arguments, 0, 0, 0, 0][:4]
    _call("prctl", ctypes.c_int(option), *map(ctypes.c_ulong, padded))


def capset(capabilities: int) -> None:
    """Restrict this process to these capabilities."""
    header = (ctypes.c_uint32 * 2)(CAPABILITY_VERSION_3, 0)
    # Effective, permitted and inheritable: the lower 32 bits of each, then the upper ones.
    data = (ctypes.c_uint32 * 6)(capabilities, capabilities, capabilities)
    _call("capset", header, data)


def _call(name: str, *arguments: object) -> None:
    if ctypes.CDLL(None, use_errno=True)[name](*arguments) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")


if __name__ == "__main__":
    main()
