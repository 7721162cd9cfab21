"""`eigenscope compress`: real checkpoints made smaller and loaded again; bad input is one line and leaves nothing."""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

import eigenscope as es
import zoo

FACTORIES = """
import torch
from torch import nn
from transformers import BertConfig, BertModel

def model():
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))

def loss_fn(model, batch):
    return nn.functional.cross_entropy(model(batch[0]), batch[1])

def batches():
    generator = torch.Generator().manual_seed(0)
    return [(torch.randn(16, 24, generator=generator), torch.arange(16) % 4) for _ in range(3)]

def plain():
    print("this line is the model's own")
    return model(), loss_fn, batches()

def wider():
    return nn.Sequential(nn.Linear(24, 40), nn.ReLU(), nn.Linear(40, 4)), loss_fn, batches()

def deeper():
    return nn.Sequential(*model(), nn.Linear(4, 4)), loss_fn, batches()

def shallower():
    return nn.Sequential(*list(model())[:3]), loss_fn, batches()

def crashes():
    return model(), lambda model, batch: model(batch[0][:, :3]).sum(), batches()

class Detour(nn.Module):
    def __init__(self):
        super().__init__()
        self.used, self.unused = nn.Linear(24, 24), nn.Linear(24, 24)

    def forward(self, x):
        return self.used(x)

def detour():
    return Detour(), loss_fn, batches()

def astray():
    return Detour(), lambda model, batch: sum(p.sum() for p in model.parameters()), batches()

def bert():
    config = BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, vocab_size=50)
    ids = torch.randint(50, (3, 4, 10), generator=torch.Generator().manual_seed(0))
    return BertModel(config), lambda model, batch: model(**batch)[0].square().mean(), [{"input_ids": i} for i in ids]

def largest(model):
    return max(float(p.detach().abs().max()) for p in model.parameters())

def counted(model):
    print("evaluated")
    return largest(model)

def word(model):
    return "much"
"""


@pytest.fixture
def mine(eigenscope, tmp_path, capsys):
    """A file of factories, and in the working folder weights of `plain`, of a detour, and a BERT of transformers."""
    from transformers import BertConfig, BertModel

    (tmp_path / "mine.py").write_text(FACTORIES)
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
    save_file(model.state_dict(), "plain.safetensors")
    wrapped = {f"module.{name}": value for name, value in model.state_dict().items()}
    torch.save({"state_dict": wrapped | {"module.mask": torch.ones(4, 4).tril()}}, "wrapped.pt")
    broken = {name: value.clone() for name, value in model.state_dict().items()}
    broken["2.weight"][0, :3] = float("nan")
    save_file(broken, "nan.safetensors")
    names = ("used.weight", "used.bias", "unused.weight", "unused.bias")
    save_file(
        {name: torch.randn(24, 24) if "weight" in name else torch.zeros(24) for name in names}, "detour.safetensors"
    )
    config = BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, vocab_size=50)
    BertModel(config).save_pretrained("bert")
    capsys.readouterr()  # its progress bar
    return eigenscope


def parameters(model):
    return sum(p.numel() for p in model.parameters())


def test_a_folder_of_transformers_becomes_a_smaller_one_that_loads_by_itself(mine):
    ended = mine("compress", "bert", "--keep", 0.7, "-o", "small", "--json", "report.json")
    assert (ended.status, ended.err) == (0, "")
    found = json.loads(Path("report.json").read_text(encoding="utf-8"))
    small = es.load_compressed("small")
    assert type(small).__name__ == "BertModel"
    assert parameters(small) == found["parameters_after"] < found["parameters"]
    assert found["kept"] <= 0.7
    assert {path.name for path in Path("small").iterdir()} >= {
        "eigenscope.safetensors",
        "eigenscope.json",
        "config.json",
    }
    assert (found["checkpoint"], found["output"], found["method"]) == ("bert", "small", "plain")
    assert "encoder.layer.0.intermediate.dense" in ended.out
    assert ended.out.endswith("written to small\n")


def test_weights_without_an_architecture_are_put_into_the_factorys_model(mine):
    """The calibration loss before is that of the checkpoint's weights, computed here; not that of the factory's."""
    for source in ("plain.safetensors", "wrapped.pt"):
        ended = mine(
            "compress", source, "--calibrate", "mine.py:plain", "--keep", 0.6, "-o", "out", "--force", "--json", "-"
        )
        found = json.loads(ended.out)
        assert "this line is the model's own" in ended.err
        assert ("left out, for which Sequential has no place: module.mask" in ended.err) == (source == "wrapped.pt")
        model = nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 4))
        model.load_state_dict(load_file("plain.safetensors"))
        generator = torch.Generator().manual_seed(0)
        batches = [(torch.randn(16, 24, generator=generator), torch.arange(16) % 4) for _ in range(3)]
        losses = [nn.functional.cross_entropy(model(x), y).item() for x, y in batches]
        assert found["metric"] == pytest.approx(sum(losses) / 3, rel=1e-5)
        assert (found["metric_name"], found["samples"], found["method"]) == ("calibration loss", 48, "activation")
        small = es.load_compressed("out", model)
        after = [nn.functional.cross_entropy(small(x), y).item() for x, y in batches]
        assert found["metric_after"] == pytest.approx(sum(after) / 3, rel=1e-5)
        assert any(isinstance(found_layer["output_error"], float) for found_layer in found["layers"])


def test_a_tokenizer_beside_the_weights_goes_along_and_other_files_do_not(mine):
    Path("bert/tokenizer.json").write_text("{}")
    Path("bert/vocab.txt").write_text("a")
    Path("bert/optimizer.pt").write_text("large")
    assert mine("compress", "bert", "--keep", 0.7, "-o", "small").status == 0
    assert {path.name for path in Path("small").iterdir()} == {
        "eigenscope.safetensors", "eigenscope.json", "config.json", "tokenizer.json", "vocab.txt",
    }  # fmt: skip


def test_what_a_command_writes_is_read_by_scan_too(mine):
    mine("compress", "bert", "--keep", 0.7, "-o", "small")
    assert mine("scan", "small").status == 0


def test_a_model_of_transformers_may_be_calibrated_too(mine):
    ended = mine(
        "compress", "bert", "--calibrate", "mine.py:bert", "--keep", 0.6, "--refit", "-o", "small", "--json", "-"
    )
    found = json.loads(ended.out)
    assert (found["method"], found["refit"], found["samples"]) == ("activation", True, 12)
    assert found["latency"]["median"] > 0
    assert es.load_compressed("small").config.hidden_size == 16


def test_a_metric_of_ones_own_is_measured_before_and_after(mine):
    ended = mine(
        "compress", "plain.safetensors", "--calibrate", "mine.py:plain", "--rank", 3, "--evaluate", "mine.py:largest",
        "-o", "small", "--json", "-",
    )  # fmt: skip
    found = json.loads(ended.out)
    before = max(float(value.abs().max()) for value in load_file("plain.safetensors").values())
    assert (found["metric_name"], found["metric"]) == ("largest", pytest.approx(before))
    assert {layer["rank"] for layer in found["layers"]} == {3}


def test_layers_are_chosen_by_name(mine):
    found = json.loads(mine("compress", "bert", "--rank", 2, "--only", "*query", "--only", "*key", "--skip", "*.1.*",
                            "-o", "small", "--json", "-").out)  # fmt: skip
    assert [layer["name"].rpartition(".")[2] for layer in found["layers"]] == ["query", "key"]


def test_a_dry_run_prices_budgets_and_writes_nothing(mine):
    before = sorted(os.listdir())
    ended = mine("compress", "plain.safetensors", "--calibrate", "mine.py:plain", "--dry-run")
    assert ended.status == 0
    assert "output error  over the share of the compressible parameters kept" in ended.out
    assert "calibration loss  over the share" in ended.out
    assert "●" in ended.out
    assert sorted(name for name in os.listdir() if name != "__pycache__") == before


def test_a_dry_run_as_json_is_json_alone(mine):
    found = json.loads(mine("compress", "bert", "--dry-run", "--json", "-").out)
    assert [point["keep"] for point in found["points"]] == [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]
    assert found["metric_name"] is None
    kept = [point["parameters_after"] for point in found["points"]]
    assert kept == sorted(kept, reverse=True)


def test_the_page_has_the_spectra_and_the_prices_of_other_budgets(mine):
    ended = mine(
        "compress", "plain.safetensors", "--calibrate", "mine.py:plain", "--keep", 0.6, "--evaluate", "mine.py:counted",
        "-o", "a", "--html", "a.html",
    )  # fmt: skip
    assert ended.err.count("evaluated") == 1 + 1 + 7  # the original, the result, and seven budgets: nothing twice
    mine("compress", "plain.safetensors", "--calibrate", "mine.py:plain", "--dry-run", "--html", "b.html")
    for name, metric in (("a", "counted"), ("b", "calibration loss")):
        text = Path(f"{name}.html").read_text(encoding="utf-8")
        data = json.loads(text.partition('id="data">')[2].partition("</script>")[0])
        assert [curve["title"] for curve in data["budgets"]["curves"]] == [
            "output error",
            metric,
            "latency, ms",
        ]
        assert all(row["curves"]["cut"]["even"] > 0 for row in data["rows"])


def test_real_weights_that_sort_still_sort(mine, tmp_path):
    """minGPT's gpt-nano of ../shared/data sorts 2000 of 2000; at 80 % it has to sort nearly all."""
    weights = zoo.shared_data("weights/gpt-nano-sort.pt")
    (tmp_path / "nano.py").write_text(f"import sys; sys.path.insert(0, {str(Path(zoo.__file__).parents[1])!r})\n"
                                      "from zoo.gpt_nano_sort import gpt_nano_sort as factory\n")  # fmt: skip
    found = json.loads(mine("compress", weights, "--calibrate", "nano.py:factory", "--keep", 0.8, "--refit",
                            "-o", "small", "--json", "-").out)  # fmt: skip
    assert found["kept"] == pytest.approx(0.8, abs=0.002)
    assert found["metric_after"] < found["metric"] + 0.05


def test_an_output_that_exists_is_refused_before_the_work_and_replaced_by_force(mine):
    Path("small").mkdir()
    Path("small/notes.txt").write_text("mine")
    line = mine("compress", "there-is-no-such-file", "--keep", 0.7, "-o", "small").complaint
    assert line == "eigenscope: 'small' exists: give another folder, or force to replace it (--force)"
    line = mine("compress", "there-is-no-such-file", "--keep", 0.7, "-o", "small", "--force").complaint
    assert "holds something else than a compressed model" in line
    assert mine("compress", "bert", "--keep", 0.7, "-o", "other").status == 0
    assert mine("compress", "bert", "--keep", 0.5, "-o", "other", "--force").status == 0
    assert json.loads(Path("other/config.json").read_text(encoding="utf-8"))["hidden_size"] == 16
    assert os.listdir("small") == ["notes.txt"]


@pytest.mark.parametrize(("arguments", "words"), [
    ("plain.safetensors --keep 0.5", "'plain.safetensors' holds weights without an architecture"),
    ("bert --keep 0.5 --rank 3", "not allowed with argument"),
    ("bert --keep 0.5 --refit", "--refit needs the inputs that layers meet"),
    ("bert --keep 1.5", "keep=1.5"),
    ("bert --energy 0", "energy=0"),
    ("bert --rank 0", "rank=0"),
    ("bert --rank 99", "rank=99 is more than any of these layers can have: 16 at most"),
    ("bert --keep 0.001", "keep=0.001 can't be reached"),
    ("bert --keep 0.5 --only *attn*", "'*attn*'"),
    ("no-such-file.pt --keep 0.5", "there is no no-such-file.pt"),
    ("mine.py --keep 0.5", "mine.py"),
    ("plain.safetensors --calibrate mine.py:wider --keep 0.5", "0.weight is 32×24, and Sequential needs 40×24"),
    ("plain.safetensors --calibrate mine.py:deeper --keep 0.5", "lacks 2 tensors of Sequential: 5.weight, 5.bias"),
    ("plain.safetensors --calibrate mine.py:shallower --keep 0.5", "has 2 tensors that Sequential has no place for"),
    ("plain.safetensors --calibrate mine.py:crashes --keep 0.5", "loss_fn failed at "),
    ("plain.safetensors --calibrate mine.py:nothing --keep 0.5", "has no function 'nothing'"),
    ("nan.safetensors --calibrate mine.py:plain --keep 0.5", "2.weight has 3 NaN and 0 infinite entries of 1,024"),
    ("detour.safetensors --calibrate mine.py:astray --keep 0.5", "the calibration reaches none of the layers (used, "),
    ("plain.safetensors --calibrate mine.py:plain --evaluate mine.py:word --keep 0.5", "it must return a number"),
])  # fmt: skip
def test_bad_input_is_one_line_and_leaves_nothing(mine, arguments, words):
    ended = mine("compress", *arguments.split(), "-o", "out")
    assert ended.status == 2, (ended.out, ended.err)
    line = ended.err.splitlines()[-1]
    assert line.startswith("eigenscope")
    assert words in line
    assert not [name for name in os.listdir() if name.startswith((".", "out"))]


@pytest.mark.parametrize(("arguments", "words"), [
    ("bert", "how much to keep? give one of --keep 0.8"),
    ("bert --keep 0.5", "where to? give a folder to write with -o OUT"),
    ("bert --dry-run -o out", "--dry-run writes no model: leave out -o"),
    ("bert --keep 0.5 -o /proc/out", "can't be written"),
    ("bert --keep 0.5 -o mine.py/out", "can't be written in"),
])  # fmt: skip
def test_where_to_and_how_much_have_to_be_said(mine, arguments, words):
    assert words in mine("compress", *arguments.split()).complaint


def test_a_layer_that_the_calibration_never_reaches_stays_and_is_named(mine):
    ended = mine("compress", "detour.safetensors", "--calibrate", "mine.py:detour", "--rank", 3, "-o", "small")
    assert ended.status == 0
    assert "1 skipped  never reached on the calibration data" in ended.out
    note = "never reached on the calibration data, and so left alone: unused (1 of 2 layers)"
    assert note in " ".join(ended.out.split())
    assert [*json.loads(Path("small/eigenscope.json").read_text())["layers"]] == ["used"]


def test_a_folder_lacking_layers_and_a_folder_of_other_sizes_are_told(mine):
    state = load_file("bert/model.safetensors")
    save_file(
        {k: v for k, v in state.items() if "encoder.layer.1" not in k}, "bert/model.safetensors", {"format": "pt"}
    )
    assert (
        "lacks 16 tensors of BertModel: encoder.layer.1"
        in mine("compress", "bert", "--keep", 0.5, "-o", "out").complaint
    )
    state["embeddings.word_embeddings.weight"] = torch.zeros(60, 16)
    save_file(state, "bert/model.safetensors", {"format": "pt"})
    line = mine("compress", "bert", "--keep", 0.5, "-o", "out").complaint
    assert "embeddings.word_embeddings.weight is 60×16, and BertModel needs 50×16" in line


def test_a_config_that_describes_nothing_is_told(mine):
    config = json.loads(Path("bert/config.json").read_text(encoding="utf-8"))
    Path("bert/config.json").write_text(json.dumps({**config, "architectures": ["MadeUpModel"]}))
    line = mine("compress", "bert", "--keep", 0.5, "-o", "out").complaint
    assert "transformers has no model 'MadeUpModel'" in line
    Path("bert/config.json").write_text("{}")
    assert (
        "names neither architectures nor model_type" in mine("compress", "bert", "--keep", 0.5, "-o", "out").complaint
    )


def test_what_is_compressed_already_is_refused(mine):
    assert mine("compress", "bert", "--keep", 0.7, "-o", "small").status == 0
    assert "is compressed already" in mine("compress", "small", "--keep", 0.7, "-o", "smaller").complaint


def test_a_disk_that_is_full_half_way_leaves_nothing(mine):
    """No file may grow over 4 KiB, of some 40 that are to be written: the system refuses the rest, as if full."""

    def small_files():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    before = sorted(os.listdir())
    ended = subprocess.run(
        [sys.executable, "-B", "-m", "eigenscope", "compress", "bert", "--keep", "0.7", "-o", "small"],
        preexec_fn=small_files, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (ended.returncode, ended.stdout) == (2, ""), ended.stderr
    (line,) = ended.stderr.splitlines()
    assert line.startswith("eigenscope: ")
    assert "small" in line
    assert sorted(os.listdir()) == before
