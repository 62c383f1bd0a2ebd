"""The Casbin enforcer, built from a model.conf that must contain the definitions required here."""

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
"""As Casbin stores them, with `p_` and `r_` for `p.` and `r.`. Decisions are cached by role,
account, operation and owner, and rules are looked up by equality: both depend on these."""
OWNERS = {True: "own", False: "other"}
"""The value of `r.owner`: the caller, also for what does not exist yet, or another user."""


def new_enforcer(file: Path, content: bytes, links: Iterable[Link]) -> casbin.Enforcer:
    """Return an enforcer with the role links and without rules. Raises InvalidPolicy."""
    # Before the first enforcer: Casbin logs every denial and, at INFO, the whole policy.
    logging.getLogger("casbin").setLevel(logging.CRITICAL + 1)
    text = decode(file, content)
    try:
        model = casbin.Enforcer.new_model(text=text)
    except RuntimeError as error:
        line = re.search(r"line (\d+)", str(error))
        reason = f"invalid Casbin model: {error}"
        raise InvalidPolicy(Fault(file, int(line[1]) if line else None, reason)) from None
    for key, definition in DEFINITIONS.items():
        # Several spaces are equal to one, but not to none: spaces inside quotation marks count.
        actual = {name: " ".join(part.value.split()) for name, part in (model[key] or {}).items()}
        if actual != {key: definition}:
            expected = re.sub(r"\b([pr])_", r"\1.", definition)
            reason = f"the model must define {key} = {expected}, and nothing else"
            raise InvalidPolicy(Fault(file, _line_of(key, text), reason))
    model["e"]["e"].value = DEFINITIONS["e"]  # Casbin recognizes an effect by its exact spacing
    enforcer = casbin.Enforcer(model)
    enforcer.model["g"]["g"].policy = [list(link) for link in links]
    enforcer.build_role_links()
    return enforcer


def _line_of(key: str, text: str) -> int | None:
    match = re.search(rf"^[ \t]*{key}[ \t]*=", text, re.MULTILINE)
    return text.count("\n", 0, match.start()) + 1 if match else None
