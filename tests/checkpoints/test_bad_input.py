"""Each way to hand in something else has one clear line that names the file and the way out."""

import json
import os
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest

from checkpoints import samples
from eigenscope.checkpoints import open_checkpoint
from eigenscope.errors import CheckpointError


def refused(path: Path | str) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_all(path)
    said = str(caught.value)
    assert len(said.splitlines()) == 1
    assert Path(path).name in said
    return said


def file(tmp_path: Path, name: str, content: bytes) -> Path:
    path = tmp_path / name
    path.write_bytes(content)
    return path


def header(tmp_path: Path, entries: object, data: bytes = b"", length: int | None = None) -> Path:
    text = json.dumps(entries).encode()
    return file(tmp_path, "m.safetensors", (length or len(text)).to_bytes(8, "little") + text + data)


def tensor(start: int, stop: int, shape: object = (2,), dtype: str = "F32") -> dict[str, object]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


def test_a_missing_path(tmp_path: Path):
    samples.safetensors(tmp_path)
    assert "there is no" in refused(tmp_path / "model.safetensor")
    assert refused(tmp_path / "model.safetensor").endswith("check the name (there is model.safetensors)")
    assert "not even the folder" in refused(tmp_path / "no" / "model.pt")


def test_a_link_to_a_blob_that_is_not_there(tmp_path: Path):
    (tmp_path / "model.safetensors").symlink_to("../blobs/123")
    assert "is a link to ../blobs/123, which is not there" in refused(tmp_path / "model.safetensors")


def test_a_folder_without_weights(tmp_path: Path):
    said = refused(tmp_path)
    assert "is a folder without weights: looked for model.safetensors, pytorch_model.bin" in said
    assert ".gguf" in said


def test_an_unknown_format_lists_the_known_ones(tmp_path: Path):
    said = refused(file(tmp_path, "weights.msgpack", b"\x00\x01abc"))
    assert "is in no known format: eigenscope reads GGUF (.gguf), Keras (.keras .weights.h5 .h5 .hdf5), NumPy" in said


def test_an_empty_file_and_a_device(tmp_path: Path):
    assert "is empty: get a fresh copy" in refused(file(tmp_path, "model.pt", b""))
    assert "neither a file nor a folder" in refused("/dev/null")
    os.mkfifo(tmp_path / "pipe.pt")
    assert "neither a file nor a folder" in refused(tmp_path / "pipe.pt")


@pytest.mark.parametrize("name", ["model.safetensors", "model.gguf", "pytorch_model.bin", "model.onnx", "m.h5"])
def test_a_git_lfs_pointer(name: str, tmp_path: Path):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a2146\nsize 548118077\n"
    assert "is a Git LFS pointer, not the weights: run 'git lfs pull'" in refused(file(tmp_path, name, pointer))


@pytest.mark.parametrize("name", samples.SAMPLES)
def test_a_file_that_was_cut_off(name: str, tmp_path: Path):
    source = samples.SAMPLES[name](tmp_path)
    path = source if source.is_file() else next(source.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    with pytest.raises(CheckpointError, match=r"damaged or truncated|is not a zip|ends .* bytes early"):
        read_all(source)


def read_all(source: Path | str) -> None:
    with open_checkpoint(source) as checkpoint:
        for entry in checkpoint.entries:
            checkpoint.load(entry.name)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="permissions do not stop root")
def test_a_file_that_may_not_be_read(tmp_path: Path):
    path = samples.safetensors(tmp_path)
    path.chmod(0)
    assert "can't be read (Permission denied): check the path and its permissions" in refused(path)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="needs root, to become another user")
def test_a_file_that_another_user_may_not_read():
    """As root, in a process that becomes nobody; the file is one that root alone reads."""
    script = (
        "import os, sys; from eigenscope.checkpoints import open_checkpoint as o, opening; os.setuid(65534)\n"
        "try: o(sys.argv[1])\nexcept Exception as error: print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", script, "/etc/shadow"], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == (
        "CheckpointError /etc/shadow can't be read (Permission denied): check the path and its permissions"
    )


# -- safetensors ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"a": tensor(0, 2**40, [2**38])}, "a lies at bytes 0 to 1099511627776 of 8"),
        ({"a": tensor(0, 8, [2**62])}, "a needs 18446744073709551616 bytes and is given 8"),
        ({"a": tensor(0, 8, [2**64])}, r"a tensor of shape \(18446744073709551616,\)"),
        ({"a": tensor(0, 8, [-2])}, r"a tensor of shape \(-2,\)"),
        ({"a": tensor(0, 8, [True, 2])}, r"a tensor of shape \(True, 2\)"),
        ({"a": tensor(0, 8, [2.0])}, r"a tensor of shape \(2.0,\)"),
        ({"a": tensor(-8, 0)}, "a lies at bytes -8 to 0 of 8"),
        ({"a": tensor(0, 8), "b": tensor(4, 8, [1])}, "b overlaps another tensor"),
        ({"a": tensor(0, 8, [2], "F99")}, "a is of the unknown type 'F99'"),
        ({"a": {"dtype": "F32"}}, "the header says nothing sound about 'a'"),
        ([], "its JSON is not an object"),
    ],
)
def test_a_safetensors_header_that_is_wrong(entries: object, message: str, tmp_path: Path):
    with pytest.raises(CheckpointError, match=rf"m.safetensors is damaged or truncated \({message}.*\): get a"):
        open_checkpoint(header(tmp_path, entries, bytes(8)))


def test_a_safetensors_header_that_is_longer_than_the_file(tmp_path: Path):
    path = header(tmp_path, {}, length=2**60)
    assert "its header claims 1152921504606846976 bytes, the file holds 2" in refused(path)


def test_a_name_that_occurs_twice(tmp_path: Path):
    text = b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}'
    path = file(tmp_path, "m.safetensors", len(text).to_bytes(8, "little") + text + b"\0")
    assert "its JSON is not valid: a key occurs twice" in refused(path)


def test_a_name_that_would_write_to_the_terminal_is_kept_to_one_line(tmp_path: Path):
    said = refused(header(tmp_path, {"a\n\x1b[31mb": tensor(0, 8, [3])}, bytes(8)))
    assert "\x1b" not in said


# -- archives -------------------------------------------------------------------------------------------------------


def test_an_archive_that_unpacks_to_a_thousand_times_its_size(tmp_path: Path):
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, w=np.zeros(2**25, dtype=np.float32))
    assert "as only a bomb does: if you trust it, unpack it and save it uncompressed" in refused(path)


def test_an_archive_whose_directory_lies_about_a_size(tmp_path: Path):
    path = samples.npz(tmp_path)
    content = path.read_bytes()
    with zipfile.ZipFile(path) as archive:
        size = archive.infolist()[0].file_size.to_bytes(4, "little")
    directory = content.rindex(b"PK\x01\x02", 0, content.index(b"PK\x01\x02") + 4)
    lie = content[:directory] + content[directory:].replace(size, (2**31).to_bytes(4, "little"))
    assert "damaged" in refused(file(tmp_path, "lie.npz", lie))


def test_an_array_of_objects_is_listed_and_never_unpickled(tmp_path: Path):
    path = tmp_path / "objects.npz"
    np.savez(path, words=np.array(["a", "b"]), w=np.ones((2, 2)))
    reasons = {entry.name: entry.aside for entry in open_checkpoint(path).entries}
    assert reasons == {"words": "<U1 values are not numbers", "w": None}
    np.savez(path, things=np.array([{}, []], dtype=object))
    assert "things can't be read: Python objects are a pickle, which may hold code" in refused(path)


def test_a_zip_archive_that_holds_no_weights(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "x.pt", "w") as archive:
        archive.writestr("hello.txt", "hello")
    assert "is a zip archive that torch.save did not write" in refused(tmp_path / "x.pt")


# -- memory ---------------------------------------------------------------------------------------------------------


def test_one_tensor_of_a_file_of_three_gigabytes_costs_only_itself(tmp_path: Path):
    """The file is sparse: it takes no room on the disk, but reading it all would take 3 GB of memory."""
    big = 3 * 2**30
    path = header(tmp_path, {"big": tensor(0, big, [big], "U8"), "w": tensor(big, big + 8)})
    with path.open("r+b") as stream:
        stream.seek(0, 2)
        start = stream.tell()
        stream.truncate(start + big)
        stream.seek(start + big)
        stream.write(np.array([1.5, -2.0], dtype="<f4").tobytes())
    script = (
        "import resource, sys; from eigenscope.checkpoints import open_checkpoint\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "print(open_checkpoint(sys.argv[1]).load('w').tolist())\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    done = subprocess.run([sys.executable, "-c", script, path], capture_output=True, text=True, check=True)
    values, grown = done.stdout.splitlines()
    assert values == "[1.5, -2.0]"
    assert int(grown) < 20_000  # kB


def test_zlib_is_the_reason_why_a_bomb_is_known_by_its_ratio():
    """Zeros shrink 1029 times and trained weights hardly at all."""
    assert 10**6 / len(zlib.compress(bytes(10**6), 9)) > 900
    weights = np.random.default_rng(0).standard_normal(10**5).astype(np.float32).tobytes()
    assert len(weights) / len(zlib.compress(weights)) < 1.2
