"""HTTP operations: values are judged and passed on as they were written in the line."""

import pytest

from batchd.domain.operations import OperationCall, OperationRequest, OperationResult
from batchd.pipeline.line_parser import parse
from batchd.plugins.http_operations import HttpOperations
from tests.support.http_operations import CALLER, GET, Declare, authorized
from tests.support.upstream import Upstream

POST = (
    GET.replace("GET", "POST")
    + """
[operations.op.body]
type = "object"
"""
)
BIG = 1234567890123456789


def issues_of_line(source: HttpOperations, line: str) -> list[tuple[str, str]]:
    """Return the issues of a line of a batch file."""
    operation = source.find("op")
    assert operation is not None
    request = parse(line.encode(), number=1).request
    return [(issue.pointer, issue.message) for issue in operation.check(request)]


async def run_line(source: HttpOperations, line: str) -> OperationResult:
    """Run a line of a batch file."""
    operation = source.find("op")
    assert operation is not None
    request = parse(line.encode(), number=1).request
    call = OperationCall(caller=CALLER, request=request, key="b:1", authorize=authorized)
    return await operation.run(call)


@pytest.mark.parametrize(
    ("body_text", "message"),
    [
        ('{"n": "5"}', "It must be a whole number, not text."),
        ('{"n": 1.5}', "It must be a whole number."),
        ('{"n": null}', "It must be a whole number, not null."),
        ('{"t": true}', "It must be text or null, not true or false."),
        ('{"t": {}}', "It must be text or null, not an object."),
        ('{"currency": "eur"}', 'It must be one of "CHF", "EUR", 1. Perhaps \'EUR\' is meant.'),
        ('{"currency": [1.50]}', 'It must be one of "CHF", "EUR", 1.'),
    ],
)
async def test_a_value_of_a_body_is_explained(
    declare: Declare, body_text: str, message: str
) -> None:
    rules = """
    properties.n = { type = "integer" }
    properties.t = { type = ["string", "null"] }
    properties.currency = { enum = ["CHF", "EUR", 1] }
    """
    source = await declare(POST + rules, BASE="http://localhost:1")
    reported = issues_of_line(source, f'{{"path": {{"x": "a"}}, "body": {body_text}}}')
    assert [text for _, text in reported] == [message]


@pytest.mark.parametrize(
    ("query_text", "message"),
    [
        ('{"pagee": 1}', "There is no such parameter. Perhaps 'page' is meant."),
        ('{"page": null}', "It must not be null: leave it out."),
    ],
)
async def test_a_parameter_of_the_query_is_explained(
    declare: Declare, query_text: str, message: str
) -> None:
    source = await declare(f"{GET}query = ['page']", BASE="http://localhost:1")
    reported = issues_of_line(source, f'{{"path": {{"x": "a"}}, "query": {query_text}}}')
    assert [text for _, text in reported] == [message]


@pytest.mark.parametrize(
    ("path_text", "message"),
    [
        ("-0.0", "-0.0 is a decimal number; write 0."),
        ("1e2", "1e2 is a decimal number; write 100."),
        ("101.00", "101.00 is a decimal number; write 101."),
        ("null", "It must be a string, a number or a boolean, not null."),
    ],
)
async def test_a_parameter_of_the_path_is_explained(
    declare: Declare, path_text: str, message: str
) -> None:
    source = await declare(GET, BASE="http://localhost:1")
    reported = issues_of_line(source, f'{{"path": {{"x": {path_text}}}}}')
    assert [text for _, text in reported] == [message]


@pytest.mark.parametrize(
    ("body_text", "message"),
    [
        ('{"amount": 100000000000000000.01}', "It is greater than the maximum of"),
        ('{"amount": 1e17}', None),
        ('{"amount": 12.50}', None),
        ('{"amount": 123456789012345.12}', None),
        ('{"amount": 123456789012345.123456}', "It is not a multiple of 0.01."),
        ('{"amount": 1e400}', "It is greater than the maximum of"),
        ('{"amount": 1e-1000000}', "A number in it is out of range"),
        ('{"amount": 1e999999999}', "A number in it is out of range"),
        (f'{{"amount": {"1" * 10_000}}}', "A whole number in it has too many digits."),
        (f'{{"amount": {"[" * 300}{"]" * 300}}}', "It is nested too deeply."),
        (f'{{"amount":  {"[" * 3000}{"]" * 3000}}}', "It is nested too deeply."),
    ],
    ids=lambda text: str(text)[:30],
)
async def test_body_is_validated_as_it_was_written(
    declare: Declare, upstream: Upstream, body_text: str, message: str | None
) -> None:
    rule = f"type = 'number', maximum = {10**17}, multipleOf = 0.01"
    source = await declare(f"{POST}properties.amount = {{ {rule} }}", BASE=upstream.url)
    operation = source.find("op")
    assert operation is not None
    request = OperationRequest(path={"x": "a"}, body=body_text.encode())
    reported = [issue.message for issue in operation.check(request)]
    assert len(reported) == (message is not None)
    assert message is None or reported[0].startswith(message)


@pytest.mark.parametrize(
    "body_text",
    [
        '{"v":123456789012345.123456}',
        '{"v":100000000000000000.01}',
        '{"v":12.50}',
        '{"v" : 1e17, "w":1E+400,\t"x": -0, "y":-0.0, "z": 123456789012345678901234567890 }',
        '{"v":"\\u00e9\\/\\ud83d\\ude00é","w":[ ],"x":{ }}',
    ],
)
async def test_body_arrives_as_it_was_written(
    declare: Declare, upstream: Upstream, body_text: str
) -> None:
    source = await declare(POST, BASE=upstream.url)
    line = f'{{"path": {{"x": "a"}}, "body": {body_text}}}'
    assert (await run_line(source, line)).status == 200
    assert upstream.requests[0].body == body_text.encode()


async def test_numbers_of_a_query_arrive_as_they_were_written(
    declare: Declare, upstream: Upstream
) -> None:
    source = await declare(GET + 'query = ["tag"]', BASE=upstream.url)
    numbers = ["12.50", "1e17", "1E+400", "123456789012345.123456", "101.0", "-0.0", "9" * 30]
    line = f'{{"path": {{"x": 1.50}}, "query": {{"tag": [{", ".join(numbers)}]}}}}'
    assert (await run_line(source, line)).status == 200
    expected = "&".join(f"tag={number.replace('+', '%2B')}" for number in numbers)
    assert upstream.requests[0].target == f"/a/1.50?{expected}"


@pytest.mark.parametrize(
    ("types", "number", "message"),
    [
        ("{}", "101.0", "101.0 is a decimal number; write 101."),
        ("{}", "-7.00", "-7.00 is a decimal number; write -7."),
        ("{}", "1e3", "1e3 is a decimal number; write 1000."),
        (
            "{}",
            "9007199254740993.0",
            "9007199254740993.0 is a decimal number; write 9007199254740993.",
        ),
        (
            "{}",
            "1e999999",
            "1e999999 is a decimal number; write it without a fraction and an exponent.",
        ),
        ("{}", "101", None),
        ("{}", "1.5", None),
        ("{}", '"101.0"', None),
        ("{}", "9007199254740992.00000001", None),
        ('{ x = "integer" }', "101.0", "101.0 is a decimal number; write 101."),
        ('{ x = "integer" }', "1.5", "It must be a whole number."),
        ('{ x = "integer" }', '"abc"', "It must be a whole number."),
        ('{ x = "integer" }', '"007"', "It must be a whole number."),
        ('{ x = "integer" }', "true", "It must be a whole number."),
        ('{ x = "integer" }', "101", None),
        ('{ x = "integer" }', '"-101"', None),
        ('{ x = "number" }', "101.0", None),
        ('{ x = "number" }', '"1.50"', None),
        ('{ x = "number" }', '"1.5.0"', "It must be a number."),
    ],
)
async def test_parameter_of_the_path_is_judged_by_its_type(
    declare: Declare, upstream: Upstream, types: str, number: str, message: str | None
) -> None:
    source = await declare(GET + f"types = {types}", BASE=upstream.url)
    line = f'{{"path": {{"x": {number}}}}}'
    assert issues_of_line(source, line) == ([] if message is None else [("/path/x", message)])


@pytest.mark.parametrize(
    ("types", "value", "message"),
    [
        ("{}", "101.0", None),
        ('{ page = "integer" }', "101.0", "101.0 is a decimal number; write 101."),
        ('{ page = "integer" }', "[1, 2.0, 3.5]", "2.0 is a decimal number; write 2."),
        ('{ page = "integer" }', "[1, 2]", None),
        ('{ page = "number" }', "101.0", None),
    ],
)
async def test_parameter_of_the_query_is_judged_by_its_type(
    declare: Declare, upstream: Upstream, types: str, value: str, message: str | None
) -> None:
    source = await declare(GET + f'query = ["page"]\ntypes = {types}', BASE=upstream.url)
    line = f'{{"path": {{"x": "a"}}, "query": {{"page": {value}}}}}'
    assert issues_of_line(source, line) == ([] if message is None else [("/query/page", message)])
