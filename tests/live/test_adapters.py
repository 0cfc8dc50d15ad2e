"""Adapters and speculative decoding on a live engine: asked for by name, and counted."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from optimize.engine.adapters import flags_for
from optimize.engine.base import EngineConfig
from optimize.engine.metrics import parse_metrics
from tests.adapters import adapter
from tests.live.engines import FLAGS, MODEL, LiveEngines, answers_of

pytestmark = pytest.mark.live


def test_prompts_ask_for_their_adapters_and_adapters_answer_as_they_are(
    live_engines: LiveEngines, plain_answers: list[str], tmp_path: Path
) -> None:
    """An adapter of zeros answers as the model does, another one differently."""
    paths = {
        "zeros": str(adapter(tmp_path / "zeros", scale=0)),
        "loud": str(adapter(tmp_path / "loud", rank=32, scale=1)),
    }
    flags = (*FLAGS, *flags_for(paths).items())
    with live_engines.launch(EngineConfig(MODEL, "fp16", flags)) as engine:
        assert (engine.endpoint.model, engine.endpoint.others) == ("zeros", ("loud",))
        received = answers_of(engine.endpoint)
    same = [ours == theirs for ours, theirs in zip(received, plain_answers, strict=True)]
    assert all(same[0::2]) and not any(same[1::2])


def test_speculative_decoding_gives_the_same_answers_and_tells_what_was_accepted(
    live_engines: LiveEngines, plain_answers: list[str]
) -> None:
    ngram = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3}
    config = EngineConfig(MODEL, "fp16", (*FLAGS, ("speculative_config", json.dumps(ngram))))
    with live_engines.launch(config) as engine:
        received = answers_of(engine.endpoint)
        figures = parse_metrics(httpx.get(f"{engine.endpoint.base_url}/metrics", headers=engine.endpoint.headers).text)
    assert received == plain_answers
    assert 0 <= figures["accepted_tokens"] <= figures["draft_tokens"]
