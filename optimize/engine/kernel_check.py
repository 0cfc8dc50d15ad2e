"""Whether vLLM has kernels here for a checkpoint, asked of vLLM itself without loading a weight.

Runs in a fork of the preloaded process (`optimize.engine.fork_server`). vLLM composes the engine's configuration as
it would for a server, and builds one linear layer of each shape and scheme, which is where it looks for a kernel. On
a processor each layer computes once, with weights that mean nothing: vLLM's CPU build chooses kernels there that its
library for this processor's instructions turns out to lack. What fails only later is learned from the first engine.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import tempfile
from typing import Any

from optimize.engine.failures import lacks_kernel
from optimize.engine.reaper import restore_signals
from optimize.engine.serve import parsed

_TIMEOUT_S = 60.0
_REFUSALS = (ValueError, NotImplementedError, RuntimeError)
"""As what vLLM says no; anything else says that the question was wrong."""


def ask(arguments: list[str], env: dict[str, str]) -> str | None:
    """Fork, and have the child find out.

    Args:
        arguments: As `vllm serve` takes them.
        env: Complete environment of the engine.

    Returns:
        Why vLLM refuses it; None where it does not, or where that could not be found out.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(reader)
        _answer(writer, arguments, env)
    os.close(writer)
    text = b""
    while select.select([reader], [], [], _TIMEOUT_S)[0] and (received := os.read(reader, 1 << 16)):
        text += received
    os.close(reader)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    try:
        said: str | None = json.loads(text)
    except ValueError:
        return None
    return said


def _answer(writer: int, arguments: list[str], env: dict[str, str]) -> None:
    """In the child: find out, tell, and end."""
    said: str | None = None
    try:
        restore_signals()
        silence = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(silence, stream)
        os.environ.clear()
        os.environ.update(env)
        said = refusal(arguments)
    finally:
        os.write(writer, json.dumps(said).encode())
        os._exit(0)


def refusal(arguments: list[str]) -> str | None:
    """Why vLLM refuses an engine with these arguments; see `ask`."""
    from vllm.config import set_current_vllm_config
    from vllm.engine.arg_utils import AsyncEngineArgs

    try:
        config = AsyncEngineArgs.from_cli_args(parsed(arguments)).create_engine_config()
        if config.quant_config is None:
            return None
        matrices = _matrices(config.model_config.hf_config)
        with set_current_vllm_config(config):
            _build_layers(config, matrices)
    except _REFUSALS as error:
        return _in_one_line(error)
    except Exception:  # another release's internals: the first engine will tell
        return None
    return None


def _matrices(hf_config: Any) -> dict[str, tuple[int, int]]:
    """Module -> (inputs, outputs) of one linear layer of each kind and shape; none where transformers cannot tell."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            modules = dict(AutoModelForCausalLM.from_config(hf_config).named_modules())
    except Exception:  # a model that only vLLM knows
        return {}
    kinds: dict[tuple[str, int, int], str] = {}
    for name, module in modules.items():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            kinds.setdefault((re.sub(r"\d+", "N", name), module.in_features, module.out_features), name)
    return {name: (inputs, outputs) for (_, inputs, outputs), name in kinds.items()}


def _build_layers(config: Any, matrices: dict[str, tuple[int, int]]) -> None:
    """vLLM's own layers; on a GPU without memory behind them."""
    import torch
    from vllm.model_executor.layers.linear import ReplicatedLinear
    from vllm.platforms import current_platform

    on_cpu, dtype = current_platform.is_cpu(), config.model_config.dtype
    if on_cpu:
        _join_a_group_of_one()
    for name, (inputs, outputs) in matrices.items():
        with torch.device("cpu" if on_cpu else "meta"):
            layer = ReplicatedLinear(
                inputs, outputs, bias=False, params_dtype=dtype, quant_config=config.quant_config, prefix=name,
                disable_tp=True,
            )  # fmt: skip
        if on_cpu:
            _compute(layer, torch.ones(1, inputs, dtype=dtype))


def _join_a_group_of_one() -> None:
    """Layers with memory behind them ask for their place among the processes that share a model."""
    from vllm.distributed import init_distributed_environment, initialize_model_parallel

    with tempfile.TemporaryDirectory() as scratch:
        meeting = f"file://{scratch}/group"
        init_distributed_environment(1, 0, distributed_init_method=meeting, local_rank=0, backend="gloo")
        initialize_model_parallel()


def _compute(layer: Any, one: Any) -> None:
    """Pass ones through a layer of ones.

    Raises:
        NotImplementedError: vLLM has no kernel for it. Whatever else goes wrong may be due to the weights.
    """
    import torch

    try:
        with torch.no_grad():
            for weight in layer.parameters():
                weight.fill_(1)
            layer.quant_method.process_weights_after_loading(layer)
            layer(one)
    except Exception as error:
        said = _in_one_line(error)
        if lacks_kernel([said]):
            raise NotImplementedError(f"no kernel on this processor: {said}") from error


def _in_one_line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:400]
