"""Casbin itself, set up after model.conf, which must say what this plugin is built on."""

import logging
import re
from collections.abc import Iterable
from pathlib import Path

import casbin

from batchd.plugins.casbin.errors import Fault, InvalidPolicy, decode
from batchd.plugins.casbin.statements import Link

DEFINITIONS = {
    "r": "role, account, operation, owner",
    "p": "role, account, operation, eft, scope",
    "g": "_, _",
    "e": "some(where (p_eft == allow)) && !some(where (p_eft == deny))",
    "m": '(p_account == "*" || p_account == r_account)'
    ' && (p_operation == "*" || p_operation == r_operation)'
    ' && (p_scope == "any" || p_scope == r_owner) && g(r_role, p_role)',
}
"""As Casbin keeps them: it has made `p.` and `r.` into `p_` and `r_`. Decisions are remembered by
role, account, operation and owner, and rules are looked up by equality: both need these."""
OWNERS = {True: "own", False: "other"}
"""What `r.owner` is: the caller (also where nothing is there that is anybody's), or another."""


def new_enforcer(file: Path, content: bytes, links: Iterable[Link]) -> casbin.Enforcer:
    """Return an enforcer that knows the roles and, as yet, no rule. Raises InvalidPolicy."""
    # Before the first enforcer: Casbin logs every denial and, at INFO, the whole policy.
    logging.getLogger("casbin").setLevel(logging.CRITICAL + 1)
    text = decode(file, content)
    try:
        model = casbin.Enforcer.new_model(text=text)
    except RuntimeError as error:
        line = re.search(r"line (\d+)", str(error))
        reason = f"not a Casbin model: {error}"
        raise InvalidPolicy(Fault(file, int(line[1]) if line else None, reason)) from None
    for key, definition in DEFINITIONS.items():
        # One space for many, but not none for one: a space inside quotation marks means something.
        found = {name: " ".join(part.value.split()) for name, part in (model[key] or {}).items()}
        if found != {key: definition}:
            wanted = re.sub(r"\b([pr])_", r"\1.", definition)
            reason = f"the model must define {key} = {wanted}, and nothing beside it"
            raise InvalidPolicy(Fault(file, _line_of(key, text), reason))
    model["e"]["e"].value = DEFINITIONS["e"]  # Casbin knows an effect by its exact spacing
    enforcer = casbin.Enforcer(model)
    enforcer.model["g"]["g"].policy = [list(link) for link in links]
    enforcer.build_role_links()
    return enforcer


def _line_of(key: str, text: str) -> int | None:
    found = re.search(rf"^[ \t]*{key}[ \t]*=", text, re.MULTILINE)
    return text.count("\n", 0, found.start()) + 1 if found else None
