"""gzip is decompressed in pieces of any size, and damage is reported."""

import gzip
import tracemalloc
import zlib
from collections.abc import AsyncIterable, AsyncIterator, Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchd.pipeline.decompression import MAX_EMPTY_MEMBERS, CorruptGzip, decompress
from batchd.settings import MIB

files = st.lists(st.sampled_from([b"\n", b" ", b"a", b"{}", b"\0", b"x" * 6, b"\xff" * 9])).map(
    b"".join
)
cuts = st.lists(st.integers(0, 200), max_size=12)


def cut(data: bytes, at: list[int]) -> list[bytes]:
    """Cut into pieces, empty ones among them."""
    offsets = [0, *sorted(min(offset, len(data)) for offset in at), len(data)]
    return [data[start:end] for start, end in pairwise(offsets)]


async def stream(pieces: list[bytes]) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece


async def collect(pieces: AsyncIterable[bytes], into: list[bytes]) -> None:
    async for piece in pieces:
        into.append(piece)  # noqa: PERF401  # what came before an error is kept


async def joined(pieces: AsyncIterable[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


@given(st.lists(files, min_size=1, max_size=4), st.integers(0, 20), cuts)
async def test_gzip_of_any_members_in_any_pieces_is_decompressed(
    members: list[bytes], padding: int, at: list[int]
) -> None:
    packed = b"".join(map(gzip.compress, members)) + bytes(padding)
    assert await joined(decompress(stream(cut(packed, at)))) == b"".join(members)


@given(files, files, st.data())
async def test_truncated_gzip_is_detected(first: bytes, last: bytes, draw: st.DataObject) -> None:
    members = gzip.compress(first), gzip.compress(last)
    length = draw.draw(st.integers(1, len(members[1]) - 1))
    packed = members[0] + members[1][:length]
    unpacked: list[bytes] = []
    with pytest.raises(CorruptGzip):
        await collect(decompress(stream(cut(packed, draw.draw(cuts)))), unpacked)
    # What was given out before it was found out is what is in the file.
    assert (first + last).startswith(b"".join(unpacked))
    assert b"".join(unpacked).startswith(first)


@given(st.sampled_from([b"x", b"\n", b"\0x", b"{}\n", b"\x1f", b"\x1f\x8b"]), cuts)
async def test_garbage_after_gzip_is_detected(garbage: bytes, at: list[int]) -> None:
    packed = gzip.compress(b"{}\n") + garbage
    with pytest.raises(CorruptGzip):
        await joined(decompress(stream(cut(packed, at))))


@pytest.mark.parametrize("offset", [-8, -4, 12], ids=["checksum", "length", "data"])
async def test_damaged_gzip_is_detected(offset: int) -> None:
    packed = bytearray(gzip.compress(b"0123456789" * 20))
    packed[offset] ^= 0x55
    with pytest.raises(CorruptGzip):
        await joined(decompress(stream([bytes(packed)])))


@pytest.mark.slow
async def test_gzip_bomb_is_decompressed_in_small_pieces() -> None:
    size = 96 * MIB
    packer = zlib.compressobj(9, wbits=31)
    packed = b"".join([*(packer.compress(bytes(MIB)) for _ in range(96)), packer.flush()])
    assert len(packed) < MIB // 8
    unpacked = 0
    tracemalloc.start()
    try:
        async for piece in decompress(stream([packed])):
            assert len(piece) <= MIB // 4
            unpacked += len(piece)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert unpacked == size
    assert peak < 4 * MIB


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            gzip.compress(b"{}", mtime=0) + b"\n",
            "Bytes follow the end of the gzip data, from byte 23 of the file on: remove them.",
        ),
        (
            gzip.compress(b"", mtime=0) + gzip.compress(b"{}", mtime=0) + b"\0\0\0more",
            "Bytes follow the end of the gzip data, from byte 46 of the file on: remove them.",
        ),
        (
            gzip.compress(b"{}", mtime=0) + b"\x1f\x8a",
            "Bytes follow the end of the gzip data, from byte 23 of the file on: remove them.",
        ),
        (
            gzip.compress(b"{}", mtime=0)[:-1],
            "The gzip data is damaged: the file ends in the middle of it.",
        ),
        (
            gzip.compress(b"{}", mtime=0)[:-8] + bytes(8),
            "The gzip data is damaged: its checksum is wrong.",
        ),
        (
            gzip.compress(b"{}", mtime=0)[:-4] + bytes(4),
            "The gzip data is damaged: its length is wrong.",
        ),
        (
            gzip.compress(b"{}", mtime=0)[:10] + b"\xff" * 8,
            "The gzip data is damaged: its content is not valid (invalid block type).",
        ),
    ],
)
@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_message_explains_the_damage(data: bytes, size: int, message: str) -> None:
    pieces = [data[start : start + size] for start in range(0, len(data), size)]
    with pytest.raises(CorruptGzip) as caught:
        await joined(decompress(stream(pieces)))
    assert str(caught.value) == message


async def test_as_many_empty_members_as_permitted_are_decompressed() -> None:
    packed = gzip.compress(b"") * MAX_EMPTY_MEMBERS + gzip.compress(b"{}") * 5000
    assert await joined(decompress(stream([packed]))) == b"{}" * 5000


async def test_too_many_empty_members_are_refused() -> None:
    packed = gzip.compress(b"") * (MAX_EMPTY_MEMBERS + 1)
    with pytest.raises(CorruptGzip, match="more than 1000 empty members"):
        await joined(decompress(stream([packed])))


@pytest.mark.parametrize(
    "packed",
    [
        pytest.param(gzip.compress(b"{}") + bytes(MIB), id="padding"),
        pytest.param(gzip.compress(b"")[:10] + b"\0\0\0\xff\xff" * 200_000, id="empty blocks"),
        pytest.param(b"\x1f\x8b\x08\x08" + bytes(6) + b"n" * MIB, id="long name"),
    ],
)
async def test_consumer_can_stop_without_output(packed: bytes) -> None:
    pieces = decompress(stream([packed]))
    assert sum([1 async for piece, _ in azip(pieces, range(50)) if piece == b""]) >= 49


async def azip(
    pieces: AsyncIterable[bytes], numbers: Iterable[int]
) -> AsyncIterator[tuple[bytes, int]]:
    """Yield as many pieces as there are numbers."""
    remaining = iter(numbers)
    async for piece in pieces:
        number = next(remaining, None)
        if number is None:
            return
        yield piece, number
