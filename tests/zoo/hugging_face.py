"""GPT-2, BERT and Llama of Hugging Face, tiny, with its default attention, padded batches and masked labels.

``model(**batch).loss`` is the mean over the labels that are not -100, so a batch weighs as many as it has of
those; a causal model never predicts the first token of a sequence.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.case import Batch, SplitLoss, Triple, seeded, settle
from zoo.data import ALPHABET, SONNET

LENGTHS = ((10, 7, 4), (6, 3))
IGNORED = -100
MASK_TOKEN, PAD_TOKEN = len(ALPHABET), len(ALPHABET) + 1
# The padding token is one that no text holds: `padding_idx` cuts the gradient of its embedding, and for a
# token in use the gradient is then not that of the loss, and no finite difference agrees with the Hessian.
_COMMON: dict[str, Any] = {
    "vocab_size": len(ALPHABET) + 2,
    "max_position_embeddings": 10,
    "pad_token_id": PAD_TOKEN,
    "bos_token_id": PAD_TOKEN,
    "eos_token_id": PAD_TOKEN,
}


def loss(model: nn.Module, batch: Batch) -> Tensor:
    """What a user of the library writes."""
    value: Tensor = model(**batch).loss
    return value


def _logits(model: nn.Module, batch: Batch) -> Tensor:
    value: Tensor = model(**{key: part for key, part in batch.items() if key != "labels"}).logits
    return value


def _causal_criterion(logits: Tensor, batch: Batch) -> Tensor:
    return _mean_over_unmasked(logits[:, :-1], batch["labels"][:, 1:])


def _masked_criterion(logits: Tensor, batch: Batch) -> Tensor:
    return _mean_over_unmasked(logits, batch["labels"])


def _mean_over_unmasked(logits: Tensor, labels: Tensor) -> Tensor:
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED)


causal_split = SplitLoss(outputs=_logits, criterion=_causal_criterion)
masked_split = SplitLoss(outputs=_logits, criterion=_masked_criterion)


def causal_weight(batch: Batch) -> float:
    return float((batch["labels"][:, 1:] != IGNORED).sum())


def masked_weight(batch: Batch) -> float:
    return float((batch["labels"] != IGNORED).sum())


def _padded(lengths: tuple[int, ...], start: int) -> dict[str, Tensor]:
    """Sequences of the sonnet of these lengths, padded on the right."""
    ids = torch.full((len(lengths), max(lengths)), PAD_TOKEN)
    attention = torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.tensor([ALPHABET.index(c) for c in SONNET[start : start + length]])
        attention[row, :length] = 1
        start += length
    return {"input_ids": ids, "attention_mask": attention}


def causal_batches() -> list[dict[str, Tensor]]:
    batches = [_padded(lengths, 20 * i) for i, lengths in enumerate(LENGTHS)]
    return [b | {"labels": b["input_ids"].masked_fill(b["attention_mask"] == 0, IGNORED)} for b in batches]


def masked_batches() -> list[dict[str, Tensor]]:
    """Every third token hidden; only those are predicted."""
    batches = []
    for batch in causal_batches():
        hidden = (torch.arange(batch["input_ids"].shape[1]) % 3 == 1) & (batch["attention_mask"] == 1)
        ids = batch["input_ids"]
        seen, labels = ids.masked_fill(hidden, MASK_TOKEN), ids.masked_fill(~hidden, IGNORED)
        batches.append(batch | {"input_ids": seen, "labels": labels})
    return batches


def hf_gpt2() -> Triple:
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(n_embd=8, n_layer=1, n_head=2, **_COMMON)
    with seeded(6):
        model = GPT2LMHeadModel(config)
        return settle(model, loss, causal_batches()), loss, causal_batches()


def hf_bert() -> Triple:
    from transformers import BertConfig, BertForMaskedLM

    config = BertConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, type_vocab_size=1,
        **_COMMON,
    )  # fmt: skip
    with seeded(7):
        model = BertForMaskedLM(config)
        return settle(model, loss, masked_batches()), loss, masked_batches()


def hf_llama() -> Triple:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=16, **_COMMON,
    )  # fmt: skip
    with seeded(8):
        model = LlamaForCausalLM(config)
        return settle(model, loss, causal_batches()), loss, causal_batches()
