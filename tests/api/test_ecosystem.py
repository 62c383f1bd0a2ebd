"""Integrations of the aiohttp ecosystem work: its test client, OpenTelemetry, Sentry, gunicorn."""

from collections.abc import Mapping
from contextlib import nullcontext
from uuid import UUID

import pytest
import sentry_sdk
from aiohttp import web
from aiohttp.typedefs import Handler
from opentelemetry.instrumentation.aiohttp_server import AioHttpServerInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from pytest_aiohttp import AiohttpClient
from sentry_sdk.integrations.aiohttp import AioHttpIntegration
from sentry_sdk.types import Event, Hint

from batchd.api.app import create_app
from batchd.bootstrap import Components
from batchd.cli.api import gunicorn_runner
from batchd.settings import Settings


async def test_application_runs_under_the_test_client_of_pytest_aiohttp(
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


@pytest.mark.filterwarnings("ignore:Inheritance class .* from web.Application:DeprecationWarning")
async def test_opentelemetry_traces_requests_by_their_route(
    aiohttp_client: AiohttpClient, settings: Settings, components: Components
) -> None:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    instrumentor = AioHttpServerInstrumentor()
    instrumentor.instrument(tracer_provider=provider)
    try:
        app = create_app(settings, lambda: nullcontext(components.services))
    finally:
        instrumentor.uninstrument()
    client = await aiohttp_client(app)
    await client.get(f"/batches/{UUID(int=1)}")
    (span,) = exporter.get_finished_spans()
    assert span.name == "GET /batches/{batch}"
    assert span.attributes is not None
    assert span.attributes["http.status_code"] == 401


async def test_sentry_names_transactions_after_routes(
    aiohttp_client: AiohttpClient, settings: Settings, components: Components
) -> None:
    transactions: list[Event] = []

    def keep(event: Event, _: Hint) -> None:
        transactions.append(event)

    sentry_sdk.init(
        dsn="http://key@127.0.0.1/1",  # nothing is sent: `keep` drops every event
        integrations=[AioHttpIntegration(transaction_style="method_and_path_pattern")],
        default_integrations=False,
        traces_sample_rate=1.0,
        before_send_transaction=keep,
    )
    try:
        app = create_app(settings, lambda: nullcontext(components.services))
        client = await aiohttp_client(app)
        await client.get(f"/batches/{UUID(int=1)}")
    finally:
        sentry_sdk.init()
    assert [event["transaction"] for event in transactions] == ["GET /batches/{batch}"]


async def test_gunicorns_worker_gets_a_runner(
    process_environment: Mapping[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in process_environment.items():
        monkeypatch.setenv(name, value)
    runner = await gunicorn_runner()
    assert isinstance(runner, web.AppRunner)
    await runner.setup()
    await runner.cleanup()
