"""What an action is: a name, the alerts that it answers, whether it can be applied, what it does, whether it helped."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from eigenscope.actions.evidence import Evidence
from eigenscope.actions.hooks import Hooks
from eigenscope.actions.situation import Situation


class Action(ABC):
    """One thing that can be done to a training run.

    ::

        @register
        class HalveTheStep(Action):
            \"\"\"Half the learning rate.\"\"\"

            name, words = "halve_the_step", "HALVE THE STEP SIZE"
            rules = ("edge_of_stability", "adaptive_edge")
            criterion = "the stability ratio is under 1"

            def apply(self, now):
                for group in now.optimizer.param_groups:
                    group["lr"] /= 2
                return {"lr": [group["lr"] for group in now.optimizer.param_groups]}

            def helped(self, before, after):
                ratio = after.number("stability_ratio")
                return None if ratio is None else ratio < 1

    One object serves one run. `apply` may change parameters, optimizer and scheduler freely: whoever applies it takes
    a `Snapshot` before. What a snapshot can't put back (hooks, a swapped optimizer) `undo` takes away. Hooks of one's
    own come off in `release`, too; those in `self._hooks` do by themselves.
    """

    name: ClassVar[str]  # by which it is chosen and recorded
    rules: ClassVar[tuple[str, ...]] = ()  # the alerts that it answers
    words: ClassVar[str]  # what it does, as a person is told: LOWER THE STEP SIZE
    criterion: str  # by what `helped` judges
    checks: ClassVar[int] = 1  # checks after which it is judged
    changes_weights: ClassVar[bool] = False  # `apply` itself moves parameters: its undo may put them back
    starts_anew: ClassVar[bool] = False  # where nothing is learnt yet, as it has checked: the loss before tells nothing
    problem: str | None = None  # what went wrong since, in a hook; as good as an exception from `apply`

    def can_apply(self, now: Situation) -> str | None:
        """None if it can be applied, else one line why not."""
        return None

    @abstractmethod
    def apply(self, now: Situation) -> dict[str, object]:
        """Do it; returns what was changed as plain JSON, such as ``{"lr": [0.1, 0.05]}``."""

    def undo(self, now: Situation) -> None:  # noqa: B027 - most have nothing to take back
        """Take back what a snapshot can't put back; to be called before the snapshot is restored.

        Never raises, also after an `apply` that did, and twice.
        """

    def release(self) -> None:
        """Let the optimizer go and leave the rest as it is: the run is over, or its optimizer is replaced."""
        if isinstance(hooks := getattr(self, "_hooks", None), Hooks):
            hooks.remove()

    @property
    def in_force(self) -> bool:
        """Whether it goes on working, by hooks; to be told by what has hooks of its own."""
        return isinstance(hooks := getattr(self, "_hooks", None), Hooks) and hooks.on

    def helped(self, before: Evidence, after: Evidence) -> bool | None:
        """Whether its own criterion is met; None while it can't be told."""
        return None

    def __repr__(self) -> str:
        given = ", ".join(f"{k}={v!r}" for k, v in vars(self).items() if not k.startswith("_") and _plain(v))
        return f"{type(self).__name__}({given})"


def _plain(value: object) -> bool:
    return isinstance(value, bool | int | float | str)
