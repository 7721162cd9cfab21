"""Small checkpoints of every format, written by the libraries that people write them with."""

import json
from collections.abc import Callable
from pathlib import Path

import gguf
import h5py  # type: ignore[import-untyped, unused-ignore]
import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from safetensors.torch import save_file
from torch import Tensor

Tensors = dict[str, Tensor]


def tensors(seed: int = 0) -> Tensors:
    """Two matrices, a kernel, a vector and integers."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "layer.0.weight": normal(24, 16),
        "layer.0.bias": normal(24),
        "layer.1.weight": normal(8, 24).half(),
        "conv.weight": normal(4, 3, 3, 3),
        "steps": torch.arange(6),
    }


def safetensors(folder: Path) -> Path:
    path = folder / "model.safetensors"
    save_file(tensors(), path)
    return path


def pytorch(folder: Path) -> Path:
    path = folder / "model.pt"
    torch.save({"epoch": 3, "model": {"state_dict": tensors()}}, path)
    return path


def pytorch_legacy(folder: Path) -> Path:
    path = folder / "model.pth"
    torch.save({"epoch": 3, "model": {"state_dict": tensors()}}, path, _use_new_zipfile_serialization=False)
    return path


def rare() -> Tensors:
    """8-bit floats with their scales, packed integers with theirs, and complex numbers."""
    values = tensors()["layer.0.weight"]
    return {
        "block.weight": values.to(torch.float8_e4m3fn),
        "block.weight_scale_inv": values[:1, :1] ** 2,
        "wide.weight": values.to(torch.float8_e5m2),
        "packed.qweight": torch.arange(48, dtype=torch.int32).reshape(6, 8),
        "packed.scales": values[:2, :8].half(),
        "spin": torch.complex(values, values.flip(0)),
    }


def safetensors_rare(folder: Path) -> Path:
    path = folder / "rare.safetensors"
    save_file(rare(), path)
    return path


def pytorch_rare(folder: Path) -> Path:
    path = folder / "rare.pt"
    torch.save(rare(), path)
    return path


def arrays() -> dict[str, np.ndarray]:
    return {name: tensor.numpy() for name, tensor in tensors().items()}


def npz(folder: Path) -> Path:
    path = folder / "model.npz"
    np.savez(path, **arrays())
    return path


def npz_compressed(folder: Path) -> Path:
    path = folder / "small.npz"
    np.savez_compressed(path, **arrays())
    return path


def npy(folder: Path) -> Path:
    path = folder / "layer.0.weight.npy"
    np.save(path, arrays()["layer.0.weight"])
    return path


TOKENS = [f"tok{number}" for number in range(24)]


def gguf_file(folder: Path) -> Path:
    path = folder / "model.gguf"
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_block_count(1)
    writer.add_token_list(TOKENS)
    values = tensors()
    writer.add_tensor("token_embd.weight", values["layer.0.weight"].numpy())
    writer.add_tensor("blk.0.ffn_up.weight", values["layer.1.weight"].numpy())
    quantized = gguf.quants.quantize(quantizable(), gguf.GGMLQuantizationType.Q8_0)
    writer.add_tensor("blk.0.ffn_down.weight", quantized, raw_dtype=gguf.GGMLQuantizationType.Q8_0)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def quantizable() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((8, 64)).astype(np.float32)


def hdf5(folder: Path) -> Path:
    path = folder / "model.weights.h5"
    with h5py.File(path, "w") as file:
        for name, array in arrays().items():
            file.create_dataset(f"layers/{name}/vars/0", data=array)
    return path


def keras(folder: Path) -> Path:
    import zipfile

    inner, path = hdf5(folder), folder / "model.keras"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", '{"keras_version": "3.5.0"}')
        archive.writestr("config.json", json.dumps({"class_name": "Sequential", "config": {"layers": []}}))
        archive.write(inner, "model.weights.h5")
    inner.unlink()
    return path


def onnx_file(folder: Path) -> Path:
    """With an initializer in the main graph, one in a branch, and a constant."""
    path = folder / "model.onnx"
    values = arrays()
    branch = helper.make_graph(
        [helper.make_node("Identity", ["inner"], ["out"])],
        "branch",
        [],
        [helper.make_tensor_value_info("out", TensorProto.FLOAT16, [8, 24])],
        [numpy_helper.from_array(values["layer.1.weight"], "inner")],
    )
    nodes = [
        helper.make_node("Constant", [], ["constant"], value=numpy_helper.from_array(values["conv.weight"], "")),
        helper.make_node("If", ["condition"], ["result"], then_branch=branch, else_branch=branch),
    ]
    graph = helper.make_graph(
        nodes,
        "main",
        [helper.make_tensor_value_info("condition", TensorProto.BOOL, [])],
        [helper.make_tensor_value_info("result", TensorProto.FLOAT16, [8, 24])],
        [numpy_helper.from_array(values["layer.0.weight"], "outer")],
    )
    onnx.save(helper.make_model(graph), path)
    return path


LORA = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "fan_in_fan_out": False}


def adapter(folder: Path, config: dict[str, object] = LORA, factors: Tensors | None = None) -> Path:
    path = folder / "adapter"
    path.mkdir()
    (path / "adapter_config.json").write_text(json.dumps(config))
    save_file(lora_factors() if factors is None else factors, path / "adapter_model.safetensors")
    return path


def lora_factors(module: str = "base_model.model.layer.0", rank: int = 4, out: int = 24, into: int = 16) -> Tensors:
    generator = torch.Generator().manual_seed(1)
    return {
        f"{module}.lora_A.weight": torch.randn(rank, into, generator=generator),
        f"{module}.lora_B.weight": torch.randn(out, rank, generator=generator),
    }


def sharded(folder: Path) -> Path:
    path = folder / "sharded"
    path.mkdir()
    values = tensors()
    names = {name: f"model-0000{1 + (number > 1)}-of-00002.safetensors" for number, name in enumerate(values)}
    for shard in set(names.values()):
        save_file({name: values[name] for name in values if names[name] == shard}, path / shard)
    (path / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": names}))
    (path / "config.json").write_text(json.dumps({"model_type": "tiny", "vocab_size": 24}))
    return path


# What is written, and the file of it that the fuzz test damages.
SAMPLES: dict[str, Callable[[Path], Path]] = {
    "safetensors": safetensors,
    "pytorch": pytorch,
    "pytorch_legacy": pytorch_legacy,
    "safetensors_rare": safetensors_rare,
    "pytorch_rare": pytorch_rare,
    "npz": npz,
    "npz_compressed": npz_compressed,
    "npy": npy,
    "gguf": gguf_file,
    "hdf5": hdf5,
    "keras": keras,
    "onnx": onnx_file,
    "peft": adapter,
    "sharded": sharded,
}
