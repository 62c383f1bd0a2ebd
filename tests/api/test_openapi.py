"""The OpenAPI document: valid, and consistent with routes, errors and responses."""

import hashlib
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import jsonschema_rs
import pytest
import schemathesis

from batchd.api.routes import routes_of
from batchd.domain.batches import Status
from batchd.operations.openapi.document import document
from batchd.operations.request_schemas import EXPANDABLE
from batchd.operations.table import OPERATIONS
from tests.support.callers import ApiCaller, lines_of
from tests.support.openapi import nodes, operations, validator

DOCUMENT: dict[str, Any] = document(OPERATIONS)
ERRORS_OF_THE_CONTRACT = {
    (400, 400141),
    (400, 400314),
    (400, 400358),
    (400, 400415),
    (400, 400589),
    (400, 400592),
    (400, 400897),
    (401, 401000),
    (403, 403535),
    (404, 404653),
    (405, 400897),
    (429, 400141),
    (431, 400589),
    (500, 500000),
    (503, 503159),
}


def lookup(reference: str) -> Any:
    node: Any = DOCUMENT
    for name in reference.removeprefix("#/").split("/"):
        node = node[name]
    return node


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    target: dict[str, Any] = lookup(node["$ref"]) if "$ref" in node else node
    return target


def errors_in(response: dict[str, Any]) -> set[int]:
    schema = response["content"]["application/json"]["schema"]
    subcodes = schema["allOf"][1]["properties"]["subcode"]["enum"]
    lines = response["description"].splitlines()
    assert all(str(subcode) in line for subcode, line in zip(subcodes, lines, strict=True))
    return set(subcodes)


def test_it_is_a_valid_openapi_document() -> None:
    schemathesis.openapi.from_dict(DOCUMENT).validate()


def test_its_schemas_are_valid_json_schemas() -> None:
    for schema in DOCUMENT["components"]["schemas"].values():
        jsonschema_rs.meta.validate(schema)


def test_its_references_exist() -> None:
    references = {node["$ref"] for node in nodes(DOCUMENT) if "$ref" in node}
    assert all(lookup(reference) for reference in references)


def test_it_lists_every_route_and_nothing_else() -> None:
    documented = [(method, path) for method, path, _ in operations(DOCUMENT)]
    assert sorted(documented) == sorted(
        (route.method, route.path.replace(":[^/]+}", "}")) for route in routes_of(OPERATIONS)
    )


def test_its_operations_have_the_names_of_the_permissions() -> None:
    names = {
        (method, path): operation["operationId"] for method, path, operation in operations(DOCUMENT)
    }
    assert {names[endpoint.method, endpoint.path] for endpoint in OPERATIONS} == {
        endpoint.name for endpoint in OPERATIONS
    }
    assert len(set(names.values())) == len(names)


def test_every_operation_except_those_of_the_process_needs_a_secret(
    subtests: pytest.Subtests,
) -> None:
    open_to_all = {
        path for _, path, operation in operations(DOCUMENT) if operation.get("security") == []
    }
    assert open_to_all == {"/healthz", "/metrics", "/openapi.json", "/readyz"}
    for _, path, operation in operations(DOCUMENT):
        with subtests.test(path=path, operation=operation):
            assert ("401" in operation["responses"]) == (path not in open_to_all)


def test_it_has_every_error_of_the_contract_and_no_other() -> None:
    responses = [
        (status, resolved(response))
        for _, _, operation in operations(DOCUMENT)
        for status, response in operation["responses"].items()
        if status >= "400"
    ]
    # The answers to a method that no operation has, and to a head that was not read.
    shared = DOCUMENT["components"]["responses"]
    responses.append(("405", shared["MethodNotAllowed"]))
    responses.append(("431", shared["RequestHeaderFieldsTooLarge"]))
    documented = {
        (int(status), subcode)
        for status, operation in responses
        for subcode in errors_in(operation)
    }
    assert documented == ERRORS_OF_THE_CONTRACT


def test_every_response_has_its_trace(subtests: pytest.Subtests) -> None:
    for _, _, operation in operations(DOCUMENT):
        for response in operation["responses"].values():
            with subtests.test(operation=operation, response=response):
                assert "X-Request-Id" in resolved(response)["headers"]


def test_statuses_are_in_the_order_of_a_batch_life() -> None:
    assert DOCUMENT["components"]["schemas"]["Status"]["enum"] == [*map(str, Status)]


async def test_it_is_served(caller: ApiCaller) -> None:
    assert (await caller.get("/openapi.json")).body == DOCUMENT


async def test_batch_with_every_expansion_matches_its_schema(
    caller: ApiCaller, worker: Callable[[], AbstractAsyncContextManager[None]]
) -> None:
    nobody = {"path": {"batch": "00000000-0000-7000-8000-000000000000"}}
    lines = lines_of(nobody, nobody)
    async with worker():
        batch = await caller.create(
            lines, hash=hashlib.sha256(lines).hexdigest(), batch_dict={"order": [17]}
        )
        assert await caller.end(batch) == "completed"
    reply = await caller.get(f"/batches/{batch}?download=true&expand={','.join(EXPANDABLE)}")
    validator("BatchResponse").validate(reply.body)
    everything = DOCUMENT["components"]["schemas"]["BatchResponse"]["properties"]
    assert reply.body.keys() == everything.keys()
    assert reply.body["errors"]["404"] == {"count": 2, "lines": [1, 2]}
