"""Keras: both generations, read by a process that a damaged file may crash."""

import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from checkpoints import samples
from eigenscope.checkpoints import hdf5, open_checkpoint
from eigenscope.errors import CheckpointError
from zoo import shared_data


def written(tmp_path: Path, **arrays: object) -> Path:
    path = tmp_path / "w.h5"
    with h5py.File(path, "w") as file:
        for name, array in arrays.items():
            file[name] = array
    return path


@pytest.mark.parametrize("name", ["digits_cnn.h5", "digits_cnn.keras", "fashion_cnn.keras"])
def test_real_models_hold_what_h5py_finds(name: str, tmp_path: Path):
    path = shared_data(f"formats/{name}")
    inner = path
    if name.endswith(".keras"):
        inner = Path(zipfile.ZipFile(path).extract("model.weights.h5", tmp_path))
    expected: dict[str, np.ndarray] = {}
    with h5py.File(inner) as file:
        file.visititems(lambda key, item: expected.update({key: item[()]}) if isinstance(item, h5py.Dataset) else None)
    with open_checkpoint(path) as checkpoint:
        assert {entry.name for entry in checkpoint.entries} == expected.keys()
        assert checkpoint.config["class_name"] == "Sequential"
        for entry in checkpoint.entries:
            np.testing.assert_array_equal(checkpoint.load(entry.name).numpy(), expected[entry.name])
        weights = [entry for entry in checkpoint.entries if entry.aside is None]
        assert all("optimizer" not in entry.name for entry in weights)
        assert any(entry.aside == "state of the optimizer" for entry in checkpoint.entries)


def test_half_precision_both_byte_orders_and_compression_are_read(tmp_path: Path):
    values = np.arange(12).reshape(3, 4)
    path = written(tmp_path, half=values.astype("<f2"), big=values.astype(">f4"), double=values.astype("f8"))
    with h5py.File(path, "a") as file:
        file.create_dataset("zipped", data=values.astype("f4"), compression="gzip", shuffle=True)
        brain = file.create_dataset("brain", data=torch.arange(12.0).bfloat16().view(torch.int16).numpy().reshape(3, 4))
        brain.attrs["dtype"] = "bfloat16"  # as Keras stores it
    with open_checkpoint(path) as checkpoint:
        types = {entry.name: entry.dtype for entry in checkpoint.entries}
        for name in types:
            assert checkpoint.load(name).double().tolist() == values.astype(float).tolist(), name
    assert types["half"] == "float16"
    assert types["brain"] == "bfloat16"


def test_what_is_no_number_is_listed_with_the_reason(tmp_path: Path):
    with open_checkpoint(written(tmp_path, words=["a", "b"], w=np.ones((2, 2)))) as checkpoint:
        reasons = {entry.name: entry.aside for entry in checkpoint.entries}
        assert reasons == {"w": None, "words": "object values are not numbers"}
        with pytest.raises(CheckpointError, match=r"w.h5: words can't be read: object values are not numbers"):
            checkpoint.load("words")


def test_a_link_out_of_the_file_is_refused(tmp_path: Path):
    path = written(tmp_path, w=np.ones((2, 2)))
    with h5py.File(path, "a") as file:
        file["stolen"] = h5py.ExternalLink("/etc/passwd", "/x")
    with pytest.raises(
        CheckpointError, match=r"w.h5: it wants to read '/etc/passwd', outside of itself: that is refuse"
    ):
        open_checkpoint(path)


def test_values_kept_in_another_file_are_refused(tmp_path: Path):
    path = written(tmp_path, w=np.ones((2, 2)))
    with h5py.File(path, "a") as file:
        file.create_dataset("stolen", (16,), "u1", external=[("/etc/passwd", 0, 16)])
    with pytest.raises(CheckpointError, match=r"stolen wants to read other files: that is refused"):
        open_checkpoint(path)


def test_a_file_that_claims_a_terabyte_of_nothing_is_refused(tmp_path: Path):
    path = written(tmp_path, w=np.ones((2, 2)))
    with h5py.File(path, "a") as file:
        file.create_dataset("huge", (2**20, 2**18), "f4", chunks=(1024, 1024), compression="gzip")
    with pytest.raises(CheckpointError, match=r"huge would unpack from 0 to 1099511627776 bytes, as only a bomb does"):
        open_checkpoint(path)


def test_shared_values_are_tied_and_a_group_that_holds_itself_is_damage(tmp_path: Path):
    path = written(tmp_path, w=np.ones((2, 2)))
    with h5py.File(path, "a") as file:
        file["x"] = file["w"]
    with open_checkpoint(path) as checkpoint:
        assert checkpoint.tied == {"x": "w"}
    with h5py.File(path, "a") as file:
        file["loop"] = file["/"]
    with pytest.raises(CheckpointError, match="a group that holds itself"):
        open_checkpoint(path)


def test_a_library_that_crashes_takes_nothing_with_it(tmp_path, monkeypatch):
    crash = tmp_path / "crash.py"
    crash.write_text("import os; os.abort()")
    monkeypatch.setattr(hdf5, "WORKER", crash)
    with pytest.raises(CheckpointError, match=r"damaged or truncated \(the HDF5 library crashed or hung on it\)"):
        open_checkpoint(written(tmp_path, w=np.ones(3)))


def test_a_library_that_hangs_is_ended(tmp_path, monkeypatch):
    hang = tmp_path / "hang.py"
    hang.write_text("import sys; sys.stdin.read()")
    monkeypatch.setattr(hdf5, "WORKER", hang)
    monkeypatch.setattr(hdf5, "PATIENCE", 0.2)
    with pytest.raises(CheckpointError, match=r"the HDF5 library crashed or hung on it"):
        open_checkpoint(written(tmp_path, w=np.ones(3)))


def test_without_h5py_it_says_what_to_install(tmp_path, monkeypatch):
    lacking = tmp_path / "lacking.py"
    lacking.write_text('input(); print(\'{"missing": "h5py"}\', flush=True)')
    monkeypatch.setattr(hdf5, "WORKER", lacking)
    with pytest.raises(CheckpointError, match=r"which needs h5py: pip install 'eigenscope\[keras\]'"):
        open_checkpoint(written(tmp_path, w=np.ones(3)))


def test_the_process_ends_with_the_checkpoint(tmp_path: Path):
    checkpoint = open_checkpoint(samples.hdf5(tmp_path))
    process = checkpoint._file._process  # type: ignore[attr-defined]
    assert process.poll() is None
    checkpoint.close()
    assert process.poll() is not None
