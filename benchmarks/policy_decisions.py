"""What a permission costs: remembered, decided for the first time, and by Casbin's own `enforce`.

The three take turns in each round, so that what the machine does meanwhile hits them all. Prints
Markdown: medians with the smallest and the largest round, and ratios. The second table is the
longest time for which the event loop stood still while 30,000 rules were put in force.
"""

import argparse
import asyncio
import gc
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import UUID

import casbin
import uvloop

from batchd.domain.ids import AccountId, UserId
from batchd.domain.permission import Authorizer, AuthorizerContext
from batchd.domain.users import Caller
from batchd.plugins.casbin import casbin_authorizer
from batchd.services.authorization import PermissionChecker
from batchd.settings import read_settings

MODEL = (Path(__file__).parents[1] / "policies" / "model.conf").read_text(encoding="utf-8")
SIZES = (30, 300, 3_000, 30_000, 100_000)
OPERATIONS = ("get_batch", "get_batches", "delete_batch")
ACCOUNT = AccountId(UUID(int=1))
ROUNDS = 7
MAX_CACHED, FIRST, ENFORCED = 20_000, 50, 3
RELOADS = 9


def write_policy(folder: Path, rules: int, *, generation: str = "") -> None:
    """Make a policy of so many rules, three a role."""
    (folder / "model.conf").write_text(MODEL, encoding="utf-8")
    lines = (
        f"p, {role(number, generation)}, *, {operation}, allow, any\n"
        for number in range(rules // len(OPERATIONS))
        for operation in OPERATIONS
    )
    (folder / "roles.csv").write_text("".join(lines), encoding="utf-8")


def role(number: int, generation: str = "") -> str:
    return f"role_{number}{generation}"


def caller(name: str) -> Caller:
    return Caller(account=ACCOUNT, user=UserId(UUID(int=2)), role=name)


def context_of(folder: Path) -> AuthorizerContext:
    settings = read_settings(
        database_url="postgresql://unused", s3_bucket="unused", policies=folder
    )
    return AuthorizerContext(
        settings=settings, operations=frozenset(OPERATIONS), more_operations=False
    )


async def remembered(authorizer: Authorizer) -> float:
    """Return the microseconds that the gate takes for a decision it knows."""
    gate = PermissionChecker(authorizer)
    who = caller(role(1))
    await gate.require(who, "get_batch")
    began = time.perf_counter()
    for _ in range(MAX_CACHED):
        await gate.require(who, "get_batch")
    return (time.perf_counter() - began) / MAX_CACHED * 1e6


async def first(authorizer: Authorizer, rules: int) -> float:
    """Return the microseconds for one it does not know: of its own batches, and of others'."""
    gate = PermissionChecker(authorizer)
    times = []
    for number in range(FIRST):
        # The roles are spread over the policy; where there are few, each is asked by a new gate.
        who = caller(role(number * 7 % (rules // len(OPERATIONS))))
        gate = gate if gate.remembered(who, "get_batch") is None else PermissionChecker(authorizer)
        began = time.perf_counter()
        await gate.require(who, "get_batch")
        times.append(time.perf_counter() - began)
    return statistics.median(times) * 1e6


def enforced(enforcer: casbin.Enforcer) -> float:
    """Return the microseconds that Casbin takes with all its rules, as it is used mostly."""
    began = time.perf_counter()
    for number in range(ENFORCED):
        enforcer.enforce(role(number), str(ACCOUNT), "get_batch", "own")
    return (time.perf_counter() - began) / ENFORCED * 1e6


async def measure(rules: int) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {"remembered": [], "first": [], "enforce": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_policy(folder, rules)
        enforcer = casbin.Enforcer(str(folder / "model.conf"), str(folder / "roles.csv"))
        async with casbin_authorizer(context_of(folder)) as authorizer:
            for _ in range(ROUNDS):
                found["remembered"].append(await remembered(authorizer))
                found["first"].append(await first(authorizer, rules))
                found["enforce"].append(enforced(enforcer))
    return found


@contextmanager
def watching_the_loop() -> Iterator[list[float]]:
    """Collect how long each turn of the event loop took: one that has work all the time."""
    turns: list[float] = []

    async def turn() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            turns.append(now - last)
            last = now

    task = asyncio.get_running_loop().create_task(turn())
    try:
        yield turns
    finally:
        task.cancel()


async def stalls(rules: int) -> list[tuple[float, float, float]]:
    """Return for each reload: its time, the longest turn in it, and in as long a time without."""
    found = []
    with tempfile.TemporaryDirectory() as name:
        folder, beside = Path(name) / "policies", Path(name) / "beside"
        folder.mkdir()
        beside.mkdir()
        write_policy(folder, rules)
        async with casbin_authorizer(context_of(folder)) as authorizer:
            gc.collect()
            gc.freeze()  # as the API does
            for number in range(RELOADS):
                write_policy(beside, rules, generation=f"_{number}")
                before = authorizer.revision
                with watching_the_loop() as turns:
                    began = time.perf_counter()
                    (beside / "roles.csv").replace(folder / "roles.csv")
                    while authorizer.revision == before:  # it gives no event
                        await asyncio.sleep(0.001)
                    took = time.perf_counter() - began
                    reloading = max(turns)
                    turns.clear()
                    await asyncio.sleep(took)
                    found.append((took, reloading, max(turns)))
    return found


def shown(values: list[float], unit: float = 1.0) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle / unit:,.2f} ({low / unit:,.2f} to {high / unit:,.2f})"


async def main() -> None:
    print(f"Microseconds: median of {ROUNDS} rounds (smallest to largest).\n")
    print(
        "| rules | cached | uncached | `Enforcer.enforce` | enforce / uncached | enforce / cached |"
    )
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for rules in SIZES:
        found = await measure(rules)
        middle = {name: statistics.median(values) for name, values in found.items()}
        print(
            f"| {rules:,} | {shown(found['remembered'])} | {shown(found['first'])} "
            f"| {shown(found['enforce'])} | {middle['enforce'] / middle['first']:,.1f} "
            f"| {middle['enforce'] / middle['remembered']:,.0f} |",
            flush=True,
        )
    rules = 30_000
    reloads = await stalls(rules)
    print(f"\nMilliseconds, {RELOADS} reloads of {rules:,} rules: median (smallest to largest).\n")
    print("| | |\n| --- | ---: |")
    names = (
        "from the change until it takes effect",
        "longest iteration of the event loop meanwhile",
        "the same over an equally long time without a reload",
    )
    for name, values in zip(names, zip(*reloads, strict=True), strict=True):
        print(f"| {name} | {shown(list(values), 0.001)} |")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    uvloop.run(main())
