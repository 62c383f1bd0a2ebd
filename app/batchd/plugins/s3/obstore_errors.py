"""Translates obstore's errors into botocore's: one vocabulary of errors for the whole plugin."""

import re
from collections.abc import Iterator
from contextlib import contextmanager

from botocore.exceptions import ClientError
from obstore.exceptions import BaseError

# obstore has these two in the text of an error only.
_STATUS = re.compile(r"Server returned non-2xx status code: (\d{3})")
_CODE = re.compile(r"<Code>\s*([\w.]+)\s*</Code>")
_BARE_REDIRECT = "Received redirect without LOCATION"
_DEBUG_OUTPUT = "\n\nDebug source:"


@contextmanager
def obstore_call(operation: str) -> Iterator[None]:
    """Raise ClientError where the storage refused the operation, OSError where it did not answer.

    As in botocore, the status stands for the code where the response has none, as with HEAD.
    """
    try:
        yield
    except (BaseError, OSError) as error:
        message = str(error).partition(_DEBUG_OUTPUT)[0]
        if _BARE_REDIRECT in message:
            raise _client_error(operation, "PermanentRedirect", 301, message) from None
        status = _STATUS.search(message)
        if status is None:
            raise OSError(message) from None
        code = _CODE.search(message, status.end())
        raise _client_error(
            operation, code[1] if code else status[1], int(status[1]), message
        ) from None


def _client_error(operation: str, code: str, status: int, message: str) -> ClientError:
    return ClientError(
        {
            "Error": {"Code": code, "Message": message},
            "ResponseMetadata": {"HTTPStatusCode": status},  # type: ignore[typeddict-item]
        },
        operation,
    )
