"""stories260K, a whole Llama that writes children's stories (Karpathy's llama2.c, trained on TinyStories)."""

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.case import Triple, classification, seeded
from zoo.data import LabelledBatch, shared_data
from zoo.tok512 import BOS, Tokenizer

VOCABULARY, WIDTH, LAYERS, HEADS, KV_HEADS, HIDDEN, CONTEXT = 512, 64, 5, 8, 4, 172, 512
WINDOW = 96

# Written for this test in the manner of TinyStories; the model has never seen them.
STORIES = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park with her "
    "dog. One day, she saw a big red ball under a tree. She ran to get it, but the ball was stuck. "
    "Lily was sad. Then her mom came and helped her. They were very happy and played with the ball all day.",
    "Once upon a time, there was a boy named Tim. He had a small blue car that he liked very much. "
    "One day, Tim lost his car. He looked under the bed and in the box, but he could not find it. "
    'His friend Sam said, "I will help you." They found the car in the garden. Tim was very happy.',
)


class Attention(nn.Module):
    """Grouped queries: two query heads share a key and a value head."""

    def __init__(self) -> None:
        super().__init__()
        head = WIDTH // HEADS
        self.wq, self.wo = nn.Linear(WIDTH, WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.wk = nn.Linear(WIDTH, KV_HEADS * head, bias=False)
        self.wv = nn.Linear(WIDTH, KV_HEADS * head, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        query, key, value = (
            part.unflatten(-1, (-1, WIDTH // HEADS)).transpose(1, 2) for part in (self.wq(x), self.wk(x), self.wv(x))
        )
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        key, value = (part.repeat_interleave(HEADS // KV_HEADS, 1) for part in (key, value))
        mixed = F.scaled_dot_product_attention(query, key, value, is_causal=True)
        return self.wo(mixed.transpose(1, 2).flatten(2))  # type: ignore[no-any-return]


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotary position embedding of llama2.c: the pairs are neighbours, not halves as in Hugging Face's."""
    even, odd = x[..., ::2], x[..., 1::2]
    return torch.stack([even * cos - odd * sin, even * sin + odd * cos], -1).flatten(-2)


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention()
        self.attention_norm, self.ffn_norm = nn.RMSNorm(WIDTH, eps=1e-5), nn.RMSNorm(WIDTH, eps=1e-5)
        self.w1, self.w3 = nn.Linear(WIDTH, HIDDEN, bias=False), nn.Linear(WIDTH, HIDDEN, bias=False)
        self.w2 = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin)
        normed = self.ffn_norm(x)
        return x + self.w2(F.silu(self.w1(normed)) * self.w3(normed))  # type: ignore[no-any-return]


class Llama(nn.Module):
    """Embedding and head are one matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(VOCABULARY, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.RMSNorm(WIDTH, eps=1e-5)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.embedding.weight
        self.register_buffer("cos", torch.zeros(CONTEXT, WIDTH // HEADS // 2))
        self.register_buffer("sin", torch.zeros(CONTEXT, WIDTH // HEADS // 2))

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        cos, sin = self.get_buffer("cos")[: tokens.shape[1]], self.get_buffer("sin")[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x, cos, sin)
        return self.head(self.norm(x))  # type: ignore[no-any-return]


def _layer_state(arrays: dict[str, Tensor], layer: int) -> dict[str, Tensor]:
    prefix = f"blocks.{layer}."
    attention = {f"{prefix}attention.{name}.weight": arrays[name][layer] for name in ("wq", "wk", "wv", "wo")}
    rest = ("attention_norm", "ffn_norm", "w1", "w2", "w3")
    return attention | {f"{prefix}{name}.weight": arrays[name][layer] for name in rest}


def load() -> tuple[Llama, Tokenizer]:
    """The trained model and its tokenizer."""
    with np.load(shared_data("weights/stories260K.npz")) as archive:
        arrays = {name: torch.from_numpy(archive[name]) for name in archive.files}
    state = {
        "embedding.weight": arrays["tok_embeddings"],
        "head.weight": arrays["tok_embeddings"],
        "norm.weight": arrays["norm"],
        "cos": arrays["freq_cos"],
        "sin": arrays["freq_sin"],
    }
    for layer in range(LAYERS):
        state |= _layer_state(arrays, layer)
    with seeded(0):
        model = Llama()
    model.load_state_dict(state)
    return model.eval(), Tokenizer(shared_data("weights/stories260K-tok512.bin"))


@torch.no_grad()
def greedy(model: nn.Module, count: int) -> Tensor:
    """A story's first token and the `count` most likely ones after it: ``(1, count + 1)``."""
    tokens = torch.tensor([[BOS]])
    for _ in range(count):
        tokens = torch.cat([tokens, model(tokens)[:, -1:].argmax(-1)], 1)
    return tokens


def story_batch(tokenizer: Tokenizer, text: str) -> LabelledBatch:
    tokens = torch.tensor([tokenizer.encode(text)[: WINDOW + 1]])
    return tokens[:, :-1], tokens[:, 1:]


def stories260k() -> Triple:
    model, tokenizer = load()
    return model, classification, [story_batch(tokenizer, text) for text in STORIES]
