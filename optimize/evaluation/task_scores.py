"""Scores in tasks with known answers, which the live engine gives after the load, kept by what they depend on.

A study asks for them once per checkpoint and flags that change answers, whatever else its trials change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import httpx

from objectives.accuracy import Accuracy
from optimize.engine.base import Endpoint, Engine
from optimize.engine.http_client import client_of
from optimize.entries import claim, read_kept
from optimize.errors import TransientFault
from optimize.evaluation.answers import engine_settings
from optimize.files import write_atomically
from optimize.harness.process import HarnessError, evaluate, served_by
from optimize.plan import Plan, content_of

_TIMEOUT_S, _FILE = 30.0, "scores.json"
_DEFAULT_LENGTH = 2048
"""Longest sequence of an endpoint that does not say its own, as the harness assumes it."""
Scores = Mapping[str, list[float]]
"""Task -> score of each document between 0 and 1."""


def task_scores_of(answers_key: str, plan: Plan, engine: Engine | None = None) -> dict[str, Scores]:
    """Key of an accuracy -> its scores, for each accuracy of the plan; those that are not known are left out.

    Args:
        answers_key: Key of the configuration; see `optimize.evaluation.answers.answers_key`.
        plan: Metrics, cache.
        engine: The live engine; None reads the cache alone.

    Raises:
        EngineFailure: the engine died.
        TransientFault: the harness has no result.
    """
    accuracies = [metric for metric in plan.metrics.values() if isinstance(metric, Accuracy)]
    scores = {accuracy.key: _scores_of(accuracy, answers_key, plan, engine) for accuracy in accuracies}
    return {key: each for key, each in scores.items() if each is not None}


def _scores_of(accuracy: Accuracy, answers_key: str, plan: Plan, engine: Engine | None) -> Scores | None:
    # An endpoint that somebody else runs may serve another model next time.
    cached = None if plan.launcher.request_knobs_only else _cache_entry(accuracy, answers_key, plan)
    earlier: Scores | None = None if cached is None else read_kept(cached / _FILE)
    if earlier is not None or engine is None:
        return earlier
    scores = _ask(accuracy, engine, plan.config.model.path)
    if cached is not None:
        write_atomically(claim(cached) / _FILE, json.dumps(scores))
    return scores


def _cache_entry(accuracy: Accuracy, answers_key: str, plan: Plan) -> Path:
    checkpoint, *_ = json.loads(answers_key)
    settings = engine_settings(answers_key, plan.config.engine)  # decoding is the harness's own
    parts = [content_of(plan, checkpoint), settings, accuracy.key, plan.signature.get("tasks"), plan.launcher.version()]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    return Path(plan.config.cache_dir) / "accuracy" / key


def _ask(accuracy: Accuracy, engine: Engine, tokenizer: str) -> Scores:
    try:
        backend = served_by(engine.endpoint, tokenizer, longest_sequence(engine.endpoint))
        results = evaluate(accuracy, backend, engine.check)
    except (HarnessError, httpx.HTTPError) as error:
        engine.check()
        raise TransientFault(f"the engine did not answer the tasks {', '.join(accuracy.tasks)}: {error}") from error
    return {task: result.scores for task, result in results.items()}


def longest_sequence(endpoint: Endpoint) -> int:
    """Tokens of the longest sequence that an endpoint serves.

    Raises:
        httpx.HTTPError: it cannot be reached, or fails.
    """
    with client_of(endpoint, _TIMEOUT_S) as http:
        models = http.get(endpoint.path("/models")).raise_for_status().json()["data"]
    parents = [model.get("parent") for model in models if model.get("id") == endpoint.model]  # of a LoRA adapter
    lengths = [model.get("max_model_len") for model in models if model.get("id") in (endpoint.model, *parents)]
    return int(next((length for length in lengths if length), _DEFAULT_LENGTH))
