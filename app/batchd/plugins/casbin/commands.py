"""`batchd policy`: checks, explains, compares and tests policy files before they take effect.

The commands need no database and no settings but where the files are.
"""

import dataclasses
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Annotated, TypeAlias
from uuid import UUID

import typer

from batchd.configuration import read_settings
from batchd.domain.permission import AuthorizerContext
from batchd.domain.ports import StartupError
from batchd.plugins.casbin import InvalidPolicy, KnownOperations, Policy, load_policy
from batchd.plugins.casbin.cases import read_cases, run_case
from batchd.plugins.casbin.diff import diff_policies
from batchd.plugins.casbin.lint import lint
from batchd.plugins.casbin.policy import ANY_OTHER_ACCOUNT, CASES_FILE
from batchd.plugins.casbin.roles import find_roles
from batchd.plugins.casbin.statements import format_rule
from batchd.policies.settings import PolicySettings
from batchd.terminal import print_json, print_table

commands = typer.Typer(help="Check, explain, compare and test policy files.", no_args_is_help=True)

LoadContext: TypeAlias = Callable[[Mapping[str, str]], AuthorizerContext]
_load_context: ContextVar[LoadContext] = ContextVar("load_context")


def policy(load_context: LoadContext) -> typer.Typer:
    """Return the command group; `load_context` describes the installation by its environment."""
    _load_context.set(load_context)
    return commands


FAILED, IMPOSSIBLE = 1, 2

Policies = Annotated[
    Path | None,
    typer.Option(help="folder of the policy files; default: BATCHD_POLICIES, or the shipped ones"),
]
Operations = Annotated[
    Path | None,
    typer.Option(
        help="file of the HTTP operations, which rules may name; default: BATCHD_OPERATIONS"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="print JSON")]
Role = Annotated[str, typer.Option(help="name of the role in the policy files")]
Account = Annotated[
    UUID | None, typer.Option(help="account of the caller; default: one that no rule names")
]


@commands.command()
def check(
    *,
    policies: Policies = None,
    operations: Operations = None,
    strict: Annotated[bool, typer.Option(help="also fail if there are only warnings")] = False,
    as_json: Json = False,
) -> None:
    """Validate the policy and warn of likely mistakes. Exit code 1: it can't take effect."""
    folder, known_operations = _locate(policies, operations)
    findings: list[dict[str, object]] = []
    loaded = None
    try:
        loaded = load_policy(folder, known_operations)
    except InvalidPolicy as bad:
        findings += (
            {"level": "error", "file": fault.file.name, "line": fault.line, "reason": fault.reason}
            for fault in bad.faults
        )
    else:
        for location, reason in lint(loaded, known_operations.names):
            file, line = location or (None, None)
            findings.append({"level": "warning", "file": file, "line": line, "reason": reason})
    failed = loaded is None or (strict and bool(findings))
    if as_json:
        revision = None if loaded is None else loaded.revision
        print_json({"ok": not failed, "revision": revision, "found": findings})
    elif findings:
        cells = ([str(finding[name] or "") for name in _FINDING_KEYS] for finding in findings)
        print_table(_FINDING_KEYS, cells)
    else:
        typer.echo(f"{folder}: {loaded}, nothing odd about them")
    raise typer.Exit(FAILED if failed else 0)


_FINDING_KEYS = ("level", "file", "line", "reason")


@commands.command()
def explain(
    *,
    role: Role,
    operation: Annotated[str, typer.Option(help="name of the operation")],
    account: Account = None,
    policies: Policies = None,
    operations: Operations = None,
    as_json: Json = False,
) -> None:
    """Print the decision, and the rule that leads to it."""
    loaded = _load(*_locate(policies, operations))
    where = ANY_OTHER_ACCOUNT if account is None else str(account)
    rows = []
    for own in (True, False) if operation in loaded.owned_operations else (True,):
        allowed, rule = loaded.enforce(role, where, operation, own=own)
        file, line = (None, None) if rule is None else loaded.statements.rules[rule]
        rows.append(
            {
                "batches": ("own" if own else "others")
                if operation in loaded.owned_operations
                else None,
                "decision": "allow" if allowed else "deny",
                "file": file,
                "line": line,
                "rule": None if rule is None else format_rule(rule),
            }
        )
    if as_json:
        print_json({"revision": loaded.revision, "decisions": rows})
        return
    header = ("batches", "decision", "rule")
    print_table(
        header,
        (
            (
                str(row["batches"] or "-"),
                str(row["decision"]),
                f"{row['file']}:{row['line']}: {row['rule']}" if row["rule"] else "no rule matches",
            )
            for row in rows
        ),
    )


@commands.command()
def diff(
    old: Annotated[Path, typer.Argument(help="folder of the present policy files")],
    new: Annotated[Path, typer.Argument(help="folder of the new policy files")],
    *,
    operations: Operations = None,
    as_json: Json = False,
) -> None:
    """Print who gains and who loses which permission. Exit code 1: there is a difference."""
    _, known_operations = _locate(None, operations)
    changes = diff_policies(
        _load(old, known_operations), _load(new, known_operations), known_operations.names
    )
    if as_json:
        for change in changes:
            print_json(dataclasses.asdict(change))
    elif changes:
        print_table(
            ("", "role", "account", "operation", "batches", "by"),
            (
                (
                    "gains" if change.gains else "loses",
                    change.role,
                    change.account,
                    change.operation,
                    change.batches,
                    change.rule or "no rule allows it any more",
                )
                for change in changes
            ),
        )
    else:
        typer.echo("Nobody gains or loses anything.")
    raise typer.Exit(FAILED if changes else 0)


@commands.command("test")
def try_cases(
    *,
    cases: Annotated[
        Path | None,
        typer.Option(help=f"file of the cases; default: {CASES_FILE} in the policy folder"),
    ] = None,
    policies: Policies = None,
    operations: Operations = None,
    as_json: Json = False,
) -> None:
    """Compare decisions with those expected in test cases. Exit code 1: one differs."""
    folder, known_operations = _locate(policies, operations)
    loaded = _load(folder, known_operations)
    file = cases or folder / CASES_FILE
    with _exit_on_error():
        results = [run_case(loaded, case) for case in read_cases(file)]
    failed = [result for result in results if not result.passed]
    if as_json:
        for result in results:
            case = dataclasses.asdict(result.case)
            print_json({**case, "passed": result.passed, "rule": result.decision.rule})
    else:
        for result in failed:
            case_text = f"{result.case.role}, {result.case.account}, {result.case.operation}"
            expected = f"{result.case.expected} expected ({result.case.batches})"
            typer.echo(
                f"{file.name}:{result.case.line}: {case_text}: {expected}, "
                f"but: {result.decision.rule or 'no rule matches'}"
            )
        typer.echo(f"{len(results) - len(failed)} of {len(results)} cases as expected")
    raise typer.Exit(FAILED if failed else 0)


@commands.command()
def statement(
    *,
    role: Role,
    account: Annotated[
        UUID | None, typer.Option(help="account of the caller; default: all accounts")
    ] = None,
    policies: Policies = None,
    operations: Operations = None,
    as_json: Json = False,
) -> None:
    """Print what a role may do, as returned by GET /roles/{role}."""
    loaded = _load(*_locate(policies, operations))
    description = next(find_roles(loaded, account, role), None)
    if description is None:
        typer.echo(f"batchd: there is no role {role}", err=True)
        raise typer.Exit(FAILED)
    if as_json:
        print_json(dataclasses.asdict(description))
        return
    typer.echo(
        f"{description.role}, which inherits {', '.join(description.inherits) or 'from nobody'}"
    )
    print_table(
        ("effect", "account", "scope", "actions"),
        (
            (
                entry.effect,
                entry.account,
                entry.scope,
                ", ".join(entry.actions),
            )
            for entry in description.statements
        ),
    )


def _locate(policies: Path | None, operations: Path | None) -> tuple[Path, KnownOperations]:
    """Return the policy folder, and the operations that exist."""
    environment = dict(os.environ)
    if operations is not None:
        environment["BATCHD_OPERATIONS"] = str(operations)
    with _exit_on_error():
        context = _load_context.get()(environment)
        folder = policies or read_settings(PolicySettings, environment).policies
    return folder, KnownOperations(
        names=context.operations | context.declared_operations,
        owned=context.owned_operations,
        others_possible=context.more_operations,
    )


def _load(folder: Path, known_operations: KnownOperations) -> Policy:
    with _exit_on_error():
        return load_policy(folder, known_operations)


@contextmanager
def _exit_on_error() -> Iterator[None]:
    """Report what is wrong with a file, and exit."""
    try:
        yield
    except StartupError as error:
        typer.echo(f"batchd: {error}", err=True)
        raise typer.Exit(IMPOSSIBLE) from None
