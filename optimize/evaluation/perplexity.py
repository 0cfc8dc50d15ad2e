"""How likely the served model finds the references: their tokens' log-probabilities, asked of the live engine itself.

Asked after the load, so that it disturbs no measurement, and kept by what it depends on: a study asks once per
checkpoint, whatever else its trials change.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx

from objectives.quality import Perplexity
from optimize.checkpoint import content_hash
from optimize.engine.base import Endpoint, Engine
from optimize.errors import TransientFault
from optimize.files import write_atomically
from optimize.load.workload import Prompt
from optimize.plan import Plan

_TOGETHER, _TIMEOUT_S = 8, 120.0
Logprobs = dict[int, tuple[float, int]]
"""Workload row -> (sum of the log-probabilities of the reference's tokens, how many these are)."""


def logprobs_of(answers_key: str, plan: Plan, engine: Engine | None = None) -> Logprobs:
    """What the engine's model gives the references; nothing where no metric of the plan wants it.

    Args:
        answers_key: What runs; see `optimize.evaluation.answers.answers_key`.
        plan: Workload, metrics, cache.
        engine: Where it runs; None looks only at what is kept.

    Raises:
        EngineFailure: the engine died of it.
        TransientFault: the engine did not answer.
    """
    rows = max((m.rows for m in plan.metrics.values() if isinstance(m, Perplexity)), default=0)
    if not rows or not plan.workload.references:
        return {}
    # Who knows what somebody else's endpoint serves next time.
    kept = None if plan.launcher.request_knobs_only else _kept_at(answers_key, plan, rows)
    if kept is not None and kept.is_file():
        return {int(row): (total, tokens) for row, (total, tokens) in json.loads(kept.read_text()).items()}
    if engine is None:
        return {}
    found = _ask_engine(engine, plan.workload.prompts[:rows], plan.workload.references[:rows])
    if kept is not None:
        kept.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(kept, json.dumps(found))
    return found


def _kept_at(answers_key: str, plan: Plan, rows: int) -> Path:
    checkpoint, flags, _ = json.loads(answers_key)  # decoding plays no part
    parts = [content_hash(checkpoint), flags, plan.workload.hash, rows, plan.launcher.version()]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]
    return Path(plan.config.cache_dir) / "perplexity" / f"{key}.json"


def _ask_engine(engine: Engine, prompts: Sequence[Prompt], references: Sequence[str]) -> Logprobs:
    try:
        return ask(engine.endpoint, prompts, references)
    except httpx.HTTPError as error:
        engine.check()
        raise TransientFault(f"the engine did not score the references: {error!r}") from error


def ask(endpoint: Endpoint, prompts: Sequence[Prompt], references: Sequence[str]) -> Logprobs:
    """Log-probabilities of references given their prompts.

    Rows that the server refuses, too long ones say, are left out; all of them where it is no vLLM.

    Raises:
        httpx.HTTPError: the server cannot be reached, or fails.
    """
    with (
        httpx.Client(base_url=endpoint.base_url, headers=endpoint.headers, timeout=_TIMEOUT_S) as http,
        ThreadPoolExecutor(_TOGETHER) as threads,
    ):
        found = list(threads.map(_Asker(http, endpoint.model).score, prompts, references))
    return {row: scored for row, scored in enumerate(found) if scored is not None}


class _Asker:
    def __init__(self, http: httpx.Client, model: str) -> None:
        self._http, self._model = http, model

    def score(self, prompt: Prompt, reference: str) -> tuple[float, int] | None:
        """(sum of log-probabilities, tokens) of one reference; None where the server refuses, or there is nothing."""
        context = self._tokens(prompt)
        answer = None if context is None else self._continuation(prompt, reference, context)
        if not context or not answer:
            return None
        body = {"prompt": [*context, *answer], "max_tokens": 1, "temperature": 0.0, "prompt_logprobs": 0}
        got = self._post("/v1/completions", body)
        found = got["choices"][0].get("prompt_logprobs") if got else None
        if not found:
            return None
        of_answer = zip(answer, found[len(context) :], strict=True)
        return sum(float(each[str(token)]["logprob"]) for token, each in of_answer), len(answer)

    def _continuation(self, prompt: Prompt, reference: str, context: list[int]) -> list[int] | None:
        """The reference's tokens as they follow the prompt's, which are what the model is given when it answers."""
        if isinstance(prompt, str):
            whole = self._tokens(prompt + reference)
            if whole is not None and whole[: len(context)] == context:
                return whole[len(context) :]
        return self._tokens(reference, add_special_tokens=False)

    def _tokens(self, text: Prompt, **options: Any) -> list[int] | None:
        """As the server's own tokenizer has them; of chat messages, in the model's template."""
        got = self._post("/tokenize", {"prompt" if isinstance(text, str) else "messages": text, **options})
        return None if got is None else [int(token) for token in got["tokens"]]

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any] | None:
        """The answer; None where the server refuses.

        Raises:
            httpx.HTTPError: it fails.
        """
        answer = self._http.post(path, json={"model": self._model, **body})
        if answer.is_client_error:
            return None
        got: dict[str, Any] = answer.raise_for_status().json()
        return got
