"""Where the vendors' exceptions stop: what they mean for whoever called the storage."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
from botocore.exceptions import BotoCoreError, ClientError

from batchd.domain.errors import ProcessingTimeout
from batchd.domain.ports import ObjectMissing

logger = logging.getLogger(__name__)

DESCRIPTION = "The storage does not answer. Try again in a few seconds."


class RangeEmpty(Exception):
    """The object ends before the range begins."""


@contextmanager
def storage_call(action: str, key: str = "") -> Iterator[None]:
    """Turn a failed call into ObjectMissing, RangeEmpty or, whatever else it is, ProcessingTimeout.

    Wrap the call alone: what the caller does with the answer fails in its own way.
    """
    try:
        yield
    except ClientError as error:
        match error.response["Error"]["Code"]:
            case "NoSuchKey" | "404" | "NotFound":
                raise ObjectMissing(key) from None
            case "InvalidRange" | "416":
                raise RangeEmpty from None
            case _:
                raise unanswered(action, key, error) from error
    except (BotoCoreError, aiohttp.ClientError, OSError, TimeoutError) as error:
        raise unanswered(action, key, error) from error


def unanswered(action: str, key: str, cause: object) -> ProcessingTimeout:
    """Log the cause, which is ours to know; return what the caller is told."""
    logger.warning("storage: cannot %s %s: %s", action, key, cause)
    return ProcessingTimeout(DESCRIPTION)
