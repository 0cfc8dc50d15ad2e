"""Quantized configurations of models that have no weights on disk, for engines that make them up (`load_format=dummy`).

What an engine needs of a quantized checkpoint beside its weights is the entry `quantization_config`, as llm-compressor
writes it. It is the same for one layer as for all of them, so one layer of random weights is compressed and dropped.
"""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from optimize.checkpoint import weight_files
from optimize.quantize.layers import Precision, layer_precisions

_CONFIG, _ENTRY = "config.json", "quantization_config"


def has_weights(model: str) -> bool:
    """Whether a model has weights; one of a hub does."""
    return not Path(model).is_dir() or bool(weight_files(Path(model)))


def one_layer(folder: str, dtype: str, vocabulary: int) -> Any:
    """A model of random weights in the shape of a configuration, with a single layer and a vocabulary of its own.

    Args:
        folder: Holds the configuration.
        dtype: Data type of its tensors; auto for that of the configuration.
        vocabulary: Number of tokens.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.from_pretrained(folder)
    config.num_hidden_layers, config.vocab_size = 1, vocabulary
    if getattr(config, "layer_types", None):
        config.layer_types = config.layer_types[:1]
    return AutoModelForCausalLM.from_config(config, dtype=config.dtype if dtype == "auto" else dtype)


def write_configuration(model: Any, source: str, folder: Path) -> dict[str, Precision]:
    """Write the configuration of a whole model that is quantized as a single layer was.

    Args:
        model: The compressed layer, as `one_layer` made it.
        source: Folder of the whole model's configuration.
        folder: Where to.

    Returns:
        Module of the layer -> its precision.
    """
    with TemporaryDirectory() as scratch:
        model.save_pretrained(scratch, save_compressed=True)
        precisions = layer_precisions(Path(scratch))
        entry = json.loads(Path(scratch, _CONFIG).read_text(encoding="utf-8"))[_ENTRY]
    whole = {**json.loads(Path(source, _CONFIG).read_text(encoding="utf-8")), _ENTRY: entry}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _CONFIG).write_text(json.dumps(whole, indent=2), encoding="utf-8")
    return precisions
