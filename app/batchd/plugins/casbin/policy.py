"""One state of the policy files: its revision, and the decisions that Casbin makes by it."""

import logging
from collections.abc import Mapping
from functools import cached_property
from itertools import product
from pathlib import Path
from threading import Lock
from uuid import UUID

import casbin

from batchd.domain.ids import AccountId
from batchd.domain.permission import Decision
from batchd.file_watcher import Contents, CooperativeYield, Folder, read
from batchd.plugins.casbin.enforcer import OWNERS, new_enforcer
from batchd.plugins.casbin.errors import Fault, InvalidPolicy
from batchd.plugins.casbin.inheritance import check_inheritance
from batchd.plugins.casbin.known_operations import KnownOperations, Unknown, find_unknown
from batchd.plugins.casbin.statements import (
    ANY,
    EFFECTS,
    SCOPES,
    Rule,
    Statements,
    parse_statements,
    show,
)
from batchd.policies.store import revision_of

logger = logging.getLogger(__name__)

MODEL = "model.conf"
NOWHERE = str(UUID(int=0))
"""Stands for every account that no rule names."""
CASES = "tests.csv"
"""What the policy is expected to decide: no part of it."""


class Policy:
    """Never changes, so that a decision once made holds as long as the policy is in force."""

    def __init__(
        self,
        *,
        revision: str,
        statements: Statements,
        enforcer: casbin.Enforcer,
        unknown: list[Unknown],
    ) -> None:
        self.revision = revision
        self.statements = statements
        self.unknown = unknown
        """Rules about operations that are not known, and may be there some time."""
        self._enforcer = enforcer
        self._enforcing = Lock()

    def __str__(self) -> str:
        return f"{len(self.statements.rules)} rules"

    def decide(
        self, role: str, account: AccountId | str, operation: str, *, own: bool = True
    ) -> Decision:
        """Say whether the role may do it, with what is its own or others', and by which rule."""
        allowed, rule = self.enforce(role, account, operation, own=own)
        text = None
        if rule is not None:
            file, line = self.statements.rules[rule]
            text = f"{file}:{line}: {show(rule)}"
        return Decision(allowed=allowed, revision=self.revision, rule=text)

    def enforce(
        self, role: str, account: AccountId | str, operation: str, *, own: bool
    ) -> tuple[bool, Rule | None]:
        """Have Casbin decide; return the rule as well that did."""
        question = (role, str(account), operation)
        with self._enforcing:  # two threads must not see each other's candidates
            candidates = self.candidates(*question)
            self._enforcer.model["p"]["p"].policy = candidates
            allowed, explained = self._enforcer.enforce_ex(*question, OWNERS[own])
        # Where there is no candidate, Casbin tries the matcher on a rule of empty columns.
        if not explained or not candidates:
            return False, None
        return bool(allowed), tuple(explained)

    def candidates(self, role: str, account: str, operation: str) -> list[Rule]:
        """Return, in the policy's order, the rules that can match.

        Casbin tries every rule of its model on every request: 0.1 s with 30,000. A rule is its own
        key, so the few that can match are looked up, and Casbin decides by them.
        """
        keys = product(self.lineage(role), {account, ANY}, {operation, ANY}, EFFECTS, SCOPES)
        rules = self.statements.rules
        return sorted((rule for rule in keys if rule in rules), key=rules.__getitem__)

    def lineage(self, role: str) -> tuple[str, ...]:
        """Return the role and those whose rules it has as well, near ones first."""
        return role, *self._enforcer.get_implicit_roles_for_user(role)

    @cached_property
    def rules_by_role(self) -> Mapping[str, list[Rule]]:
        by_role: dict[str, list[Rule]] = {}
        for rule in self.statements.rules:
            by_role.setdefault(rule[0], []).append(rule)
        return by_role

    @cached_property
    def roles(self) -> list[str]:
        """Every role that a statement names."""
        linked = {role for link in self.statements.links for role in link}
        return sorted(linked | self.rules_by_role.keys())


def wanted(name: str) -> bool:
    """Tell the files of a policy from others; a hidden one is an editor's lock, or half a copy."""
    return name == MODEL or (name.endswith(".csv") and name[0] != "." and name != CASES)


def load_policy(folder: Path, known: KnownOperations) -> Policy:
    """Read model.conf and every .csv file of the folder. Raises InvalidPolicy."""
    return parse_policy(folder, read(Folder(folder, wanted)), known)


def parse_policy(folder: Path, contents: Contents, known: KnownOperations) -> Policy:
    """Make a policy of the files. Raises InvalidPolicy."""
    breathe = CooperativeYield()
    files = _check_files(folder, contents)
    rule_files = {file: content for file, content in files.items() if file.name != MODEL}
    statements = parse_statements(folder, rule_files, breathe)
    check_inheritance(folder, statements.links, breathe)
    unknown = find_unknown(statements, known, breathe)
    if unknown and not known.more:
        raise InvalidPolicy(
            *(Fault(folder / one.place[0], one.place[1], one.reason) for one in unknown)
        )
    for one in unknown:
        if one.alike:
            logger.warning("%s:%d: %s", *one.place, one.reason)
    return Policy(
        revision=revision_of(files),
        statements=statements,
        enforcer=new_enforcer(folder / MODEL, files[folder / MODEL], statements.links),
        unknown=unknown,
    )


def _check_files(folder: Path, contents: Contents) -> Mapping[Path, bytes]:
    """Return the files, all of which were read."""
    if isinstance(reason := contents.get(folder), str):
        raise InvalidPolicy(Fault(folder, None, f"no policy folder: {reason}"))
    files = {file: content for file, content in contents.items() if isinstance(content, bytes)}
    faults = [
        Fault(file, None, reason) for file, reason in contents.items() if isinstance(reason, str)
    ]
    if folder / MODEL not in contents:
        faults.append(Fault(folder / MODEL, None, "No such file or directory"))
    if not contents.keys() - {folder / MODEL}:
        faults.append(Fault(folder, None, "there is no .csv file in the policy folder"))
    if faults:
        raise InvalidPolicy(*faults)
    return files
