"""The same no-op lines in Celery on Redis, one task per line, with a results file in line order.

`python celery_peer.py FILE RESULTS` creates the tasks, waits for them, writes the file and prints
the duration; the worker is Celery's own command with this module.
"""

import json
import os
import sys
import time
from pathlib import Path

from celery import Celery, group

URL = os.environ.get("PEER_REDIS_URL", "redis://127.0.0.1:6379")
app = Celery("celery_peer", broker=f"{URL}/0", backend=f"{URL}/1")
app.conf.update(
    task_serializer="json",
    result_serializer="json",
    worker_prefetch_multiplier=64,
    task_acks_late=True,
    result_expires=600,
    broker_connection_retry_on_startup=True,
)


@app.task(name="no_op")
def no_op(line: dict[str, object]) -> dict[str, object]:
    return {"status": 200, "body": {}}


def main(source: Path, target: Path) -> None:
    lines = [json.loads(line) for line in source.read_bytes().splitlines()]
    tasks = group(no_op.s(line) for line in lines).apply_async()
    results = tasks.get(timeout=600)
    with target.open("w") as file:
        for number, (line, result) in enumerate(zip(lines, results, strict=True), start=1):
            record = {"line": number, "id": line["id"], "outcome": "succeeded", **result}
            file.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    start_time = time.monotonic()
    main(Path(sys.argv[1]), Path(sys.argv[2]))
    print(time.monotonic() - start_time)
