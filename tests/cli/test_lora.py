"""`eigenscope lora`: extract, inspect, resize, merge, from one model's files to the next."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file


@pytest.fixture
def pair(eigenscope):  # in its empty folder
    """A base, and what a change of rank 2 and another norm made of it."""
    generator = torch.Generator().manual_seed(0)
    base = {"blocks.0.fc.weight": torch.randn(40, 30, generator=generator), "norm.weight": torch.ones(30)}
    left, right = torch.randn(40, 2, generator=generator), torch.randn(2, 30, generator=generator)
    save_file(base, "base.safetensors")
    tuned = {"blocks.0.fc.weight": base["blocks.0.fc.weight"] + 0.1 * left @ right, "norm.weight": 2 * torch.ones(30)}
    save_file(tuned, "tuned.safetensors")
    return "base.safetensors", "tuned.safetensors"


def test_an_extraction_prints_its_table_and_writes_the_folder(eigenscope, pair):
    ended = eigenscope("lora", *pair, "-o", "adapter")
    assert (ended.status, ended.err) == (0, "")
    assert "2 of 30" in ended.out
    assert "140 of 1,200" in ended.out, "2 · (40 + 30) of 40 · 30"
    assert "170 numbers" in ended.out, "and the norm's 30"
    assert "written to adapter" in ended.out
    assert json.loads(Path("adapter/adapter_config.json").read_text())["r"] == 2


def test_without_a_folder_nothing_is_written(eigenscope, pair):
    before = sorted(Path().iterdir())
    assert "nothing was written: -o OUT writes the adapter" in eigenscope("lora", *pair).out
    assert sorted(Path().iterdir()) == before


def test_json_to_standard_output_is_json_alone(eigenscope, pair):
    found = json.loads(eigenscope("lora", *pair, "-o", "adapter", "--json", "-").out)
    (layer,) = found["layers"]
    assert (layer["name"], layer["rank"], layer["chosen_by"]) == ("blocks.0.fc", 2, "exact")
    assert found["residual"] < 1e-6
    assert [row["name"] for row in found["whole"]] == ["norm.weight"]


def test_the_rank_and_the_share_can_be_asked_for(eigenscope, pair):
    by_rank = json.loads(eigenscope("lora", *pair, "--rank", "1", "--json", "-").out)["layers"][0]
    by_energy = json.loads(eigenscope("lora", *pair, "--energy", "0.5", "--json", "-").out)["layers"][0]
    assert (by_rank["rank"], by_rank["chosen_by"]) == (1, "given")
    assert (by_energy["rank"], by_energy["chosen_by"]) == (1, "energy")
    assert by_energy["energy"] == pytest.approx(by_rank["energy"])


def test_from_extraction_to_merge_and_back(eigenscope, pair):
    assert eigenscope("lora", *pair, "-o", "adapter").status == 0
    inspected = eigenscope("lora", "--inspect", "adapter", pair[0])
    assert (inspected.status, inspected.err) == (0, "")
    assert "Nominal rank 2, effective rank" in inspected.out
    assert "intruders" in inspected.out
    resized = eigenscope("lora", "--resize", "1", "adapter", "-o", "smaller")
    assert "2 → 1" in resized.out
    assert "70 numbers instead of 140" in resized.out
    merged = eigenscope("lora", "--merge", pair[0], "adapter", "-o", "merged")
    assert "1 update merged, 1 tensor replaced" in merged.out
    tuned, found = load_file(pair[1]), load_file("merged/model.safetensors")
    assert all(torch.allclose(found[name], value, atol=1e-6) for name, value in tuned.items())


def test_an_inspection_as_json_has_the_spectrum(eigenscope, pair):
    eigenscope("lora", *pair, "-o", "adapter")
    found = json.loads(eigenscope("lora", "--inspect", "adapter", "--json", "-").out)
    base, tuned = load_file(pair[0]), load_file(pair[1])
    change = (tuned["blocks.0.fc.weight"] - base["blocks.0.fc.weight"]).double()
    wanted = torch.linalg.svdvals(change)[:2].tolist()
    assert found["layers"][0]["singular_values"] == pytest.approx(wanted, rel=1e-5)
    assert found["layers"][0]["intruders"] is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["base.safetensors"], "1 sources were given: use eigenscope lora BASE TUNED -o OUT"),
        (["base.safetensors", "absent.pt"], "there is no absent.pt"),
        (["base.safetensors", "tuned.safetensors", "--rank", "31"], "rank=31 is not possible: the largest layer"),
        (["base.safetensors", "tuned.safetensors", "--rank", "low"], "--rank low: a rank is needed"),
        (["base.safetensors", "tuned.safetensors", "--energy", "2"], "energy=2.0 is no share"),
        (["base.safetensors", "tuned.safetensors", "-o", "there"], "'there' exists: give another folder"),
        (["base.safetensors", "tuned.safetensors", "-o", "there", "--force"], "holds something else than an adapter"),
        (["base.safetensors", "tuned.safetensors", "-o", "there/thesis.tex/out"], "can't be written in"),
        (["base.safetensors", "tuned.safetensors", "--json", "there"], "'there' is a folder"),
        (["base.safetensors", "base.safetensors"], "hold the same values"),
        (["--inspect", "base.safetensors"], "is no PEFT adapter"),
        (["--inspect", "base.safetensors", "-o", "out"], "--inspect writes no folder"),
        (["--resize", "2", "there"], "no folder to write was given: add -o OUT"),
        (["--merge", "base.safetensors", "-o", "out"], "use eigenscope lora --merge BASE ADAPTER -o OUT"),
        (["--merge", "--inspect", "there"], "not allowed with argument"),
        (["--merge", "a", "b", "-o", "out", "--rank", "7"], "--merge makes no use of --rank: leave it out"),
        (["--merge", "a", "b", "-o", "out", "--energy", "0.9"], "--merge makes no use of --energy"),
        (["--inspect", "a", "--dtype", "float16"], "--inspect makes no use of --dtype"),
        (["--inspect", "a", "--force"], "--inspect makes no use of --force"),
        (["--resize", "auto", "a", "-o", "out", "--rank", "3"], "--resize makes no use of --rank"),
        (["--resize", "3", "a", "-o", "out", "--energy", "0.5"], "a rank of 3 and --energy can't both decide"),
        (["a", "b", "-o", "out", "--rank", "3", "--energy", "0.5"], "a rank of 3 and --energy can't both decide"),
        (["a", "b", "--force"], "--force replaces what is in OUT: add -o OUT"),
    ],
)
def test_what_can_not_be_done_is_one_line(eigenscope, pair, arguments, message):
    Path("there").mkdir()
    Path("there/thesis.tex").touch()
    assert message in eigenscope("lora", *arguments).complaint
    assert sorted(path.name for path in Path().iterdir()) == ["base.safetensors", "there", "tuned.safetensors"]


def test_force_replaces_an_adapter(eigenscope, pair):
    eigenscope("lora", *pair, "-o", "adapter")
    assert "'adapter' exists" in eigenscope("lora", *pair, "--rank", "1", "-o", "adapter").complaint
    assert eigenscope("lora", *pair, "--rank", "1", "-o", "adapter", "--force").status == 0
    assert json.loads(Path("adapter/adapter_config.json").read_text())["r"] == 1
