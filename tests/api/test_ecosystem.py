"""What the aiohttp ecosystem plugs in works: its test client, middlewares, gunicorn's worker."""

from collections.abc import Mapping
from contextlib import nullcontext

import pytest
from aiohttp import web
from aiohttp.typedefs import Handler
from pytest_aiohttp import AiohttpClient

from batchd.api.app import create_app
from batchd.bootstrap import Components
from batchd.cli.api import gunicorn_runner
from batchd.settings import Settings


async def test_the_application_runs_under_the_test_client_of_pytest_aiohttp(
    aiohttp_client: AiohttpClient, settings: Settings, components: Components
) -> None:
    client = await aiohttp_client(create_app(settings, lambda: nullcontext(components.services)))
    response = await client.get("/whoami")
    assert response.status == 401
    assert response.headers["WWW-Authenticate"] == "Bearer"
    body = await response.json()
    assert body["trace"] == response.headers["X-Request-Id"]


async def test_another_middleware_sees_every_request_with_its_route(
    aiohttp_client: AiohttpClient, settings: Settings, components: Components
) -> None:
    """As those of OpenTelemetry and Sentry do."""
    names: list[str | None] = []

    @web.middleware
    async def observe(request: web.Request, handler: Handler) -> web.StreamResponse:
        names.append(request.match_info.route.name)
        return await handler(request)

    app = create_app(settings, lambda: nullcontext(components.services))
    app.middlewares.append(observe)
    client = await aiohttp_client(app)
    await client.get("/healthz")
    await client.get("/whoami")
    assert names == ["healthz", "who_am_i"]


async def test_gunicorns_worker_gets_a_runner(
    process_environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in process_environment.items():
        monkeypatch.setenv(name, value)
    runner = await gunicorn_runner()
    assert isinstance(runner, web.AppRunner)
    await runner.setup()
    await runner.cleanup()
