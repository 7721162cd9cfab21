"""Folders: bit for bit, all or nothing, and damage told in one line."""

from __future__ import annotations

import json
import resource
import signal

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import eigenscope as es
from compression.networks import convolutions, images, mlp, stretched
from eigenscope.errors import CheckpointError


@pytest.fixture
def saved(tmp_path):
    made = es.compress(mlp(), stretched(200, 24), keep=0.6)
    made.save_pretrained(tmp_path / "small")
    return made, tmp_path / "small"


def test_what_is_loaded_is_what_was_saved_bit_for_bit(saved, tmp_path):
    made, folder = saved
    assert sorted(path.name for path in folder.iterdir()) == ["eigenscope.json", "eigenscope.safetensors"]
    x = stretched(10, 24)
    assert torch.equal(es.load_compressed(folder, mlp())(x), made.model(x))
    cnn = es.compress(convolutions(), images(), keep=0.6)  # buffers, and a bias that was added
    cnn.save_pretrained(tmp_path / "cnn")
    again = es.load_compressed(tmp_path / "cnn", convolutions())
    assert torch.equal(again(images()), cnn.model(images()))


def test_the_type_of_the_numbers_is_the_files(saved, tmp_path):
    es.compress(mlp().to(torch.bfloat16), keep=0.6).save_pretrained(tmp_path / "half")
    assert {p.dtype for p in es.load_compressed(tmp_path / "half", mlp()).parameters()} == {torch.bfloat16}


def test_the_instance_that_is_handed_in_stays(saved):
    _, folder = saved
    model = mlp()
    before = [p.clone() for p in model.parameters()]
    es.load_compressed(folder, model)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))


def test_an_existing_folder_is_refused_and_replaced_only_when_it_is_one_of_ours(saved, tmp_path):
    made, folder = saved
    with pytest.raises(es.InputError, match="exists: give another folder, or force to replace it"):
        made.save_pretrained(folder)
    (folder / "tokenizer.json").write_text("{}")
    smaller = es.compress(mlp(), stretched(200, 24), keep=0.4)
    smaller.save_pretrained(folder, force=True)
    assert len(load_file(folder / "eigenscope.safetensors")) == len(smaller.model.state_dict())
    assert (folder / "tokenizer.json").exists()
    home = tmp_path / "home"
    home.mkdir()
    (home / "thesis.tex").write_text("years of work")
    with pytest.raises(es.InputError, match="holds something else than a compressed model"):
        made.save_pretrained(home, force=True)
    assert (home / "thesis.tex").exists()


def test_a_full_disk_leaves_nothing_and_what_was_there_stays(saved, tmp_path):
    """The real thing: the system refuses files of more than 4 KiB, as it does at a quota."""
    made, folder = saved
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    old, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, old[1]))
        for target in (tmp_path / "new", folder):
            with pytest.raises(es.InputError, match=r"can't be written .*: nothing was left there"):
                made.save_pretrained(target, force=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
        signal.signal(signal.SIGXFSZ, handler)
    assert [path.name for path in tmp_path.iterdir()] == ["small"]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def damage(folder, **changes):
    path = folder / "eigenscope.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


LAYER = {"kind": "linear", "rank": 2, "bias": True}


@pytest.mark.parametrize(
    ("harm", "message"),
    [
        (lambda f: (f / "eigenscope.json").unlink(), "holds no compressed model: there is no eigenscope.json"),
        (lambda f: (f / "eigenscope.json").write_text("{"), "eigenscope.json' is damaged"),
        (lambda f: (f / "eigenscope.json").write_bytes(b"\xff\xfe"), "eigenscope.json' is damaged"),
        (lambda f: damage(f, format=9), "has format 9, this reads 1: upgrade eigenscope"),
        (lambda f: damage(f, layers={"0": LAYER | {"rank": 10**9}}), "at rank 1000000000, of 24"),
        (lambda f: damage(f, layers={"7": LAYER}), "has a layer '7' that Sequential"),
        (lambda f: damage(f, layers={"0": LAYER | {"kind": "conv2d"}}), "it is a Linear"),
        (lambda f: damage(f, layers=[]), "its layers can't be read"),
        (lambda f: (f / "eigenscope.safetensors").unlink(), "there is no '.*eigenscope.safetensors'"),
        (lambda f: (f / "eigenscope.safetensors").write_bytes(b"12345678"), "eigenscope.safetensors' is damaged"),
        (lambda f: save_file({}, f / "eigenscope.safetensors"), "lacks .* and .* more"),
    ],
)  # fmt: skip
def test_damage_is_told_in_one_line(saved, harm, message):
    _, folder = saved
    harm(folder)
    with pytest.raises(CheckpointError, match=message) as caught:
        es.load_compressed(folder, mlp())
    assert "\n" not in str(caught.value)


def test_another_model_is_refused(saved):
    _, folder = saved
    with pytest.raises(CheckpointError, match=r"of shape .* the model .*pass the model that was compressed"):
        es.load_compressed(folder, mlp(outputs=11))
    with pytest.raises(CheckpointError, match=r"has no config\.json to build the model from: pass model="):
        es.load_compressed(folder)
    with pytest.raises(CheckpointError):
        es.load_compressed(folder, nn.Linear(3, 3))


def test_what_is_compressed_stays_so_and_the_rest_can_follow(tmp_path):
    """Its two layers are one of low rank, that no second compression takes apart."""
    x = stretched(200, 24)
    once = es.compress(mlp(), x, rank=8, only="0")
    twice = es.compress(once.model, x, rank=5)
    reasons = {skipped.name: skipped.reason for skipped in twice.report.skipped}
    assert reasons == {"0": "two thin layers already: to choose its rank again, compress the original model"}
    assert twice.model[0].rank == 8
    twice.save_pretrained(tmp_path / "twice")
    assert torch.equal(es.load_compressed(tmp_path / "twice", mlp())(x), twice.model(x))
    with pytest.raises(es.InputError, match=r"no layer to compress \(0: two thin layers already"):
        es.compress(twice.model, x, keep=0.5)


def test_what_was_put_into_a_layer_since_is_refused(saved, tmp_path):
    made, _ = saved
    layer = next(layer for layer in made.model if hasattr(layer, "first"))
    layer.first = nn.Sequential(layer.first)
    with pytest.raises(es.InputError, match="has become a Sequential within: merge or remove what was added"):
        made.save_pretrained(tmp_path / "changed")
    assert not (tmp_path / "changed").exists()


def llama():
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=32, num_hidden_layers=1, num_attention_heads=2, intermediate_size=64, vocab_size=50
    )
    model = LlamaForCausalLM(config).eval()
    model.generation_config.temperature = 0.25
    return model


def test_a_model_in_half_precision_is_loaded_with_the_types_of_what_is_not_saved(tmp_path):
    """Rotary frequencies are computed, never saved: `.to(bfloat16)` has rounded them all the same."""
    model = llama().to(torch.bfloat16)
    assert model.model.rotary_emb.inv_freq.dtype == torch.bfloat16
    made = es.compress(model, keep=0.7)
    made.save_pretrained(tmp_path / "half")
    again = es.load_compressed(tmp_path / "half")
    assert again.model.rotary_emb.inv_freq.dtype == torch.bfloat16
    ids = torch.arange(40).view(2, 20)
    assert torch.equal(again(ids).logits, made.model(ids).logits)


def test_how_it_generates_is_saved_too(tmp_path):
    es.compress(llama(), keep=0.7).save_pretrained(tmp_path / "small")
    assert es.load_compressed(tmp_path / "small").generation_config.temperature == 0.25


def test_transformers_finds_no_weights_and_says_so_rather_than_draw_some_at_random(tmp_path):
    from transformers import AutoModelForCausalLM

    es.compress(llama(), keep=0.7).save_pretrained(tmp_path / "small")
    with pytest.raises(OSError, match="no file named"):
        AutoModelForCausalLM.from_pretrained(tmp_path / "small")
