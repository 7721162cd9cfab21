"""A process of its own that reads one HDF5 file: a damaged one can crash or hang the HDF5 library.

Run by path with PATH OFFSET SIZE LIMIT: the file is bytes OFFSET to OFFSET + SIZE of PATH, and LIMIT bounds the address
space. It answers lines of standard input, each the JSON of a name or null, with a line of JSON and, for a name, the
bytes of the values. Nothing of eigenscope is imported, so that it starts fast.
"""

import io
import json
import os
import sys
from collections.abc import Iterator
from typing import Any

DEEPEST = 64  # groups within groups
CONFIG_KEYS = ("model_config", "keras_version", "backend")


def main() -> None:
    """Answer until standard input ends."""
    path, offset, size, limit = sys.argv[1], *map(int, sys.argv[2:])
    os.environ["HDF5_PLUGIN_PRELOAD"] = "::"  # no shared library is loaded because a file asks for its filter
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    try:
        import h5py  # type: ignore[import-untyped, unused-ignore]
    except ImportError:
        _answer(answers, {"missing": "h5py"})
        return
    allowed = _limit(limit)
    h5py._errors.silence_errors()
    source: Any = path if offset == 0 else io.BufferedReader(Window(path, offset, size))
    with h5py.File(source, "r") as file:
        for line in sys.stdin:
            name = json.loads(line)
            if name is None:
                _answer(answers, listing(file))
            else:
                allowed(file[name].nbytes)
                values = file[name][()].astype(file[name].dtype.newbyteorder("<"), copy=False)
                _answer(answers, {"bytes": values.nbytes}, values.tobytes())


def _answer(stream: Any, header: object, data: bytes = b"") -> None:
    stream.write(json.dumps(header).encode() + b"\n" + data)
    stream.flush()


def _limit(base: int) -> Any:
    """Bound the memory; what comes back is called with the size of what is to be loaded."""
    try:
        import resource
    except ImportError:  # Windows: the crash is contained, the memory is not
        return lambda _: None
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]

    def allow(extra: int) -> None:
        wanted = base + 4 * extra
        resource.setrlimit(resource.RLIMIT_AS, (wanted if hard < 0 else min(wanted, hard), hard))

    allow(0)
    return allow


def listing(file: Any) -> dict[str, Any]:
    """Every dataset of the file, and what Keras says of the model."""
    config = {key: _text(file.attrs[key]) for key in CONFIG_KEYS if key in file.attrs}
    datasets: list[dict[str, Any]] = []
    notes: list[str] = []
    first: dict[int, str] = {}
    for name, item in walk(file, "", notes, set()):
        address = _address(item)
        datasets.append(describe(name, item) | {"tied": first.get(address)})
        first.setdefault(address, name)
    return {"config": config, "datasets": datasets, "notes": notes}


def walk(group: Any, prefix: str, notes: list[str], above: set[int]) -> Iterator[tuple[str, Any]]:
    """Datasets by their paths; links out of the file, and groups that hold themselves, are not followed."""
    import h5py

    address = _address(group)
    if address in above or len(above) > DEEPEST:
        raise ValueError("a group that holds itself")
    for key in group:
        link = group.get(key, getlink=True)
        if isinstance(link, h5py.ExternalLink):
            raise PermissionError(f"it wants to read {link.filename!r}, outside of itself: that is refused")
        if not isinstance(link, h5py.HardLink):
            notes.append(f"{prefix}{key} is a link to {link.path}")
            continue
        item = group[key]
        if isinstance(item, h5py.Group):
            yield from walk(item, f"{prefix}{key}/", notes, above | {address})
        elif isinstance(item, h5py.Dataset):
            yield f"{prefix}{key}", item


def describe(name: str, item: Any) -> dict[str, Any]:
    """What the header of a dataset says, and how many bytes it really takes."""
    if item.external or item.is_virtual:
        raise PermissionError(f"{name} wants to read other files: that is refused")
    number = item.dtype.kind in "fiubc" or (item.dtype.kind == "V" and item.dtype.names is None)
    return {
        "name": name,
        "shape": item.shape,
        "dtype": item.dtype.newbyteorder("=").name,
        "number": number and item.shape is not None,
        "bytes": item.nbytes if item.shape is not None else 0,
        "stored": item.id.get_storage_size(),
        "meant": _text(item.attrs["dtype"]) if "dtype" in item.attrs else None,
    }


def _address(item: Any) -> int:
    import h5py

    return int(h5py.h5o.get_info(item.id).addr)


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


class Window(io.RawIOBase):
    """Some bytes of a file, as a file."""

    def __init__(self, path: str, offset: int, size: int) -> None:
        self._file, self._offset, self._size, self._at = open(path, "rb"), offset, size, 0  # noqa: SIM115

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = max(0, offset + (0, self._at, self._size)[whence])
        return self._at

    def readinto(self, target: Any) -> int:
        self._file.seek(self._offset + self._at)
        data = self._file.read(max(0, min(len(target), self._size - self._at)))
        target[: len(data)] = data
        self._at += len(data)
        return len(data)


if __name__ == "__main__":
    try:
        main()
    except (BrokenPipeError, KeyboardInterrupt):
        pass
    except BaseException as error:  # one line for the process that asked
        print(type(error).__name__ + ": " + " ".join(str(error).split())[:200], file=sys.stderr)
        raise SystemExit(1) from None
