"""One state of the policy files: its revision, and the decisions that Casbin makes with it."""

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
from batchd.file_watcher import Contents, CooperativeYield, WatchedFolder, read_files
from batchd.plugins.casbin.enforcer import OWNERS, new_enforcer
from batchd.plugins.casbin.errors import Fault, InvalidPolicy
from batchd.plugins.casbin.inheritance import check_inheritance
from batchd.plugins.casbin.known_operations import (
    KnownOperations,
    UnknownOperation,
    find_unknown_operations,
)
from batchd.plugins.casbin.statements import (
    ANY,
    EFFECTS,
    SCOPES,
    Rule,
    Statements,
    format_rule,
    parse_statements,
)
from batchd.policies.store import revision_of

logger = logging.getLogger(__name__)

MODEL_FILE = "model.conf"
CASES_FILE = "tests.csv"
"""Holds the test cases of the policy; not part of the policy itself."""
ANY_OTHER_ACCOUNT = str(UUID(int=0))
"""Stands for every account that no rule names."""


class Policy:
    """Immutable, so that a decision holds for as long as the policy is in effect."""

    def __init__(
        self,
        *,
        revision: str,
        statements: Statements,
        enforcer: casbin.Enforcer,
        owned_operations: frozenset[str],
        unknown_operations: list[UnknownOperation],
    ) -> None:
        self.revision = revision
        self.statements = statements
        self.owned_operations = owned_operations
        self.unknown_operations = unknown_operations
        """Rules for operations that are not defined at present."""
        self._enforcer = enforcer
        self._lock = Lock()

    def __str__(self) -> str:
        return f"{len(self.statements.rules)} rules"

    def decide(
        self, role: str, account: AccountId | str, operation: str, *, own: bool = True
    ) -> Decision:
        """Decide for the caller's own resources or for others', and name the deciding rule."""
        allowed, rule = self.enforce(role, account, operation, own=own)
        text = None
        if rule is not None:
            file, line = self.statements.rules[rule]
            text = f"{file}:{line}: {format_rule(rule)}"
        return Decision(allowed=allowed, revision=self.revision, rule=text)

    def enforce(
        self, role: str, account: AccountId | str, operation: str, *, own: bool
    ) -> tuple[bool, Rule | None]:
        """Return Casbin's decision and the rule that made it."""
        request = (role, str(account), operation)
        with self._lock:  # one thread must not replace another's candidates
            candidates = self.candidate_rules(*request)
            self._enforcer.model["p"]["p"].policy = candidates
            allowed, explanation = self._enforcer.enforce_ex(*request, OWNERS[own])
        # Without candidates, Casbin evaluates the matcher on a rule of empty columns.
        if not explanation or not candidates:
            return False, None
        return bool(allowed), tuple(explanation)

    def candidate_rules(self, role: str, account: str, operation: str) -> list[Rule]:
        """Return the rules that can match, in the policy's order.

        Casbin evaluates every rule of its model for each request: 0.1 s with 30,000. A rule is its
        own key, so the few that can match are looked up, and Casbin decides with those.
        """
        keys = product(
            self.effective_roles(role), {account, ANY}, {operation, ANY}, EFFECTS, SCOPES
        )
        rules = self.statements.rules
        return sorted((rule for rule in keys if rule in rules), key=rules.__getitem__)

    def effective_roles(self, role: str) -> tuple[str, ...]:
        """Return the role and all roles that it inherits from, nearest first."""
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


def is_policy_file(name: str) -> bool:
    """Return whether the file belongs to a policy; hidden ones are locks or partial copies."""
    return name == MODEL_FILE or (name.endswith(".csv") and name[0] != "." and name != CASES_FILE)


def load_policy(folder: Path, known_operations: KnownOperations) -> Policy:
    """Read model.conf and every .csv file of the folder. Raises InvalidPolicy."""
    contents = read_files(WatchedFolder(folder, is_policy_file))
    return parse_policy(folder, contents, known_operations)


def parse_policy(folder: Path, contents: Contents, known_operations: KnownOperations) -> Policy:
    """Parse the files into a policy. Raises InvalidPolicy."""
    yield_control = CooperativeYield()
    files = _require_readable(folder, contents)
    rule_files = {file: content for file, content in files.items() if file.name != MODEL_FILE}
    statements = parse_statements(folder, rule_files, yield_control)
    check_inheritance(folder, statements.links, yield_control)
    unknown_operations = find_unknown_operations(statements, known_operations, yield_control)
    if unknown_operations and not known_operations.others_possible:
        raise InvalidPolicy(
            *(
                Fault(folder / unknown.location[0], unknown.location[1], unknown.reason)
                for unknown in unknown_operations
            )
        )
    for unknown in unknown_operations:
        if unknown.suggestion:
            logger.warning("%s:%d: %s", *unknown.location, unknown.reason)
    return Policy(
        revision=revision_of(files),
        statements=statements,
        enforcer=new_enforcer(folder / MODEL_FILE, files[folder / MODEL_FILE], statements.links),
        owned_operations=known_operations.owned,
        unknown_operations=unknown_operations,
    )


def _require_readable(folder: Path, contents: Contents) -> Mapping[Path, bytes]:
    """Return the files, or raise InvalidPolicy if one is missing or can't be read."""
    if isinstance(reason := contents.get(folder), str):
        raise InvalidPolicy(Fault(folder, None, f"can't read the policy folder: {reason}"))
    files = {file: content for file, content in contents.items() if isinstance(content, bytes)}
    faults = [
        Fault(file, None, reason) for file, reason in contents.items() if isinstance(reason, str)
    ]
    if folder / MODEL_FILE not in contents:
        faults.append(Fault(folder / MODEL_FILE, None, "No such file or directory"))
    if not contents.keys() - {folder / MODEL_FILE}:
        faults.append(Fault(folder, None, "the policy folder contains no .csv file"))
    if faults:
        raise InvalidPolicy(*faults)
    return files
