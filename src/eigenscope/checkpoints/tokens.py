"""The tokens of a model folder, in the order of the embedding's rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from eigenscope.checkpoints.files import read_json

MOST_TOKENS = 10_000_000
LARGEST = 64 * 2**20  # bytes; the largest tokenizers have 35 MB


def tokens_of(folder: Path) -> list[str] | None:
    """From tokenizer.json, vocab.json or vocab.txt; None where there is none that can be read."""
    vocabulary: dict[str, int] = {}
    if (folder / "tokenizer.json").is_file():
        description: Any = read_json(folder / "tokenizer.json", LARGEST)
        vocabulary = _numbers(description.get("model")) | _added(description.get("added_tokens"))
    elif (folder / "vocab.json").is_file():
        vocabulary = _numbers({"vocab": read_json(folder / "vocab.json", LARGEST)})
    elif (path := folder / "vocab.txt").is_file() and path.stat().st_size < LARGEST:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
        vocabulary = {token: number for number, token in enumerate(lines)}
    if not vocabulary or max(vocabulary.values()) > MOST_TOKENS:
        return None
    tokens = [f"<unused {number}>" for number in range(max(vocabulary.values()) + 1)]
    for token, number in vocabulary.items():
        tokens[number] = token
    return spelled(tokens)


def spelled(tokens: Sequence[str]) -> list[str]:
    """Tokens as people write them: byte-level vocabularies write a space as "Ġ", SentencePiece as "▁"."""
    if not any(token.startswith("Ġ") for token in tokens):
        return [token.replace("▁", " ") for token in tokens]
    letters = _byte_letters()
    return [
        bytes(letters[letter] for letter in token).decode("utf-8", "replace") if letters.keys() >= set(token) else token
        for token in tokens
    ]


def _numbers(model: Any) -> dict[str, int]:
    """Of a vocabulary that is a mapping, or a list of tokens with their scores."""
    vocabulary = model.get("vocab") if isinstance(model, Mapping) else None
    if isinstance(vocabulary, list):
        tokens = [item[0] if isinstance(item, list) and item else item for item in vocabulary]
        pairs = [(token, number) for number, token in enumerate(tokens)]
    else:
        pairs = list(vocabulary.items()) if isinstance(vocabulary, Mapping) else []
    return {token: number for token, number in pairs if _sound(token, number)}


def _added(tokens: Any) -> dict[str, int]:
    found = [item for item in tokens if isinstance(item, Mapping)] if isinstance(tokens, list) else []
    pairs = [(item.get("content"), item.get("id")) for item in found]
    return {token: number for token, number in pairs if _sound(token, number)}  # type: ignore[misc]


def _sound(token: object, number: object) -> bool:
    return isinstance(token, str) and type(number) is int and number >= 0


def _byte_letters() -> dict[str, int]:
    """The visible letter that GPT-2's vocabulary writes for each byte (Radford et al. 2019), turned around."""
    visible = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in visible]
    return {chr(byte): byte for byte in visible} | {chr(256 + index): byte for index, byte in enumerate(hidden)}
