"""The answers that quality is scored against where the workload has none: those of the unquantized model itself.

The live engine of vLLM's defaults answers the prompts greedily before the first trial, several times over, at the
concurrency of the study. The first answers are the reference. How far the others differ from them is the noise floor:
a batch of another composition adds up in another order, and a rounding may decide between two tokens.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from objectives import Estimate, Measurement, Objective
from objectives.quality import scores_answers
from objectives.segments import SegmentScore
from optimize.config.measuring import BASELINE
from optimize.engine.base import Engine, RequestConfig, TrialConfig
from optimize.engine.pool import EnginePool
from optimize.entries import claim, read_kept
from optimize.errors import EngineFailure, FailureKind, OptimizeError, TransientFault
from optimize.evaluation.answers import answers_key, engine_settings
from optimize.evaluation.refusal import whole_reason
from optimize.files import write_atomically
from optimize.load.arrivals import ClosedLoop
from optimize.load.client_pool import LoadRequest, fixed_rows
from optimize.load.clients import Clients
from optimize.load.clock import Clock, MonotonicClock
from optimize.load.pace import Effort, Limits
from optimize.load.refusals import fault_of, refusal
from optimize.load.window import Silence
from optimize.plan import Plan, content_of
from optimize.search.knobs import QUANTIZATION

FILE = "references.json"
_PUBLISHED, _USERS, _WATCH_S, _LEAST = "published", 8, 0.05, 2


@dataclass(frozen=True, slots=True)
class References:
    """Answers of the unquantized model to the prompts of a workload.

    Attributes:
        key: Key of the answers of the engine that gave them; see `optimize.evaluation.answers.answers_key`.
        runs: Workload row -> answer, of each run; the same rows in all. The first run is the reference.
        seconds: How long all runs took together.
    """

    key: str
    runs: Sequence[Mapping[int, str]]
    seconds: float = 0.0

    @property
    def hash(self) -> str:
        """Twelve hexadecimal digits over the reference."""
        return hashlib.sha256(json.dumps(sorted(self.runs[0].items())).encode()).hexdigest()[:12]

    @property
    def repeats(self) -> list[Measurement]:
        """The further runs, with the first as their reference."""
        return [Measurement([], 0.0, 0.0, self.runs[0], answers=run) for run in self.runs[1:]]

    def floor(self, metrics: Mapping[str, Objective]) -> dict[str, Estimate]:
        """Metric -> score of the model against itself, of every score of answers."""
        floors = {name: score.floor(self.repeats) for name, score in scores_of(metrics).items()}
        return {name: floor for name, floor in floors.items() if floor is not None}

    def to_json(self) -> str:
        return json.dumps({"key": self.key, "runs": [list(run.items()) for run in self.runs], "seconds": self.seconds})

    @classmethod
    def from_raw(cls, raw: Any) -> References | None:
        """Read what `to_json` wrote; None for anything else."""
        try:
            runs = [{int(row): str(text) for row, text in run} for run in raw["runs"]]
            return cls(str(raw["key"]), runs, float(raw["seconds"])) if len(runs) > 1 else None
        except (KeyError, TypeError, ValueError):
            return None


def scores_of(metrics: Mapping[str, Objective]) -> dict[str, SegmentScore]:
    """The metrics that compare answers with a reference."""
    return {n: m for n, m in metrics.items() if isinstance(m, SegmentScore) and scores_answers(m)}


def texts_of(plan: Plan, references: References | None) -> dict[int, str]:
    """Workload row -> the text that its answer is scored against; of prompts alone that are the same in every load."""
    texts = dict(enumerate(plan.workload.references)) if references is None else dict(references.runs[0])
    talks = plan.workload.conversations
    return texts if talks is None else {row: texts[row] for row in talks.fixed_rows if row in texts}


def reference_config(plan: Plan) -> TrialConfig:
    """The configuration that answers for reference: vLLM's defaults with the published checkpoint, greedy decoding."""
    space = plan.space
    others = {knob: values for knob, values in space.distributions.items() if knob != QUANTIZATION}
    published = space.recipes.get(_PUBLISHED, space.fixed_recipe)
    unquantized = dataclasses.replace(space, distributions=others, fixed_recipe=published)
    return unquantized.vllm_defaults({published.name: published.checkpoint or plan.config.model.path})


def kept_references(plan: Plan) -> References | None:
    """The references of this study, or of another one that asked for the same; None where there are none yet.

    What the study's folder holds comes first: a study is never scored against two sets of references.
    """
    for path in (plan.folder / FILE, *_cached(plan)):
        if (references := References.from_raw(read_kept(path))) is not None:
            return references
    return None


def keep(plan: Plan, references: References) -> None:
    """Write the references to the study's folder, and to the cache."""
    text = references.to_json()
    for path in _cached(plan):
        if not path.is_file():
            write_atomically(claim(path.parent) / FILE, text)
    plan.folder.mkdir(parents=True, exist_ok=True)
    write_atomically(plan.folder / FILE, text)


def _cached(plan: Plan) -> list[Path]:
    """Where the cache keeps them; nowhere for an endpoint of somebody else, which may serve another model next time."""
    if plan.launcher.request_knobs_only:
        return []
    answers = answers_key(reference_config(plan))
    settings, (*_, request) = engine_settings(answers, plan.config.engine), json.loads(answers)
    quality, workload = plan.config.quality, plan.workload
    model = content_of(plan, plan.config.model.path)
    parts = [
        model, settings, request, workload.hash, _users(plan), plan.config.study.seed,
        quality.prompts, quality.floor_runs, plan.launcher.version(), plan.signature.get("machine", ""),
    ]  # fmt: skip
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    return [Path(plan.config.cache_dir) / "references" / key / FILE]


def _users(plan: Plan) -> int:
    """Requests at a time: the users of the study's load; a schedule has none, and a few stand in for them."""
    return plan.users or _USERS


def references_of(plan: Plan, pool: EnginePool, clients: Clients, phase: Callable[[str], None]) -> References | None:
    """The references of a plan that is measured without a study, asked of an engine where nobody has kept them.

    Returns:
        None where the workload's own references count.

    Raises:
        OptimizeError: the unquantized model gave none.
    """
    if plan.reference != BASELINE:
        return None
    references = kept_references(plan)
    if references is None:
        references = required(lambda: ask(plan, pool, clients, phase))
    keep(plan, references)
    return references


def required(answers: Callable[[], References]) -> References:
    """References without which nothing can be scored.

    Raises:
        OptimizeError: the engine cannot run, or does not answer.
    """
    try:
        return answers()
    except (EngineFailure, TransientFault) as failure:
        raise OptimizeError(
            f"the unquantized model gave no answers for reference: {whole_reason(failure, '')}; "
            "quality.reference=workload scores against references of the workload's own"
        ) from failure


def ask(
    plan: Plan, pool: EnginePool, clients: Clients, phase: Callable[[str], None], clock: Clock | None = None
) -> References:
    """Have the unquantized model answer.

    Args:
        plan: Workload, concurrency and number of runs.
        pool: Lends the engine.
        clients: Sends the prompts.
        phase: Called with the name of each phase as it begins.
        clock: Times the answers; the clients must use the same one.

    Raises:
        EngineFailure: the engine cannot run, or refuses such requests.
        TransientFault: too few prompts were answered.
    """
    config = reference_config(plan)
    with pool.lease(config.engine, lambda name: phase(f"starting the engine: {name}")) as lease:
        interview = Interview(plan, lease.engine, clients, clock or MonotonicClock())
        runs = []
        for number in range(plan.config.quality.floor_runs):
            phase(f"asking the model for reference, run {number + 1} of {plan.config.quality.floor_runs}")
            runs.append(interview.run(number))
        lease.answered.add(config.request.beam_size)
    rows = set.intersection(*(set(run) for run in runs))
    if len(rows) < _LEAST:
        raise TransientFault(f"the model answered {len(rows)} of {len(interview.rows)} prompts for reference")
    common = [{row: run[row] for row in interview.rows if row in rows} for run in runs]
    return References(answers_key(config), common, interview.seconds)


@dataclass
class Interview:
    """Asks one engine a selection of prompts, several times over.

    Attributes:
        plan: Workload and concurrency.
        engine: The live engine.
        clients: Sends the prompts.
        clock: Times everything; the clients must use the same one.
        seconds: How long all runs so far took.
    """

    plan: Plan
    engine: Engine
    clients: Clients
    clock: Clock = field(default_factory=MonotonicClock)
    seconds: float = field(default=0.0, init=False)

    @property
    def rows(self) -> list[int]:
        """The rows that a load sends first, of those whose prompts are the same in every load."""
        return fixed_rows(self.plan.workload, self.plan.config.study.seed)[: self.plan.config.quality.prompts]

    def run(self, number: int) -> dict[int, str]:
        """Workload row -> answer, of the rows that are answered.

        Each run has an order of its own, and an empty prefix cache, so that batches differ from run to run.

        Raises:
            EngineFailure: the engine died, refuses all of these requests, or gives no answer.
            TransientFault, ConfigError: the endpoint throttles, or refuses the key.
        """
        rows, began, limits = self.rows, self.clock.now(), Limits(self.plan.config.load)
        alone = dataclasses.replace(self.plan.workload, conversations=None)
        selection = dataclasses.replace(alone.only(rows), in_order=False)
        request = LoadRequest(
            selection, RequestConfig(), selection.max_tokens, limits.request_s, number,
            honours_retry_after=self.plan.config.load.honour_retry_after,
        )  # fmt: skip
        self.engine.reset()
        with self.clients.loading(self.engine.endpoint, request) as load:
            load.follow(ClosedLoop(users=min(_users(self.plan), len(rows))))
            silence = Silence(limits, None, lambda _: Effort())
            while len({record.prompt_id for record in load.records}) < len(rows):
                self.engine.check()
                if silence.is_too_long(load.records, load.clock()):
                    raise EngineFailure(FailureKind.TOO_SLOW, "the model gave no answer for reference")
                self.clock.sleep(_WATCH_S)
                load.update()
        self.seconds += self.clock.now() - began
        records = sorted(load.records, key=lambda record: record.done_s, reverse=True)
        answers = {rows[record.prompt_id]: record.text for record in records if record.error is None}
        if not answers:
            raise fault_of(records) or refusal(records[-1])
        return answers
