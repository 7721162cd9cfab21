"""llama2.c's tokenizer file: 512 pieces with scores, merged greedily by score (its ``run.c``, `encode`)."""

import struct
from itertools import pairwise
from pathlib import Path

BOS = 1
_FIRST_BYTE = 3  # piece 3 is <0x00>


class Tokenizer:
    """``encode`` puts the beginning-of-story token and the dummy space of SentencePiece in front."""

    def __init__(self, path: Path) -> None:
        data, at = path.read_bytes(), 4  # after the length of the longest piece
        self.pieces: list[bytes] = []
        self.scores: list[float] = []
        while at < len(data):
            score, length = struct.unpack_from("<fi", data, at)
            self.scores.append(score)
            self.pieces.append(data[at + 8 : at + 8 + length])
            at += 8 + length
        self.ids = {piece: i for i, piece in enumerate(self.pieces)}

    def encode(self, text: str) -> list[int]:
        tokens: list[int] = []
        for letter in " " + text:
            piece = letter.encode()
            known = self.ids.get(piece)
            tokens += [known] if known is not None else [byte + _FIRST_BYTE for byte in piece]
        while (best := self._best_merge(tokens)) is not None:
            position, merged = best
            tokens[position : position + 2] = [merged]
        return [BOS, *tokens]

    def _best_merge(self, tokens: list[int]) -> tuple[int, int] | None:
        pairs = (self.pieces[a] + self.pieces[b] for a, b in pairwise(tokens))
        found = [(self.scores[self.ids[pair]], -i) for i, pair in enumerate(pairs) if pair in self.ids]
        if not found:
            return None
        position = -max(found)[1]
        return position, self.ids[self.pieces[tokens[position]] + self.pieces[tokens[position + 1]]]

    def decode(self, tokens: list[int]) -> str:
        """The text after the beginning-of-story token."""
        return b"".join(self._bytes_of(token) for token in tokens[1:]).decode(errors="replace").removeprefix(" ")

    def _bytes_of(self, token: int) -> bytes:
        byte = token - _FIRST_BYTE
        return bytes([byte]) if 0 <= byte < 256 else self.pieces[token]
