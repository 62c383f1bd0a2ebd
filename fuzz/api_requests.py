"""Sends a running API what Schemathesis makes of the OpenAPI document that it publishes."""

import json
import random
import sys
import time
from collections import Counter
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import urlopen

from tests.support.dev_process import get, run_dev
from tests.support.generated import PHASES, send_generated_requests

EXAMPLES = 100
"""Of each operation and phase in one round."""


def fuzz(api_url: str, secret: str, seconds: int) -> int:
    """Send rounds of requests until the time is over; return the number of failures."""
    with urlopen(f"{api_url}/openapi.json", timeout=30) as response:
        document = json.load(response)
    statuses: Counter[int] = Counter()
    failures: set[str] = set()
    end = time.monotonic() + seconds
    while time.monotonic() < end and not failures:
        seed = random.randrange(2**32)
        known = {"path.batch": list(get(f"{api_url}/batches?limit=5", secret)["batches"])}
        findings = send_generated_requests(
            api_url,
            secret,
            phases=PHASES,
            examples=EXAMPLES,
            known=known if known["path.batch"] else None,
            document=document,
            seed=seed,
        )
        statuses.update(exchange.status for exchange in findings.exchanges)
        failures.update(findings.failures)
        print(f"seed {seed}: {sum(statuses.values())} requests, {dict(sorted(statuses.items()))}")
    print("\n\n".join(sorted(failures)))
    return len(failures)


with TemporaryDirectory(prefix="batchd-fuzz-") as folder, run_dev(Path(folder, "data")) as dev:
    facts = dev.until_ready()
    sys.exit(min(1, fuzz(facts["api_url"], facts["secret"], int(sys.argv[1]))))
