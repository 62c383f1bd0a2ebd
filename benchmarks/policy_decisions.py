"""The cost of a permission: cached, decided for the first time, and by Casbin's own `enforce`.

The three alternate in each round, so that other load on the machine affects all of them. Prints
Markdown: medians with the smallest and the largest round, and ratios. The second table is the
longest time for which the event loop was blocked while 30,000 rules took effect.
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

MODEL = (Path(__file__).parents[1] / "policies" / "model.conf").read_text(encoding="utf-8")
SIZES = (30, 300, 3_000, 30_000, 100_000)
OPERATIONS = ("get_batch", "get_batches", "delete_batch")
ACCOUNT = AccountId(UUID(int=1))
ROUNDS = 7
CACHED_COUNT, FIRST_COUNT, ENFORCE_COUNT = 20_000, 50, 3
RELOADS = 9


def write_policy(folder: Path, rules: int, *, generation: str = "") -> None:
    """Write a policy of that many rules, three per role."""
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
    return AuthorizerContext(
        environment={"BATCHD_POLICIES": str(folder)},
        operations=frozenset(OPERATIONS),
        owned_operations=frozenset(OPERATIONS),
        declared_operations=frozenset(),
        more_operations=False,
    )


async def time_cached(authorizer: Authorizer) -> float:
    """Return the microseconds of a cached decision."""
    checker = PermissionChecker(authorizer)
    user_in_role = caller(role(1))
    await checker.require(user_in_role, "get_batch")
    start = time.perf_counter()
    for _ in range(CACHED_COUNT):
        await checker.require(user_in_role, "get_batch")
    return (time.perf_counter() - start) / CACHED_COUNT * 1e6


async def time_first(authorizer: Authorizer, rules: int) -> float:
    """Return the microseconds of a first decision, for the caller's own batches and for others'."""
    checker = PermissionChecker(authorizer)
    times = []
    for number in range(FIRST_COUNT):
        # The roles are spread over the policy; a repeated role gets a checker without cache.
        user_in_role = caller(role(number * 7 % (rules // len(OPERATIONS))))
        checker = (
            checker
            if checker.remembered(user_in_role, "get_batch") is None
            else PermissionChecker(authorizer)
        )
        start = time.perf_counter()
        await checker.require(user_in_role, "get_batch")
        times.append(time.perf_counter() - start)
    return statistics.median(times) * 1e6


def time_enforce(enforcer: casbin.Enforcer) -> float:
    """Return the microseconds of Casbin's `enforce` with all rules, its usual application."""
    start = time.perf_counter()
    for number in range(ENFORCE_COUNT):
        enforcer.enforce(role(number), str(ACCOUNT), "get_batch", "own")
    return (time.perf_counter() - start) / ENFORCE_COUNT * 1e6


async def measure(rules: int) -> dict[str, list[float]]:
    times: dict[str, list[float]] = {"cached": [], "first": [], "enforce": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_policy(folder, rules)
        enforcer = casbin.Enforcer(str(folder / "model.conf"), str(folder / "roles.csv"))
        async with casbin_authorizer(context_of(folder)) as authorizer:
            for _ in range(ROUNDS):
                times["cached"].append(await time_cached(authorizer))
                times["first"].append(await time_first(authorizer, rules))
                times["enforce"].append(time_enforce(enforcer))
    return times


@contextmanager
def measure_loop() -> Iterator[list[float]]:
    """Collect the duration of each iteration of the event loop."""
    iterations: list[float] = []

    async def iterate() -> None:
        last = time.perf_counter()
        while True:
            await asyncio.sleep(0)
            now = time.perf_counter()
            iterations.append(now - last)
            last = now

    task = asyncio.get_running_loop().create_task(iterate())
    try:
        yield iterations
    finally:
        task.cancel()


async def measure_reloads(rules: int) -> list[tuple[float, float, float]]:
    """Return for each reload its duration, and the longest loop iteration with and without it."""
    reloads = []
    with tempfile.TemporaryDirectory() as name:
        folder, new_folder = Path(name) / "policies", Path(name) / "new"
        folder.mkdir()
        new_folder.mkdir()
        write_policy(folder, rules)
        async with casbin_authorizer(context_of(folder)) as authorizer:
            gc.collect()
            gc.freeze()  # as the API does
            for number in range(RELOADS):
                write_policy(new_folder, rules, generation=f"_{number}")
                before = authorizer.revision
                with measure_loop() as iterations:
                    start = time.perf_counter()
                    (new_folder / "roles.csv").replace(folder / "roles.csv")
                    while authorizer.revision == before:  # there is no event to wait for
                        await asyncio.sleep(0.001)
                    duration = time.perf_counter() - start
                    reloading = max(iterations)
                    iterations.clear()
                    await asyncio.sleep(duration)
                    reloads.append((duration, reloading, max(iterations)))
    return reloads


def format_values(values: list[float], unit: float = 1.0) -> str:
    median, low, high = statistics.median(values), min(values), max(values)
    return f"{median / unit:,.2f} ({low / unit:,.2f} to {high / unit:,.2f})"


async def main() -> None:
    print(f"Microseconds: median of {ROUNDS} rounds (smallest to largest).\n")
    print("| rules | cached | first | `Enforcer.enforce` | enforce / first | enforce / cached |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: |")
    for rules in SIZES:
        times = await measure(rules)
        medians = {name: statistics.median(values) for name, values in times.items()}
        print(
            f"| {rules:,} | {format_values(times['cached'])} | {format_values(times['first'])} "
            f"| {format_values(times['enforce'])} | {medians['enforce'] / medians['first']:,.1f} "
            f"| {medians['enforce'] / medians['cached']:,.0f} |",
            flush=True,
        )
    rules = 30_000
    reloads = await measure_reloads(rules)
    print(f"\nMilliseconds, {RELOADS} reloads of {rules:,} rules: median (smallest to largest).\n")
    print("| | |\n| --- | ---: |")
    names = (
        "from the change until it is in effect",
        "longest iteration of the event loop meanwhile",
        "longest iteration in the same time without a reload",
    )
    for name, values in zip(names, zip(*reloads, strict=True), strict=True):
        print(f"| {name} | {format_values(list(values), 0.001)} |")


if __name__ == "__main__":
    argparse.ArgumentParser(description=__doc__).parse_args()
    uvloop.run(main())
