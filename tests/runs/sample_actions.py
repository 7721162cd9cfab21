"""Made-up actions in the shape that `ActionRecord.to_dict()` gives; a test holds it."""

from typing import Any

ALERT = {
    "rule": "edge_of_stability", "level": "critical", "step": 100, "metric": "stability_ratio", "value": 1.6,
    "threshold": 1.5, "message": "1.6× the stability threshold of SGD",
}  # fmt: skip
_NOTES = {
    "kept": "it helped: the stability ratio is under 1",
    "undone": "it did not help; the loss rose from 0.42 to 1.3, so weights, optimizer and random streams are as they "
    "were at step 120",
    "failed": "RuntimeError: the optimizer has no group 3: everything is as it was before, and it is not tried again",
    "refused": "the optimizer was swapped meanwhile",
    "dismissed": "by a person",
}


def sample_action(state: str = "proposed", key: int = 1, step: int = 100, **changes: Any) -> dict[str, Any]:
    """An action in a state; what was measured on both sides where it was judged."""
    applied = state in ("applied", "kept", "undone", "failed")
    judged = state in ("kept", "undone")
    before = {"step": step, "loss": 0.42, "verdict": "not_converged", "stability_ratio": 1.6, "gradient_norm": 0.9}
    after = {**before, "step": step + 20, "loss": 0.31, "stability_ratio": 0.8, "gradient_norm": 0.4}
    worse = {**before, "step": step + 20, "loss": 1.3, "stability_ratio": 2.4, "gradient_norm": 2.2}
    return {
        "key": key, "name": "control_step", "words": "LOWER THE STEP SIZE",
        "criterion": "the stability ratio is under 1",
        "state": state, "step": step, "alert": ALERT, "by": "a person",
        "applied_at": step if applied else None,
        "changed": {"lr": [[0.4, 0.2]]} if applied and state != "failed" else None,
        "before": before if applied else None,
        "after": {"kept": after, "undone": worse}[state] if judged else None,
        "helped": {"kept": True, "undone": False}.get(state), "note": _NOTES.get(state, ""), **changes,
    }  # fmt: skip
