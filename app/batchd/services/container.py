"""All the services, as one thing to hand around."""

from dataclasses import dataclass

from batchd.db.connection import Database
from batchd.pipeline.dispatcher import Dispatcher
from batchd.services.authentication import Authenticator
from batchd.services.batch_creation import BatchCreation
from batchd.services.batches import Batches
from batchd.services.health import Health
from batchd.services.roles import Roles
from batchd.services.uploads import Uploads
from batchd.services.users import Users


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServices:
    """Those that the API's operations go to."""

    batches: Batches
    creation: BatchCreation
    uploads: Uploads
    roles: Roles


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    database: Database
    users: Users
    callers: Authenticator
    api: ApiServices
    lifecycle: Dispatcher
    health: Health
