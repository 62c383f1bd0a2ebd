"""processed → writing_results → completed: the results of the chunks become one file."""

import hashlib
from collections.abc import AsyncIterator

from batchd.db import batches, chunks
from batchd.db.chunks import Chunk
from batchd.domain.batches import Batch, ResultsFile, Status, Tally
from batchd.domain.ids import BatchId
from batchd.services.keys import results_key
from batchd.services.stages import lines
from batchd.services.stages.chunk_lines import parse_valid, read_lines
from batchd.services.stages.context import Context, Hold, Superseded, tidy


async def write_results(context: Context, batch_id: BatchId) -> None:
    """Write the results file of a batch whose lines have all been run."""
    async with context.database.transaction() as connection:
        batch = await batches.take(
            connection, batch_id, Status.WRITING_RESULTS, now=context.clock.now()
        )
    if batch is not None:
        await assemble(context, batch, end=Status.COMPLETED)


async def assemble(context: Context, batch: Batch, *, end: Status) -> None:
    """Write one line for each line that was validated, in their order, and end the batch.

    Lines that were not run are written as cancelled. Raises ValueError when lines are missing.
    """
    hold = Hold(context, batch)
    async with context.database.connection() as connection:
        planned = await chunks.find_all(connection, batch.batch)
    tally = Tally()
    digest = hashlib.sha256()
    size = written = 0
    key = results_key(batch)
    async with context.storage.write(key) as writer:
        for chunk in planned:
            async for piece in _results_of(context, batch, chunk):
                await hold.check()
                digest.update(piece)
                size += len(piece)
                written += piece.count(b"\n")
                await writer.write(piece)
            done = chunk.tally if chunk.part_key else Tally(cancelled=chunk.lines)
            tally = tally.plus(done)
        if not written == batch.lines == tally.done:
            raise ValueError(
                f"{batch.batch}: {written} results and {tally.done} counted for {batch.lines} lines"
            )
    results = ResultsFile(size=size, lines=written, sha256=digest.hexdigest())
    async with context.database.transaction() as connection:
        ended = await batches.move(
            connection, batch.batch, end, now=context.clock.now(), attempt=batch.attempt
        )
        if ended is not None:
            await batches.set_results(
                connection, batch.batch, key=key, results=results, tally=tally
            )
            await batches.set_input(connection, batch.batch, key=None)
            await chunks.delete(connection, batch.batch)
    if ended is None:
        await context.storage.delete([key])
        raise Superseded(f"{batch.batch} was ended by another worker")
    await tidy(context, batch, keep=key)


async def _results_of(context: Context, batch: Batch, chunk: Chunk) -> AsyncIterator[bytes]:
    if chunk.part_key is not None:
        async with context.storage.read(chunk.part_key) as pieces:
            async for piece in pieces:
                yield piece
        return
    async for found in read_lines(context, batch, chunk):
        yield b"".join(
            lines.encode(line.number, parse_valid(line).id, lines.CANCELLED) for line in found
        )
