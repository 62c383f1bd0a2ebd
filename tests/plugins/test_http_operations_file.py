"""The operations file: how faults are reported, and the defaults of its keys."""

import re
from pathlib import Path

import pytest

from batchd.plugins.http_operations import InvalidOperationsFile
from batchd.plugins.http_operations.schema import Breaker, OperationSchema, Retry
from tests.support.http_operations import GOOD, OP, URL, Declare

VARIABLES = {"TOKEN": "s3cret", "TWO_LINES": "s3cret\n", "BATCHD_X": "s3cret", "BRACE": "s3cret{a"}


def op(*lines: str, url: str = "http://127.0.0.1:9/a") -> str:
    return "\n".join((OP, f"url = '{url}'", *lines))


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        # The file
        ("", "operations", "is missing"),
        ("[operations]", "operations", "at least 1 item"),
        ("x = [", "", "invalid TOML: "),
        (GOOD + GOOD, "", "invalid TOML: "),
        (GOOD + "[defaults]", "defaults", "unknown key"),
        # Names
        (GOOD.replace(".op]", ".Op]"), "operations.Op", "a name consists of 1 to 64 of a-z"),
        (
            GOOD.replace(".op]", ".get_batch]"),
            "operations.get_batch",
            "the name is that of an operation or permission",
        ),
        # Keys and types
        (OP, "operations.op.url", "is missing"),
        (URL, "url", "unknown key"),
        (GOOD + "retries = 3", "operations.op.retries", "unknown key"),
        (GOOD + "retry.attempt = 3", "operations.op.retry.attempt", "unknown key"),
        (GOOD + "retry.attempts = 0", "operations.op.retry.attempts", "greater than or equal to 1"),
        (GOOD + "retry.attempts = '3'", "operations.op.retry.attempts", "valid integer"),
        (GOOD + "retry.give_up_after_s = 0", "operations.op.retry.give_up_after_s", "than 0"),
        (GOOD + "breaker.failures = -1", "operations.op.breaker.failures", "equal to 0"),
        (GOOD + "breaker.statuses = ['6xx']", "operations.op.breaker.statuses", "a class"),
        (GOOD + "breaker.window_s = 1", "operations.op.breaker.window_s", "unknown key"),
        (GOOD + "adaptive_concurrency = 1", "operations.op.adaptive_concurrency", "boolean"),
        (GOOD + "timeout_s = inf", "operations.op.timeout_s", "finite number"),
        (GOOD + "timeout_s = 0", "operations.op.timeout_s", "greater than 0"),
        (GOOD + "rate_per_s = -1", "operations.op.rate_per_s", "greater than 0"),
        (GOOD + "chunk_lines = 0", "operations.op.chunk_lines", "greater than or equal to 1"),
        (GOOD + "concurrency = true", "operations.op.concurrency", "valid integer"),
        (GOOD + "query = [1]", "operations.op.query.0", "valid string"),
        (GOOD + "types = { x = 'text' }", "operations.op.types.x", "'identifier', 'integer'"),
        (GOOD + "types = { y = 'integer' }", "operations.op", "'y' in `types` is not a parameter"),
        (GOOD.replace("POST", "post"), "operations.op.method", "'GET', 'HEAD', 'POST'"),
        # Statuses
        (GOOD + "success = 200", "operations.op.success", "must be a list of statuses"),
        (GOOD + "success = [99]", "operations.op.success", "99 is not a status"),
        (GOOD + "success = ['1xx']", "operations.op.success", "'1xx' is not a status"),
        (GOOD + "success = ['404-400']", "operations.op.success", "'404-400' is not a status"),
        (GOOD + "success = [true]", "operations.op.success", "True is not a status"),
        (
            GOOD + "retry.statuses = ['all']",
            "operations.op.retry.statuses",
            "'all' is not a status",
        ),
        (GOOD + "success = [503]", "operations.op", "503 can't be both a success and retried"),
        # The URL
        (OP + "url = 3", "operations.op.url", "must be a URL"),
        (op(url="/a"), "operations.op.url", "start with http://"),
        (op(url="file:///etc/passwd"), "operations.op.url", "start with http://"),
        (op(url="https:///a"), "operations.op.url", "have a host"),
        (op(url="https://{host}/a"), "operations.op.url", "have a host"),
        (op(url="https://a.{x}.example/a"), "operations.op.url", "have a host"),
        (op(url="https://a.example:{x}/a"), "operations.op.url", "have a host"),
        (op(url="https://a.example{x}"), "operations.op.url", "have a host"),
        (op(url="https://a.example:99999/"), "operations.op.url", "have a host"),
        (op(url="https://[::1/a"), "operations.op.url", ""),
        (op(url="https://u:p@a.example/"), "operations.op.url", "contain no user or password"),
        (op(url="https://a.example/#x"), "operations.op.url", "no fragment"),
        (op(url="https://a.example/a?b={x}"), "operations.op.url", "parameters in its path only"),
        (op(url="https://a.example/{x}/{x}"), "operations.op.url", "name each parameter once"),
        (op(url="https://a.example/{x"), "operations.op.url", "a path of URL characters"),
        (op(url="https://a.example/{}"), "operations.op.url", "a path of URL characters"),
        (op(url="https://a.example/a b"), "operations.op.url", "must be percent-encoded"),
        (op(url="https://ä.example/"), "operations.op.url", "must be percent-encoded"),
        (op(url="https://a.example/a%2"), "operations.op.url", "a path of URL characters"),
        (op(url="https://a.example/a/../{x}"), "operations.op.url", "path segment '.' or '..'"),
        (
            op(url="https://a.example/%00/{x}"),
            "operations.op.url",
            "not contain a control character",
        ),
        (op(url="https://a.example/%2e%2E/{x}"), "operations.op.url", "path segment '.' or '..'"),
        (
            op("query = ['b']", url="https://a.example/?b=1"),
            "operations.op",
            "'b' is fixed in the URL",
        ),
        # The environment
        (op(url="${NOT_THERE}/a"), "operations.op.url", "variable NOT_THERE is not set"),
        (op(url="${TOKEN/a"), "operations.op.url", "no matching '}'"),
        (op(url="${}/a"), "operations.op.url", "${} is not a valid"),
        (op(url="${TOKEN}/a"), "operations.op.url", "start with http://"),
        (op(url="http://${BRACE}/a"), "operations.op.url", "have a host"),
        (op(url="http://a.example/${BATCHD_X}"), "operations.op.url", "a setting of batchd"),
        # Headers
        (GOOD + "headers.X = 1", "operations.op.headers.X", "valid string"),
        (GOOD + "headers.'X Y' = ''", "operations.op.headers.X Y", "not a valid header name"),
        (GOOD + "headers.Host = 'a'", "operations.op.headers.Host", "can't be set by the file"),
        (
            GOOD + "headers.idempotency-key = 'a'",
            "operations.op.headers.idempotency-key",
            "can't be set by the file",
        ),
        (GOOD + "headers.X = '${TWO_LINES}'", "operations.op.headers.X", "printable ASCII"),
        (GOOD + "headers.X = '${NOT_THERE}'", "operations.op.headers.X", "NOT_THERE is not set"),
        (GOOD + "headers.X-Api-Key = 'abc'", "operations.op.headers", "X-Api-Key holds a secret"),
        (GOOD + "headers = {a = '1', A = '2'}", "operations.op.headers", "given twice"),
        # The body
        (GOOD + "body = 3", "operations.op.body", "must be a JSON Schema"),
        (GOOD + "body = {type = 'objekt'}", "operations.op.body", "invalid JSON Schema: /type: "),
        (GOOD + "body.properties.a.format = 'x'", "operations.op.body", "Unknown format: 'x'"),
        (GOOD + "body.pattern = '(?!a)'", "operations.op.body", "look-around and back-ref"),
        (GOOD + "body = {'$ref' = 'http://127.0.0.1:9/s'}", "operations.op.body", "disabled"),
        (GOOD + "body = {'$ref' = 'file:///etc/passwd'}", "operations.op.body", "disabled"),
        (GOOD + "body.const = 2026-01-01", "operations.op.body", "invalid JSON Schema"),
        (GOOD + "body = 'no.json'", "operations.op.body", "no.json: No such file"),
        (GOOD + "body = 'list.json'", "operations.op.body", "list.json: "),
        (GOOD + "body = 'broken.json'", "operations.op.body", "broken.json: "),
        (
            GOOD + "body = 'wrong.json'",
            "operations.op.body",
            "wrong.json: invalid JSON Schema: /type",
        ),
        (GOOD.replace("POST", "GET") + "body = {}", "operations.op", "GET has no body"),
    ],
    ids=str,
)
async def test_invalid_file_is_reported_with_key_and_reason(
    declare: Declare, tmp_path: Path, text: str, key: str, reason: str
) -> None:
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "broken.json").write_text("{")
    (tmp_path / "wrong.json").write_text('{"type": "objekt"}')
    with pytest.raises(InvalidOperationsFile) as raised:
        await declare(text, reserved=["get_batch"], **VARIABLES)
    faults = {fault.key: fault.reason for fault in raised.value.faults}
    assert key in faults, faults
    assert reason in faults[key]
    assert str(raised.value).startswith(f"{tmp_path / 'operations.toml'}: ")
    assert "s3cret" not in str(raised.value)


async def test_every_fault_is_reported(declare: Declare) -> None:
    text = GOOD + "timeout_s = 0\nheaders.X = '${A}'\n" + GOOD.replace(".op]", ".other]") + "x = 1"
    with pytest.raises(InvalidOperationsFile) as raised:
        await declare(text)
    assert [fault.key for fault in raised.value.faults] == [
        "operations.op.headers.X",
        "operations.op.timeout_s",
        "operations.other.x",
    ]
    assert len(str(raised.value).splitlines()) == 3


@pytest.mark.parametrize("content", [None, b"\xff"])
async def test_unreadable_file_is_refused(
    declare: Declare, tmp_path: Path, content: bytes | None
) -> None:
    source = await declare(GOOD)
    file = tmp_path / "operations.toml"
    file.unlink() if content is None else file.write_bytes(content)
    with pytest.raises(InvalidOperationsFile, match=r"can't be read: No such file|not UTF-8"):
        source.load()


def test_documentation_lists_every_key() -> None:
    text = (Path(__file__).parents[2] / "docs" / "batches.md").read_text(encoding="utf-8")
    keys = text.partition("\n### Keys\n")[2].partition("\n### ")[0]
    listed = set(re.findall(r"^\| `([a-z_.]+)` \|", keys, re.MULTILINE))
    keys_of_operations = OperationSchema.model_fields.keys() - {"retry", "breaker"}
    assert listed == {
        *keys_of_operations,
        *(f"retry.{name}" for name in Retry.model_fields),
        *(f"breaker.{name}" for name in Breaker.model_fields),
    }


async def test_defaults(declare: Declare) -> None:
    operation = (await declare(GOOD)).find("op")
    assert operation is not None
    schema = operation._schema
    assert (schema.timeout_s, schema.concurrency, schema.rate_per_s) == (30, 64, None)
    assert schema.retry.attempts == 3
    assert schema.retry.statuses == {429, 502, 503, 504}
    assert schema.retry.give_up_after_s == 3600
    assert (schema.breaker.failures, schema.breaker.max_probe_interval_s) == (10, 30)
    assert schema.breaker.statuses == set(range(500, 600))
    assert schema.adaptive_concurrency
    assert schema.success == set(range(200, 300))
    assert schema.max_answer_bytes == 65536
