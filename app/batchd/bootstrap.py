"""The composition root: the only place that builds things."""

import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from pydantic import SecretStr
from uuid_utils.compat import uuid7

from batchd import plugin_loader
from batchd.db.batch_loader import BatchLoader
from batchd.db.connection import Database, open_database
from batchd.db.migrations import check_schema
from batchd.db.notifications import Channel, open_notifications
from batchd.domain.operations import OperationContext, OperationFactory
from batchd.domain.permission import Authorizer, AuthorizerContext, AuthorizerFactory
from batchd.domain.ports import Clock, Ids, StartupError, StorageContext
from batchd.operations.batch_lines import ApiBatchOperation
from batchd.operations.table import OPERATIONS, AnyOperation, permissions_of
from batchd.pipeline.cancellations import Cancellations
from batchd.pipeline.circuit_breaker import CircuitBreaker
from batchd.pipeline.context import PipelineContext
from batchd.pipeline.dispatcher import Dispatcher
from batchd.pipeline.results_quota import ResultsQuota
from batchd.services.accounts import Accounts
from batchd.services.authentication import Authenticator
from batchd.services.authorization import PermissionChecker
from batchd.services.batch_creation import BatchCreation
from batchd.services.batches import Batches
from batchd.services.container import Services
from batchd.services.fleet_rate import FleetRateLimiter
from batchd.services.health import Health
from batchd.services.memory_budget import ProcessMemoryBudget
from batchd.services.operation_registry import OperationRegistry
from batchd.services.roles import Roles
from batchd.services.uploads import Uploads
from batchd.services.users import Users
from batchd.settings import Settings, plugin_environment


class SystemClock:
    def now(self) -> datetime:
        """Return the time to the millisecond, as it is stored."""
        now = datetime.now(UTC)
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def monotonic(self) -> float:
        return time.monotonic()


class TimeOrderedIds:
    def new(self) -> UUID:
        """Return a UUIDv7 (RFC 9562): later ones sort after earlier ones."""
        return uuid7()


def visible_to_tools(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return what the commands of plugins see of the environment, whose settings may be missing."""
    variables = map(Settings.variable, ("database_url", "database_direct_url"))
    urls = (SecretStr(environ[name]) for name in variables if environ.get(name))
    return plugin_environment(environ, *urls)


def authorizer_context(environment: Mapping[str, str]) -> AuthorizerContext:
    """Return what an authorizer gets to know of this installation. Raises StartupError."""
    declared = plugin_loader.declared_operations(environment)
    own = {operation.name for operation in OPERATIONS}
    return AuthorizerContext(
        environment=environment,
        operations=frozenset(
            own | {plugin.name for plugin in plugin_loader.installed("batchd.operations")}
        ),
        owned_operations=frozenset(operation.name for operation in OPERATIONS if operation.owned),
        declared_operations=declared or frozenset(),
        more_operations=declared is not None,
    )


def open_authorizer(
    settings: Settings, environment: Mapping[str, str]
) -> AbstractAsyncContextManager[Authorizer]:
    """Open the authorizer that the settings name. Raises UnknownPlugin, or what it refuses for."""
    visible = plugin_environment(environment, settings.database_url, settings.direct_url)
    factory: AuthorizerFactory = plugin_loader.load("batchd.authorizers", settings.authorizer)
    return factory(authorizer_context(visible))


@asynccontextmanager
async def _open_current_database(settings: Settings) -> AsyncIterator[Database]:
    async with open_database(settings) as database:
        async with database.connection() as connection:
            await check_schema(connection)
        yield database


@asynccontextmanager
async def open_users(settings: Settings) -> AsyncIterator[Users]:
    """Build what the administration of users needs, and no more."""
    async with _open_current_database(settings) as database:
        yield Users(database, SystemClock(), TimeOrderedIds())


@asynccontextmanager
async def open_accounts(settings: Settings) -> AsyncIterator[Accounts]:
    """Build what the administration of accounts needs, and no more."""
    async with _open_current_database(settings) as database:
        yield Accounts(database)


@dataclass(frozen=True, slots=True, kw_only=True)
class Components:
    """Everything that one process is built from."""

    database: Database
    services: Services
    operations: OperationRegistry
    dispatcher: Dispatcher


@asynccontextmanager
async def open_components(
    settings: Settings,
    *,
    environment: Mapping[str, str],
    clock: Clock | None = None,
    ids: Ids | None = None,
    api_operations: Sequence[AnyOperation] = OPERATIONS,
    operations: Iterable[OperationFactory] = (),
) -> AsyncIterator[Components]:
    """Build everything, and take it apart at the end.

    Plugins read their settings from the `environment`. `operations` can be run in batches besides
    those that are installed as plugins.
    Raises ProcessingTimeout, SchemaTooOld, UnknownPlugin, or what a plugin refuses to start for.
    """
    clock = clock or SystemClock()
    ids = ids or TimeOrderedIds()
    async with AsyncExitStack() as stack:
        authorizer = await stack.enter_async_context(open_authorizer(settings, environment))
        visible = plugin_environment(environment, settings.database_url, settings.direct_url)
        # Before the database: what is wrong with the settings is said without waiting for it.
        storage = await stack.enter_async_context(
            plugin_loader.load("batchd.storages", settings.storage)(
                StorageContext(environment=visible)
            )
        )
        database = await stack.enter_async_context(_open_current_database(settings))
        notifications = await stack.enter_async_context(open_notifications(settings, database))
        cancellations = Cancellations()
        notifications.subscribe(Channel.CANCELLED, cancellations.on_notification)
        permissions = PermissionChecker(authorizer, permissions_of(api_operations))
        registry = OperationRegistry(reserved=[operation.name for operation in api_operations])
        users = Users(database, clock, ids)
        uploads = Uploads(
            database,
            storage,
            permissions,
            clock,
            ids,
            validity_s=settings.upload_validity_s,
            graveyard_s=settings.graveyard_s,
            max_open_uploads=settings.max_open_uploads,
        )
        services = Services(
            authenticator=Authenticator(users, notifications, clock),
            users=users,
            batches=Batches(
                database,
                BatchLoader(database),
                storage,
                permissions,
                clock,
                download_validity_s=settings.download_validity_s,
            ),
            batch_creation=BatchCreation(
                database,
                storage,
                permissions,
                registry,
                clock,
                ids,
                max_file_bytes=settings.max_file_bytes,
                max_open_batches=settings.max_open_batches,
            ),
            uploads=uploads,
            roles=Roles(permissions, authorizer),
            health=Health(database, storage, authorizer),
        )
        for row in api_operations:
            if row.runs_in_batches:
                registry.add(ApiBatchOperation(row, services, settings.help_url))
        # Two halves: calls wait for memory, and those that have it must be able to end meanwhile.
        chunk_memory, call_memory = (
            ProcessMemoryBudget(settings.worker_memory_bytes // 2) for _ in range(2)
        )
        operation_context = OperationContext(
            environment=visible,
            rate=FleetRateLimiter(database),
            memory=call_memory,
            is_reserved=registry.is_reserved,
            help_base=settings.help_url,
        )
        await _add_operations(stack, registry, operation_context, operations)
        pipeline = PipelineContext(
            database=database,
            storage=storage,
            permissions=permissions,
            users=users,
            operations=registry,
            cancellations=cancellations,
            breaker=CircuitBreaker(storage, database),
            memory=chunk_memory,
            results_quota=ResultsQuota(database, limit=settings.max_results_bytes),
            clock=clock,
            settings=settings,
        )
        yield Components(
            database=database,
            services=services,
            operations=registry,
            dispatcher=Dispatcher(pipeline, uploads),
        )


async def _add_operations(
    stack: AsyncExitStack,
    registry: OperationRegistry,
    context: OperationContext,
    operations: Iterable[OperationFactory],
) -> None:
    """Open the operations of plugins. Raises StartupError for a name that is taken."""
    for plugin in plugin_loader.installed("batchd.operations"):
        operation = await stack.enter_async_context(plugin.load()(context))
        if operation.name != plugin.name:
            # Policies are checked against the names of the entry points, before these are opened.
            raise StartupError(
                f"the operation of the entry point '{plugin.name}' is named '{operation.name}'"
            )
        registry.add(operation)
    for factory in operations:
        registry.add(await stack.enter_async_context(factory(context)))
    for plugin in plugin_loader.installed("batchd.operation_sources"):
        registry.add_source(await stack.enter_async_context(plugin.load()(context)))
