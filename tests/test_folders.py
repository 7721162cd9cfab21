"""A folder is written whole or not at all, and what somebody else put there stays."""

import os
import stat

import pytest

from eigenscope.adapters.adapter import ADAPTER
from eigenscope.adapters.merging import MERGED
from eigenscope.compression.saving import COMPRESSED
from eigenscope.errors import InputError
from eigenscope.folders import Contents, check_folder, new_folder

MODEL = Contents("a model", "weights", ("weights", "config.json"))


def written(out, weights="new", force=False, sources=()):
    with new_folder(out, MODEL, force=force, sources=sources) as folder:
        (folder / "weights").write_text(weights)
    return out


def test_force_replaces_the_files_of_its_kind_and_touches_no_other(tmp_path):
    out = written(tmp_path / "out", "old")
    (out / "config.json").write_text("of the old model")
    (out / "checkpoint-100").mkdir()
    (out / "checkpoint-100" / "optimizer.pt").write_text("a week of training")
    (out / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"exists: give another folder, or force to replace it \(--force\)"):
        written(out)
    written(out, force=True)
    assert sorted(path.name for path in out.iterdir()) == ["checkpoint-100", "notes.txt", "weights"]
    assert (out / "checkpoint-100" / "optimizer.pt").read_text() == "a week of training"
    assert (out / "weights").read_text() == "new"
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize("contents", [ADAPTER, MERGED, COMPRESSED], ids=lambda contents: contents.what)
def test_a_configuration_of_an_older_result_is_not_left_beside_the_new_one(contents, tmp_path):
    for name in contents.files:
        (tmp_path / name).write_text("old")
    with new_folder(tmp_path, contents, force=True) as folder:
        (folder / contents.mark).write_text("new")
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {contents.mark: "new"}
    assert any(name.endswith("config.json") for name in contents.files)


def test_a_folder_of_something_else_and_a_file_are_refused(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").write_text("years")
    with pytest.raises(InputError, match=r"home' holds something else than a model \(no weights\)"):
        written(tmp_path / "home", force=True)
    with pytest.raises(InputError, match="is a file: give a folder to write"):
        written(tmp_path / "home" / "thesis.tex", force=True)
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["thesis.tex"]


def test_what_is_read_is_not_written_over(tmp_path):
    base, link = written(tmp_path / "base"), tmp_path / "link"
    link.symlink_to(base)
    for out in (base, link, base / "merged", tmp_path / "." / "base"):
        with pytest.raises(InputError, match=r"would be written over .*base', which is read: give another folder"):
            check_folder(out, MODEL, force=True, sources=[base])
    with pytest.raises(InputError, match="which is read"):
        check_folder(base, MODEL, force=True, sources=[base / "weights"])
    assert check_folder(tmp_path / "out", MODEL, sources=[base, "an/id", {"a": 1}]) == tmp_path / "out"


def test_a_link_is_followed(tmp_path):
    written(tmp_path / "real", "old")
    (tmp_path / "link").symlink_to("real")
    written(tmp_path / "link", force=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "weights").read_text() == "new"


def test_parents_are_made_and_an_empty_folder_is_filled(tmp_path):
    written(tmp_path / "a" / "b")
    (tmp_path / "empty").mkdir()
    written(tmp_path / "empty")
    assert (tmp_path / "a" / "b" / "weights").exists()
    assert [path.name for path in (tmp_path / "empty").iterdir()] == ["weights"]


@pytest.mark.parametrize("there", [False, True])
def test_a_failure_leaves_what_was_there(tmp_path, there):
    out = tmp_path / "out"
    if there:
        written(out, "old")
        (out / "config.json").write_text("old")

    def fail(error):
        with new_folder(out, MODEL, force=True) as folder:
            (folder / "weights").write_text("half")
            raise error

    with pytest.raises(InputError, match=r"can't be written \(No space left on device\): nothing was left there"):
        fail(OSError(28, "No space left on device"))
    with pytest.raises(KeyboardInterrupt):
        fail(KeyboardInterrupt())
    assert sorted(path.name for path in tmp_path.rglob("*")) == (["config.json", "out", "weights"] if there else [])


def test_a_replacement_that_fails_half_way_is_undone(tmp_path):
    out = written(tmp_path / "out", "old")
    (out / "zones").mkdir()

    def write():
        with new_folder(out, MODEL, force=True) as folder:
            (folder / "weights").write_text("new")
            (folder / "zones").write_text("a file, where the other has a folder")

    with pytest.raises(InputError, match="nothing was left there"):
        write()
    assert (out / "weights").read_text() == "old"
    assert sorted(path.name for path in out.iterdir()) == ["weights", "zones"]


def test_files_are_as_readable_as_any_new_file(tmp_path):
    with new_folder(tmp_path / "out", MODEL) as folder:
        (folder / "weights").write_text("private")
        (folder / "weights").chmod(0o600)
    (tmp_path / "other").touch()
    modes = [stat.S_IMODE(os.stat(path).st_mode) for path in (tmp_path / "out" / "weights", tmp_path / "other")]
    assert modes[0] == modes[1]
