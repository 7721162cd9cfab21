"""Zip archives that nobody vouches for (.npz, .pt, .keras): no entry may claim more than the file can hold."""

from __future__ import annotations

from pathlib import Path
from typing import IO
from zipfile import ZIP_STORED, ZipFile, ZipInfo

from eigenscope.errors import CheckpointError

ZIP_MAGIC = b"PK\x03\x04"
MOST_EXPANSION = 200  # of compressed weights; zeros reach 1000
HARMLESS = 64 * 2**20  # bytes: an entry that unpacks to less can't hurt


def members(path: Path) -> dict[str, ZipInfo]:
    """The entries of an archive by name, sizes checked: ValueError for damage, `CheckpointError` for a bomb."""
    size = path.stat().st_size
    with ZipFile(path) as archive:
        found = archive.infolist()
    if sum(info.compress_size for info in found) > size:
        raise ValueError(f"its entries claim more than its {size} bytes")
    for info in found:
        if info.flag_bits & 1:
            raise CheckpointError(f"{path} is encrypted: unpack it with its password and save it again")
        if info.compress_type == ZIP_STORED and info.file_size != info.compress_size:
            raise ValueError(f"{info.filename} claims {info.file_size} bytes in {info.compress_size}")
        check_expansion(f"{path}: {info.filename}", info.file_size, info.compress_size)
    if len({info.filename for info in found}) < len(found):
        raise ValueError("two entries have the same name")
    return {info.filename: info for info in found}


def check_expansion(what: object, unpacked: int, stored: int) -> None:
    """Raise `CheckpointError` for what would unpack to absurdly more than is stored."""
    if unpacked > HARMLESS and unpacked > MOST_EXPANSION * stored:
        raise CheckpointError(
            f"{what} would unpack from {stored} to {unpacked} bytes, as only a bomb does: "
            "if you trust it, unpack it and save it uncompressed"
        )


def stored_at(path: Path, info: ZipInfo) -> int:
    """Where in the file an uncompressed entry starts; raises `CheckpointError` for a compressed one."""
    if info.compress_type != ZIP_STORED:
        raise CheckpointError(f"{path}: {info.filename} is compressed: unpack the archive and save it again")
    with path.open("rb") as file:
        file.seek(info.header_offset)
        header = file.read(30)
    if len(header) < 30 or header[:4] != ZIP_MAGIC:
        raise ValueError(f"{info.filename} is not where the directory says")
    lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
    start = info.header_offset + 30 + lengths
    if start + info.file_size > path.stat().st_size:
        raise ValueError(f"{info.filename} reaches beyond the end")
    return start


def read_member(path: Path, info: ZipInfo, limit: int) -> bytes:
    """A small entry as a whole; raises `CheckpointError` where it is over `limit` bytes."""
    if info.file_size > limit:
        raise CheckpointError(f"{path}: {info.filename} has {info.file_size} bytes, over the limit of {limit}")
    with ZipFile(path) as archive, archive.open(info) as stream:
        return exactly(stream, info.file_size)


def exactly(stream: IO[bytes], count: int) -> bytes:
    """`count` bytes of a stream that may be shorter (ValueError) or longer (the rest is left)."""
    found = stream.read(count)
    if len(found) != count:
        raise ValueError(f"it ends {count - len(found)} bytes early")
    return found
