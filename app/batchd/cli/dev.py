"""`batchd dev`: the whole of batchd on this machine, with a sample batch run on it."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from batchd.db.migrations import MigrationFailed
from batchd.devstack.errors import StackFailed
from batchd.devstack.guard import ShutdownGuard
from batchd.devstack.ready_file import ready_file
from batchd.devstack.sample import PLACEHOLDER, SampleRun, run_sample, run_upstream_sample
from batchd.devstack.stack import Stack, StackOptions, run_stack
from batchd.devstack.upstream import URL_VARIABLE, example_operations
from batchd.shipped import shipped_folder

TITLES = ("The sample batch", "The second one, which calls examples/upstream.py")
FIRST_SESSION = """\
A first session, ready to paste:

  API={api_url} SECRET={secret}
  field() {{ python3 -c 'import json, sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }}
  file=$(mktemp) && echo '{{"id": "a", "path": {{"batch": "{batch}"}}}}' > "$file"

  # 1. A temporary URL, and the file uploaded to it.
  upload=$(curl -sS -X POST "$API/cache" -H "Authorization: $SECRET"); echo "$upload"
  curl -sS -T "$file" "$(echo "$upload" | field url)"

  # 2. A batch of it.
  handler=$(echo "$upload" | field handler)
  batch=$(curl -sS "$API/batches" -H "Authorization: $SECRET" -H "Content-Type: application/json" \\
    -d "{{\\"handler\\": \\"$handler\\", \\"operation\\": \\"get_batch\\"}}" | field batch)

  # 3. How it is, and where its results are once it is completed.
  curl -sS "$API/batches/$batch?download=true" -H "Authorization: $SECRET"
"""


def dev(
    *,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="port of the API; 0 means any free port")
    ] = 8080,
    data_dir: Annotated[
        Path, typer.Option(help="folder of all data; the next start reuses it")
    ] = Path(".batchd"),
    policies: Annotated[
        Path | None, typer.Option(help="folder of the policy files; default: the shipped ones")
    ] = None,
    operations: Annotated[
        Path | None,
        typer.Option(help="file of the HTTP operations; default: the example, with its upstream"),
    ] = None,
    api_processes: Annotated[
        int, typer.Option(min=1, help="number of API processes, which share the port")
    ] = 1,
    workers: Annotated[int, typer.Option(min=1, help="number of worker processes")] = 1,
    ready_path: Annotated[
        Path | None,
        typer.Option(
            "--ready-file", help="JSON file to write when everything is ready, removed at the end"
        ),
    ] = None,
    sample: Annotated[bool, typer.Option(help="run the sample batches after starting")] = True,
) -> None:
    """Run PostgreSQL, S3, the API and workers on this machine until Ctrl-C."""
    if ready_path is not None and not ready_path.absolute().parent.is_dir():
        raise typer.BadParameter(
            f"there is no folder {ready_path.absolute().parent}", param_hint="--ready-file"
        )
    options = StackOptions(
        port=port,
        data_dir=data_dir,
        policies=policies or shipped_folder("policies"),
        operations=operations or example_operations(),
        api_processes=api_processes,
        workers=workers,
        ready_file=ready_path,
    )
    try:
        asyncio.run(_run(options, sample=sample))
    except (StackFailed, MigrationFailed) as error:
        typer.echo(f"batchd dev: {error}", err=True)
        raise typer.Exit(1) from None
    except OSError as error:
        typer.echo(f"batchd dev: {error.filename or 'the system'}: {error.strerror}", err=True)
        raise typer.Exit(1) from None


async def _run(options: StackOptions, *, sample: bool) -> None:
    guard = ShutdownGuard()
    with guard.handle_signals():
        try:
            typer.echo(f"Starting, with the data in {options.data_dir.resolve()} …")
            async with run_stack(options, guard) as stack:
                runs = await _run_samples(stack) if sample else []
                with ready_file(options.ready_file, stack):
                    _show(stack, runs)
                    await guard.wait()
        except asyncio.CancelledError:
            if not guard.stopping:
                raise
        if guard.failure is not None:
            raise guard.failure
        typer.echo("Stopped.")


async def _run_samples(stack: Stack) -> list[SampleRun]:
    runs = [await run_sample(stack.api_url, stack.user.secret)]
    if URL_VARIABLE in stack.env:
        runs.append(await run_upstream_sample(stack.api_url, stack.user.secret))
    return runs


def _show(stack: Stack, runs: Sequence[SampleRun]) -> None:
    for title, run in zip(TITLES, runs, strict=False):
        typer.echo(f"{title}, {len(run.results)} lines, as get_batch shows it:")
        typer.echo(json.dumps(run.response, indent=2))
        typer.echo("The first lines of its results:")
        for line in run.preview:
            typer.echo(line)
        typer.echo()
    batch = runs[0].batch if runs else PLACEHOLDER
    typer.echo(FIRST_SESSION.format(api_url=stack.api_url, secret=stack.user.secret, batch=batch))
    typer.echo(f"API     {stack.api_url}")
    typer.echo(f"secret  {stack.user.secret}")
    typer.echo("Ctrl-C stops everything.")
