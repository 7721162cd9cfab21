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
_ISOMETRY = "Saxe et al. 2014; Pennington, Schoenholz & Ganguli 2017"
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
    "sigma_max": Definition(
        "σmax of a block",
        "‖J‖₂, J the Jacobian of a block's output by its input, over the probe: how much the block magnifies the "
        "direction that it magnifies most. Alone a value over 1 is no fault: ask σrms and the gradient's growth. The "
        "error is the residual of its singular vectors: a singular value lies that near.",
        "",
        _ISOMETRY,
    ),
    "sigma_rms": Definition(
        "σrms of a block",
        "‖J‖_F/√n: how much the block magnifies a random direction, on average. Near 1 a signal keeps its size on its "
        "way through the depth. The error is a standard error over random vectors.",
        "",
        _ISOMETRY,
    ),
    "sigma_min": Definition(
        "σmin of a block",
        "The smallest singular value of a block's Jacobian, where it was asked for: what of the signal is lost.",
        "",
        _ISOMETRY,
    ),
    "growth": Definition(
        "growth a block",
        "The gradient's norm at a block's input over that at its output; over all blocks the geometric mean. 1 keeps "
        "the gradient as it is.",
        "",
        "Pascanu, Mikolov & Bengio 2013",
    ),
    "depth_factor": Definition(
        "factor over the depth",
        "growth to the power of the number of blocks: how much larger the gradient is at the first block than at the "
        "last. 1.1 a block is 117 after 50 blocks.",
        "",
        "Pascanu, Mikolov & Bengio 2013",
    ),
    "flow_verdict": Definition(
        "signal flow",
        "exploding, vanishing: on its way from the last block to the first the gradient's norm changes by more than "
        "100×, and a random signal by more than 10×, or the gradient by more than 10,000×; or a block lets none "
        "through. healthy: it does not. unresolved: it could not be followed. At fault are those that push hardest.",
        "",
        _ISOMETRY,
    ),
    "remedies": Definition(
        "remedies",
        "What may help, in the order of the evidence for it. On request each is applied to a copy of the model, which "
        "is then measured again.",
        "",
        "Saxe et al. 2014; He et al. 2016; Ba et al. 2016; Miyato et al. 2018; Pascanu et al. 2013",
    ),
    "lipschitz_lower": Definition(
        "Lipschitz constant, proven from below",
        "The largest ‖J‖₂ of the whole network found, on the probe or by ascent from it: somewhere a small change of "
        "the input changes the output by that factor, in Euclidean norms.",
        "output / input",
        "Jordan & Dimakis 2020",
    ),
    "lipschitz_upper": Definition(
        "Lipschitz constant, certified from above",
        "No two inputs, however far apart, have outputs farther apart than this factor. From each layer's norm, and "
        "tighter for chains of dense layers, whose activations are bounded together (ECLipsE-Fast).",
        "output / input",
        "Xu & Sivaranjani 2024 (ECLipsE-Fast); Gouk et al. 2021",
    ),
    "lipschitz_product": Definition(
        "product of the norms",
        "The bound from each layer's norm by itself: certified too, and loose. The run file has its log₁₀.",
        "output / input",
        "Szegedy et al. 2014",
    ),
    "lipschitz_ratio": Definition(
        "certified / proven",
        "The upper bound over the lower one: by how much the certified figure may be too large.",
        "",
        "",
    ),
    "no_global_bound": Definition(
        "no global bound",
        "A layer has no Lipschitz constant over all inputs, so neither has the network: dot-product attention is such "
        "a layer. The lower bound stands, and nothing is certified.",
        "",
        "Kim, Papamakarios & Mnih 2021",
    ),
    "certified_radius": Definition(
        "certified radius",
        "Margin ÷ Lipschitz constant: no change of the input that is shorter than this, in Euclidean norm, flips the "
        "answer. A proof; the median over the probe's samples.",
        "input",
        "Tsuzuku, Sato & Sugiyama 2018",
    ),
    "attacked_radius": Definition(
        "attacked radius",
        "The length of the shortest change of the input that was found to flip the answer, by projected gradient "
        "steps. An example: a shorter one may exist. The median over the probe's samples.",
        "input",
        "Madry et al. 2018; Rony et al. 2019",
    ),
    "risk": Definition(
        "adversarial risk",
        "What the two radii say together, and which of them it rests on: a certificate proves that nothing nearer "
        "flips an answer, an attack shows that something does.",
        "",
        "Tsuzuku, Sato & Sugiyama 2018; Madry et al. 2018",
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
