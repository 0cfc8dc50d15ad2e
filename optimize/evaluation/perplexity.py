"""Log-probabilities of the reference answers under the served model, computed by the live engine itself.

They are requested after the load, so that they disturb no measurement, and cached by what they depend on: a study
requests them once per checkpoint, whatever else its trials change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx

from objectives.quality import Perplexity
from optimize.config.measuring import BASELINE
from optimize.engine.base import Endpoint, Engine
from optimize.engine.http_client import client_of
from optimize.entries import claim, read_kept
from optimize.errors import TransientFault
from optimize.evaluation.answers import engine_settings
from optimize.files import write_atomically
from optimize.plan import Plan, content_of
from optimize.workload.workload import Prompt

_TOGETHER, _TIMEOUT_S, _FILE = 8, 120.0, "logprobs.json"
_NOT_IMPLEMENTED = 501
Logprobs = dict[int, tuple[float, int]]
"""Workload row -> (sum of the log-probabilities of the reference's tokens, number of tokens)."""


def logprobs_of(answers_key: str, plan: Plan, references: Mapping[int, str], engine: Engine | None = None) -> Logprobs:
    """Log-probabilities of the reference answers; empty where no metric of the plan needs them.

    Args:
        answers_key: Key of the configuration; see `optimize.evaluation.answers.answers_key`.
        plan: Workload, metrics, cache.
        references: Workload row -> reference answer.
        engine: The live engine; None reads the cache alone.

    Raises:
        EngineFailure: the engine died.
        TransientFault: the engine did not answer.
    """
    rows = max((m.rows for m in plan.metrics.values() if isinstance(m, Perplexity)), default=0)
    scored = {row: text for row, text in references.items() if row < rows}
    if not scored:
        return {}
    # An endpoint that somebody else runs may serve another model next time.
    cached = None if plan.launcher.request_knobs_only else _cache_entry(answers_key, plan, rows, scored)
    for path in () if cached is None else (cached / _FILE, cached.with_suffix(".json")):  # as earlier versions wrote it
        if (sums := read_kept(path)) is not None:
            return {int(row): (total, tokens) for row, (total, tokens) in sums.items()}
    if engine is None:
        return {}
    logprobs = _request(engine, plan.workload.prompts, scored)
    if cached is not None:
        write_atomically(claim(cached) / _FILE, json.dumps(logprobs))
    return logprobs


def _cache_entry(answers_key: str, plan: Plan, rows: int, scored: Mapping[int, str]) -> Path:
    checkpoint, *_ = json.loads(answers_key)
    settings = engine_settings(answers_key, plan.config.engine)  # decoding plays no part
    parts = [content_of(plan, checkpoint), settings, plan.workload.hash, rows, plan.launcher.version()]
    if plan.reference == BASELINE:  # the unquantized model's answers, which the workload's hash does not cover
        parts.append(sorted(scored.items()))
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    return Path(plan.config.cache_dir) / "perplexity" / key


def _request(engine: Engine, prompts: Sequence[Prompt], references: Mapping[int, str]) -> Logprobs:
    rows = sorted(references)
    try:
        logprobs = score_references(
            engine.endpoint, [prompts[row] for row in rows], [references[row] for row in rows], rows
        )  # fmt: skip
    except httpx.HTTPError as error:
        engine.check()
        raise TransientFault(f"the engine did not score the references: {error!r}") from error
    return {rows[position]: score for position, score in logprobs.items()}


def score_references(
    endpoint: Endpoint, prompts: Sequence[Prompt], references: Sequence[str], rows: Sequence[int] | None = None
) -> Logprobs:  # fmt: skip
    """Log-probabilities of references given their prompts, by position.

    Rows that the server refuses (too long ones, say) are left out, and all of them where the server is not vLLM.

    Args:
        endpoint: The server.
        prompts: The prompts.
        references: An answer to each.
        rows: Their rows in the workload, by which an adapter is asked; None for 0, 1, 2, ...

    Raises:
        httpx.HTTPError: the server cannot be reached, or fails.
    """
    with (
        client_of(endpoint, _TIMEOUT_S) as http,
        ThreadPoolExecutor(_TOGETHER) as threads,
    ):
        scorers = [
            _Scorer(http, replace(endpoint, model=endpoint.model_of(row))) for row in rows or range(len(prompts))
        ]
        scores = list(threads.map(_Scorer.score, scorers, prompts, references))
    return {row: score for row, score in enumerate(scores) if score is not None}


class _Scorer:
    def __init__(self, http: httpx.Client, endpoint: Endpoint) -> None:
        self._http, self._endpoint = http, endpoint

    def score(self, prompt: Prompt, reference: str) -> tuple[float, int] | None:
        """(sum of log-probabilities, tokens) of one reference; None where the server refuses it, or it is empty."""
        context = self._tokens(prompt)
        answer = None if context is None else self._continuation(prompt, reference, context)
        if not context or not answer:
            return None
        body = {"prompt": [*context, *answer], "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        response = self._post(self._endpoint.path("/completions"), body)
        logprobs = response["choices"][0].get("prompt_logprobs") if response else None
        if not logprobs:
            return None
        of_answer = zip(answer, logprobs[len(context) :], strict=True)
        return sum(float(each[str(token)]["logprob"]) for token, each in of_answer), len(answer)

    def _continuation(self, prompt: Prompt, reference: str, context: list[int]) -> list[int] | None:
        """The reference's tokens as the model sees them after the prompt's."""
        if isinstance(prompt, str):
            whole = self._tokens(prompt + reference)
            if whole is not None and whole[: len(context)] == context:
                return whole[len(context) :]
        return self._tokens(reference, add_special_tokens=False)

    def _tokens(self, text: Prompt, **options: Any) -> list[int] | None:
        """Tokens by the server's own tokenizer; chat messages in the model's template."""
        response = self._post("/tokenize", {"prompt" if isinstance(text, str) else "messages": text, **options})
        return None if response is None else [int(token) for token in response["tokens"]]

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The response; None where the server refuses the request, or knows no such path.

        Raises:
            httpx.HTTPError: the server fails.
        """
        response = self._http.post(path, json={"model": self._endpoint.model, **body})
        if response.is_client_error or response.status_code == _NOT_IMPLEMENTED:
            return None
        with suppress(ValueError):  # a page for people, as some gateways have on every path
            content: dict[str, Any] = response.raise_for_status().json()
            return content
        return None
