"""ONNX: initializers and constants of the main graph, of subgraphs and of functions, with values in or beside the file.

The messages and their numbers: onnx.proto of https://github.com/onnx/onnx. Only headers are looked at; no opset is
needed, and values stay in the file until one tensor is asked for.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from eigenscope.checkpoints.base import Checkpoint, Entry
from eigenscope.checkpoints.files import byte_count, read_tensor
from eigenscope.checkpoints.protobuf import BYTES, VARINT, Buffer, fields, packed, varint
from eigenscope.checkpoints.registry import Format
from eigenscope.checkpoints.trees import Unused
from eigenscope.errors import CheckpointError

# Numbers of fields.
MODEL_PRODUCER, MODEL_GRAPH, MODEL_OPSET, MODEL_FUNCTION = 2, 7, 8, 25
GRAPH_NODE, GRAPH_NAME, GRAPH_INITIALIZER, GRAPH_SPARSE = 1, 2, 5, 15
FUNCTION_NAME, FUNCTION_NODE = 1, 7
NODE_OUTPUT, NODE_NAME, NODE_OP, NODE_ATTRIBUTE = 2, 3, 4, 5
ATTRIBUTE_NAME, ATTRIBUTE_TENSOR, ATTRIBUTE_GRAPH, ATTRIBUTE_TENSORS, ATTRIBUTE_GRAPHS = 1, 5, 6, 10, 11
DIMS, TYPE, NAME, EXTERNAL, LOCATION = 1, 2, 8, 13, 14
FLOATS, INT32S, INT64S, RAW, DOUBLES, UINT64S = 4, 5, 7, 9, 10, 11

DEEPEST = 50  # graphs within graphs
_TYPES = {
    **{1: torch.float32, 2: torch.uint8, 3: torch.int8, 4: torch.uint16, 5: torch.int16, 6: torch.int32},
    **{7: torch.int64, 9: torch.bool, 10: torch.float16, 11: torch.float64, 12: torch.uint32, 13: torch.uint64},
    **{14: torch.complex64, 15: torch.complex128, 16: torch.bfloat16, 17: torch.float8_e4m3fn},
    **{18: torch.float8_e4m3fnuz, 19: torch.float8_e5m2, 20: torch.float8_e5m2fnuz},
}
_AS_THEY_ARE = {FLOATS: 4, DOUBLES: 8, RAW: 1}  # fields whose bytes are the values, and the bytes of one


@dataclass
class _Stored:
    """A tensor as its header describes it."""

    name: str = ""
    shape: list[int] = field(default_factory=list)
    code: int = 0
    span: tuple[int, int] = (0, 0)  # where its values lie
    integers: bool = False  # they are a list of variable-length integers
    aside: str | None = None
    external: dict[str, str] = field(default_factory=dict)
    outside: bool = False


class Onnx(Checkpoint):
    """An ONNX model."""

    format = "onnx"

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stored: dict[str, _Stored] = {}
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as buffer:
            unused = Unused()
            for stored in _model(buffer):
                self._stored[unused(stored.name or "tensor")] = stored
        if not self._stored:
            raise CheckpointError(f"{path} holds no weights: name an ONNX model that was exported with its parameters")
        super().__init__(path.name, [self._entry(name, stored) for name, stored in self._stored.items()])

    def _entry(self, name: str, stored: _Stored) -> Entry:
        dtype = _TYPES.get(stored.code)
        if dtype is None or stored.aside:
            what = stored.aside or f"values of ONNX type {stored.code} are not read"
            return Entry.unreadable(name, stored.shape, f"type {stored.code}", what)
        need = byte_count(stored.shape, dtype)
        start, stop = stored.span
        if not stored.outside and (need // dtype.itemsize > stop - start if stored.integers else need != stop - start):
            raise ValueError(f"{name} of shape {tuple(stored.shape)} needs {need} bytes and has {stop - start}")
        return Entry.of(name, stored.shape, dtype)

    def _load(self, entry: Entry) -> Tensor:
        stored = self._stored[entry.name]
        dtype = _TYPES[stored.code]
        if stored.outside:
            path, offset = _outside(self._path, stored, byte_count(stored.shape, dtype))
            return read_tensor(path, offset, entry.shape, dtype)
        start, stop = stored.span
        if not stored.integers:
            return read_tensor(self._path, start, entry.shape, dtype)
        values = packed(read_tensor(self._path, start, (stop - start,), torch.uint8).numpy())
        return _narrow(values, dtype).reshape(entry.shape)


def _model(buffer: Buffer) -> Iterator[_Stored]:
    graphs = 0
    for found in fields(buffer, 0, len(buffer)):
        if found.wire != BYTES:
            continue
        if found.number == MODEL_GRAPH:
            graphs += 1
            yield from _graph(buffer, found.start, found.stop, "", DEEPEST)
        elif found.number == MODEL_FUNCTION:
            name = _text(buffer, found.start, found.stop, FUNCTION_NAME)
            yield from _nodes(buffer, found.start, found.stop, FUNCTION_NODE, f"{name}/", DEEPEST)
    if graphs != 1:
        raise ValueError(f"{graphs} graphs where an ONNX model has one")


def _graph(buffer: Buffer, start: int, stop: int, prefix: str, depth: int) -> Iterator[_Stored]:
    if not depth:
        raise ValueError(f"over {DEEPEST} graphs within graphs")
    for found in fields(buffer, start, stop):
        if found.number == GRAPH_INITIALIZER and found.wire == BYTES:
            stored = _tensor(buffer, found.start, found.stop)
            stored.name = prefix + stored.name
            yield stored
        elif found.number == GRAPH_SPARSE and found.wire == BYTES:
            yield _Stored(f"{prefix}sparse", aside="a sparse tensor is not read")
    yield from _nodes(buffer, start, stop, GRAPH_NODE, prefix, depth)


def _nodes(buffer: Buffer, start: int, stop: int, number: int, prefix: str, depth: int) -> Iterator[_Stored]:
    for found in fields(buffer, start, stop):
        if found.number == number and found.wire == BYTES:
            yield from _node(buffer, found.start, found.stop, prefix, depth)


def _node(buffer: Buffer, start: int, stop: int, prefix: str, depth: int) -> Iterator[_Stored]:
    """Tensors that a node holds: a Constant's value, the initializers of a branch or of a loop's body."""
    output = ""
    for found in fields(buffer, start, stop):
        if found.wire == BYTES and found.number in (NODE_OUTPUT, NODE_NAME):
            output = output or _decode(buffer, found.start, found.stop)
        elif found.wire == BYTES and found.number == NODE_ATTRIBUTE:
            yield from _attribute(buffer, found.start, found.stop, prefix, output, depth)


def _attribute(buffer: Buffer, start: int, stop: int, prefix: str, output: str, depth: int) -> Iterator[_Stored]:
    name = _text(buffer, start, stop, ATTRIBUTE_NAME)
    for found in fields(buffer, start, stop):
        if found.wire != BYTES:
            continue
        if found.number in (ATTRIBUTE_GRAPH, ATTRIBUTE_GRAPHS):
            yield from _graph(buffer, found.start, found.stop, f"{prefix}{output}/{name}/", depth - 1)
        elif found.number in (ATTRIBUTE_TENSOR, ATTRIBUTE_TENSORS):
            stored = _tensor(buffer, found.start, found.stop)
            stored.name = prefix + (output or stored.name)
            yield stored


def _tensor(buffer: Buffer, start: int, stop: int) -> _Stored:
    stored = _Stored()
    for found in fields(buffer, start, stop):
        number, wire, value, begin, end = found
        if number == DIMS:
            stored.shape += [value] if wire == VARINT else _integers(buffer, begin, end)
        elif number == TYPE and wire == VARINT:
            stored.code = value
        elif number == NAME and wire == BYTES:
            stored.name = _decode(buffer, begin, end)
        elif number in (RAW, FLOATS, DOUBLES, INT32S, INT64S, UINT64S):
            _place(stored, number, wire, begin, end)
        elif number == EXTERNAL and wire == BYTES:
            key, text = _text(buffer, begin, end, 1), _text(buffer, begin, end, 2)
            stored.external[key] = text
        elif number == LOCATION and wire == VARINT:
            stored.outside = value == 1
    return stored


def _place(stored: _Stored, number: int, wire: int, begin: int, end: int) -> None:
    """Note where the values lie; a list that is not packed into one field is left aside."""
    if wire != BYTES or stored.span != (0, 0):
        stored.aside = "its values are scattered over the file: export the model again with onnx 1.0 or newer"
    stored.span, stored.integers = (begin, end), number not in _AS_THEY_ARE


def _narrow(values: np.ndarray, dtype: torch.dtype) -> Tensor:
    """Integers as the type that they stand for: 16-bit and 8-bit floats are stored as their bits."""
    integers = torch.from_numpy(values)
    bits = {1: torch.uint8, 2: torch.int16}.get(dtype.itemsize)
    if dtype.is_floating_point and bits is not None:
        return integers.to(bits).view(dtype)
    return integers.to(dtype)


def _outside(model: Path, stored: _Stored, need: int) -> tuple[Path, int]:
    """The file beside the model that holds a tensor, and where; raises `CheckpointError` where it isn't beside it."""
    location = stored.external.get("location", "")
    path, folder = model.parent / location, model.parent.resolve()
    escapes = Path(location).is_absolute() or ".." in Path(location).parts
    if not location or escapes or not path.resolve().is_relative_to(folder):
        raise CheckpointError(f"{model} wants to read {location!r}, outside of its folder: that is refused")
    if not path.is_file():
        raise CheckpointError(f"{model} keeps weights in {location}, which is not beside it: copy it there")
    offset, length = int(stored.external.get("offset", 0)), int(stored.external.get("length", need))
    if offset < 0 or length != need or offset + need > path.stat().st_size:
        raise ValueError(f"{location} has no {need} bytes from byte {offset} on")
    return path, offset


def _integers(buffer: Buffer, start: int, stop: int) -> list[int]:
    found = []
    while start < stop:
        value, start = varint(buffer, start, stop)
        found.append(value)
    return found


def _text(buffer: Buffer, start: int, stop: int, number: int) -> str:
    """The last string of that number in a message."""
    texts = [_decode(buffer, f.start, f.stop) for f in fields(buffer, start, stop) if f[:2] == (number, BYTES)]
    return texts[-1] if texts else ""


def _decode(buffer: Buffer, start: int, stop: int) -> str:
    if stop - start > 2**16:
        raise ValueError(f"a name of {stop - start} bytes")
    return buffer[start:stop].decode("utf-8", "replace")


FORMAT = Format("ONNX", (".onnx",), lambda path, _: path.suffix.lower() == ".onnx", Onnx)
