"""What the tensors of a checkpoint belong to: which module, of which kind, and what shares its values.

The facts come from the model itself where one is handed in; from the class that `config.json` names, built by
transformers without weights (on the meta device, no code of the checkpoint runs); or else from names and shapes.
"""

from __future__ import annotations

import logging
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from eigenscope.checkpoints import Checkpoint
from eigenscope.checkpoints.formats.peft import PREFIX
from eigenscope.scanning.fused import FUSED
from eigenscope.scanning.layouts import Layout, views

ADAPTABLE = ("linear", "conv1d", "conv")  # what LoRA's two factors can stand beside
_WRAPPERS = ("module.", "_orig_mod.", PREFIX)
_EMBEDDING = re.compile(r"(^|\.)(?!embed_out)(wte|wpe|shared|relative_attention_bias|lut|codebook|\w*emb\w*)\.weight$")
_HEAD = re.compile(
    r"(^|\.)(lm_head|embed_out|score|classifier|qa_outputs|head|output_projection|predictions\.decoder)\."
)
_LAYER = re.compile(r"(^|\.)\d+\.|(fc|proj|lin|linear|dense|mlp)\d*\.weight$")  # one of a stack, or named as one
_MULTIPLE = 8  # a layer's outputs are what another takes in, or up to so many times that: q, k and v, a gate
_TASKS = {"ForCausalLM": "CAUSAL_LM", "LMHeadModel": "CAUSAL_LM", "ForConditionalGeneration": "SEQ_2_SEQ_LM"}


@dataclass(frozen=True)
class Architecture:
    """The modules of a model. Without a model, kinds are guessed, and `names` is empty."""

    source: str  # where the facts are from, for people
    layout: Layout
    kinds: Mapping[str, str] = field(default_factory=dict)  # module → its kind
    names: frozenset[str] = frozenset()  # tensors of its state dict
    tied: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # tensor → all that share its values
    prefix: str = ""  # of the body within the model: "transformer" of GPT2LMHeadModel
    heads: frozenset[str] = frozenset()
    task: str | None = None
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)  # of all tensors, where kinds are guessed
    inputs: str | None = None  # the module that embeds tokens, where the model says so

    @classmethod
    def of(cls, sources: Sequence[Any], checkpoints: Sequence[Checkpoint]) -> Architecture:
        """From the first of the sources, TUNED before BASE, that is a model or says which it is."""
        shapes = {plain(entry.name): entry.shape for entry in checkpoints[0].entries}
        config: Mapping[str, Any] = next((c.config for c in checkpoints if c.config), {})
        layout = Layout.of(config, shapes, checkpoints[0].format)
        for source, checkpoint in zip(sources, checkpoints, strict=True):
            if isinstance(source, nn.Module):
                return cls._from_module(source, "the model itself", layout, checkpoint.config)
            built = _built(checkpoint.config)
            if built is not None:
                return cls._from_module(built, f"transformers' {type(built).__name__}", layout, checkpoint.config)
        return cls("names and shapes", layout, task=_task(config), shapes=shapes)

    @classmethod
    def _from_module(cls, model: nn.Module, source: str, layout: Layout, config: Mapping[str, Any]) -> Architecture:
        model = getattr(model, "_orig_mod", model)
        sharing: dict[int, list[str]] = defaultdict(list)
        for name, parameter in model.named_parameters(remove_duplicate=False):
            sharing[id(parameter)].append(name)
        output, inputs = (_asked(model, f"get_{side}_embeddings") for side in ("output", "input"))
        places = {id(module): name for name, module in model.named_modules()}
        return cls(
            source,
            layout,
            {name: _kind(model, name, module) for name, module in model.named_modules()},
            frozenset(model.state_dict(keep_vars=True)),
            {name: tuple(group) for group in sharing.values() if len(group) > 1 for name in group},
            str(getattr(model, "base_model_prefix", "") or ""),
            frozenset(places[id(module)] for module in (output,) if id(module) in places),
            _task(config),
            inputs=places.get(id(inputs)),
        )

    def name_of(self, stored: str) -> str:
        """The name in the model of a stored tensor: with or without the body's prefix, LayerNorm's old spelling."""
        name = plain(stored)
        spelled = re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name))
        start = f"{self.prefix}."
        candidates = [name, spelled] + [f(n) for n in (name, spelled) for f in _moves(start) if self.prefix]
        return next((candidate for candidate in candidates if candidate in self.names), name)

    def kind(self, name: str, shape: Sequence[int]) -> str:
        """Of the module that holds the tensor; "parameter" where no module holds it as its weight or bias."""
        module, _, leaf = name.rpartition(".")
        if name in self.names:
            kind = self.kinds.get(module, "other")
            return "parameter" if kind == "container" else kind
        if leaf == "bias" and len(self.shapes.get(f"{module}.weight", ())) > 1:
            return self.kind(f"{module}.weight", self.shapes[f"{module}.weight"])
        if leaf == "bias" or (leaf == "weight" and len(shape) < 2):
            return "other"
        if leaf != "weight" or not module:
            return "buffer" if leaf.startswith(("running_", "num_batches")) else "parameter"
        return self._guessed(name, shape)

    def _guessed(self, name: str, shape: Sequence[int]) -> str:
        if len(shape) == 2:
            if _EMBEDDING.search(name):
                return "embedding"
            if self.layout.turned(name):
                return "conv1d"
            return "doubtful" if self._long(name, shape) else "linear"
        whole = next(views(name, shape, self.layout))
        return "parameter" if whole.part else "other" if shape[1] == 1 else "conv"

    def _long(self, name: str, shape: Sequence[int]) -> bool:
        """Whether its rows may be a vocabulary: more than columns, and no number that the other layers take in."""
        if _LAYER.search(name) or FUSED.search(name):
            return False
        taken = {other[1] for other in self.shapes.values() if len(other) == 2}
        counts = {count * size for size in taken for count in range(1, _MULTIPLE + 1)}
        return shape[0] > shape[1] and shape[0] not in counts

    def embeds_tokens(self, name: str) -> bool:
        """Whether the tensor is the vocabulary's embedding."""
        module = name.rpartition(".")[0]
        if self.inputs is not None:
            return any(other.rpartition(".")[0] == self.inputs for other in self.sharing(name))
        return bool(_EMBEDDING.search(name)) and not re.search(r"pos|wpe|type|relative", module.rpartition(".")[2])

    def is_head(self, name: str) -> bool:
        """Whether the tensor belongs to what a task puts on top of the body."""
        return name.rpartition(".")[0] in self.heads or bool(_HEAD.search(name))

    def sharing(self, name: str) -> tuple[str, ...]:
        """The tensors that are one and the same, this one first."""
        return (name, *(other for other in self.tied.get(name, ()) if other != name))


def plain(name: str) -> str:
    """Without what DataParallel, torch.compile and PEFT put in front."""
    for prefix in _WRAPPERS:
        name = name.removeprefix(prefix)
    return name.replace("._orig_mod.", ".")


def modules_of(names: Iterable[str]) -> frozenset[str]:
    """Every module that tensors of these names imply."""
    found = set()
    for name in names:
        parts = name.split(".")[:-1]
        found |= {".".join(parts[: count + 1]) for count in range(len(parts))}
    return frozenset(found)


def _moves(start: str) -> tuple[Callable[[str], str], Callable[[str], str]]:
    return lambda name: start + name, lambda name: name.removeprefix(start)


def _kind(model: nn.Module, name: str, module: nn.Module) -> str:
    parent = model.get_submodule(name.rpartition(".")[0]) if name else None
    if isinstance(parent, nn.MultiheadAttention):
        return "container"  # it reads the weights of its parts, and never calls them: a wrapper would be passed by
    if isinstance(module, nn.Linear):
        return "linear"
    if type(module).__name__ == "Conv1D" and hasattr(module, "nf"):
        return "conv1d"
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return "conv" if module.groups == 1 else "other"
    if isinstance(module, nn.Embedding):
        return "embedding"
    return "container" if next(module.children(), None) is not None or not name else "other"


def _asked(model: nn.Module, method: str) -> Any:
    """What a model of transformers says; None where it has no such method, or nothing to say."""
    try:
        return getattr(model, method, lambda: None)()
    except NotImplementedError:
        return None


def _task(config: Mapping[str, Any]) -> str | None:
    """PEFT's word for it, where the class says so; PEFT adds modules of its own to those for classification."""
    named = config.get("architectures")
    name = str(named[0]) if isinstance(named, list) and named else ""
    return next((task for ending, task in _TASKS.items() if name.endswith(ending)), None)


def _built(config: Mapping[str, Any]) -> nn.Module | None:
    """The class that the configuration names, without weights; None without transformers, or where it can't."""
    named, kind = config.get("architectures"), config.get("model_type")
    if not (isinstance(named, list) and named and isinstance(kind, str)):
        return None
    try:
        import transformers
    except ImportError:
        return None
    verbosity = transformers.logging.get_verbosity()
    transformers.logging.set_verbosity(logging.ERROR)
    try:
        rest = {key: value for key, value in config.items() if key != "model_type"}
        described = transformers.AutoConfig.for_model(kind, **rest)
        with torch.device("meta"):
            model = getattr(transformers, str(named[0]))(described)
    except Exception:  # a class or a configuration that this version of transformers does not know
        return None
    finally:
        transformers.logging.set_verbosity(verbosity)
    return model if isinstance(model, nn.Module) else None
