"""Small models of four families, from configurations, and adapters that the real PEFT trained on them."""

import copy
import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from torch import Tensor, nn

VOCABULARY = 60
_IDS = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}


def gpt2(**options: Any) -> nn.Module:
    config = transformers.GPT2Config(
        vocab_size=VOCABULARY, n_embd=64, n_layer=2, n_head=4, n_positions=16, resid_pdrop=0, **_IDS, **options
    )
    return transformers.GPT2LMHeadModel(config)


def bert(**options: Any) -> nn.Module:
    config = transformers.BertConfig(
        vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=96,
        max_position_embeddings=16, **_IDS, **options,
    )  # fmt: skip
    return transformers.BertForMaskedLM(config)


def llama(**options: Any) -> nn.Module:
    config = transformers.LlamaConfig(
        vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=96, max_position_embeddings=16, **_IDS, **options,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config)


def qwen2(**options: Any) -> nn.Module:
    """Biases in the query, key and value projections alone."""
    config = transformers.Qwen2Config(
        vocab_size=VOCABULARY, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
        intermediate_size=96, max_position_embeddings=16, **_IDS, **options,
    )  # fmt: skip
    return transformers.Qwen2ForCausalLM(config)


def t5(**options: Any) -> nn.Module:
    config = transformers.T5Config(
        vocab_size=VOCABULARY, d_model=64, d_ff=96, d_kv=16, num_layers=2, num_heads=4, decoder_start_token_id=0,
        **_IDS, **options,
    )  # fmt: skip
    return transformers.T5ForConditionalGeneration(config)


FAMILIES: dict[str, tuple[Callable[..., nn.Module], list[str]]] = {
    "gpt2": (gpt2, ["c_attn", "c_fc", "mlp.c_proj"]),
    "bert": (bert, ["query", "value", "intermediate.dense"]),
    "llama": (llama, ["q_proj", "v_proj", "down_proj"]),
    "t5": (t5, ["q", "v", "wo"]),
}


def made(
    build: Callable[..., nn.Module], seed: int = 0, dtype: torch.dtype = torch.float32, **options: Any
) -> nn.Module:
    """A model with random weights, in evaluation mode."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return build(**options).eval()


def batch(rows: int = 4, vocabulary: int = VOCABULARY) -> dict[str, Tensor]:
    ids = torch.randint(3, vocabulary, (rows, 12), generator=torch.Generator().manual_seed(5))
    return {"input_ids": ids, "labels": ids}


@torch.no_grad()
def logits(model: nn.Module, vocabulary: int = VOCABULARY) -> Tensor:
    return model(**batch(vocabulary=vocabulary)).logits.double()


def trained(model: nn.Module, config: LoraConfig, steps: int = 8, seed: int = 1) -> PeftModel:
    """A copy of the model with an adapter that PEFT trained for a few steps."""
    with torch.random.fork_rng(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        adapted = get_peft_model(copy.deepcopy(model), config).train()
        free = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
        optimizer = torch.optim.AdamW(free, lr=0.02)
        for _ in range(steps):
            optimizer.zero_grad()
            adapted(**batch()).loss.backward()
            optimizer.step()
    return adapted.eval()


@torch.no_grad()
def merged(adapted: PeftModel) -> nn.Module:
    """The model that PEFT's merge makes of a copy."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return copy.deepcopy(adapted).merge_and_unload().eval()


def loaded(base: nn.Module, folder: Path) -> PeftModel:
    """A copy of the base with the adapter in the folder, by real PEFT, which must find exactly what it looks for."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        adapted = PeftModel.from_pretrained(copy.deepcopy(base), str(folder)).eval()
    missing = [str(warning.message) for warning in told if "missing" in str(warning.message).lower()]
    assert not missing, missing
    return adapted


def saved(model: nn.Module, folder: Path) -> Path:
    """The folder, as `save_pretrained` writes it."""
    model.save_pretrained(folder)
    return folder


@torch.no_grad()
def nudged(model: nn.Module, *names: str, size: float = 0.05) -> nn.Module:
    """The model with noise on the parameters whose names end so."""
    generator = torch.Generator().manual_seed(9)
    for name, parameter in model.named_parameters():
        if name.endswith(names):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter += (size * noise).to(parameter.dtype)
    return model


@torch.no_grad()
def updated(model: nn.Module, *names: str, rank: int = 2, size: float = 0.3) -> nn.Module:
    """The model with an update of this rank on the matrices whose names end so."""
    generator = torch.Generator().manual_seed(7)
    for name, parameter in model.named_parameters():
        if name.endswith(names):
            rows, columns = parameter.shape
            left, right = (torch.randn(shape, generator=generator) for shape in ((rows, rank), (rank, columns)))
            parameter += (size / columns**0.5 * left @ right).to(parameter.dtype)
    return model


def write_adapter(folder: Path, tensors: dict[str, Tensor], **options: Any) -> None:
    """An adapter folder by hand."""
    folder.mkdir(exist_ok=True)
    described = {"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["a"], **options}
    (folder / "adapter_config.json").write_text(json.dumps(described))
    save_file(tensors, folder / "adapter_model.safetensors")
