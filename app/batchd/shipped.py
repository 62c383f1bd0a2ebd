"""The files that ship beside the code: policies, migrations and examples."""

from importlib.metadata import distribution
from pathlib import Path
from typing import Literal


def shipped_folder(name: Literal["policies", "migrations", "examples"]) -> Path:
    """Return the folder in a checkout, or where the wheel's data files were installed.

    Raises FileNotFoundError if the installation has no such folder.
    """
    checkout = Path(__file__).resolve().parents[2]
    if (checkout / "setup.cfg").is_file():
        return checkout / name
    suffix = ("share", "batchd", name)
    for file in distribution("batchd").files or ():
        if file.parent.parts[-len(suffix) :] == suffix:
            return Path(str(file.locate())).resolve().parent
    raise FileNotFoundError(f"this installation of batchd has no folder {'/'.join(suffix)}")
