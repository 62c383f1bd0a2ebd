"""The import rule that import-linter cannot tell, because it sees aiohttp as one thing."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

APP = Path(__file__).parents[1] / "app" / "batchd"


def imported_names(tree: ast.AST) -> Iterator[str]:
    """Walk the full names that a module imports, and those it takes as attributes of `aiohttp`."""
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                yield from (name.name for name in names)
            case ast.ImportFrom(module=str(module), names=names):
                yield from (f"{module}.{name.name}" for name in names)
            case ast.Attribute(value=ast.Name(id="aiohttp"), attr=attribute):
                yield f"aiohttp.{attribute}"


def uses_aiohttp_web(source: str) -> bool:
    # The server's modules are aiohttp.web and aiohttp.web_…; the client has no such name.
    return any(name.startswith("aiohttp.web") for name in imported_names(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "from aiohttp import ClientSession, web",
        "from aiohttp.web import Request",
        "from aiohttp.web_response import Response",
        "import aiohttp.web as http",
        "import aiohttp\n\ndef answer() -> aiohttp.web.Response: ...",
    ],
)
def test_rule_sees_every_way_to_import_the_server(source: str) -> None:
    assert uses_aiohttp_web(source)


def test_rule_leaves_the_client_alone() -> None:
    assert not uses_aiohttp_web("import aiohttp\n\nopen_client = aiohttp.ClientSession")


def test_only_api_imports_the_http_server() -> None:
    users = {
        path.relative_to(APP).parts[0]
        for path in APP.rglob("*.py")
        if uses_aiohttp_web(path.read_text(encoding="utf-8"))
    }
    assert users <= {"api"}
