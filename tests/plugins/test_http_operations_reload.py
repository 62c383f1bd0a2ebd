"""The operations file, and the schemas that it names, when they change while they are in force."""

import asyncio
import logging
from pathlib import Path

import pytest

from batchd.domain.operations import OperationRequest
from batchd.file_watcher import SETTLE_S
from batchd.plugins.http_operations import HttpOperations
from tests.support.http_operations import GOOD, OP, Declare, run
from tests.support.polling import eventually
from tests.support.upstream import Upstream


async def names(source: HttpOperations, *expected: str) -> None:
    """Wait until these are in force."""

    async def look() -> set[str]:
        return set(source.names())

    await eventually(look, lambda seen: seen == set(expected))


async def test_a_change_takes_force_as_a_whole(
    declare: Declare, upstream: Upstream, tmp_path: Path
) -> None:
    file = tmp_path / "operations.toml"
    text = OP + 'url = "${BASE}/old"\n'
    source = await declare(text, BASE=upstream.url)
    async with source.following():
        new = text.replace("old", "new")
        file.write_text(new + new.replace(".op]", ".another]"))
        await names(source, "op", "another")
        await run(source)
        # Replaced by another file of the same size, as editors and Kubernetes do.
        other = tmp_path / "other"
        other.write_text(file.read_text().replace("another", "renamed"))
        other.replace(file)
        await names(source, "op", "renamed")
        assert source.find("another") is None
    assert upstream.seen[0].target == "/new"


@pytest.mark.parametrize("path", ["schema.json", "schemas/one.json", "../schema.json"])
async def test_a_changed_schema_takes_force(declare: Declare, tmp_path: Path, path: str) -> None:
    schema = tmp_path / path
    schema.parent.mkdir(exist_ok=True)
    schema.write_text('{"required": ["a"]}')
    source = await declare(GOOD + f'body = "{path}"')

    assert await missing(source) == ["/body/a"]
    async with source.following():
        schema.write_text('{"required": ["b"]}')
        await eventually(lambda: missing(source), lambda found: found == ["/body/b"])


async def test_a_schema_is_followed_from_when_it_is_named(
    declare: Declare, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    source = await declare(GOOD)
    schema = tmp_path / "schema.json"

    async def told() -> int:
        return len([message for message in caplog.messages if "operations" in message])

    async with source.following():
        schema.write_text('{"required": ["a"]}')
        (tmp_path / "operations.toml").write_text(GOOD + 'body = "schema.json"')
        await eventually(lambda: missing(source), lambda found: found == ["/body/a"])
        schema.unlink()
        await eventually(told, lambda count: count == 3)
        assert "schema.json: No such file" in caplog.text
        assert await missing(source) == ["/body/a"]
        schema.write_text('{"required": ["b"]}')
        await eventually(lambda: missing(source), lambda found: found == ["/body/b"])
    assert await told() == 4


async def missing(source: HttpOperations) -> list[str]:
    """Return what a line without anything in its body would lack."""
    operation = source.find("op")
    assert operation is not None
    return [found.pointer for found in operation.check(OperationRequest(path={"x": 1}, body={}))]


NO_PATH = GOOD + 'body = "a\\u0000b"'


@pytest.mark.parametrize(
    "bad", ["", "[operations", GOOD.replace("op]", "get_batch]"), NO_PATH, None], ids=repr
)
async def test_a_bad_file_changes_nothing_and_is_told_once(
    declare: Declare, tmp_path: Path, caplog: pytest.LogCaptureFixture, bad: str | None
) -> None:
    file = tmp_path / "operations.toml"
    source = await declare(GOOD, taken=["get_batch"])
    in_force = source.find("op")

    async def told() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]

    async with source.following():
        file.unlink() if bad is None else file.write_text(bad)
        await eventually(told, bool)
        assert source.find("op") is in_force
        # It goes on being looked at: the next good one takes force.
        file.write_text(GOOD.replace("op]", "mended]"))
        await names(source, "mended")
    (message,) = await told()
    assert message.startswith("the operations stay as they were: ")
    assert str(file) in message


async def test_a_file_that_is_being_written_is_let_rest(
    declare: Declare, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    file = tmp_path / "operations.toml"
    source = await declare(GOOD)
    async with source.following():
        with file.open("w") as writing:
            for number in range(12):  # what there is of it is a good file each time
                writing.write(GOOD.replace(".op]", f".op_{number}]"))
                writing.flush()
                await asyncio.sleep(SETTLE_S / 4)  # what a slow copy does, nothing waited for
        await names(source, *(f"op_{number}" for number in range(12)))
    assert sum("operations in force" in message for message in caplog.messages) == 2


async def test_calls_of_before_a_change_count_against_the_same_bound(declare: Declare) -> None:
    source = await declare(GOOD + "concurrency = 2")
    before = source.find("op")
    source.load()
    after = source.find("op")
    assert before is not None
    assert after is not None
    assert before is not after
    assert before._places is after._places
