"""The messages about invalid requests say what is wrong and what to do."""

import gzip
from collections.abc import Mapping

import pytest

from batchd.domain.errors import BatchdError, InvalidCharacters, NotAValidJson
from batchd.domain.operations import OperationRequest
from batchd.operations import requests
from batchd.operations.table import OPERATIONS

HANDLER = "00000000-0000-7000-8000-000000000000"
BATCH = {"batch": HANDLER}
PARSE = {operation.name: operation.parse for operation in OPERATIONS}

GE = "query.ge: It must be seconds (not milliseconds) since the Unix epoch, for example 1767225600."
UUID = "It must be a UUID in its canonical form"
PRIORITY = "body.priority: It must be a whole number from -100 to 100"


def refusal(name: str, **parts: object) -> BatchdError:
    error = PARSE[name](OperationRequest(**parts))  # type: ignore[arg-type]
    assert isinstance(error, BatchdError), error
    return error


def create(text: str) -> bytes:
    return f'{{"handler": "{HANDLER}", "operation": "get_batch"{text}}}'.encode()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        (
            {"status[]": ["completed", "cancelled"]},
            (
                "query.status[]: There is no such parameter. Its name is 'status': "
                "separate several values by commas."
            ),
        ),
        (
            {"limit[]": "1"},
            "query.limit[]: There is no such parameter. Its name is 'limit': give it once.",
        ),
        (
            {"status": ("completed", "cancelled")},
            "query.status: It is given more than once: separate several values by commas.",
        ),
        ({"limit": ("1", "2")}, "query.limit: It is given more than once."),
        (
            {"status": ["completed"]},
            "query.status: It must not be a list: separate several values by commas.",
        ),
        ({"limit": [1]}, "query.limit: It must not be a list."),
        (
            {"page": "1"},
            "query.page: There is no such parameter. There are limit, cursor, ge, le and status.",
        ),
        ({"GE": "1"}, "query.GE: There is no such parameter. Perhaps 'ge' is meant."),
        (
            {"ge": "2026-01-01T00:00:00Z"},
            GE,
        ),
        (
            {"ge": -1},
            GE,
        ),
        ({"limit": "many"}, "query.limit: It must be a whole number from 1 to 1000."),
        ({"limit": "1.5"}, "query.limit: It must be a whole number from 1 to 1000."),
        ({"limit": "1001"}, "query.limit: It must be a whole number from 1 to 1000."),
        ({"limit": None}, "query.limit: It must not be null: leave it out."),
        (
            {"limits": "1"},
            "query.limits: There is no such parameter. Perhaps 'limit' is meant.",
        ),
        (
            {"xyz": "1"},
            "query.xyz: There is no such parameter. There are limit, cursor, ge, le and status.",
        ),
        (
            {"status[0]": "completed"},
            (
                "query.status[0]: There is no such parameter. Its name is 'status': "
                "separate several values by commas."
            ),
        ),
        ({"ge": "1767225600000"}, GE),
        ({"ge": " 1"}, "query.ge: There is a space before or after it: leave it out."),
        (
            {"status": "new, completed"},
            "query.status: There is a space before or after 'completed': leave it out.",
        ),
        (
            {"cursor": "null"},
            "query.cursor: It is not a cursor: take it from the previous page, or leave it out.",
        ),
    ],
)
def test_query_parameter_is_explained(query: Mapping[str, object], message: str) -> None:
    assert refusal("get_batches", query=query).description == message


def test_status_that_is_none_is_told_from_those_that_are() -> None:
    message = refusal("get_batches", query={"status": "new,complete"}).description
    assert message == (
        "query.status: 'complete' is none of new, copying, copied, hash_mismatch, validating, "
        "validation_failed, processing, processed, writing_results, completed, cancel, cancelling, "
        "cancelled, deleting. Perhaps 'completed' is meant."
    )
    message = refusal("get_batch", path=BATCH, query={"expand": "progres"}).description
    assert message.endswith("Perhaps 'progress' is meant.")
    long = refusal("get_batches", query={"status": "x" * 5000}).description
    assert len(long) < 400


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"status": "cancelled"}', "body.status: It must be 'cancel', not 'cancelled'."),
        ('{"status": 1}', "body.status: It must be 'cancel', not a whole number."),
        ('{"status": ["cancel"]}', "body.status: It must be 'cancel', not a list."),
        (
            '{"status": "cancel", "xyz": 1}',
            "body.xyz: There is no such attribute. There is only 'status'.",
        ),
        ('{"status": null}', "body.status: It must be 'cancel', not null."),
        ("{}", "body.status: It is missing."),
        (
            '{"state": "cancel"}',
            "body.state: There is no such attribute. Perhaps 'status' is meant.",
        ),
        ("[]", "body: It must be an object, not a list."),
        ("null", "body: It must be an object, not null."),
        ("1.5", "body: It must be an object, not a number."),
    ],
)
def test_body_of_a_cancel_is_explained(body: str, message: str) -> None:
    assert refusal("update_batch", path=BATCH, body=body.encode()).description == message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (', "priority": "high"', f"{PRIORITY}, not text."),
        (', "priority": 1.5', f"{PRIORITY}."),
        (', "priority": 101', f"{PRIORITY}."),
        (', "priority": 1e400', f"{PRIORITY}."),
        (', "priority": true', f"{PRIORITY}, not true or false."),
        (
            ', "hash": 1',
            (
                "body.hash: It must be a SHA-256 of 64 lower-case hexadecimal digits, "
                "not a whole number."
            ),
        ),
        (', "batch_dict": []', "body.batch_dict: It must be an object, not a list."),
        (
            ', "hash": "x"',
            "body.hash: It must be a SHA-256 of 64 lower-case hexadecimal digits.",
        ),
        (
            ', "batch_dict": {"A": 1}',
            (
                "body.batch_dict.A: A key must have 1 to 64 of a-z, 0-9 and _, and not begin with "
                "a digit."
            ),
        ),
        (
            ', "handler": "x"',
            "body.handler: 'handler' is given twice in one object: leave one of them out.",
        ),
        (
            ', "batch_dict": {"a": 1, "a": 1}',
            "body.batch_dict.a: 'a' is given twice in one object: leave one of them out.",
        ),
        (
            ', "batch_dict": {"a": [1, {"b": 1, "\\u0062": 2}]}',
            "body.batch_dict.a.1.b: 'b' is given twice in one object: leave one of them out.",
        ),
    ],
)
def test_body_of_a_creation_is_explained(text: str, message: str) -> None:
    assert refusal("create_batch", body=create(text)).description == message


@pytest.mark.parametrize(
    ("name", "parts", "message"),
    [
        ("get_batch", {"path": {"batch": None}}, f"path.batch: {UUID}, not null."),
        ("get_batch", {"path": {"batch": 7}}, f"path.batch: {UUID}."),
        (
            "get_batch",
            {"path": BATCH, "query": {"expand": "hash,"}},
            "query.expand: A value is empty: leave it out, or give one of operation, ",
        ),
        (
            "who_am_i",
            {"query": {"a": "1"}},
            "query.a: There is no such parameter. There is none at all.",
        ),
        (
            "create_batch",
            {"body": b'{"handler": null, "operation": "get_batch"}'},
            f"body.handler: {UUID}, not null.",
        ),
        (
            "create_batch",
            {"body": b'{"handler": ["a"], "operation": "get_batch"}'},
            f"body.handler: {UUID}, not a list.",
        ),
        (
            "create_batch",
            {"body": f'{{"handler": "{HANDLER}", "operation": ""}}'.encode()},
            "body.operation: It must be text of 1 to 64 characters.",
        ),
        (
            "get_user_role",
            {"path": {"role": "x" * 65}},
            "path.role: It must be text of 1 to 64 characters.",
        ),
    ],
)
def test_value_of_the_wrong_kind_is_explained(
    name: str, parts: Mapping[str, object], message: str
) -> None:
    assert refusal(name, **parts).description.startswith(message)


def test_message_is_no_echo() -> None:
    name = "x" * 50_000
    for body in (f'{{"{name}": 1}}', f'{{"{name}": 1, "{name}": 1}}', f'{{"status": "{name}"}}'):
        assert len(refusal("update_batch", path=BATCH, body=body.encode()).description) < 200
    assert len(refusal("get_batches", query={name: "1"}).description) < 200


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "The body is not JSON: it is empty."),
        (b'{"a": ?}', "The body is not JSON: invalid character (byte 7)."),
        (b'{"a": 1}x', "The body is not JSON: trailing characters (byte 9)."),
        (b'{"a": "\\q"}', "The body is not JSON: invalid escaped character (byte 9)."),
        (b'{"a": tru}', "The body is not JSON: invalid character (byte 7)."),
        (b'{"a": NaN}', "The body is not JSON: NaN is not a number in JSON (byte 7)."),
        (
            b"\xef\xbb\xbf{}\xef\xbb\xbf",
            "The body is not JSON: trailing characters: U+FEFF, a byte order mark (byte 6).",
        ),
        (b'\xef\xbb\xbf{"a": ?}', "The body is not JSON: invalid character (byte 10)."),
        (
            b'{"a": "\\ud83d"}',
            (
                "The body is not JSON: \\ud83d is half of a surrogate pair, whose other half is "
                "missing (byte 8)."
            ),
        ),
    ],
)
def test_place_in_a_body_is_counted_from_1(body: bytes, message: str) -> None:
    error = refusal("create_batch", body=body)
    assert isinstance(error, NotAValidJson)
    assert error.description == message


def test_byte_that_is_not_utf_8_is_counted_like_one_that_is_not_json() -> None:
    error = refusal("create_batch", body=b'{"a": \xff}')
    assert isinstance(error, InvalidCharacters)
    assert error.description == "Byte 7 of the body is not UTF-8."


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ('{"a": 1}'.encode("utf-16"), "The body is UTF-16, not UTF-8."),
        ('{"a": 1}'.encode("utf-16-be"), "The body is UTF-16, not UTF-8."),
        ('{"a": 1}'.encode("utf-32"), "The body is UTF-32, not UTF-8."),
        (
            gzip.compress(b'{"a": 1}'),
            "The body is compressed: send Content-Encoding: gzip with it.",
        ),
    ],
    ids=["UTF-16", "UTF-16 without a mark", "UTF-32", "gzip"],
)
def test_other_encoding_of_a_body_is_named(body: bytes, message: str) -> None:
    error = refusal("create_batch", body=body)
    assert isinstance(error, InvalidCharacters)
    assert error.description == message


def test_byte_order_mark_at_the_start_is_skipped() -> None:
    plain, marked = (
        requests.create_batch(OperationRequest(body=mark + create("")))
        for mark in (b"", b"\xef\xbb\xbf")
    )
    assert plain == marked


def test_null_counts_as_absent() -> None:
    nulls = ', "hash": null, "batch_dict": null, "priority": null'
    plain, null = (
        requests.create_batch(OperationRequest(body=create(text))) for text in ("", nulls)
    )
    assert plain == null
    assert refusal("create_batch", body=create(', "handlers": null')).description.startswith(
        "body.handlers: There is no such attribute."
    )


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 123456789012345.123456, "b": 1e17, "c": 12.50, "d": 1E400, "e": -0.0}',
        '{ "z" : 1 ,\n\t"a":\r\n [ ] }',
        '{"a": "\\u00e9\\/\\u2028", "b": "é"}',
        '{"a": 123456789012345678901234567890}',
        "{}",
    ],
)
def test_batch_dict_is_kept_as_written(text: str) -> None:
    command = requests.create_batch(OperationRequest(body=create(f', "batch_dict": {text}')))
    assert command.batch_dict == text.encode()
