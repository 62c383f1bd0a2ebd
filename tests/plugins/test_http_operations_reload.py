"""Changes of the operations file, and of the schemas it refers to, while they are in effect."""

import asyncio
import logging
from pathlib import Path

import pytest

from batchd import file_watcher
from batchd.plugins.http_operations import HttpOperations
from tests.support.http_operations import GOOD, OP, Declare, request_of, run
from tests.support.polling import eventually
from tests.support.upstream import Upstream

pytestmark = pytest.mark.slow


async def until_named(source: HttpOperations, *expected: str) -> None:
    """Wait until exactly these operations are in effect."""

    async def names() -> set[str]:
        return set(source.names())

    await eventually(names, lambda actual: actual == set(expected))


async def test_change_takes_effect_as_a_whole(
    declare: Declare, upstream: Upstream, tmp_path: Path
) -> None:
    file = tmp_path / "operations.toml"
    text = OP + 'url = "${BASE}/old"\n'
    source = await declare(text, BASE=upstream.url)
    async with source.watch():
        new = text.replace("old", "new")
        file.write_text(new + new.replace(".op]", ".another]"))
        await until_named(source, "op", "another")
        await run(source)
        # Replaced by another file of the same size, as editors and Kubernetes do.
        other = tmp_path / "other"
        other.write_text(file.read_text().replace("another", "renamed"))
        other.replace(file)
        await until_named(source, "op", "renamed")
        assert source.find("another") is None
    assert upstream.requests[0].target == "/new"


@pytest.mark.parametrize("path", ["schema.json", "schemas/one.json", "../schema.json"])
async def test_changed_schema_takes_effect(declare: Declare, tmp_path: Path, path: str) -> None:
    schema = tmp_path / path
    schema.parent.mkdir(exist_ok=True)
    schema.write_text('{"required": ["a"]}')
    source = await declare(GOOD + f'body = "{path}"')

    assert await missing_pointers(source) == ["/body/a"]
    async with source.watch():
        schema.write_text('{"required": ["b"]}')
        await eventually(lambda: missing_pointers(source), lambda pointers: pointers == ["/body/b"])


async def test_schema_is_watched_once_it_is_referred_to(
    declare: Declare, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    source = await declare(GOOD)
    schema = tmp_path / "schema.json"

    async def count_messages() -> int:
        return len([message for message in caplog.messages if "operations" in message])

    async with source.watch():
        schema.write_text('{"required": ["a"]}')
        (tmp_path / "operations.toml").write_text(GOOD + 'body = "schema.json"')
        await eventually(lambda: missing_pointers(source), lambda pointers: pointers == ["/body/a"])
        schema.unlink()
        await eventually(count_messages, lambda count: count == 3)
        assert "schema.json: No such file" in caplog.text
        assert await missing_pointers(source) == ["/body/a"]
        schema.write_text('{"required": ["b"]}')
        await eventually(lambda: missing_pointers(source), lambda pointers: pointers == ["/body/b"])
    assert await count_messages() == 4


async def missing_pointers(source: HttpOperations) -> list[str]:
    """Return the pointers of the issues of a line with an empty body."""
    operation = source.find("op")
    assert operation is not None
    return [issue.pointer for issue in operation.check(request_of(path={"x": 1}, body={}))]


INVALID_PATH = GOOD + 'body = "a\\u0000b"'


@pytest.mark.parametrize(
    "text", ["", "[operations", GOOD.replace("op]", "get_batch]"), INVALID_PATH, None], ids=repr
)
async def test_invalid_file_changes_nothing_and_is_reported_once(
    declare: Declare, tmp_path: Path, caplog: pytest.LogCaptureFixture, text: str | None
) -> None:
    file = tmp_path / "operations.toml"
    source = await declare(GOOD, reserved=["get_batch"])
    operation = source.find("op")

    async def errors() -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelname == "ERROR"]

    async with source.watch():
        file.unlink() if text is None else file.write_text(text)
        await eventually(errors, bool)
        assert source.find("op") is operation
        # The file is still watched: the next valid version takes effect.
        file.write_text(GOOD.replace("op]", "valid]"))
        await until_named(source, "valid")
    (message,) = await errors()
    assert message.startswith("the operations remain unchanged: ")
    assert str(file) in message


async def test_file_is_loaded_when_it_is_completely_written(
    declare: Declare,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(file_watcher, "SETTLE_S", 1.0)
    caplog.set_level(logging.INFO)
    file = tmp_path / "operations.toml"
    source = await declare(GOOD)
    async with source.watch():
        with file.open("w") as stream:
            for number in range(12):  # each partial state is a valid file
                stream.write(GOOD.replace(".op]", f".op_{number}]"))
                stream.flush()
                await asyncio.sleep(
                    file_watcher.SETTLE_S / 20
                )  # the pace of a slow copy, not a wait
        await until_named(source, *(f"op_{number}" for number in range(12)))
    assert sum("operations in effect" in message for message in caplog.messages) == 2


async def test_calls_made_before_a_change_count_against_the_same_limit(declare: Declare) -> None:
    source = await declare(GOOD + "concurrency = 2")
    before = source.find("op")
    source.load()
    after = source.find("op")
    assert before is not None
    assert after is not None
    assert before is not after
    assert before._semaphore is after._semaphore
