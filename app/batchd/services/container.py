"""All the services, as one thing to hand around."""

from dataclasses import dataclass

from batchd.db.connection import Database
from batchd.pipeline.dispatcher import Lifecycle
from batchd.services.authentication import Callers
from batchd.services.batch_creation import Creation
from batchd.services.batches import Batches
from batchd.services.health import Health
from batchd.services.roles import Roles
from batchd.services.uploads import Uploads
from batchd.services.users import Users


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiServices:
    """Those that the API's operations go to."""

    batches: Batches
    creation: Creation
    uploads: Uploads
    roles: Roles


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    database: Database
    users: Users
    callers: Callers
    api: ApiServices
    lifecycle: Lifecycle
    health: Health
