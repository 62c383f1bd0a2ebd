"""Test cases of a policy: the decisions that tests.csv expects, and how each case is run."""

import csv
from dataclasses import dataclass
from pathlib import Path

from batchd.domain.permission import Decision
from batchd.plugins.casbin.errors import Fault, InvalidPolicy, decode
from batchd.plugins.casbin.policy import ANY_OTHER_ACCOUNT, Policy
from batchd.plugins.casbin.statements import ANY, EFFECTS, numbered_lines, split_columns

OWNERSHIPS = {"any": (True, False), "own": (True,), "others": (False,)}
"""The values of `own` to decide for, by the word in the last column."""
_COLUMNS = "role, account or *, operation, allow or deny, optionally own, others or any"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """A line: the expected decision for the caller's own batches, for others', or for both."""

    line: int
    role: str
    account: str
    operation: str
    expected: str
    batches: str
    """own, others or any."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseResult:
    case: Case
    passed: bool
    decision: Decision
    """The first unexpected decision, if there is one."""


def read_cases(file: Path) -> list[Case]:
    """Raise InvalidPolicy if a line is malformed or the file contains no cases."""
    try:
        text = decode(file, file.read_bytes())
    except OSError as error:
        raise InvalidPolicy(Fault(file, None, error.strerror or str(error))) from None
    cases, faults = [], []
    for line_number, line in numbered_lines(text):
        try:
            cases.append(_parse_case(line_number, split_columns(line)))
        except (ValueError, csv.Error) as error:
            faults.append(Fault(file, line_number, str(error)))
    if not cases and not faults:
        faults.append(Fault(file, None, "the file contains no test cases"))
    if faults:
        raise InvalidPolicy(*faults)
    return cases


def _parse_case(line_number: int, columns: list[str]) -> Case:
    match columns:
        case [role, account, operation, expected]:
            batches = "any"
        case [role, account, operation, expected, batches]:
            pass
        case _:
            raise ValueError(f"{len(columns)} columns, expected 4 or 5: {_COLUMNS}")
    if expected not in EFFECTS:
        raise ValueError(f"unknown decision {expected!r}: expected allow or deny")
    if batches not in OWNERSHIPS:
        raise ValueError(f"unknown ownership {batches!r}: expected {', '.join(OWNERSHIPS)}")
    return Case(
        line=line_number,
        role=role,
        account=account,
        operation=operation,
        expected=expected,
        batches=batches,
    )


def run_case(policy: Policy, case: Case) -> CaseResult:
    """Compare the policy's decisions with the expected one."""
    account = ANY_OTHER_ACCOUNT if case.account == ANY else case.account
    decisions = [
        policy.decide(case.role, account, case.operation, own=own)
        for own in OWNERSHIPS[case.batches]
    ]
    unexpected = [
        decision for decision in decisions if decision.allowed != (case.expected == "allow")
    ]
    return CaseResult(case=case, passed=not unexpected, decision=(unexpected or decisions)[0])
