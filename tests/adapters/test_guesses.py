"""What an extraction can't know it says, and what PEFT would take amiss it avoids."""

import copy

import pytest
import torch
import transformers
from peft import PeftModel
from peft.utils.other import get_pattern_key
from torch import nn

from adapters.models import FAMILIES, VOCABULARY, made, updated
from eigenscope.adapters.configuration import patterns, saved_too
from eigenscope.adapters.extracting import extract_lora
from eigenscope.adapters.inspecting import inspect_lora
from eigenscope.adapters.merging import merge_lora
from eigenscope.checkpoints import open_checkpoint

pytestmark = pytest.mark.filterwarnings("ignore")


class Reader(nn.Module):
    """A vocabulary below names of anyone's choice."""

    def __init__(self, embedding="embed", head="out"):
        super().__init__()
        self.names = (embedding, head)
        self.add_module(embedding, nn.Embedding(50, 32))
        self.fc = nn.Linear(32, 32)
        self.add_module(head, nn.Linear(32, 50))

    def forward(self, tokens):
        embedding, head = (self.get_submodule(name) for name in self.names)
        return head(torch.relu(self.fc(embedding(tokens))))


@pytest.mark.parametrize("embedding", ["embed", "token_embedder", "wte", "lookup"])
@pytest.mark.parametrize("head", ["out", "to_logits"])
def test_from_files_alone_an_embedding_of_any_name_comes_whole_and_the_guess_is_told(embedding, head, tmp_path):
    base = Reader(embedding, head).eval()
    tuned = updated(copy.deepcopy(base), "weight")
    for name, model in (("base", base), ("tuned", tuned)):
        torch.save(model.state_dict(), tmp_path / f"{name}.pt")
    adapter = extract_lora(tmp_path / "base.pt", tmp_path / "tuned.pt")
    assert [layer.name for layer in adapter.report.layers] == ["fc"]
    assert adapter.report.notes[0].startswith("which layer a tensor belongs to is guessed from its name and shape")
    tokens = torch.arange(50)[None]
    adapted = PeftModel.from_pretrained(copy.deepcopy(base), str(adapter.save(tmp_path / "adapter"))).eval()
    assert torch.allclose(adapted(tokens), tuned(tokens), atol=1e-5)


def test_what_a_model_says_itself_is_no_guess():
    base = Reader()
    assert extract_lora(base, updated(copy.deepcopy(base), "fc.weight")).report.notes == ()


def test_patterns_hit_the_names_that_they_are_for_and_no_other():
    ranks = {"a.0": 5, "a_0": 2, "b.a.0": 2, "q+": 4, "w(1)": 3, "c": 2, "d.c": 7}
    found = patterns(ranks, 2)
    for name, rank in ranks.items():
        assert found.get(get_pattern_key(list(found), name), 2) == rank


def test_layers_whose_names_are_alike_as_patterns_keep_their_ranks_and_scalings(tmp_path):
    class Names(nn.Module):
        def __init__(self):
            super().__init__()
            self.a = nn.ModuleList([nn.Linear(64, 64)])
            for name in ("a_0", "q+", "w(1)", "c"):
                self.add_module(name, nn.Linear(64, 64))

        def forward(self, x):
            for layer in (self.a[0], *(self.get_submodule(name) for name in ("a_0", "q+", "w(1)", "c"))):
                x = torch.tanh(layer(x))
            return x

    base = Names().eval()
    tuned = copy.deepcopy(base)
    for name, rank in (("a.0", 5), ("a_0", 2), ("q+", 4), ("w(1)", 3), ("c", 2)):
        updated(tuned, f"{name}.weight", rank=rank)
    adapter = extract_lora(base, tuned)
    adapter.save(tmp_path / "adapter")
    adapted = PeftModel.from_pretrained(copy.deepcopy(base), str(tmp_path / "adapter")).eval()
    x = torch.randn(5, 64)
    assert torch.allclose(adapted(x), tuned(x), atol=1e-5)
    assert {layer.scaling for layer in inspect_lora(tmp_path / "adapter").layers} == {1.0}
    merge_lora(base, tmp_path / "adapter", tmp_path / "merged")
    with open_checkpoint(tmp_path / "merged") as found:
        for name, wanted in tuned.state_dict().items():
            assert torch.allclose(found.load(name), wanted, atol=1e-5)


def test_modules_that_peft_keeps_from_factors_are_saved_too():
    """It reads the names of saved modules as regular expressions there, and by their ends elsewhere."""
    modules = ["a.0", "a_0", "b.a.0", "c.0", "a.0.inner"]
    assert saved_too({"a.0"}, modules) == {"a.0", "a_0", "b.a.0", "a.0.inner"}


def classifier(labels):
    sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4, "intermediate_size": 64}
    config = transformers.BertConfig(vocab_size=VOCABULARY, num_labels=labels, **sizes)
    return transformers.BertForSequenceClassification(config).eval()


def test_another_number_of_labels_is_told_and_loads_as_told(tmp_path):
    base, tuned = classifier(2), classifier(3)
    tuned.bert.load_state_dict(base.bert.state_dict())
    updated(tuned, "query.weight")
    adapter = extract_lora(base, tuned)
    assert adapter.report.notes == (
        "classifier.weight went from 2 rows to 3: build the base with num_labels=3 before PEFT loads the adapter",
    )
    adapter.save(tmp_path / "adapter")
    rebuilt = classifier(3)
    rebuilt.bert.load_state_dict(base.bert.state_dict())
    ids = torch.arange(12)[None]
    adapted = PeftModel.from_pretrained(rebuilt, str(tmp_path / "adapter")).eval()
    assert torch.allclose(adapted(ids).logits, tuned(ids).logits, atol=1e-5)


def test_a_vocabulary_that_shrank_and_more_positions_are_told_by_their_names():
    build = FAMILIES["gpt2"][0]
    base, shrunk = made(build), updated(made(build), "c_attn.weight")
    shrunk.resize_token_embeddings(50)
    (note,) = extract_lora(base, shrunk).report.notes
    assert note.startswith("the vocabulary went from 60 to 50 (transformer.wte.weight): call base_model.resize_token")
    longer = updated(made(build), "c_attn.weight")
    longer.transformer.wpe = nn.Embedding(24, 64)
    longer.config.n_positions = 24
    notes = extract_lora(base, longer).report.notes
    assert (
        "transformer.wpe.weight went from 16 rows to 24: build the base with as many before PEFT loads the adapter"
        in notes
    )
    assert not any("vocabulary" in note for note in notes)
