"""LayerNorm and SiLU: where forward-over-reverse is silently wrong and ``vmap`` crashes."""

from torch import nn

from zoo.case import Triple, classification, seeded, settle
from zoo.data import digits_batches


def layernorm_silu() -> Triple:
    batches = digits_batches()
    with seeded(3):
        model = nn.Sequential(
            nn.Linear(64, 10), nn.LayerNorm(10), nn.SiLU(),
            nn.Linear(10, 10), nn.LayerNorm(10), nn.SiLU(),
            nn.Linear(10, 10),
        )  # fmt: skip
        return settle(model, classification, batches), classification, batches
