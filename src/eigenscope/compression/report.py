"""What a compression did and what it cost: frozen records, the same names in Python and in JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class LayerReport:
    """One compressible layer, before and after. Errors are relative, and null where they were not measured."""

    name: str  # as in `named_modules()`
    kind: str  # "linear", "conv1d_transposed" (GPT-2's Conv1D), "conv1d", "conv2d", "conv3d"
    shape: tuple[int, ...]  # of the weight, as stored
    rank: int | None  # null: left as it is
    rank_full: int  # the largest possible
    parameters: int  # weight and bias
    parameters_after: int
    kept: float  # parameters_after / parameters
    weight_error: float | None  # ‖W − W′‖_F / ‖W‖_F, measured on the two factors; 0 where left as it is
    weight_error_bound: float | None  # Eckart–Young: the least that any matrix of that rank can have
    output_error: float | None  # √(Σw‖y − y′‖² / Σw‖y − ȳ‖²) over the calibration inputs, w the squared gradient of the
    # model's output there: padding counts nothing (1 where no gradient comes back); null where not measured
    output_error_bound: float | None  # the least that any affine layer of that rank can have on these, so weighted
    reason: str | None  # why it was left as it is; null where it was compressed


@dataclass(frozen=True)
class Skipped:
    """A layer that was never up for compression, and why."""

    name: str
    kind: str  # the module's class
    parameters: int
    reason: str


@dataclass(frozen=True)
class Latency:
    """Milliseconds for one forward pass over one calibration batch: alternating runs of both models, one process."""

    median: float
    low: float  # quartiles
    high: float
    runs: int


@dataclass(frozen=True)
class CompressionReport:
    """What `compress` did. Counts are of the whole model unless they say otherwise."""

    method: str  # "activation" or "plain"
    refit: bool
    target: dict[str, float]  # what was asked for: {"keep": 0.8}, {"energy": 0.95} or {"rank": 32}
    kept: float  # share of the parameters of the compressible layers that is left
    kept_of_model: float
    parameters: int
    parameters_after: int
    memory_bytes: int  # parameters and buffers, each once
    memory_bytes_after: int
    flops: int | None  # of one forward pass over the first calibration batch
    flops_after: int | None
    flops_reason: str | None  # why there is no count
    latency: Latency | None  # null without calibration
    latency_after: Latency | None
    output_error: (
        float | None
    )  # of the whole model on the calibration batches: ‖f − f′‖ / ‖f − f̄‖; null where no tensor
    metric: float | None  # the user's own
    metric_after: float | None  # null, with a note, where it is no finite number
    samples: int | None  # calibration samples
    layers: tuple[LayerReport, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]  # where low rank does not pay, and what the calibration could not tell, in plain sentences
    seconds: float

    @property
    def compressed(self) -> tuple[LayerReport, ...]:
        """The layers that became two."""
        return tuple(layer for layer in self.layers if layer.rank is not None)

    def to_dict(self) -> dict[str, object]:
        """All of it, for JSON."""
        return asdict(self)


@dataclass(frozen=True)
class TradeOffPoint:
    """One budget of the grid."""

    keep: float  # asked for
    kept: float  # reached: share of the compressible layers' parameters
    kept_of_model: float
    parameters_after: int
    compressed_layers: int
    output_error: float | None  # of the whole model on the calibration batches, measured; null without calibration
    weight_error: float  # ‖W − W′‖_F / ‖W‖_F over all compressible layers together
    metric: float | None  # the user's own, measured on the compressed model
    latency_ms: float | None  # median; null without calibration


@dataclass(frozen=True)
class TradeOff:
    """A grid of budgets priced, nothing written; points in the order asked for."""

    method: str
    parameters: int
    compressible: int  # parameters of the layers that can be compressed
    metric: float | None  # of the model as it is
    latency_ms: float | None
    points: tuple[TradeOffPoint, ...]
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    seconds: float

    def to_dict(self) -> dict[str, object]:
        """All of it, for JSON."""
        return asdict(self)
