"""In which numbers an engine computes, where the name of its recipe does not say so."""

from __future__ import annotations

from pathlib import Path

from optimize.checkpoint import quantized_format
from optimize.engine.base import Engine, EngineConfig
from optimize.model.manifest import MANIFEST

_DTYPE = "dtype"


def data_type_of(config: EngineConfig, engine: Engine) -> str:
    """The format of a checkpoint that was published quantized, and the data type that vLLM chose for the rest.

    Returns:
        E.g. "float16", or "awq int4, float16". The format is left out where this project made the checkpoint, as the
        recipe names it; the type where a flag sets it, or the engine does not report it.
    """
    made_here = (Path(config.checkpoint) / MANIFEST).is_file()
    stored = "" if made_here else quantized_format(config.checkpoint)
    dtype = "" if _DTYPE in dict(config.flags) else str(engine.effective([_DTYPE]).get(_DTYPE, ""))
    return ", ".join(filter(None, (stored, dtype)))
