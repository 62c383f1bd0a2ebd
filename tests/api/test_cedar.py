"""The service with Cedar instead of Casbin: nothing else differs."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from batchd.settings import Settings
from tests.support.callers import ApiCaller, lines_of
from tests.support.fixtures import MakeCaller
from tests.support.refusals import assert_refused

LINES = lines_of({"path": {"batch": "00000000-0000-7000-8000-000000000000"}})


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"authorizer": "cedar"})


@pytest.fixture
def plugin_environment(plugin_environment: Mapping[str, str], tmp_path: Path) -> Mapping[str, str]:
    (tmp_path / "roles.cedar").write_text(
        """
        permit(principal in Role::"admin", action, resource);
        permit(principal in Role::"clerk", action, resource) when { resource.owner == principal };
        forbid(principal in Role::"clerk", action == Action::"delete_batch", resource);
        """
    )
    return {**plugin_environment, "BATCHD_POLICIES": str(tmp_path)}


async def test_cedar_decides(caller: ApiCaller, make_caller: MakeCaller) -> None:
    clerk = await make_caller("clerk", account=caller.user.user.account)
    own_batch, other_batch = await clerk.create(LINES), await caller.create(LINES)

    assert (await clerk.get(f"/batches/{own_batch}")).status == 200
    assert_refused(await clerk.get(f"/batches/{other_batch}"), 404, 404653)
    assert list((await clerk.get("/batches")).body["batches"]) == [own_batch]
    assert_refused(await clerk.call("DELETE", f"/batches/{own_batch}"), 403, 403535)
    (statement,) = (await caller.get("/roles/clerk")).body["statements"]
    assert (statement["effect"], statement["scope"]) == ("allow", "own")
    assert "delete_batch" not in statement["actions"]
