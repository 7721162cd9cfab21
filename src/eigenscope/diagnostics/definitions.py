"""What each published name means: one place, shown in the panel, the docs and the command line."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Definition:
    """A published name: its label in the panel, what it is, its unit and where it comes from."""

    label: str
    definition: str
    unit: str
    source: str


_LANCZOS = "Lanczos 1950; Parlett 1998"
_SLQ = "Lin, Saad & Yang 2016; Ghorbani, Krishnan & Xiao 2019"
_EDGE = "Cohen et al. 2021 (gradient descent), 2022 (adaptive methods)"

DEFINITIONS: dict[str, Definition] = {
    "loss": Definition("loss", "The mean loss: of the training batch each step, of the probe at each check.", "", ""),
    "learning_rate": Definition("step size η", "The optimizer's current learning rate (of its first group).", "", ""),
    "lambda_max": Definition(
        "λmax",
        "The largest eigenvalue of the Hessian of the mean loss over the probe, in evaluation mode. The error is the "
        "residual of its Ritz vector: an eigenvalue lies that near. The sampling error is the standard error of "
        "vᵀHv over the probe's batches.",
        "loss / parameter²",
        _LANCZOS,
    ),
    "lambda_min": Definition(
        "λmin", "The smallest eigenvalue of the Hessian, with the same two errors.", "loss / parameter²", _LANCZOS
    ),
    "spectral_radius": Definition(
        "ε, sharpness",
        "The largest |λ| of the Hessian: how fast the loss curves in the steepest direction.",
        "loss / parameter²",
        _LANCZOS,
    ),
    "resolution": Definition(
        "resolution",
        "The smallest eigenvalue that could be told from 0: the larger of the extreme Ritz residuals and the measured "
        "noise of the product.",
        "loss / parameter²",
        "",
    ),
    "noise_floor": Definition(
        "τ, noise floor",
        "max(10⁻³ ε, resolution): every count of eigenvalues is relative to it.",
        "loss / parameter²",
        "",
    ),
    "condition_number": Definition(
        "κ, condition number",
        "λmax/λmin of a definite Hessian: how stretched the landscape is. Gradient descent contracts by (κ−1)/(κ+1) a "
        "step. Not defined where the Hessian is singular or indefinite, and then not shown.",
        "",
        "Nesterov 2004, theorem 2.1.15",
    ),
    "condition_status": Definition(
        "definiteness",
        "definite: λmin is positive by more than its error. singular: λmin can't be told from 0. indefinite: λmin is "
        "certified negative.",
        "",
        "",
    ),
    "condition_mean": Definition(
        "λmax / mean |λ|",
        "How far the steepest direction stands out from the average one: the trend that stays meaningful when κ is "
        "not defined. The error is a standard error over random vectors.",
        "",
        _SLQ,
    ),
    "iterations_to_halve": Definition(
        "steps to halve",
        "ln 2 / ln((κ+1)/(κ−1)): steps of the best constant-step gradient descent that halve the distance to the "
        "minimum.",
        "steps",
        "Nesterov 2004, theorem 2.1.15",
    ),
    "negative_count_certified": Definition(
        "certified negative eigenvalues",
        "Ritz values θ with θ + residual < −τ. By Cauchy's interlacing theorem the Hessian has at least as many "
        "eigenvalues below −τ: a proven lower bound.",
        "eigenvalues",
        "Parlett 1998, theorem 10.1.1",
    ),
    "negative_count_estimate": Definition(
        "estimated negative eigenvalues",
        "n times the spectral density below −τ, with a standard error; resolved where half of the Lanczos steps say "
        "the same. How many lie below 0 at all can't be known from products, and is not shown.",
        "eigenvalues",
        _SLQ,
    ),
    "top_eigenvalues": Definition(
        "top eigenvalues", "The largest eigenvalues, each with its residual as error.", "loss / parameter²", _LANCZOS
    ),
    "negative_share": Definition("|λmin| / λmax", "How deep the negative curvature is beside the positive.", "", ""),
    "verdict": Definition(
        "verdict",
        "saddle: the gradient vanishes and negative curvature is certified. minimum: it vanishes and nothing curves "
        "down. plateau: it vanishes and most directions are flat. not converged: the best step along the gradient, by "
        "the quadratic model, promises more than 0.1 % of the loss. unresolved: λmin is not known well enough.",
        "",
        "second-derivative test; Dauphin et al. 2014",
    ),
    "escape": Definition(
        "escape",
        "The decrease of the loss along ±v_min, the direction of negative curvature: as the quadratic model predicts "
        "it, and as it was then measured on the probe.",
        "loss",
        "Dauphin et al. 2014",
    ),
    "trace": Definition(
        "trace",
        "The sum of all eigenvalues: exact on the Krylov basis, Hutchinson's estimate on its complement.",
        "loss / parameter²",
        "Hutchinson 1990; Meyer et al. 2021 (Hutch++)",
    ),
    "density": Definition(
        "spectral density",
        "How many eigenvalues lie where, by stochastic Lanczos quadrature, on a signed asinh axis; outliers are single "
        "converged eigenvalues.",
        "eigenvalues / asinh(λ / 10⁻³ε)",
        _SLQ,
    ),
    "stability_ratio": Definition(
        "λ over the stability threshold",
        "SGD: λmax·η/2. Heavy ball: λmax·η/(2+2β). Nesterov: λmax·η(1+2β)/(2+2β). Adam, AdamW: "
        "λ₁(P⁻¹H)·η(1−β₁)/(2+2β₁) with P from the optimizer's state. 1 is the edge of stability. "
        "Not given where the Hessian is zero to rounding, as of a saturated network.",
        "",
        _EDGE,
    ),
    "sharpness_score": Definition(
        "sharpness, 0 to 100",
        "100·r/(1+r), r the stability ratio: 50 is the edge of stability. It speaks of stability. Whether flat minima "
        "generalize better is contested: sharpness changes under rescaling that leaves the network the same (Dinh et "
        "al. 2017), and its correlation with test error is mixed (Andriushchenko et al. 2023).",
        "",
        _EDGE,
    ),
    "gradient_norm": Definition("‖g‖, gradient norm", "The length of the mean gradient over the probe.", "", ""),
    "num_matvecs": Definition("products", "Products of the Hessian with a vector in this check.", "products", ""),
    "cost_in_gradients": Definition(
        "cost",
        "The time of the whole check, its start-up and arithmetic included, in gradients of the whole probe. On a "
        "small model that is mostly Python's own time: there the products, of 2 to 3 gradients each, say more.",
        "gradients",
        "",
    ),
    "probe_samples": Definition(
        "probe samples",
        "How much fixed data the loss is looked at through: the largest error of all, if it is small.",
        "samples",
        "",
    ),
    "measuring_share": Definition("measuring", "The share of the run's time that measuring has taken so far.", "", ""),
    "matrix": Definition(
        "matrix",
        "hessian: the second derivatives of the mean loss. gauss_newton: the same with the network linearized.",
        "",
        "Schraudolph 2002",
    ),
    "spectrum_step": Definition(
        "spectrum of step",
        "The step of the last cold check: trace, density, λmax / mean |λ| and the estimated count come from it.",
        "",
        "",
    ),
    "self_check": Definition(
        "self-check",
        "Once a run, before the numbers are believed: the asymmetry of the products, and how far they lie from a "
        "finite difference of the gradient, each relative to the largest eigenvalue.",
        "",
        "",
    ),
    "dropped": Definition("dropped", "Records that could not be written: disk full, or no right to write.", "", ""),
    "method": Definition(
        "method",
        "How products are made: double backward with the graph kept or recomputed, or finite differences.",
        "",
        "Pearlmutter 1994",
    ),
}
