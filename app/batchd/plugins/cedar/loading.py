"""Parses the .cedar files and roles.json of a folder; one invalid file invalidates the policy."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import cedarpy

from batchd.domain.ports import StartupError
from batchd.file_watcher import Contents
from batchd.plugins.cedar.policy import CedarPolicy, role_entity
from batchd.policies.store import revision_of

ROLES_FILE = "roles.json"
_ACTION = re.compile(r'\bAction::"([^"]*)"')
_ROLE = re.compile(r'\bRole::"([^"]*)"')
_USER = re.compile(r'\bUser::"')
_COMMENT = re.compile(r"//.*")
_SCHEMA = """
entity Role in [Role];
entity Account;
entity User in [Role] {{ account: Account }};
entity Resource {{ account: Account, owner: User }};
action {actions} appliesTo {{ principal: User, resource: Resource }};
"""


class InvalidCedarPolicy(StartupError):
    """A policy file is missing or invalid."""


def is_policy_file(name: str) -> bool:
    """Return whether the file is part of a policy."""
    return name == ROLES_FILE or (name.endswith(".cedar") and name[0] != ".")


def parse_policy(
    folder: Path, contents: Contents, operations: frozenset[str], *, more_operations: bool
) -> CedarPolicy:
    """Parse the files into a policy. Raises InvalidCedarPolicy, which lists every invalid file."""
    if isinstance(reason := contents.get(folder), str):
        raise InvalidCedarPolicy(f"{folder}: can't read the policy folder: {reason}")
    texts, faults = _decode_files(contents)
    roles_text = texts.pop(folder / ROLES_FILE, "{}")
    if not texts and not faults:
        faults.append(f"{folder}: the policy folder contains no .cedar file")
    named_roles: set[str] = set()
    policies: dict[str, object] = {}
    for file, text in texts.items():
        code = _COMMENT.sub("", text)
        named_roles.update(_ROLE.findall(code))
        unknown = () if more_operations else _unknown_actions(code, operations)
        line_faults = (*unknown, *_user_references(code))
        faults += (f"{file}:{line}: {reason}" for line, reason in line_faults)
        try:
            policies |= _parse_file(file.name, text, code, operations)
        except ValueError as error:
            faults.append(f"{file}: {error}")
    inherited: dict[str, tuple[str, ...]] = dict.fromkeys(sorted(named_roles), ())
    try:
        inherited |= _parse_roles(roles_text)
    except ValueError as error:
        faults.append(f"{folder / ROLES_FILE}: {error}")
    if faults:
        raise InvalidCedarPolicy("\n".join(faults))
    policy_set = json.dumps({"templates": {}, "staticPolicies": policies, "templateLinks": []})
    return CedarPolicy(
        revision=revision_of(contents),
        policies=cedarpy.PolicySet.from_json_str(policy_set, release_gil=True),
        inherited=inherited,
    )


def _decode_files(contents: Contents) -> tuple[dict[Path, str], list[str]]:
    texts, faults = {}, []
    for file, content in contents.items():
        try:
            texts[file] = content.decode() if isinstance(content, bytes) else ""
        except UnicodeDecodeError:
            faults.append(f"{file}: not UTF-8")
        if isinstance(content, str):
            faults.append(f"{file}: {content}")
    return texts, faults


def _parse_file(name: str, text: str, code: str, operations: Iterable[str]) -> dict[str, object]:
    """Return the policies of a file in Cedar's JSON, keyed by file name and policy id."""
    actions = ", ".join(json.dumps(action) for action in {*operations, *_ACTION.findall(code)})
    validation = cedarpy.validate_policies(text, _SCHEMA.format(actions=actions), release_gil=True)
    if not validation.validation_passed:
        raise ValueError("; ".join(error.error for error in validation.errors))
    policies = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"]
    if not policies:
        # More likely truncated while being written than intended: what it forbids would be lost.
        raise ValueError("the file contains no policies; delete it if that is intended")
    return {
        f"{name}: {policy.get('annotations', {}).get('id') or f'policy {number}'}": policy
        for number, policy in enumerate(policies.values(), start=1)
    }


def _unknown_actions(code: str, operations: frozenset[str]) -> Iterator[tuple[int, str]]:
    for match in _ACTION.finditer(code):
        if match[1] not in operations:
            yield _line_of(match), f"unknown operation {match[1]}"


def _user_references(code: str) -> Iterator[tuple[int, str]]:
    for match in _USER.finditer(code):
        yield _line_of(match), "policies grant permissions to roles, not to single users"


def _line_of(match: re.Match[str]) -> int:
    return match.string.count("\n", 0, match.start()) + 1


def _parse_roles(text: str) -> Mapping[str, tuple[str, ...]]:
    """Parse `{"role": ["inherited role", …]}`."""
    roles = json.loads(text)
    if not isinstance(roles, dict) or not all(
        isinstance(inherited, list) and all(isinstance(role, str) for role in inherited)
        for inherited in roles.values()
    ):
        raise ValueError("must be an object that maps each role to a list of the roles it inherits")
    inherited_by_role = {role: tuple(inherited) for role, inherited in roles.items()}
    # Cedar raises an error if a role inherits from itself.
    cedarpy.Entities.from_json_str(
        json.dumps([role_entity(role, inherited) for role, inherited in inherited_by_role.items()])
    )
    return inherited_by_role
