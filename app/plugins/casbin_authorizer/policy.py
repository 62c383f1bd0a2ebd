"""One state of the policy files: its revision, and each decision made by Casbin once."""

import hashlib
from functools import lru_cache
from itertools import product
from pathlib import Path
from threading import Lock

import casbin

from batchd.domain.ids import AccountId
from batchd.domain.ports import Decision
from batchd.plugins.casbin_authorizer.bad_policy import BadPolicy
from batchd.plugins.casbin_authorizer.enforcer import new_enforcer
from batchd.plugins.casbin_authorizer.inheritance import check_inheritance
from batchd.plugins.casbin_authorizer.statements import (
    ANY,
    EFFECTS,
    NAME_LENGTH,
    Rule,
    Statements,
    parse_statements,
)

REMEMBERED = 100_000


class Policy:
    """Never changes, so that a decision once made holds as long as the policy is in force."""

    def __init__(self, *, revision: str, statements: Statements, enforcer: casbin.Enforcer) -> None:
        self.revision = revision
        self.statements = statements
        self._enforcer = enforcer
        self._enforcing = Lock()
        self._remembered = lru_cache(maxsize=REMEMBERED)(self._decide)

    def decide(self, role: str, account: AccountId, operation: str) -> Decision:
        """Say whether the role may perform the operation in the account, and by which rule."""
        if len(operation) > NAME_LENGTH:
            # No operation at all: text of the caller's, perhaps many kB, not to be remembered.
            return self._decide(role, account, operation)
        return self._remembered(role, account, operation)

    def _decide(self, role: str, account: AccountId, operation: str) -> Decision:
        question = (role, str(account), operation)
        with self._enforcing:  # two threads must not see each other's candidates
            self._enforcer.model["p"]["p"].policy = self._candidates(*question)
            allowed, explained = self._enforcer.enforce_ex(*question)
        rule: Rule | None = explained or None
        return Decision(
            # Where there is no candidate, Casbin tries the matcher on a rule of empty columns.
            allowed=allowed and rule is not None,
            revision=self.revision,
            rule=None if rule is None else f"{self.statements.rules[rule]}: {rule}",
        )

    def _candidates(self, role: str, account: str, operation: str) -> list[Rule]:
        """Return, in the policy's order, the rules that can match.

        Casbin tries every rule of its model on every request: 0.1 s with 30,000. A rule is its own
        key, so the few that can match are looked up, and Casbin decides by them.
        """
        roles = (role, *self._enforcer.get_implicit_roles_for_user(role))
        keys = map(Rule._make, product(roles, {account, ANY}, {operation, ANY}, EFFECTS))
        rules = self.statements.rules
        return sorted((rule for rule in keys if rule in rules), key=rules.__getitem__)


def load_policy(folder: Path) -> Policy:
    """Read model.conf and every .csv file of the folder. Raises BadPolicy."""
    model = folder / "model.conf"
    contents = _read(folder, model)
    statements = parse_statements({file: contents[file] for file in contents if file != model})
    if not statements.rules:
        raise BadPolicy(folder, None, "no .csv file has a rule (p, …): nobody could do anything")
    check_inheritance(statements.links)
    return Policy(
        revision=_revision(contents),
        statements=statements,
        enforcer=new_enforcer(model, contents[model], statements.links),
    )


def _read(folder: Path, model: Path) -> dict[Path, bytes]:
    """Read each file once: what is checked, what is hashed and what decides is the same."""
    try:
        files = sorted(folder.iterdir())
    except OSError as error:
        raise BadPolicy(folder, None, f"no policy folder: {error.strerror}") from None
    # A hidden file is an editor's lock or a copy being made.
    rule_files = [file for file in files if file.suffix == ".csv" and file.name[0] != "."]
    if not rule_files:
        raise BadPolicy(folder, None, "there is no .csv file in the policy folder")
    contents: dict[Path, bytes] = {}
    for file in (model, *rule_files):
        try:
            contents[file] = file.read_bytes()
        except OSError as error:
            raise BadPolicy(file, None, error.strerror or str(error)) from None
    return contents


def _revision(contents: dict[Path, bytes]) -> str:
    """Hash names and contents; the first 16 hexadecimal digits tell any two states apart."""
    digest = hashlib.sha256()
    for file, content in contents.items():
        digest.update(f"{file.name}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()[:16]
