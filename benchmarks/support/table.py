"""Markdown tables of medians, spreads and ratios, under a line that names the machine."""

import os
import platform
from collections.abc import Mapping, Sequence
from statistics import median


def machine() -> str:
    return (
        f"{os.cpu_count()} cores, {platform.machine()}, {platform.system()}, "
        f"Python {platform.python_version()}"
    )


def rates(title: str, measured: Mapping[str, Sequence[float]], unit: str) -> str:
    """Return a row for each side: median, smallest and largest, and the ratio to the first side."""
    first = median(next(iter(measured.values())))
    rows = [
        f"| {title} | median {unit} | min | max | rounds | vs first |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    rows += [
        f"| {name} | {median(values):,.0f} | {min(values):,.0f} | {max(values):,.0f} | "
        f"{len(values)} | {median(values) / first:.2f} |"
        for name, values in measured.items()
    ]
    return "\n".join(rows) + "\n"
