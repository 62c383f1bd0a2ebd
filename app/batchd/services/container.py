"""The services of the API, as one object that handlers and batch lines call."""

from dataclasses import dataclass

from batchd.services.authentication import Authenticator
from batchd.services.batch_creation import BatchCreation
from batchd.services.batches import Batches
from batchd.services.health import Health
from batchd.services.roles import Roles
from batchd.services.uploads import Uploads
from batchd.services.users import Users


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    authenticator: Authenticator
    users: Users
    batches: Batches
    batch_creation: BatchCreation
    uploads: Uploads
    roles: Roles
    health: Health
