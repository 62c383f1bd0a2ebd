"""Whatever is requested of a batch, in any order, only transitions of the contract occur."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, example, given
from hypothesis import settings as with_settings
from hypothesis import strategies as st

from batchd.bootstrap import Components
from batchd.db import batches
from batchd.domain.ids import BatchId
from batchd.domain.jobs import Job, Stage
from batchd.settings import Settings
from tests.support.callers import ApiCaller, Reply, lines_of
from tests.support.expectation import CHUNKS, CLAIMED_STATUS, NEXT_STAGE, Expectation
from tests.support.fixtures import MakeCaller
from tests.support.history import DELETED, History

pytestmark = pytest.mark.slow

LINE = {"path": {"batch": "00000000-0000-7000-8000-000000000000"}}
FILES = {
    "good": lines_of(*[LINE] * CHUNKS),
    "empty": b"",
    "bad": lines_of(LINE, {}),
    "changed": lines_of(LINE),
}
"""By what will become of them; the hash that is given for the last is not its own."""

JOBS = {f"{stage} job": stage for stage in Stage}
OTHER_REQUESTS = ["create again", "create another", "cancel as a reader", "delete as a stranger"]


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return settings.model_copy(update={"chunk_lines": 1})


def summary(reply: Reply) -> tuple[int, object]:
    return reply.status, reply.body.get("subcode", reply.body.get("status"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """One batch, who acts on it, and what is expected of it."""

    components: Components
    caller: ApiCaller
    stranger: ApiCaller
    reader: ApiCaller
    body: dict[str, Any]
    batch: str
    expected: Expectation

    @property
    def path(self) -> str:
        return f"/batches/{self.batch}"

    async def perform(self, action: str) -> None:
        if action in JOBS:
            await self.do_job(JOBS[action])
        elif action == "work":
            await self.do_job(NEXT_STAGE.get(self.expected.status, Stage.COPY))
        elif action == "begin and die":
            await self.begin_and_die()
        else:
            await self.call(action)

    async def do_job(self, stage: Stage) -> None:
        chunk = self.expected.completed_chunks
        self.expected.run_stage(stage)
        await self.components.dispatcher.handle(Job(stage, BatchId(UUID(self.batch)), chunk))

    async def begin_and_die(self) -> None:
        """Take the batch like a worker that is killed then."""
        to = CLAIMED_STATUS.get(self.expected.status)
        if to is None:
            return
        self.expected.status = to
        now = self.components.dispatcher._context.clock.now()
        async with self.components.database.connection() as connection:
            assert await batches.claim(connection, BatchId(UUID(self.batch)), to, now=now)

    async def call(self, action: str) -> None:
        cancel = {"status": "cancel"}
        match action:
            case "cancel":
                reply = await self.caller.call("PATCH", self.path, json=cancel)
                assert summary(reply) == self.expected.cancel()
            case "delete":
                reply = await self.caller.call("DELETE", self.path)
                assert summary(reply) == self.expected.delete()
            case "create again":
                reply = await self.caller.call("POST", "/batches", json=self.body)
                assert summary(reply) == self.expected.repeat_create()
            case "create another":
                other = {**self.body, "batch_dict": {}}
                reply = await self.caller.call("POST", "/batches", json=other)
                assert summary(reply) == (400, 400358)
            case "cancel as a reader":
                reply = await self.reader.call("PATCH", self.path, json=cancel)
                assert summary(reply) == (403, 403535)
            case "delete as a stranger":
                reply = await self.stranger.call("DELETE", self.path)
                assert summary(reply) == (404, 404653)
            case _:
                raise NotImplementedError(action)

    async def check(self) -> None:
        """Hold what get_batch shows against what is expected; what is refused changes nothing."""
        if replace(self.expected).cancel()[0] >= 400:
            await self.call("cancel")
        if replace(self.expected).delete()[0] >= 400:
            await self.call("delete")
        reply = await self.caller.get(f"{self.path}?download=true&expand=progress")
        if self.expected.status == DELETED:
            assert summary(reply) == (404, 404653)
            return
        assert summary(reply) == (200, self.expected.status)
        assert ("download" in reply.body) is self.expected.has_download
        assert reply.body["progress"] == self.expected.progress


actions = st.one_of(
    st.just("work"),
    st.just("begin and die"),
    st.just("cancel"),
    st.just("delete"),
    st.sampled_from(OTHER_REQUESTS),
    st.sampled_from(sorted(JOBS)),
)
# So much work is done first, that no state is far.
beginnings = st.integers(0, 6).map(lambda stages: ["work"] * stages)
steps = st.tuples(beginnings, st.lists(actions, min_size=4, max_size=12)).map(
    lambda both: both[0] + both[1]
)


def cancelled_everywhere(test: Callable[..., None]) -> Callable[..., None]:
    """Add what chance may leave out: a cancel in each status that can be, and what comes late."""
    for stages in range(4):
        for interrupted in ([], ["begin and die"]):
            late_steps = ["chunk job", "work", "delete", "copy job", "work", "create again"]
            given_steps = ["work"] * stages + interrupted + ["cancel"] + late_steps
            test = example(kind="good", steps=given_steps)(test)
    return test


@cancelled_everywhere
@with_settings(
    max_examples=30,
    derandomize=True,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(kind=st.sampled_from(["good", "good", "empty", "bad", "changed"]), steps=steps)
async def test_batch_goes_the_ways_of_the_contract_only(
    components: Components,
    caller: ApiCaller,
    make_caller: MakeCaller,
    history: History,
    kind: str,
    steps: list[str],
) -> None:
    body = {"handler": await caller.upload(FILES[kind]), "operation": "get_batch"}
    if kind == "changed":
        body["hash"] = "0" * 64
    created = await caller.call("POST", "/batches", json=body)
    scene = Scene(
        components=components,
        caller=caller,
        stranger=await make_caller(),
        reader=await make_caller("reader", account=caller.user.user.account),
        body=body,
        batch=created.body["batch"],
        expected=Expectation(kind),
    )
    for action in steps:
        await scene.perform(action)
        await scene.check()
        assert (await history.of(scene.batch))[-1] == scene.expected.status
