"""The test zoo: small and real models, each a function that returns ``(model, loss_fn, batches)``.

`CASES` names them all. `SMALL` are those of at most 3,000 parameters, for which `oracles.dense_hessian` is
affordable; `REAL` have trained weights and real data from the folder beside the repository, and their
builders skip the test where it is missing.
"""

from collections.abc import Callable
from typing import Any

from zoo import (
    batchnorm_conv,
    causal_transformer,
    compiled,
    gpt_nano_sort,
    groupnorm_conv,
    hugging_face,
    layernorm_silu,
    lstm,
    mlp,
    mnist_mlp,
    partial_parameters,
    ragged,
    regression,
    resnet20,
    stories260k,
)
from zoo.case import Batch, Case, LossFn, SplitLoss, Triple, move, parameter_count, seeded, settle
from zoo.data import shared_data

__all__ = [
    "CASES", "REAL", "SMALL", "Batch", "Case", "LossFn", "SplitLoss", "Triple",
    "move", "named", "parameter_count", "seeded", "settle", "shared_data",
]  # fmt: skip


def _case(build: Callable[[], Triple], num_parameters: int, *traits: str, **masked_labels: Any) -> Case:
    return Case(build, num_parameters, frozenset(traits), **masked_labels)


_CAUSAL = {"batch_weight": hugging_face.causal_weight, "split": hugging_face.causal_split}
_MASKED = {"batch_weight": hugging_face.masked_weight, "split": hugging_face.masked_split}

CASES: dict[str, Case] = {
    case.build.__name__: case
    for case in (
        _case(regression.regression, 97),
        _case(mlp.mlp_tanh, 1210),
        _case(mlp.mlp_relu, 1210, "kinks"),
        _case(batchnorm_conv.batchnorm_conv, 522, "kinks", "batch_norm", "dropout"),
        _case(layernorm_silu.layernorm_silu, 910),
        _case(groupnorm_conv.groupnorm_conv, 532),
        _case(causal_transformer.causal_transformer, 930, "fused_attention", "tied"),
        _case(hugging_face.hf_gpt2, 1200, "fused_attention", "tied", "dropout", "hugging_face", **_CAUSAL),
        _case(hugging_face.hf_bert, 1053, "fused_attention", "tied", "dropout", "hugging_face", **_MASKED),
        _case(hugging_face.hf_llama, 1064, "fused_attention", "hugging_face", **_CAUSAL),
        _case(partial_parameters.partial_parameters, 481),
        _case(ragged.ragged, 460),
        _case(lstm.lstm, 274),
        _case(compiled.compiled_module, 385, "compiled"),
        _case(compiled.compiled_part, 385, "compiled"),
        _case(compiled.compiled_in_place, 385, "compiled"),
        _case(mnist_mlp.mnist_mlp, 101_632, "real", "kinks"),
        _case(gpt_nano_sort.gpt_nano_sort, 85_728, "real", "fused_attention"),
        _case(stories260k.stories260k, 260_032, "real", "fused_attention", "tied"),
        _case(resnet20.resnet20, 269_722, "real", "kinks", "batch_norm"),
    )
}


def named(trait: str) -> list[str]:
    """The names of the cases with this trait, for `pytest.mark.parametrize`."""
    return [name for name, case in CASES.items() if trait in case.traits]


REAL = named("real")
SMALL = [name for name in CASES if name not in REAL]
