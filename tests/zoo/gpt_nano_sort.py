"""minGPT's "gpt-nano", three layers, trained to sort six letters out of three (Karpathy's minGPT demo)."""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.case import Triple, classification, seeded
from zoo.data import LabelledBatch, shared_data

LENGTH, LETTERS, WIDTH, HEADS, LAYERS = 6, 3, 48, 3, 3
IGNORED = -100


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.c_attn, self.c_proj = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = (part.unflatten(-1, (HEADS, -1)).transpose(1, 2) for part in self.c_attn(x).chunk(3, -1))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.c_proj(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ln_1, self.ln_2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attn = Attention()
        self.mlp = nn.ModuleDict({"c_fc": nn.Linear(WIDTH, 4 * WIDTH), "c_proj": nn.Linear(4 * WIDTH, WIDTH)})

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.ln_1(x))
        hidden = F.gelu(self.mlp["c_fc"](self.ln_2(x)), approximate="tanh")
        return x + self.mlp["c_proj"](hidden)  # type: ignore[no-any-return]


class GPT(nn.Module):
    """Names as in minGPT, so that its state fits as it is."""

    def __init__(self) -> None:
        super().__init__()
        self.transformer = nn.ModuleDict(
            {
                "wte": nn.Embedding(LETTERS, WIDTH),
                "wpe": nn.Embedding(2 * LENGTH - 1, WIDTH),
                "h": nn.Sequential(*(Block() for _ in range(LAYERS))),
                "ln_f": nn.LayerNorm(WIDTH),
            }
        )
        self.lm_head = nn.Linear(WIDTH, LETTERS, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        part = self.transformer
        positions = torch.arange(tokens.shape[1], device=tokens.device)
        x = part["wte"](tokens) + part["wpe"](positions)
        return self.lm_head(part["ln_f"](part["h"](x)))  # type: ignore[no-any-return]


def random_letters(count: int, seed: int) -> Tensor:
    """Inputs of the task, ``(count, 6)``."""
    return torch.randint(LETTERS, (count, LENGTH), generator=torch.Generator().manual_seed(seed))


def sort_with(model: nn.Module, letters: Tensor) -> Tensor:
    """Greedy generation of the six letters after the input."""
    tokens = letters
    for _ in range(LENGTH):
        tokens = torch.cat([tokens, model(tokens)[:, -1:].argmax(-1)], 1)
    return tokens[:, LENGTH:]


def _batch(letters: Tensor) -> LabelledBatch:
    """minGPT's training pairs: the input's own letters are not predicted."""
    whole = torch.cat([letters, letters.sort(1).values], 1)
    targets = whole[:, 1:].clone()
    targets[:, : LENGTH - 1] = IGNORED
    return whole[:, :-1], targets


def gpt_nano_sort() -> Triple:
    state = torch.load(shared_data("weights/gpt-nano-sort.pt"), weights_only=True, map_location="cpu")
    with seeded(0):
        model = GPT()
    # ".attn.bias" is the causal mask, a buffer; "c_attn.bias" is a parameter.
    model.load_state_dict({key: value for key, value in state.items() if not key.endswith(".attn.bias")})
    return model.eval(), classification, [_batch(random_letters(32, seed)) for seed in (0, 1)]
