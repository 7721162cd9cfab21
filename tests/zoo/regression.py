"""A tiny regression with the mean squared error, the loss on which ``jvp(grad(f))`` fails."""

from torch import Tensor, nn

from zoo.case import Batch, SplitLoss, Triple, seeded, settle
from zoo.data import diabetes_batches


def _forward(model: nn.Module, batch: Batch) -> Tensor:
    outputs: Tensor = model(batch[0])
    return outputs


def _mean_squared_error(outputs: Tensor, batch: Batch) -> Tensor:
    return nn.functional.mse_loss(outputs, batch[1])


mean_squared_error = SplitLoss(outputs=_forward, criterion=_mean_squared_error)


def regression() -> Triple:
    batches = diabetes_batches()
    with seeded(1):
        model = nn.Sequential(nn.Linear(10, 8), nn.Tanh(), nn.Linear(8, 1))
        return settle(model, mean_squared_error, batches), mean_squared_error, batches
