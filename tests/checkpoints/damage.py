"""Ways in which a file goes wrong, by chance or on purpose; each keeps most of it, so that a parser gets far."""

import random
from collections.abc import Callable

LIES = [0, 1, 2**15, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**62, 2**63 - 1, 2**63, 2**64 - 1]


def place(data: bytearray, chance: random.Random) -> int:
    """A position: every other time near the start or the end, where headers are."""
    near = min(len(data), 2048)
    choices = [chance.randrange(len(data)), chance.randrange(near), len(data) - 1 - chance.randrange(near)]
    return chance.choice([choices[0], *choices])


def flip(data: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice([1, 3, 20])):
        data[place(data, chance)] ^= 1 << chance.randrange(8)


def truncate(data: bytearray, chance: random.Random) -> None:
    del data[place(data, chance) :]


def lie(data: bytearray, chance: random.Random) -> None:
    """A length, offset or count of another size."""
    width = chance.choice([2, 4, 8])
    start = place(data, chance) // chance.choice([1, 4]) * 4
    lies = [*LIES, len(data) - 1, 2 * len(data), 100 * len(data)]
    data[start : start + width] = (chance.choice(lies) % 2 ** (8 * width)).to_bytes(width, "little")


def digits(data: bytearray, chance: random.Random) -> None:
    """Of a number in text."""
    found = [index for index, byte in enumerate(data[:20000]) if 48 <= byte <= 57]
    if found:
        start = chance.choice(found)
        data[start : start + 1] = chance.choice([b"9", b"0", b"99999999", b"-1", b"1e9", b"9" * 30])


def splice(data: bytearray, chance: random.Random) -> None:
    start, source = place(data, chance), place(data, chance)
    piece = data[source : source + chance.randrange(1, 200)]
    data[start : start + chance.choice([0, len(piece)])] = piece


def scramble(data: bytearray, chance: random.Random) -> None:
    start = place(data, chance)
    data[start : start + 40] = chance.randbytes(chance.randrange(80))


WAYS: list[Callable[[bytearray, random.Random], None]] = [flip, flip, truncate, lie, lie, digits, splice, scramble]


def damaged(content: bytes, seed: int) -> bytes:
    """`content` after one to three accidents."""
    chance = random.Random(seed)
    data = bytearray(content)
    for _ in range(chance.choice([1, 1, 2, 3])):
        if data:
            chance.choice(WAYS)(data, chance)
    return bytes(data)
