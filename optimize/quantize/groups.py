"""Groups of weights that fit a model: presets such as W4A16 share a scale among 128 columns.

A group must divide the width of each layer (kernels read whole groups). Models of a width that 128 does not divide,
SmolLM2's 576 among them, get the largest of the other usual sizes that does.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

_USUAL = (128, 64, 32)
"""Sizes of groups that kernels for 4-bit weights have, largest first: fewer scales, hence less memory."""


def fitted(recipe_text: str, widths: Collection[int]) -> str:
    """A recipe whose presets have groups that divide the widths.

    Args:
        recipe_text: As `recipe_text` writes it: JSON. A user's own file (YAML) stays as it is.
        widths: Input features of the model's linear layers.

    Returns:
        The recipe; unchanged where its groups fit, or no usual size does, which llm-compressor then says.
    """
    try:
        recipe = json.loads(recipe_text)
    except ValueError:
        return recipe_text
    for stage in recipe.values():
        for modifiers in stage.values():
            for name, modifier in modifiers.items():
                modifiers[name] = _fitted_modifier(modifier, widths)
    return json.dumps(recipe)


def _fitted_modifier(modifier: Mapping[str, Any], widths: Collection[int]) -> dict[str, Any]:
    if "scheme" not in modifier or all(width % _USUAL[0] == 0 for width in widths):
        return dict(modifier)
    scheme = _preset(modifier["scheme"], modifier.get("targets", ["Linear"]))
    size = scheme.get("weights", {}).get("group_size")
    fitting = next((s for s in _USUAL if size and s <= size and all(width % s == 0 for width in widths)), size)
    if fitting == size:
        return dict(modifier)
    scheme["weights"]["group_size"] = fitting
    rest = {key: value for key, value in modifier.items() if key not in ("scheme", "targets")}
    return {**rest, "config_groups": {"group_0": scheme}}


def _preset(name: str, targets: str | list[str]) -> dict[str, Any]:
    from compressed_tensors.quantization import is_preset_scheme, preset_name_to_scheme

    if not is_preset_scheme(name):
        return {}
    scheme = preset_name_to_scheme(name, [targets] if isinstance(targets, str) else targets)
    return dict(scheme.model_dump(mode="json", exclude_none=True))
