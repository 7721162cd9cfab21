"""A network that learns real digits with a monitor, and actions for it whose judgement is what a test says."""

from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import eigenscope as es
from eigenscope.actions import Action, Evidence, Situation
from zoo.data import digits_batches

LEARNING_RATE = 0.5


class Halve(Action):
    """Half the learning rate; the judgement is what the test says."""

    name = "halve"
    rules: ClassVar[tuple[str, ...]] = ("edge_of_stability",)
    words = "HALVE THE STEP SIZE"
    criterion = "the test says so"

    def __init__(self, verdict: bool | None = True) -> None:
        self.verdict, self.undone, self.released = verdict, 0, 0
        self.cannot: str | None = None

    def can_apply(self, now: Situation) -> str | None:
        return self.cannot

    def apply(self, now: Situation) -> dict[str, object]:
        assert now.optimizer is not None
        rates = [[group["lr"], group["lr"] / 2] for group in now.optimizer.param_groups]
        for group in now.optimizer.param_groups:
            group["lr"] /= 2
        return {"lr": rates}

    def undo(self, now: Situation) -> None:
        self.undone += 1

    def release(self) -> None:
        self.released += 1

    def helped(self, before: Evidence, after: Evidence) -> bool | None:
        return self.verdict


class Loop:
    """A network in training whose alert on the edge of stability stands from the first check on."""

    def __init__(self, *actions: Action, act: str = "auto", every: int = 5, **options: Any) -> None:
        torch.manual_seed(0)
        self.inputs, self.labels = digits_batches((256,))[0]
        self.model = nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Tanh(), nn.Dropout(0.1), nn.Linear(16, 10))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=LEARNING_RATE, momentum=0.9)
        options.setdefault("rules", {"edge_of_stability": {"warning": 1e-6, "critical": 1e9}})
        self.monitor = es.Monitor(
            self.model, self.loss, (self.inputs[:64], self.labels[:64]), optimizer=self.optimizer, every=every,
            act=act, actions=actions or None, flow=False, lipschitz=False, **options,
        )  # fmt: skip

    @staticmethod
    def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return nn.functional.cross_entropy(model(batch[0]), batch[1])

    def train(self, monitored: bool = True) -> Tensor:
        chosen = torch.randint(256, (64,))
        loss = self.loss(self.model, (self.inputs[chosen], self.labels[chosen]))
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        if monitored:
            self.monitor.step(loss)
        return loss.detach()

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.train()

    @property
    def rate(self) -> float:
        return float(self.optimizer.param_groups[0]["lr"])

    def states(self) -> list[tuple[str, str]]:
        return [(record.name, record.state) for record in self.monitor.actions]

    def bits(self) -> list[Tensor]:
        """Everything that an undo has to put back."""
        tensors = [*self.model.state_dict().values(), *(p.grad for p in self.model.parameters() if p.grad is not None)]
        momenta = [state["momentum_buffer"] for state in self.optimizer.state.values()]
        modes = [torch.tensor([module.training for module in self.model.modules()])]
        rates = torch.tensor([group["lr"] for group in self.optimizer.param_groups])
        return [t.clone() for t in (*tensors, *momenta, *modes, rates, torch.get_rng_state())]


class Switch(Halve):
    """To AdamW, and back."""

    name = "switch"

    def can_apply(self, now: Situation) -> str | None:
        return None if now.replace_optimizer else "the loop can't be told"

    def apply(self, now: Situation) -> dict[str, object]:
        assert now.optimizer is not None
        assert now.replace_optimizer is not None
        self.old = now.optimizer
        now.replace_optimizer(torch.optim.AdamW(now.model.parameters(), lr=1e-3))
        return {"optimizer": ["SGD", "AdamW"]}

    def undo(self, now: Situation) -> None:
        assert now.replace_optimizer is not None
        now.replace_optimizer(self.old)


class Anew(Halve):
    """Starts a network anew, before its first step."""

    name = "anew"
    rules: ClassVar[tuple[str, ...]] = ("signal_flow",)
    words = "START ANEW"

    def can_apply(self, now: Situation) -> str | None:
        return None if now.step == 0 else "training has begun"

    def apply(self, now: Situation) -> dict[str, object]:
        for module in now.model.modules():
            if isinstance(module, nn.Linear):
                nn.init.orthogonal_(module.weight)
        return {"weights": "orthogonal"}

    def helped(self, before: Evidence, after: Evidence) -> bool | None:
        return None if after.flow is None else after.flow.verdict == "healthy"
