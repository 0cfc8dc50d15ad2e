"""Whether vLLM has kernels on this machine for a checkpoint, found out by vLLM itself without loading a weight.

Runs in a fork of the fork server (`optimize.engine.fork_server`). vLLM composes the engine's configuration as it would
for a server, and builds one linear layer of each shape and scheme, which is where it selects a kernel. On a CPU each
layer also computes once, with arbitrary weights, because vLLM's CPU build selects kernels that its library for this
processor's instruction set may lack. Failures that come later show when the first engine starts.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import select
import signal
import tempfile
from typing import Any

from optimize.engine.failures import device_trouble, lacks_kernel
from optimize.engine.reaper import restore_signals
from optimize.engine.serve import parsed

_TIMEOUT_S = 60.0
_REFUSALS = (ValueError, NotImplementedError, RuntimeError)
"""Exceptions by which vLLM refuses; any other means that the check itself failed."""


def forked_refusal(arguments: list[str], env: dict[str, str]) -> str | None:
    """`refusal`, computed in a forked child.

    Args:
        arguments: As `vllm serve` takes them.
        env: Complete environment of the engine.

    Returns:
        Why vLLM refuses the engine; None where it does not, or where the check failed.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        os.setpgid(0, 0)
        os.close(reader)
        _answer(writer, arguments, env)
    os.close(writer)
    text = b""
    while select.select([reader], [], [], _TIMEOUT_S)[0] and (received := os.read(reader, 1 << 16)):
        text += received
    os.close(reader)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)  # with what it has started: vLLM looks at a model's class in another process
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    try:
        reason: str | None = json.loads(text)
    except ValueError:
        return None
    return reason


def _answer(writer: int, arguments: list[str], env: dict[str, str]) -> None:
    """In the child: check, write the answer, and end."""
    reason: str | None = None
    try:
        restore_signals()
        null = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(null, stream)
        os.environ.clear()
        os.environ.update(env)
        reason = refusal(arguments)
    finally:
        os.write(writer, json.dumps(reason).encode())
        os._exit(0)


def refusal(arguments: list[str]) -> str | None:
    """Why vLLM refuses an engine with these arguments; see `forked_refusal`."""
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
        line = _in_one_line(error)
        return None if device_trouble(line) else line  # trouble passes: the first engine shows whether it has
    except Exception:  # internals of another release: the first engine will show it
        return None
    return None


def _matrices(hf_config: Any) -> dict[str, tuple[int, int]]:
    """Module -> (inputs, outputs) of one linear layer of each kind and shape; empty for models that only vLLM knows."""
    import torch
    from transformers import AutoModelForCausalLM

    try:
        with torch.device("meta"):
            modules = dict(AutoModelForCausalLM.from_config(hf_config).named_modules())
    except Exception:  # transformers does not have the model
        return {}
    kinds: dict[tuple[str, int, int], str] = {}
    for name, module in modules.items():
        if isinstance(module, torch.nn.Linear) and name != "lm_head":
            kinds.setdefault((re.sub(r"\d+", "N", name), module.in_features, module.out_features), name)
    return {name: (inputs, outputs) for (_, inputs, outputs), name in kinds.items()}


def _build_layers(config: Any, matrices: dict[str, tuple[int, int]]) -> None:
    """Build vLLM's own layers; on a GPU without allocating their memory."""
    import torch
    from vllm.model_executor.layers.linear import ReplicatedLinear
    from vllm.platforms import current_platform

    on_cpu, dtype = current_platform.is_cpu(), config.model_config.dtype
    _join_single_group()
    for name, (inputs, outputs) in matrices.items():
        with torch.device("cpu" if on_cpu else "meta"):
            layer = ReplicatedLinear(
                inputs, outputs, bias=False, params_dtype=dtype, quant_config=config.quant_config, prefix=name,
                disable_tp=True,
            )  # fmt: skip
        if on_cpu:
            _compute(layer, torch.ones(1, inputs, dtype=dtype))


def _join_single_group() -> None:
    """Join a process group of one, whose size and rank layers ask for; Gloo touches no GPU."""
    from vllm.distributed import init_distributed_environment, initialize_model_parallel

    with tempfile.TemporaryDirectory() as scratch:
        address = f"file://{scratch}/group"
        init_distributed_environment(1, 0, distributed_init_method=address, local_rank=0, backend="gloo")
        initialize_model_parallel()


def _compute(layer: Any, row: Any) -> None:
    """Pass ones through a layer of ones.

    Raises:
        NotImplementedError: vLLM has no kernel for it. Other errors are ignored: they may be due to the weights.
    """
    import torch

    try:
        with torch.no_grad():
            for weight in layer.parameters():
                weight.fill_(1)
            layer.quant_method.process_weights_after_loading(layer)
            layer(row)
    except Exception as error:
        line = _in_one_line(error)
        if lacks_kernel([line]):
            raise NotImplementedError(f"no kernel on this processor: {line}") from error


def _in_one_line(error: Exception) -> str:
    details = getattr(error, "errors", None)  # of pydantic, whose text adds the whole input
    texts = [str(d["msg"]).removeprefix("Value error, ") for d in details()] if callable(details) else [str(error)]
    return f"{type(error).__name__}: {' '.join('; '.join(texts).split())}"[:400]
