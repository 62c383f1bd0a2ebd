"""Runs a property on inputs that libFuzzer derives from examples, for a number of seconds."""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import atheris

FINDINGS = Path(".fuzz/findings")
"""Inputs for which a property does not hold."""


def run(
    name: str,
    check: Callable[[bytes], None],
    *,
    examples: Sequence[bytes],
    words: Sequence[bytes],
) -> None:
    """Run until the seconds of the command line are over; a finding ends it with an exit code."""
    seconds = int(sys.argv[1])
    FINDINGS.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f"batchd-fuzz-{name}-") as folder:
        corpus = Path(folder, "corpus")
        corpus.mkdir()
        for number, example in enumerate(examples):
            (corpus / str(number)).write_bytes(example)
        dictionary = Path(folder, "words")
        escaped = ("".join(f"\\x{byte:02x}" for byte in word) for word in words)
        dictionary.write_text("".join(f'"{word}"\n' for word in escaped))
        options = {
            "artifact_prefix": f"{FINDINGS}/{name}-",
            "dict": dictionary,
            "max_len": 4096,
            "max_total_time": seconds,
            "print_final_stats": 1,
            "rss_limit_mb": 2048,
            "timeout": 10,
            "verbosity": 1,
        }
        flags = [f"-{option}={value}" for option, value in options.items()]
        atheris.Setup([sys.argv[0], *flags, str(corpus)], check)
        atheris.Fuzz()
