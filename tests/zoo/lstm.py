"""An LSTM that reads a digit row by row."""

from torch import Tensor, nn

from zoo.case import Triple, classification, seeded, settle
from zoo.data import digits_batches


class RowReader(nn.Module):
    """Eight steps of eight pixels; the last hidden state is classified."""

    def __init__(self, hidden: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(8, hidden, batch_first=True)
        self.head = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(x.view(-1, 8, 8))
        return self.head(states[:, -1])  # type: ignore[no-any-return]


def lstm() -> Triple:
    batches = digits_batches((16, 16))
    with seeded(11):
        return settle(RowReader(4), classification, batches), classification, batches
