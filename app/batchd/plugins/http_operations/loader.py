"""Loads the operations file and those it refers to; one fault invalidates the file as a whole."""

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from batchd.file_watcher import Contents, read_file
from batchd.plugins.http_operations.errors import Fault, InvalidOperationsFile
from batchd.plugins.http_operations.fields import ParsingContext
from batchd.plugins.http_operations.schema import OperationSchema, OperationsFile


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadedFile:
    operations: Mapping[str, OperationSchema]
    contents: Contents
    """The file and those that it refers to."""


def load_file(
    file: Path,
    known_contents: Contents,
    variables: Mapping[str, str],
    is_reserved: Callable[[str], bool],
) -> LoadedFile:
    """Load the file, reading only files whose contents are not known yet.

    Raises InvalidOperationsFile, which lists every fault.
    """
    contents: dict[Path, bytes | str] = {}

    def read(relative_path: str) -> bytes:
        path = file.parent / relative_path
        # After a ValueError the path is omitted: no file can have it, so there is none to watch.
        contents[path] = content = (
            known_contents[path] if path in known_contents else read_file(path)
        )
        if isinstance(content, str):
            raise OSError(content)
        return content

    context = ParsingContext(variables=variables, is_reserved=is_reserved, read_file=read)
    try:
        document = tomllib.loads(read(file.name).decode())
        operations_file = OperationsFile.model_validate(document, context=context)
    except OSError as error:
        faults = [Fault("", f"can't be read: {error}")]
    except UnicodeDecodeError as error:
        faults = [Fault("", f"byte {error.start + 1} is not UTF-8")]
    except tomllib.TOMLDecodeError as error:
        faults = [Fault("", f"invalid TOML: {error}")]
    except RecursionError:
        faults = [Fault("", "invalid TOML: nested too deeply")]
    except ValidationError as error:
        faults = [
            _fault(details) for details in error.errors(include_url=False, include_input=False)
        ]
    else:
        return LoadedFile(operations=operations_file.operations, contents=contents)
    raise InvalidOperationsFile(file, faults, contents)


def declared_names(file: Path) -> frozenset[str]:
    """Return the names of the file's operations, valid or not. Raises InvalidOperationsFile."""
    try:
        operations = tomllib.loads(file.read_bytes().decode()).get("operations")
    except OSError as error:
        reason = f"can't be read: {error.strerror or error}"
    except ValueError as error:
        reason = f"invalid TOML: {error}"
    else:
        return frozenset(operations) if isinstance(operations, dict) else frozenset()
    raise InvalidOperationsFile(file, [Fault("", reason)], {})


def _fault(details: Any) -> Fault:
    """Convert an error of pydantic; the message of a ValueError raised here is kept as it is."""
    key = ".".join(str(step) for step in details["loc"] if step != "[key]")
    match details["type"]:
        case "extra_forbidden":
            reason = "unknown key"
        case "missing":
            reason = "is missing"
        case "value_error":
            reason = str(details["ctx"]["error"])
        case _:
            reason = details["msg"][:1].lower() + details["msg"][1:]
    return Fault(key, reason)
