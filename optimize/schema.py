"""The shape of the configuration: Hydra checks every YAML file and override against these classes.

Imports nothing heavy, so that a typo is answered at once. Classes stay mutable because Hydra's overrides set fields.
Nodes of type Any are built by `_target_` (see `optimize.build`), which checks their keys itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from omegaconf import MISSING


@dataclass
class StudySettings:
    """One study: its name, its budget, and how it goes about it.

    Attributes:
        name: Names the study in Optuna, MLflow and on disk; the same name resumes.
        trials: Configurations to measure beside the baseline.
        minutes: Stop asking for new trials after this long; None for no limit. The confirmation comes on top.
        seed: Of the sampler, the order of prompts and the arrivals.
        fresh: Set the existing study of this name aside and start anew.
        reuse_engines: Let the sampler try further request settings on a live engine where that is worth more, per
            second, than starting another one; see `optimize.reuse`.
        cut_short: Close a trial's window early once, at the best ends of its intervals, it breaks a constraint or a
            feasible trial is better in every objective; see `optimize.prospects`.
        max_failures_in_a_row: Stop the study when this many trials in a row failed or were infeasible.
    """

    name: str = MISSING
    trials: int = 24
    minutes: float | None = None
    seed: int = 0
    fresh: bool = False
    reuse_engines: bool = True
    cut_short: bool = True
    max_failures_in_a_row: int = 8


@dataclass
class Search:
    """What a search starts from, beside vLLM's defaults, and when it ends.

    Attributes:
        warm_start: Studies in the same storage; their best configurations are tried first, whatever model, machine or
            scenario they were for, and what could not start there, on the same machine, is not started.
        warm_start_points: How many configurations to take from each.
        until: "budget" (`study.trials`, `study.minutes`), or "noise": before that, once the gain to expect from going
            on is below what a confirmation can tell from chance; see `optimize.enough`.
    """

    warm_start: list[str] = field(default_factory=list)
    warm_start_points: int = 4
    until: str = "budget"


@dataclass
class Confirm:
    """The measurements that a recommendation rests on; see `optimize.confirm`.

    Attributes:
        candidates: How many of the front, best score first, are measured again; 0 recommends on single readings.
        rounds: How often each, and the baseline.
    """

    candidates: int = 3
    rounds: int = 3


@dataclass
class Scenario:
    """What the deployment is for, as weights.

    Attributes:
        name: Short name; one row of the matrix.
        title: For people.
        weights: Objective -> exponent of its gain over the baseline in the score; see `optimize.recommend`.
    """

    name: str = MISSING
    title: str = MISSING
    weights: dict[str, float] = field(default_factory=dict)


@dataclass
class Model:
    """The model to serve.

    Attributes:
        name: For people.
        path: Local folder or Hugging Face id.
        flags: vLLM flags this model always needs.
    """

    name: str = MISSING
    path: str = MISSING
    flags: dict[str, Any] = field(default_factory=dict)


@dataclass
class Recipe:
    """How a checkpoint is made from the model.

    Attributes:
        name: The choice's name in the search space.
        dtype: vLLM's --dtype for the tensors that stay unquantized.
        scheme: llm-compressor scheme (W8A8, W4A16, W4A8, FP8_DYNAMIC); None serves the model as it is.
        ignore: Modules left alone.
        flags: Further vLLM flags the checkpoint needs.
    """

    name: str = MISSING
    dtype: str = "float16"
    scheme: str | None = None
    ignore: list[str] = field(default_factory=lambda: ["lm_head"])
    flags: dict[str, Any] = field(default_factory=dict)


@dataclass
class WorkloadSource:
    """Where prompts and references come from.

    Attributes:
        name: For people.
        path: JSONL, CSV or Parquet file, or a Hugging Face dataset id.
        subset: Configuration name of a hub data set.
        split: Split of a hub data set.
        prompt_column: Text, or a list of chat messages.
        reference_column: Text; None where there are no references, and so no quality to score.
        limit: Use only the first rows.
        max_tokens: Bound on every answer; None derives it from the longest reference.
        prompt_tokens: A distribution of `optimize.lengths`; prompts are cut, or continued with others, to fit it.
        output_tokens: The same of answers, which then run to their length whatever the model would say.
    """

    name: str = MISSING
    path: str = MISSING
    subset: str | None = None
    split: str = "test"
    prompt_column: str = "prompt"
    reference_column: str | None = "reference"
    limit: int | None = None
    max_tokens: int | None = None
    prompt_tokens: Any = None
    output_tokens: Any = None


@dataclass
class Guard:
    """When a measurement is not believed, and measured again.

    Attributes:
        repeats: How often at most.
        steal_max: Share of the processors that the host may withhold during the window.
        other_cores_max: Share of the processors that other programs may use.
        throttled_max: Share of the time that this container may be throttled.
        gpu_slowed_max: Share of the time that heat or the power supply may slow a GPU.
        send_lag_p99_max_s: How late requests may be sent (P99, beyond its interval), ...
        send_lag_share_max: ... or, if that is more, as a share of the median latency.
        client_cpu_max: Share of a core that a client process may use.
        drift_p: Chance of a steady load being called unsettled because its latencies drift; 0 believes any load.
    """

    repeats: int = 1
    steal_max: float = 0.1
    other_cores_max: float = 0.12
    throttled_max: float = 0.02
    gpu_slowed_max: float = 0.05
    send_lag_p99_max_s: float = 0.01
    send_lag_share_max: float = 0.05
    client_cpu_max: float = 0.9
    drift_p: float = 0.001


@dataclass
class Load:
    """How the engine is loaded and for how long it is measured.

    Attributes:
        arrivals: When requests are due: a profile of `optimize.load.arrivals`.
        clients: Client processes to begin with.
        clients_max: How many there may be, where fewer cannot keep up; None for one per core.
        first_answer_max_s: How long the very first answers may take; they may have to wait for kernels to be compiled.
        warmup_s: Shortest warm-up.
        warmup_requests: Requests that must have ended before the window opens.
        warmup_max_s: How long the load may take to settle; what has not settled by then is measured as it is.
        window_min_s: Shortest window.
        window_requests: Answers to requests due in the window before it may close.
        window_max_s: Longest window.
        window_look_s: From then on a window is closed where its trial can come to nothing; see `study.cut_short`.
        precision: Metric -> half of its interval, as a share of its value, that ends the window before its longest.
        drain_max_s: How long the window's last requests are waited for.
        request_timeout_s: After which a request counts as failed.
        guard: When a measurement is not believed.
    """

    arrivals: Any = MISSING
    clients: int = 1
    clients_max: int | None = None
    first_answer_max_s: float = 180.0
    warmup_s: float = 1.0
    warmup_requests: int = 16
    warmup_max_s: float = 15.0
    window_min_s: float = 8.0
    window_requests: int = 100
    window_max_s: float = 15.0
    window_look_s: float = 2.0
    precision: dict[str, float] = field(default_factory=dict)
    drain_max_s: float = 15.0
    request_timeout_s: float = 60.0
    guard: Guard = field(default_factory=Guard)


@dataclass
class Bound:
    """A limit on a metric; ratios are relative to the baseline's figure.

    Attributes:
        min: Lowest value allowed.
        max: Highest value allowed.
        min_ratio: Lowest share of the baseline's value allowed.
        max_ratio: Highest multiple of the baseline's value allowed.
    """

    min: float | None = None
    max: float | None = None
    min_ratio: float | None = None
    max_ratio: float | None = None


@dataclass
class Tracking:
    """Where results go.

    Attributes:
        uri: MLflow tracking store or server.
        experiment: MLflow experiment.
        artifacts: Folder of MLflow's artifacts, for a database store.
        storage: Optuna storage.
        storage_artifacts: Folder of the files that Optuna's dashboard shows with studies and trials; None keeps none.
    """

    uri: str = MISSING
    experiment: str = "optimize"
    artifacts: str | None = None
    storage: str = MISSING
    storage_artifacts: str | None = None


@dataclass
class Executor:
    """Where trials run.

    Attributes:
        retries: How often a trial that failed for a passing reason is tried again.
    """

    retries: int = 1


@dataclass
class Hardware:
    """The machine the engines run on.

    Attributes:
        name: For people.
        env: Environment variables that fit engines to the machine.
    """

    name: str = MISSING
    env: dict[str, str] = field(default_factory=dict)


@dataclass
class StudyConfig:
    """The whole configuration of `python -m optimize`."""

    study: StudySettings = field(default_factory=StudySettings)
    search: Search = field(default_factory=Search)
    confirm: Confirm = field(default_factory=Confirm)
    scenario: Scenario = field(default_factory=Scenario)
    model: Model = field(default_factory=Model)
    quantization: Recipe = field(default_factory=Recipe)
    recipes: dict[str, Recipe] = field(default_factory=dict)
    engine: Any = MISSING
    hardware: Hardware = field(default_factory=Hardware)
    search_space: dict[str, Any] = field(default_factory=dict)
    baseline: dict[str, Any] = field(default_factory=dict)
    workload: WorkloadSource = field(default_factory=WorkloadSource)
    load: Load = field(default_factory=Load)
    at: dict[str, Any] = field(default_factory=dict)
    """Of `python -m optimize.measure`: knob -> value; the others stay at vLLM's defaults."""
    repeats: int = 3
    """Of `python -m optimize.measure`: how often, each time on a new engine."""
    objectives: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    constraints: dict[str, Any] = field(default_factory=dict)
    """Metric -> the fields of a Bound; untyped so that the command line can add one (`+constraints.x={max: 1}`)."""
    sampler: Any = MISSING
    executor: Executor = field(default_factory=Executor)
    tracking: Tracking = field(default_factory=Tracking)
    output_dir: str = "mlruns"
    cache_dir: str = ".cache"
    cache_max_gib: float = 50.0
    """The least recently used entries beyond this are removed when a study starts; see `optimize.cache`."""


def register() -> None:
    """Make the schema known to Hydra under the name that `conf/config.yaml` starts from."""
    ConfigStore.instance().store(name="schema", node=StudyConfig)
