"""Reads the .cedar files and roles.json of a folder: all of it is right, or nothing takes force."""

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import cedarpy

from batchd.domain.ports import StartupError
from batchd.file_watcher import Contents
from batchd.plugins.cedar.policy import CedarPolicy, role_entity
from batchd.policies.store import revision_of

ROLES = "roles.json"
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
    """A file is missing or wrong."""


def wanted(name: str) -> bool:
    """Tell the files of a policy from others."""
    return name == ROLES or (name.endswith(".cedar") and name[0] != ".")


def parse_policy(
    folder: Path, contents: Contents, operations: frozenset[str], *, more_operations: bool
) -> CedarPolicy:
    """Make a policy of the files. Raises InvalidCedarPolicy, with every file that is wrong."""
    if isinstance(reason := contents.get(folder), str):
        raise InvalidCedarPolicy(f"{folder}: no policy folder: {reason}")
    texts, faults = _texts(contents)
    roles = texts.pop(folder / ROLES, "{}")
    if not texts and not faults:
        faults.append(f"{folder}: there is no .cedar file in the policy folder")
    named: set[str] = set()
    merged: dict[str, object] = {}
    for file, text in texts.items():
        plain = _COMMENT.sub("", text)
        named.update(_ROLE.findall(plain))
        unknown = () if more_operations else _unknown(plain, operations)
        faults += (f"{file}:{line}: {reason}" for line, reason in (*unknown, *_users(plain)))
        try:
            merged |= _checked(file.name, text, plain, operations)
        except ValueError as error:
            faults.append(f"{file}: {error}")
    inherited: dict[str, tuple[str, ...]] = dict.fromkeys(sorted(named), ())
    try:
        inherited |= _inherited(roles)
    except ValueError as error:
        faults.append(f"{folder / ROLES}: {error}")
    if faults:
        raise InvalidCedarPolicy("\n".join(faults))
    whole = json.dumps({"templates": {}, "staticPolicies": merged, "templateLinks": []})
    return CedarPolicy(
        revision=revision_of(contents),
        policies=cedarpy.PolicySet.from_json_str(whole, release_gil=True),
        inherited=inherited,
    )


def _texts(contents: Contents) -> tuple[dict[Path, str], list[str]]:
    texts, faults = {}, []
    for file, content in contents.items():
        try:
            texts[file] = content.decode() if isinstance(content, bytes) else ""
        except UnicodeDecodeError:
            faults.append(f"{file}: not UTF-8")
        if isinstance(content, str):
            faults.append(f"{file}: {content}")
    return texts, faults


def _checked(name: str, text: str, plain: str, operations: Iterable[str]) -> dict[str, object]:
    """Return the policies of a file in Cedar's JSON, by names that tell the file."""
    actions = ", ".join(json.dumps(one) for one in {*operations, *_ACTION.findall(plain)})
    checked = cedarpy.validate_policies(text, _SCHEMA.format(actions=actions), release_gil=True)
    if not checked.validation_passed:
        raise ValueError("; ".join(error.error for error in checked.errors))
    policies = json.loads(cedarpy.policies_to_json_str(text))["staticPolicies"]
    if not policies:
        # More likely cut off while it was written than meant: what it forbids would be gone.
        raise ValueError("there is no policy in it; delete the file if it is meant")
    return {
        f"{name}: {policy.get('annotations', {}).get('id') or f'policy {number}'}": policy
        for number, policy in enumerate(policies.values(), start=1)
    }


def _unknown(text: str, operations: frozenset[str]) -> Iterator[tuple[int, str]]:
    for found in _ACTION.finditer(text):
        if found[1] not in operations:
            yield _line(text, found), f"there is no operation {found[1]}"


def _users(text: str) -> Iterator[tuple[int, str]]:
    for found in _USER.finditer(text):
        yield _line(text, found), "roles are given permissions here, users are not"


def _line(text: str, found: re.Match[str]) -> int:
    return text.count("\n", 0, found.start()) + 1


def _inherited(text: str) -> Mapping[str, tuple[str, ...]]:
    """Parse `{"role": ["role whose policies it has as well", …]}`."""
    found = json.loads(text)
    if not isinstance(found, dict) or not all(
        isinstance(others, list) and all(isinstance(other, str) for other in others)
        for others in found.values()
    ):
        raise ValueError("it must be an object of lists of roles, by role")
    inherited = {role: tuple(others) for role, others in found.items()}
    # Cedar finds a role that inherits itself.
    cedarpy.Entities.from_json_str(
        json.dumps([role_entity(role, others) for role, others in inherited.items()])
    )
    return inherited
