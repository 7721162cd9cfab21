"""Model folders, in one file or in shards, and models by their Hugging Face id."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from checkpoints import samples
from checkpoints.hub_server import serving
from eigenscope.checkpoints import open_checkpoint
from eigenscope.checkpoints.hub import is_id
from eigenscope.errors import CheckpointError

MANY = pytest.mark.parametrize(
    "writer", [samples.safetensors, samples.pytorch, samples.npz, samples.gguf_file, samples.onnx_file, samples.keras]
)


def test_a_sharded_folder_is_one_model_with_its_configuration(tmp_path: Path):
    with open_checkpoint(samples.sharded(tmp_path)) as checkpoint:
        assert {entry.name for entry in checkpoint.entries} == samples.tensors().keys()
        assert (checkpoint.name, checkpoint.format, checkpoint.config["model_type"]) == (
            "sharded",
            "huggingface",
            "tiny",
        )


def test_its_index_names_it_as_well(tmp_path: Path):
    folder = samples.sharded(tmp_path)
    assert len(open_checkpoint(folder / "model.safetensors.index.json").entries) == 5


def test_shards_without_an_index_are_told_by_their_names(tmp_path: Path):
    folder = samples.sharded(tmp_path)
    (folder / "model.safetensors.index.json").unlink()
    assert len(open_checkpoint(folder).entries) == 5
    (folder / "model-00001-of-00002.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"lacks model-00001-of-00002.safetensors of its 2 shards: download what is"
    ):
        open_checkpoint(folder)


def test_a_missing_shard_is_named(tmp_path: Path):
    folder = samples.sharded(tmp_path)
    (folder / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"sharded lacks model-00002-of-00002.safetensors of its 2 shards: download"
    ):
        open_checkpoint(folder)


def test_a_shard_that_lacks_what_the_index_promises_is_named(tmp_path: Path):
    folder = samples.sharded(tmp_path)
    save_file({"other": torch.ones(2)}, folder / "model-00002-of-00002.safetensors")
    with pytest.raises(
        CheckpointError, match=r"00002-of-00002.safetensors lacks conv.weight, which the index promises"
    ):
        open_checkpoint(folder)


@pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/passwd", "..", "", 7])
def test_an_index_that_leads_out_of_the_folder_is_refused(shard: object, tmp_path: Path):
    folder = samples.sharded(tmp_path)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"w": shard}}))
    with pytest.raises(CheckpointError, match=r"wants to read '.*', which is no file of its folder: refused"):
        open_checkpoint(folder)


@MANY
def test_a_folder_with_one_file_of_any_format_is_that_model(writer, tmp_path: Path):
    writer(tmp_path)
    (tmp_path / "README.md").write_text("hello")
    with open_checkpoint(tmp_path) as checkpoint:
        assert checkpoint.load(checkpoint.entries[0].name).numel()


def test_several_models_in_a_folder_are_named_to_choose_from(tmp_path: Path):
    samples.npz(tmp_path)
    samples.pytorch(tmp_path)
    with pytest.raises(CheckpointError, match=r"holds several files with weights: name one of model.npz, model.pt"):
        open_checkpoint(tmp_path)


def test_a_folder_of_adapters_names_them(tmp_path: Path):
    samples.adapter(tmp_path)
    with pytest.raises(CheckpointError, match=r"its adapters are in folders of their own: adapter$"):
        open_checkpoint(tmp_path)


# -- tokens ---------------------------------------------------------------------------------------------------------


def labelled(folder: Path, rows: int, name: str = "wte.weight") -> list[str] | None:
    save_file({name: torch.ones(rows, 2)}, folder / "model.safetensors")
    return open_checkpoint(folder).labels(name, 0)  # type: ignore[return-value]


def test_tokens_of_byte_level_vocabularies_are_spelled_as_people_write(tmp_path: Path):
    vocabulary = {"Ġthe": 0, "Ã©": 1, "Ċ": 2}
    added = [{"id": 3, "content": "<end>"}]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": vocabulary}, "added_tokens": added}))
    assert labelled(tmp_path, 5) == [" the", "é", "\n", "<end>", "<padding 4>"]
    assert labelled(tmp_path, 3) is None
    assert labelled(tmp_path, 4, "other.weight") is None


def test_tokens_are_read_from_lists_with_scores_and_from_lines(tmp_path: Path):
    (tmp_path / "vocab.txt").write_text("[PAD]\nthe\n")
    assert labelled(tmp_path, 2) == ["[PAD]", "the"]
    (tmp_path / "tokenizer.json").write_text(json.dumps({"model": {"vocab": [["<s>", 0.0], ["▁the", -1.5]]}}))
    assert labelled(tmp_path, 2) == ["<s>", " the"]


# -- Hugging Face ids -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("text", "answer"), [("gpt2", True), ("a/b-1.5", True), ("a/b/c", False), ("./a", False)])
def test_what_can_be_an_id(text: str, answer: bool):
    assert is_id(text) is answer
    assert not is_id("model.safetensors")


def in_a_process(source: str, cache: Path, **settings: str) -> str:
    """What opening says, with a cache of its own: huggingface_hub reads its settings when it is imported."""
    script = (
        "import sys; from eigenscope.checkpoints import open_checkpoint\n"
        "from eigenscope.errors import CheckpointError\n"
        "try: c = open_checkpoint(sys.argv[1]); print(c.name, len(c.entries), c.config.get('model_type'))\n"
        "except CheckpointError as error: print(error)"
    )
    settings = settings or {"HF_HUB_OFFLINE": "1"}
    environment = {**os.environ, "HF_HOME": str(cache), "OMP_NUM_THREADS": "1", **settings}
    environment.pop("HF_HUB_CACHE", None)
    done = subprocess.run([sys.executable, "-c", script, source], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_an_id_that_is_in_the_cache_is_opened_offline(tmp_path: Path):
    home = tmp_path / "hub" / "models--tiny--model"
    snapshot = home / "snapshots" / ("0" * 40)
    snapshot.parent.mkdir(parents=True)
    samples.sharded(tmp_path).rename(snapshot)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0" * 40)
    assert in_a_process("tiny/model", tmp_path) == "tiny/model 5 tiny"


def test_an_id_that_is_not_in_the_cache_says_so_in_one_line(tmp_path: Path):
    said = in_a_process("nobody/nothing", tmp_path)
    assert said.startswith(
        "there is no file or folder 'nobody/nothing' here, and the model of that Hugging Face id is not"
    )
    assert said.endswith("can't be downloaded (offline): name a path, or download it while online")
    assert "\n" not in said


def test_a_cache_that_cannot_be_read_says_so_in_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    said = in_a_process("nobody/nothing", tmp_path / "file")
    assert "\n" not in said
    assert "nobody/nothing" in said


def test_an_id_is_downloaded_with_one_set_of_weights_and_nothing_else(tmp_path: Path):
    folder = samples.sharded(tmp_path)
    samples.pytorch(folder).rename(folder / "pytorch_model.bin")
    (folder / "README.md").write_text("hello")
    (folder / "model.onnx").write_bytes(b"not wanted")
    with serving(folder, "tiny/model") as (address, fetched):
        said = in_a_process("tiny/model", tmp_path / "cache", HF_ENDPOINT=address)
    assert said == "tiny/model 5 tiny"
    shards = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]
    assert sorted(fetched) == ["config.json", *shards, "model.safetensors.index.json"]
    assert in_a_process("tiny/model", tmp_path / "cache") == "tiny/model 5 tiny"


def test_an_id_with_several_models_in_it_is_refused_before_anything_is_downloaded(tmp_path: Path):
    folder = tmp_path / "many"
    folder.mkdir()
    content = samples.gguf_file(tmp_path).read_bytes()
    for name in ("Q2_K", "Q4_0", "Q8_0"):
        (folder / f"model.{name}.gguf").write_bytes(content)
    with serving(folder, "tiny/many") as (address, fetched):
        said = in_a_process("tiny/many", tmp_path / "cache", HF_ENDPOINT=address)
    assert fetched == []
    assert said.startswith("the Hugging Face model 'tiny/many' holds several files with weights: download one")
    assert said.endswith("and name it: model.Q2_K.gguf, model.Q4_0.gguf, model.Q8_0.gguf")


def test_an_id_with_one_file_of_another_format_is_downloaded(tmp_path: Path):
    folder = tmp_path / "one"
    folder.mkdir()
    samples.gguf_file(folder)
    with serving(folder, "tiny/one") as (address, fetched):
        assert in_a_process("tiny/one", tmp_path / "cache", HF_ENDPOINT=address).startswith("tiny/one 3")
    assert fetched == ["model.gguf"]


def test_an_id_that_nobody_has_says_so_in_one_line(tmp_path: Path):
    with serving(samples.sharded(tmp_path), "tiny/model") as (address, _):
        said = in_a_process("tiny/modle", tmp_path / "cache", HF_ENDPOINT=address)
    assert said == "there is no file or folder 'tiny/modle' here, and no Hugging Face model of that id: check the name"


def test_a_model_in_the_older_format_is_downloaded_too(tmp_path: Path):
    folder = tmp_path / "old"
    folder.mkdir()
    samples.pytorch(folder).rename(folder / "pytorch_model.bin")
    with serving(folder, "old") as (address, fetched):
        assert in_a_process("old", tmp_path / "cache", HF_ENDPOINT=address) == "old 5 None"
    assert fetched == ["pytorch_model.bin"]
