"""Why an engine failed, from logs as vLLM writes them."""

import pytest

from optimize.engine.failures import (
    MAX_EVIDENCE,
    MAX_LINE,
    classify,
    decisive_lines,
    device_trouble,
    lacks_kernel,
    port_was_taken,
)
from optimize.errors import FailureKind

START = """\
Found ulimit of 20000 and failed to automatically increase with error current limit exceeds maximum limit. \
This can cause fd limit errors like `OSError: [Errno 24] Too many open files`. Consider increasing with ulimit -n
W1122 14:00:20.143000 12709 torch/_library/triton.py:53] Triton not available, find_triton_kernels = []
(APIServer pid=12709) INFO 11-22 14:00:20 [model.py:733] Resolved architecture: LlamaForCausalLM
(APIServer pid=12709) WARNING 11-22 14:00:20 [cpu.py:224] Triton is not installed.
(EngineCore pid=12852) INFO 11-22 14:00:50 [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: ...
"""


def _core_failure(cause: str) -> str:
    """A failure in the engine core: logged there, raised there, then reported by the API server."""
    lines = [
        "EngineCore failed to start.",
        "Traceback (most recent call last):",
        '  File "vllm/v1/engine/core.py", line 1091, in run_engine_core',
        "    engine_core = EngineCoreProc(*args, engine_index=dp_rank, **kwargs)",
        cause,
    ]
    logged = [f"(EngineCore pid=12852) ERROR 11-22 14:02:11 [core.py:1102] {line}" for line in lines]
    raised = ["(EngineCore pid=12852) Process EngineCore:", f"(EngineCore pid=12852) {cause}"]
    reported = [
        "(APIServer pid=12709) Traceback (most recent call last):",
        "(APIServer pid=12709) RuntimeError: Engine core initialization failed. See root cause above. "
        "Failed core proc(s): {'EngineCore': 1}",
    ]
    return START + "\n".join([*logged, *raised, *reported]) + "\n"


NO_KERNEL = "ValueError: Failed to find a kernel that can implement the WNA16 linear layer. Reasons: ..."
HOST_OOM = (
    "RuntimeError: [enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory: "
    "you tried to allocate 274877906944 bytes. Error code 12 (Cannot allocate memory)"
)
DEVICE_OOM = [
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a total capacity of "
    "79.10 GiB of which 1.19 GiB is free.",
    "torch.AcceleratorError: CUDA error: out of memory",
    "RuntimeError: CUDA out of memory occurred when warming up sampler with 1024 dummy requests.",
]
PARSER = "usage: vllm serve [model_tag] [options]\nvllm serve: error: argument --max-num-seqs: invalid int value: 'x'\n"
VALIDATION = START + (
    "(APIServer pid=12709) Traceback (most recent call last):\n"
    "(APIServer pid=12709) pydantic_core._pydantic_core.ValidationError: 1 validation error for SchedulerConfig\n"
    "(APIServer pid=12709)   Value error, max_num_batched_tokens (8) must be greater than or equal to max_num_seqs "
    "(64). [type=value_error, input_value=ArgsKwargs((), {'max_mode...}), input_type=ArgsKwargs]\n"
    "(APIServer pid=12709)     For further information visit https://errors.pydantic.dev/2.14/v/value_error\n"
)


# Evidence


def test_the_first_cause_is_evidence_and_its_consequences_are_not() -> None:
    assert decisive_lines(_core_failure(NO_KERNEL)) == (NO_KERNEL,)


def test_a_consequence_is_evidence_where_the_log_has_no_cause() -> None:
    line = "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. See stack trace (above)"
    assert decisive_lines(START + f"(APIServer pid=12709) {line}\n") == (line,)


def test_an_ordinary_start_holds_no_evidence() -> None:
    assert decisive_lines(START) == ()
    assert decisive_lines("") == ()


def test_a_complaint_of_every_server_with_several_processes_is_no_evidence() -> None:
    line = "Error during metrics cleanup: expected str, bytes or os.PathLike object, not TemporaryDirectory"
    assert decisive_lines(START + f"(ApiServer_0 pid=12709) ERROR 11-28 13:19:42 [prometheus.py:83] {line}\n") == ()


def test_the_parsers_complaint_is_evidence_and_its_usage_is_not() -> None:
    assert decisive_lines(PARSER) == ("vllm serve: error: argument --max-num-seqs: invalid int value: 'x'",)


def test_the_line_below_a_validation_error_is_evidence() -> None:
    assert any("must be greater than or equal to max_num_seqs" in line for line in decisive_lines(VALIDATION))


def test_evidence_is_bounded() -> None:
    log = "\n".join(
        f"(EngineCore pid=1) ERROR 11-22 14:02:11 [core.py:1] ValueError: {i} {'x' * 999}" for i in range(50)
    )
    lines = decisive_lines(log)
    assert len(lines) == MAX_EVIDENCE
    assert all(len(line) == MAX_LINE for line in lines)
    assert lines[0].startswith("ValueError: 0 x")


@pytest.mark.parametrize(
    "prefix",
    [
        "",
        "(EngineCore pid=123) ",
        "(EngineCore_DP0 pid=123) ERROR 11-22 14:02:11 [core.py:1102] ",
        "(Worker_TP1 pid=77) ERROR 11-22 14:02:11 [multiproc_executor.py:822] ",
        "(ApiServer_0 pid=9) ERROR 11-22 14:02:11 [launcher.py:9] ",
        "ERROR 11-22 14:02:11 [registry.py:654] ",
    ],
)
def test_the_loggers_prefix_is_removed(prefix: str) -> None:
    assert decisive_lines(f"{prefix}ValueError: no\n") == ("ValueError: no",)


# Kinds


@pytest.mark.parametrize("log", [_core_failure(NO_KERNEL), PARSER, VALIDATION])
@pytest.mark.parametrize("exit_code", [None, 1, 2])
def test_an_exception_at_start_is_a_refusal(log: str, exit_code: int | None) -> None:
    assert classify(log, exit_code, 0, "start").kind is FailureKind.REFUSED


@pytest.mark.parametrize("cause", DEVICE_OOM)
@pytest.mark.parametrize("phase", ["start", "load"])
def test_out_of_device_memory(cause: str, phase: str) -> None:
    assert classify(_core_failure(cause), 1, 0, phase).kind is FailureKind.DEVICE_OOM


@pytest.mark.parametrize("cause", [HOST_OOM, "MemoryError", "terminate called: what():  std::bad_alloc"])
@pytest.mark.parametrize("phase", ["start", "load"])
def test_out_of_host_memory(cause: str, phase: str) -> None:
    assert classify(_core_failure(cause), 1, 0, phase).kind is FailureKind.HOST_OOM


def test_a_kill_by_the_kernel_is_host_memory_even_with_a_silent_log() -> None:
    failure = classify(START, -9, 1, "load")
    assert failure.kind is FailureKind.HOST_OOM
    assert str(failure) == "engine was killed by SIGKILL during load"


@pytest.mark.parametrize(
    ("log", "exit_code", "phase"),
    [
        (START, 1, "start"),
        (START, -11, "start"),
        (_core_failure(NO_KERNEL), -6, "start"),
        (_core_failure(NO_KERNEL), 1, "load"),
        (START, 0, "load"),
    ],
)
def test_other_failures_are_crashes(log: str, exit_code: int, phase: str) -> None:
    assert classify(log, exit_code, 0, phase).kind is FailureKind.CRASH


@pytest.mark.parametrize(
    ("exit_code", "how"),
    [(1, "exited with code 1"), (-11, "was killed by SIGSEGV"), (-250, "was killed by signal 250"), (None, "ended")],
)
def test_the_message_has_exit_phase_and_cause(exit_code: int | None, how: str) -> None:
    failure = classify(_core_failure(NO_KERNEL), exit_code, 0, "start")
    assert str(failure) == f"engine {how} during start: {NO_KERNEL}"
    assert failure.evidence == (NO_KERNEL,)


def test_a_port_in_use_is_recognized() -> None:
    assert port_was_taken(START + "OSError: [Errno 98] Address already in use\n")
    assert not port_was_taken(_core_failure(NO_KERNEL))


# What says nothing about the configuration

SHORT = (
    "ValueError: Free memory on device cuda:0 ({}/79.1 GiB) on startup is less than desired GPU memory utilization "
    "(0.92, 72.77 GiB). Decrease GPU memory utilization or reduce GPU memory used by other processes."
)


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        (SHORT.format("41.3"), "gpu_memory_utilization lower"),
        ("AssertionError: Error in memory profiling. Initial free memory 40.1 GiB, current free memory 60.2", "ends"),
        ("RuntimeError: The NVIDIA driver on your system is too old (found version 12020).", "newer NVIDIA driver"),
        ("torch.AcceleratorError: CUDA error: CUDA driver version is insufficient for CUDA runtime version", "newer"),
        ("RuntimeError: No CUDA GPUs are available", "nvidia-smi"),
        ("torch.AcceleratorError: CUDA error: CUDA-capable device(s) is/are busy or unavailable", "nvidia-smi"),
        ("torch.AcceleratorError: CUDA error: an illegal memory access was encountered", "Xid"),
        ("torch.AcceleratorError: CUDA error: uncorrectable ECC error encountered", "Xid"),
        ("RuntimeError: NCCL error: unhandled system error (run with NCCL_DEBUG=INFO for details)", "Xid"),
    ],
)
def test_trouble_of_a_device_is_told_from_a_refusal_with_what_helps(line: str, remedy: str) -> None:
    trouble = device_trouble(classify(_core_failure(line), 1, 0, "start").evidence[0])
    assert trouble is not None and remedy in trouble


@pytest.mark.parametrize(
    "line",
    [NO_KERNEL, HOST_OOM, *DEVICE_OOM, SHORT.format("78.6"), "ValueError: max_num_batched_tokens is too small", ""],
)
def test_what_a_configuration_asks_for_is_no_trouble_of_the_device(line: str) -> None:
    assert device_trouble(line) is None


# What is refused whatever else is set


@pytest.mark.parametrize(
    "line",
    [
        NO_KERNEL,
        "NotImplementedError: No compressed-tensors compatible scheme was found for layer_name='a', weight_quant=...",
        "RuntimeError: Quantization scheme is not supported for the current GPU. Min capability: 89. Current: 80.",
        "ValueError: awq quantization is currently not supported in cpu.",
        "ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: 75.",
        "ValueError: torch.float16 is not supported for quantization method quark. Supported dtypes: [torch.bfloat16]",
    ],
)
def test_a_missing_kernel_is_recognized(line: str) -> None:
    assert lacks_kernel(["something else", line])


def test_a_refused_flag_is_not_a_missing_kernel() -> None:
    assert not lacks_kernel([*decisive_lines(VALIDATION), *decisive_lines(PARSER), HOST_OOM])
