"""What each number of a weight matrix means: shown in the report, the schema and the docs."""

from __future__ import annotations

from eigenscope.diagnostics.definitions import Definition

_ECKART = "Eckart & Young 1936"
_PASTUR = "Marchenko & Pastur 1967; Johnstone 2001"

WEIGHT_DEFINITIONS: dict[str, Definition] = {
    "effective_rank": Definition(
        "effective rank", "(Σσ)²/Σσ²: over how many directions the matrix spreads, were they all alike.", "", ""
    ),
    "entropy_rank": Definition(
        "entropy rank", "exp of the entropy of σ/Σσ: counts small directions more than the effective rank does.",
        "", "Roy & Vetterli 2007",
    ),
    "stable_rank": Definition(
        "stable rank", "Σσ²/σ₁²: never above the rank, and blind to small noise.", "", "Rudelson & Vershynin 2007"
    ),
    "condition_number": Definition(
        "condition number κ",
        "σ₁ over the smallest σ: how unequally the matrix stretches its inputs. With ≥, rounding hides the smallest "
        "value: κ may be anything from there on.",
        "", "",
    ),
    "spectral_norm": Definition(
        "spectral norm σ₁", "The largest singular value: the most by which an input can grow.", "", ""
    ),
    "frobenius_norm": Definition("Frobenius norm", "√Σσ²: the root of the sum of all squared entries.", "", ""),
    "variance_at_10": Definition(
        "variance at rank 10", "The share of Σσ² in the ten strongest directions: no matrix of rank 10 holds more.",
        "share", _ECKART,
    ),
    "rank_at_90": Definition("rank at 90 %", "The least rank that holds 90 % of Σσ².", "", _ECKART),
    "rank_at_95": Definition("rank at 95 %", "The least rank that holds 95 % of Σσ².", "", _ECKART),
    "rank_at_99": Definition("rank at 99 %", "The least rank that holds 99 % of Σσ².", "", _ECKART),
    "rank": Definition("rank", "Singular values that stand above the rounding floor.", "", ""),
    "rounding_floor": Definition(
        "rounding floor",
        "What rounding, to the stored type and in the arithmetic before, adds to a singular value: below it nothing "
        "is weight.",
        "as σ", "",
    ),
    "alpha": Definition(
        "tail exponent α",
        "Eigenvalues λ = σ² above x_min fall off in number as the power −α of λ. Means something only with a small "
        "distance of the fit, a long tail, and no lognormal that fits better.",
        "", "Clauset, Shalizi & Newman 2009",
    ),
    "noise_edge": Definition(
        "noise edge",
        "The σ that a random matrix of this size exceeds in 1 of 100 cases. Its entries are as large as those of the "
        "bulk below the spikes where that follows the Marchenko–Pastur law, else as those of the whole matrix.",
        "as σ", _PASTUR,
    ),
    "spikes": Definition("spikes", "Singular values above the noise edge.", "", _PASTUR),
    "noise_distance": Definition(
        "distance from noise",
        "The largest gap between the spectrum and that of a random matrix, in singular values; null for zeros.",
        "singular values", _PASTUR,
    ),
    "spectrum_shape": Definition(
        "shape of the spectrum",
        "flat: no elbow. spiked: a few directions stand out, twice the next or more. noise: can't be told from a "
        "random matrix. power_law: the tail falls as one. low_rank: a quarter of the directions holds 99 %. "
        "rank_deficient: some directions are zero to rounding.",
        "", "",
    ),
    "operator_norm": Definition(
        "norm as a convolution",
        "The most by which the convolution grows an image of the size that was given; with stride 1 and same padding, "
        "in as many groups as a module in memory says. In a file filters of one input channel count as depthwise, but "
        "the first of several convolutions as one of grey images; others as ungrouped.",
        "", "",
    ),
    "relative_size": Definition(
        "relative size", "The Frobenius norm of ΔW over that of W: how far the weights moved.", "share", ""
    ),
    "overlap": Definition(
        "overlap",
        "Mean squared cosine between the ten leading directions of both, inputs and outputs: 1 where they span the "
        "same, near 0 where nothing is left of them. Fewer than ten where one of them has a lower rank; null for "
        "zeros.",
        "", "",
    ),
    "intruders": Definition(
        "intruders",
        "Of the ten leading outputs of TUNED (fewer where BASE or TUNED has a lower rank), those whose cosine with "
        "every one of BASE's is below 0.6; null where one of the two is 0.",
        "", "Shuttleworth et al. 2024",
    ),
}  # fmt: skip
