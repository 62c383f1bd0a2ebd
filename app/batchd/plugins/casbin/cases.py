"""What a policy is expected to decide: the cases of tests.csv, tried one by one."""

import csv
from dataclasses import dataclass
from pathlib import Path

from batchd.domain.permission import Decision
from batchd.plugins.casbin.errors import Fault, InvalidPolicy, decode
from batchd.plugins.casbin.policy import NOWHERE, Policy
from batchd.plugins.casbin.statements import ANY, EFFECTS, numbered_lines, split

WHOSE = {"any": (True, False), "own": (True,), "others": (False,)}
_FORM = "role, account or *, operation, allow or deny, and perhaps own, others or any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A line: what is expected for the caller's own batches, for others', or for both."""

    line: int
    role: str
    account: str
    operation: str
    expected: str
    whose: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    case: Case
    passed: bool
    decision: Decision
    """The one that was not expected, if one was not."""


def read_cases(file: Path) -> list[Case]:
    """Raise InvalidPolicy if a line is no case, or there is none."""
    try:
        text = decode(file, file.read_bytes())
    except OSError as error:
        raise InvalidPolicy(Fault(file, None, error.strerror or str(error))) from None
    cases, faults = [], []
    for line, raw in numbered_lines(text):
        try:
            cases.append(_case(line, split(raw)))
        except (ValueError, csv.Error) as error:
            faults.append(Fault(file, line, str(error)))
    if not cases and not faults:
        faults.append(Fault(file, None, "there is no case in it"))
    if faults:
        raise InvalidPolicy(*faults)
    return cases


def _case(line: int, columns: list[str]) -> Case:
    match columns:
        case [role, account, operation, expected]:
            whose = "any"
        case [role, account, operation, expected, whose]:
            pass
        case _:
            raise ValueError(f"{len(columns)} columns where there must be 4 or 5: {_FORM}")
    if expected not in EFFECTS:
        raise ValueError(f"unknown decision {expected!r}: allow or deny")
    if whose not in WHOSE:
        raise ValueError(f"{whose!r} is not {', '.join(WHOSE)}")
    return Case(
        line=line,
        role=role,
        account=account,
        operation=operation,
        expected=expected,
        whose=whose,
    )


def try_case(policy: Policy, case: Case) -> Tried:
    """Ask the policy."""
    account = NOWHERE if case.account == ANY else case.account
    decisions = [
        policy.decide(case.role, account, case.operation, own=own) for own in WHOSE[case.whose]
    ]
    wrong = [one for one in decisions if one.allowed != (case.expected == "allow")]
    return Tried(case=case, passed=not wrong, decision=(wrong or decisions)[0])
