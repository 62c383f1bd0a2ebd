"""What an S3 service does not support: detected once per process."""

import logging
from dataclasses import dataclass

from botocore.exceptions import ClientError

logger = logging.getLogger(__name__)

_NOT_IMPLEMENTED = {"NotImplemented", "501", "MethodNotAllowed", "405"}


@dataclass(slots=True)
class Capabilities:
    copies_parts: bool = True
    """UploadPartCopy."""
    deletes_many: bool = True
    """DeleteObjects."""

    def lose_part_copies(self) -> None:
        self.copies_parts = False
        logger.info("storage: it has no UploadPartCopy; results pass through the worker instead")

    def lose_bulk_deletion(self) -> None:
        self.deletes_many = False
        logger.info("storage: it has no DeleteObjects; objects are deleted one by one")


def is_not_implemented(error: ClientError) -> bool:
    return error.response["Error"]["Code"] in _NOT_IMPLEMENTED
