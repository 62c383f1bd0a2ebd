"""The authorizer of docs/authorizers.md, installed as the page says, and at work."""

import re
import sys
from collections.abc import Iterator, Mapping
from configparser import ConfigParser
from pathlib import Path

import pytest

from batchd.bootstrap import open_components
from batchd.domain.ports import StartupError
from batchd.settings import Settings
from tests.support.callers import ApiCaller, lines_of
from tests.support.fixtures import MakeCaller
from tests.support.refusals import assert_refused

PAGE = Path(__file__).parents[1] / "docs" / "authorizers.md"
LINES = lines_of({"path": {"batch": "00000000-0000-7000-8000-000000000000"}})


def block(language: str) -> str:
    (text,) = re.findall(
        rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL
    )
    return str(text)


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Put the package where Python finds it, with its entry point."""
    parser = ConfigParser(delimiters=["="])
    parser.read_string(block("ini"))
    site = tmp_path / "site"
    metadata = site / "batchd_lists-1.dist-info"
    metadata.mkdir(parents=True)
    (site / "batchd_lists.py").write_text(block("python"), encoding="utf-8")
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: batchd-lists\nVersion: 1\n")
    (metadata / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n{points}\n" for group, points in parser["options.entry_points"].items()
        )
    )
    monkeypatch.syspath_prepend(site)
    yield
    sys.modules.pop("batchd_lists", None)


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"authorizer": "lists"})


@pytest.fixture
def plugin_environment(plugin_environment: Mapping[str, str], tmp_path: Path) -> Mapping[str, str]:
    (tmp_path / "roles.toml").write_text(
        'admin = ["create_upload_url", "create_batch", "get_batch", "get_user_role"]\n'
        'clerk = ["create_upload_url", "create_batch", "own:get_batch", "own:get_batches"]\n'
    )
    return {**plugin_environment, "BATCHD_POLICIES": str(tmp_path)}


def test_it_is_short() -> None:
    code = [line for line in block("python").splitlines() if line.strip()]
    assert len(code) <= 40


async def test_it_decides(caller: ApiCaller, make_caller: MakeCaller) -> None:
    clerk = await make_caller("clerk", account=caller.user.user.account)
    own_batch, other_batch = await clerk.create(LINES), await caller.create(LINES)

    assert (await clerk.get(f"/batches/{own_batch}")).status == 200
    assert_refused(await clerk.get(f"/batches/{other_batch}"), 404, 404653)
    assert list((await clerk.get("/batches")).body["batches"]) == [own_batch]
    assert (await caller.get(f"/batches/{own_batch}")).status == 200
    assert_refused(await caller.get("/batches"), 403, 403535)
    role = (await caller.get("/roles/clerk")).body
    assert {"effect": "allow", "actions": ["get_batch"], "account": "*", "scope": "own"} in (
        role["statements"]
    )


async def test_it_refuses_to_start_without_its_policy(
    settings: Settings, plugin_environment: Mapping[str, str], tmp_path: Path
) -> None:
    (tmp_path / "roles.toml").unlink()

    with pytest.raises(StartupError, match=r"roles\.toml"):
        async with open_components(settings, environment=plugin_environment):
            pytest.fail("it started")
