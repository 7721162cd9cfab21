"""Compressed models in folders: safetensors and small configurations, no pickle.

::

    eigenscope.safetensors   every parameter and persistent buffer, tied ones once
    eigenscope.json          {"format": 1, "model": "BertModel", "layers": {name: {"kind", "rank", "bias"}},
                             "buffers": {name: type of numbers}}, the buffers being those that are not saved
    config.json              the model's own, where it has one (Hugging Face), and so generation_config.json

The weights have a name of their own: transformers, which would find no place for them and draw others at random, then
says that there are none.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from eigenscope.compression.candidates import kind_of
from eigenscope.compression.layers import LowRank, LowRankConv1D, empty_low_rank, turn_into
from eigenscope.compression.preparing import copied, low_rank_layers
from eigenscope.errors import CheckpointError, InputError, first_line
from eigenscope.folders import Contents, new_folder, write_json_file
from eigenscope.operators.isolation import random_streams, underlying

FORMAT = 1
WEIGHTS, SPECIFICATION = "eigenscope.safetensors", "eigenscope.json"
CONFIG, GENERATION = "config.json", "generation_config.json"
COMPRESSED = Contents("a compressed model", SPECIFICATION, (WEIGHTS, SPECIFICATION, CONFIG, GENERATION))


def save_compressed(
    model: nn.Module, folder: str | os.PathLike[str], *, force: bool = False, beside: Iterable[Path] = ()
) -> None:
    """Write a compressed model; all of it, or nothing where the disk is full or the writing is interrupted.

    The files `beside`, such as a tokenizer's, are copied.
    """
    from safetensors.torch import save_file

    with new_folder(folder, COMPRESSED, force=force) as place:
        save_file(_once(model), place / WEIGHTS, metadata={"format": "pt"})
        write_json_file(place / SPECIFICATION, _specification(model))
        if config := _described(getattr(model, "config", None)):
            write_json_file(place / CONFIG, config | {"architectures": [type(model).__name__]})
        if generation := _described(getattr(model, "generation_config", None)):
            write_json_file(place / GENERATION, generation)
        for path in beside:
            shutil.copyfile(path, place / path.name)


def load_compressed(folder: str | os.PathLike[str], model: nn.Module | None = None) -> nn.Module:
    """The model that `Compressed.save_pretrained` wrote, bit for bit.

    `model` is an uncompressed instance of the same architecture, which stays as it is; it may be left out where the
    folder has a Hugging Face `config.json`, from which `transformers` builds one. Raises `CheckpointError`, in one
    line, where the folder is damaged or does not fit the model.
    """
    place = Path(folder).expanduser()
    layers, types = _read_specification(place)
    made = copied(underlying(model)) if model is not None else _from_config(place)
    for name, layer in layers.items():
        _replace(made, name, layer, place)
    _load(made, place / WEIGHTS)
    for name, buffer in _passing(made).items():
        buffer.data = buffer.data.to(types.get(name, buffer.dtype))
    return made if model is not None else made.eval()


def _once(model: nn.Module) -> dict[str, Tensor]:
    """The state dict without the second names of tied tensors."""
    seen: set[int] = set()
    kept = {}
    for name, tensor in model.state_dict(keep_vars=True).items():
        if not isinstance(tensor, Tensor):
            raise InputError(f"the state of {name!r} is a {type(tensor).__name__}: only tensors can be saved")
        if id(tensor) not in seen:
            seen.add(id(tensor))
            kept[name] = tensor.detach().cpu().clone(memory_format=torch.contiguous_format)
    return kept


def _specification(model: nn.Module) -> dict[str, object]:
    layers = {
        name: {"kind": _kind(name, layer), "rank": layer.rank, "bias": layer.bias is not None}
        for name, layer in low_rank_layers(model).items()
    }
    buffers = {name: str(buffer.dtype).removeprefix("torch.") for name, buffer in _passing(model).items()}
    return {"format": FORMAT, "model": type(model).__name__, "layers": layers, "buffers": buffers}


def _kind(name: str, layer: LowRank) -> str:
    for part in (layer.first, layer.second):
        if kind_of(part) is None:
            raise InputError(
                f"layer {name!r} has become a {type(part).__name__} within: merge or remove what was added since "
                "es.compress made it"
            )
    return "conv1d_transposed" if isinstance(layer, LowRankConv1D) else str(kind_of(layer.first))


def _described(config: Any) -> dict[str, Any] | None:
    """What a configuration of transformers says of itself."""
    to_json = getattr(config, "to_json_string", None)
    found = json.loads(to_json()) if callable(to_json) else None
    return found if isinstance(found, dict) else None


def _passing(model: nn.Module) -> dict[str, Tensor]:
    """Buffers of real numbers that a state dict leaves out: the model computes them, but not their type."""
    saved = model.state_dict()
    return {name: b for name, b in model.named_buffers() if name not in saved and b.is_floating_point()}


def _read_specification(folder: Path) -> tuple[dict[str, dict[str, Any]], dict[str, torch.dtype]]:
    """The layers to replace, and the types of buffers that are not saved."""
    path = folder / SPECIFICATION
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{str(folder)!r} holds no compressed model: there is no {SPECIFICATION}") from None
    except OSError as error:
        raise CheckpointError(f"{str(path)!r} can't be read: {error.strerror}") from None
    except ValueError as error:
        raise CheckpointError(f"{str(path)!r} is damaged ({first_line(error)}): compress the model again") from None
    layers, buffers = (found.get(key) if isinstance(found, dict) else None for key in ("layers", "buffers"))
    if not isinstance(layers, dict) or not isinstance(buffers, dict) or not all(map(_valid, layers.values())):
        raise CheckpointError(f"{str(path)!r} is damaged (its layers can't be read): compress the model again")
    if found.get("format") != FORMAT:
        raise CheckpointError(
            f"{str(path)!r} has format {found.get('format')!r}, this reads {FORMAT}: upgrade eigenscope"
        )
    types = {name: getattr(torch, str(kind), None) for name, kind in buffers.items()}
    return layers, {name: kind for name, kind in types.items() if isinstance(kind, torch.dtype)}


def _valid(layer: Any) -> bool:
    return (
        isinstance(layer, dict)
        and isinstance(layer.get("kind"), str)
        and type(layer.get("rank")) is int
        and isinstance(layer.get("bias"), bool)
    )


def _from_config(folder: Path) -> nn.Module:
    path = folder / CONFIG
    if not path.is_file():
        raise CheckpointError(
            f"{str(folder)!r} has no {CONFIG} to build the model from: pass model=, an uncompressed one"
        )
    try:
        import transformers
    except ImportError:
        raise InputError(f"{str(folder)!r} is a Hugging Face model: pip install transformers, or pass model=") from None
    try:
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        name = (config.architectures or ["?"])[0]
        kind = getattr(transformers, name, None)
        if kind is None:
            raise CheckpointError(
                f"{str(folder)!r} is a {name}, unknown to transformers: pass model=, an uncompressed one"
            )
        with random_streams():  # values are drawn and then replaced
            made = kind(config)
        if (folder / GENERATION).is_file():
            made.generation_config = transformers.GenerationConfig.from_pretrained(folder, local_files_only=True)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{str(path)!r} builds no model ({first_line(error)}): pass model=") from error
    assert isinstance(made, nn.Module)
    return made


def _replace(model: nn.Module, name: str, layer: Mapping[str, Any], folder: Path) -> None:
    try:
        old = model.get_submodule(name)
    except AttributeError:
        raise CheckpointError(
            f"{str(folder)!r} has a layer {name!r} that {type(model).__name__} lacks: pass its own model"
        ) from None
    if kind_of(old) != layer["kind"]:
        raise CheckpointError(
            f"{str(folder)!r} has {name!r} as a {layer['kind']}, in {type(model).__name__} it is a {type(old).__name__}"
        )
    weight = old.get_parameter("weight")
    largest = min(weight.shape[0], weight[0].numel())
    if not 1 <= layer["rank"] <= largest:
        raise CheckpointError(
            f"{str(folder)!r} has {name!r} at rank {layer['rank']}, of {largest} at most: it is damaged"
        )
    turn_into(old, empty_low_rank(old, layer["rank"], bias=layer["bias"]))


def _load(model: nn.Module, path: Path) -> None:
    state = model.state_dict(keep_vars=True)
    try:
        with safe_open(path, framework="pt") as file:
            names = set(file.keys())
            _check_names(state, names, path)
            with torch.no_grad():
                for name in names:
                    _set(state[name], file.get_tensor(name), name, path)
    except FileNotFoundError:
        raise CheckpointError(f"there is no {str(path)!r}: compress the model again") from None
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{str(path)!r} is damaged ({first_line(error)}): compress the model again") from error


def _check_names(state: Mapping[str, Tensor], names: set[str], path: Path) -> None:
    known = {id(state[name]) for name in names & state.keys()}
    missing = [name for name, tensor in state.items() if id(tensor) not in known]
    for what, found in (("lacks", missing), ("has, unlike the model,", sorted(names - state.keys()))):
        if found:
            more = f" and {len(found) - 1} more" if len(found) > 1 else ""
            raise CheckpointError(f"{str(path)!r} {what} {found[0]!r}{more}: pass the model that was compressed")


def _set(tensor: Tensor, values: Tensor, name: str, path: Path) -> None:
    if tensor.shape != values.shape:
        raise CheckpointError(
            f"{str(path)!r} has {name!r} of shape {tuple(values.shape)}, the model {tuple(tensor.shape)}: "
            "pass the model that was compressed"
        )
    if tensor.dtype != values.dtype:
        tensor.data = tensor.data.to(values.dtype)
    tensor.copy_(values)
