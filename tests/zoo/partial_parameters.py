"""Parameters that are frozen, that no batch reaches, and that only some batches reach."""

from torch import Tensor, nn

from zoo.case import Batch, SplitLoss, Triple, classification, seeded, settle
from zoo.data import digits_batches


class PartialParameters(nn.Module):
    """A frozen first layer, one adapter per domain (a batch reaches one), and a head that nothing calls."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = nn.Linear(64, 12).requires_grad_(False)
        self.adapters = nn.ModuleList([nn.Linear(12, 12), nn.Linear(12, 12)])
        self.unused = nn.Linear(12, 3)
        self.head = nn.Linear(12, 10)

    def forward(self, x: Tensor, domain: int) -> Tensor:
        hidden = self.frozen(x).tanh()
        return self.head(self.adapters[domain](hidden).tanh())  # type: ignore[no-any-return]


def _forward(model: nn.Module, batch: Batch) -> Tensor:
    outputs: Tensor = model(batch[0], batch[2])
    return outputs


def partial_parameters() -> Triple:
    loss_fn = SplitLoss(outputs=_forward, criterion=classification.criterion)
    labelled = digits_batches((24, 24), sort=True)
    batches = [(images, labels, domain) for domain, (images, labels) in enumerate(labelled)]
    with seeded(9):
        return settle(PartialParameters(), loss_fn, batches), loss_fn, batches
