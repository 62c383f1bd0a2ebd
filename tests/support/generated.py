"""Requests that schemathesis makes of the OpenAPI document, sent to the live API."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import schemathesis
from schemathesis import Case, CheckContext, Response, engine
from schemathesis.engine import events

from tests.support.openapi import strict_document

FORM_SUBCODES = {400314, 400415, 400589}
PHASES = ("examples", "coverage", "fuzzing", "stateful")


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchange:
    """A generated request, and the status of its response."""

    operation: str
    """Method and path of the documented operation that it was generated from."""
    method: str
    """The method used, which may be another one."""
    status: int


@dataclass(frozen=True, slots=True)
class Findings:
    exchanges: list[Exchange] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def statuses(self, operation: str, method: str | None = None) -> set[int]:
        """Return the statuses of the operation's requests; with a method, of that method only."""
        return {
            exchange.status
            for exchange in self.exchanges
            if exchange.operation == operation and method in {None, exchange.method}
        }


@schemathesis.check
def well_formed_is_not_called_malformed(
    ctx: CheckContext, response: Response, case: Case[Any]
) -> bool | None:
    """A request that conforms to the document may be refused, but not as malformed."""
    fits = case.meta is not None and case.meta.generation.mode.is_positive
    if fits and response.status_code == 400:
        body = response.json()
        # A cursor is opaque: no schema says which strings are one.
        about_cursor = body["description"].startswith("query.cursor:")
        assert about_cursor or body["subcode"] not in FORM_SUBCODES, body
    return None


def send_generated_requests(
    api_url: str,
    secret: str,
    *,
    phases: Sequence[str],
    examples: int,
    existing: Mapping[str, Sequence[str]] | None = None,
    document: dict[str, Any] | None = None,
    seed: int | None = None,
) -> Findings:
    """Send the same requests on every run, and check the responses against the document.

    Blocks. With a `seed` they are others. `known` are values that exist, by parameter
    (`path.batch`); about half of the requests use one.
    """
    existing = existing or {}
    config = schemathesis.Config.from_dict(
        {
            "seed": 1 if seed is None else seed,
            "base-url": api_url,
            "headers": {"Authorization": secret},
            "continue-on-failure": True,
            "request-timeout": 10,
            "phases": {phase: {"enabled": phase in phases} for phase in PHASES},
            "generation": {
                "deterministic": seed is None,
                "database": "none",
                "max-examples": examples,
            },
            # `well_formed_is_not_called_malformed` says it more exactly.
            "checks": {"positive_data_acceptance": {"enabled": False}},
            "dictionaries": {
                name.replace(".", "_"): {"values": list(values)}
                for name, values in existing.items()
            },
            "parameters": {
                name: {"dictionary": name.replace(".", "_"), "probability": 0.5}
                for name in existing
            },
        }
    )
    schema = schemathesis.openapi.from_dict(document or strict_document(), config=config)
    findings = Findings()
    for event in engine.from_schema(schema).execute():
        match event:
            case events.ScenarioFinished():
                _read(event, findings)
            case events.NonFatalError() | events.FatalError():
                findings.failures.append(repr(event))
    return findings


def _read(scenario: events.ScenarioFinished, findings: Findings) -> None:
    recorder = scenario.recorder
    for case, interaction in recorder.interactions.items():
        if interaction.response is not None:
            findings.exchanges.append(
                Exchange(
                    operation=recorder.cases[case].value.operation.label,
                    method=interaction.request.method,
                    status=interaction.response.status_code,
                )
            )
    for case, checks in recorder.checks.items():
        for check in checks:
            if check.failure_info is not None:
                response = recorder.interactions[case].response
                findings.failures.append(
                    f"{check.name}: {check.failure_info.failure.message}\n"
                    f"{check.failure_info.code_sample}\n"
                    f"{response.text if response is not None else 'no response'}"
                )
