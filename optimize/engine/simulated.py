"""A simulated engine that speaks vLLM's protocol with artificial timings, in a process tree of its own.

It tests search, tracking and supervision without a model. No figure from it is a measurement, as its version says,
which is part of every signature.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import secrets
import sys
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from optimize.engine.adapters import asked_names
from optimize.engine.base import Endpoint, EngineConfig
from optimize.engine.flags import check_flags
from optimize.engine.gate import KEY, admits
from optimize.engine.process import ColdTree, free_port
from optimize.engine.proxies import with_direct_loopback
from optimize.engine.vllm_engine import VllmEngine
from optimize.errors import EngineFailure, FailureKind
from optimize.files import python_path
from optimize.redaction import hidden_flags

VERSION = "simulated (no measurement)"
_POOL_BLOCKS, _BLOCK_BYTES = 1000, 1 << 20
_DROPPED_SHARE = {"published": 0.10, "fp16": 0.10, "int8": 0.13, "int4": 0.20}
_DEFAULTS = {"max_num_seqs": 128, "max_num_batched_tokens": 2048}


@dataclass
class SimulatedLauncher:
    """Starts simulated engines; its fields are the keys of `conf/engine/simulated.yaml`.

    Attributes:
        flags: vLLM flags held fixed in all trials.
        env: Environment variables of every engine.
        token_s: Seconds per output token of a single request.
        oom_above_seqs: More sequences than this fail at the start, as if out of device memory.
        die_after_requests: Number of requests after which it crashes.
        refuses: Quantizations that it refuses to serve.
        model: As that of `optimize.engine.vllm.VllmLauncher`.
    """

    flags: dict[str, Any] = field(default_factory=dict)
    env: dict[str, str] = field(default_factory=dict)
    token_s: float = 0.001
    oom_above_seqs: int | None = None
    die_after_requests: int | None = None
    refuses: list[str] = field(default_factory=list)
    model: str | list[str] | None = None
    request_knobs_only: bool = field(default=False, init=False)

    def preflight(self, flag_names: Sequence[str]) -> None:
        check_flags([*self.flags, *flag_names])

    def refusals(self, engines: Mapping[str, EngineConfig]) -> dict[str, EngineFailure]:
        failure = EngineFailure(FailureKind.REFUSED, "no such kernel")
        return {name: failure for name, config in engines.items() if config.quantization in self.refuses}

    def report_cached_tokens(self) -> None:
        """Nothing: it has no cache."""

    def prepare(self) -> None:
        """Nothing to prepare."""

    def close(self) -> None:
        """Nothing to close."""

    def version(self) -> str:
        return VERSION

    def deploy_command(self, config: EngineConfig) -> str:
        return ""

    def command(self, port: int, settings: Mapping[str, Any]) -> list[str]:
        """The program that is started as an engine, and its arguments."""
        return [sys.executable, "-m", "optimize.engine.simulated", str(port), json.dumps(settings)]

    def launch(self, config: EngineConfig, log_path: Path, cgroups: Sequence[str] = ()) -> VllmEngine:
        """Start one, as `Launcher.launch`; it joins no control groups."""
        port, key = free_port(), secrets.token_urlsafe(24)
        settings = {
            **_DEFAULTS, **dict(hidden_flags({**self.flags, **dict(config.flags)}.items())),
            "token_s": self.token_s, "quantization": config.quantization,
            "oom_above_seqs": self.oom_above_seqs, "die_after_requests": self.die_after_requests,
        }  # fmt: skip
        variables = {name: str(value) for name, value in {**self.env, **dict(config.env)}.items()}
        env = with_direct_loopback({**os.environ, **variables, "PYTHONPATH": python_path(), KEY: key})
        tree = ColdTree(self.command(port, settings), env, log_path, grace_s=0.5)
        first, *others = asked_names({**self.flags, **dict(config.flags)}, self.model)
        endpoint = Endpoint(f"http://127.0.0.1:{port}", key, first, others=tuple(others))
        engine = VllmEngine(config, tree, endpoint, log_path)
        try:
            engine.wait_ready(stall_s=30.0)
        except BaseException:
            engine.stop()
            raise
        return engine


class _Server:
    """HTTP server. Each running request holds a slot, and tokens take longer the more slots are held."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(int(settings["max_num_seqs"]))
        self._running = self._waiting = self._served = 0

    def app(self) -> Any:
        from aiohttp import web

        @web.middleware
        async def gate(request: Any, handler: Any) -> Any:
            headers = ((name.lower(), value) for name, value in request.raw_headers)
            return await handler(request) if admits(headers, os.environ[KEY]) else web.Response(status=401)

        app = web.Application(middlewares=[gate])
        app.add_routes(
            [
                web.get("/health", lambda _: _reply(web, {})),
                web.get("/v1/models", lambda _: _reply(web, {"data": [{"id": "model", "max_model_len": 128}]})),
                web.get("/metrics", self.metrics),
                web.post("/reset_prefix_cache", lambda _: _reply(web, {"success": True})),
                web.post("/collective_rpc", self.rpc),
                web.post("/tokenize", self.tokenize),
                web.post("/v1/completions", self.complete),
                web.post("/v1/chat/completions", self.complete),
            ]
        )
        return app

    async def metrics(self, _: Any) -> Any:
        from aiohttp import web

        lines = [
            f'vllm:cache_config_info{{block_size="128",kv_cache_memory_bytes="{_POOL_BLOCKS * _BLOCK_BYTES}"}} 1.0',
            f"vllm:kv_cache_usage_perc {min(1.0, self._running / _POOL_BLOCKS)}",
            f"vllm:num_requests_running {self._running}",
            f"vllm:num_requests_waiting {self._waiting}",
            "vllm:num_preemptions_total 0",
        ]
        return web.Response(text="\n".join(lines) + "\n")

    async def rpc(self, request: Any) -> Any:
        from aiohttp import web

        call = await request.json()
        result: dict[str, Any] = {}
        if call["method"] == "memory_report":
            result = {
                "kv_pool_bytes": _POOL_BLOCKS * _BLOCK_BYTES, "kv_block_tokens": 128, "kv_block_bytes": _BLOCK_BYTES,
                "max_sequences": self._settings["max_num_seqs"], "activations_bytes": None,
            }  # fmt: skip
        elif call["method"] == "effective_values":
            result = {name: self._settings[name] for name in call["args"] if name in self._settings}
        return await _reply(web, {"results": [result]})

    async def tokenize(self, request: Any) -> Any:
        """Tokenize: one token per word."""
        from aiohttp import web

        body = await request.json()
        text = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
        return await _reply(web, {"tokens": [_token(word) for word in text.split()]})

    async def complete(self, request: Any) -> Any:
        from aiohttp import web

        body = await request.json()
        if body.get("prompt_logprobs") is not None:
            return await _reply(web, {"choices": [{"text": "", "prompt_logprobs": self._logprobs(body["prompt"])}]})
        if body.get("echo"):
            prompts = body["prompt"] if isinstance(body["prompt"][0], list) else [body["prompt"]]
            choices = [{"index": i, "text": "", "logprobs": self._echo(prompt)} for i, prompt in enumerate(prompts)]
            return await _reply(web, {"choices": choices})
        self._served += 1
        if self._settings["die_after_requests"] is not None and self._served > self._settings["die_after_requests"]:
            os._exit(1)
        words = self._answer(body)
        self._waiting += 1
        async with self._slots:
            self._waiting -= 1
            self._running += 1
            try:
                return await self._send(request, body, words)
            finally:
                self._running -= 1

    def _logprobs(self, tokens: list[int]) -> list[dict[int, dict[str, float]] | None]:
        """Log-probabilities, lower with fewer bits."""
        share = _DROPPED_SHARE.get(self._settings["quantization"], 0.15)
        return [None, *({token: {"logprob": -10 * share - token % 7 / 10}} for token in tokens[1:])]

    def _echo(self, tokens: list[int]) -> dict[str, list[Any]]:
        """Log-probabilities of the prompt's tokens and of one more; fewer bits disturb them more."""
        recipe = self._settings["quantization"]
        noise = _DROPPED_SHARE.get(recipe, 0.15)
        pairs = [f"{one} {next_one}" for one, next_one in zip(tokens, [*tokens[1:], 0], strict=True)]
        values = [None, *(-10 * _fraction(pair) - 10 * noise * _fraction(f"{recipe} {pair}") for pair in pairs)]
        return {"token_logprobs": values, "top_logprobs": [value and {"most likely": 0.0} for value in values]}

    def _answer(self, body: dict[str, Any]) -> list[str]:
        """The prompt without some of its words: fewer are dropped with more beams, more with fewer bits."""
        prompt = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
        share = _DROPPED_SHARE.get(self._settings["quantization"], 0.15) / int(body.get("n", 1)) ** 0.5
        rng = random.Random(prompt)
        return [word for word in prompt.split() if rng.random() >= share] or ["nothing"]

    async def _send(self, request: Any, body: dict[str, Any], words: list[str]) -> Any:
        from aiohttp import web

        beams, chat = int(body.get("n", 1)), "messages" in body
        token_s = self._settings["token_s"] * (1 + 0.1 * self._running) * beams
        usage = {"prompt_tokens": len(words), "completion_tokens": len(words)}
        if not body.get("stream"):
            await asyncio.sleep(token_s * len(words))
            text = " ".join(words)
            choice = {"message": {"content": text}} if chat else {"text": text}
            return web.json_response({"choices": [choice] * beams, "usage": usage})
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for word in words:
            await asyncio.sleep(token_s)
            piece = {"delta": {"content": word + " "}} if chat else {"text": word + " "}
            await response.write(f"data: {json.dumps({'choices': [piece]})}\n\n".encode())
        await response.write(f"data: {json.dumps({'choices': [], 'usage': usage})}\n\ndata: [DONE]\n\n".encode())
        return response


def _token(word: str) -> int:
    return zlib.crc32(word.encode()) % 50_000


def _fraction(text: str) -> float:
    """A number from 0 to 1 that a text alone decides."""
    return zlib.crc32(text.encode()) / 2**32


async def _reply(web: Any, content: object) -> Any:
    return web.json_response(content)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("settings", type=json.loads)
    arguments = parser.parse_args()
    limit = arguments.settings["oom_above_seqs"]
    if limit is not None and arguments.settings["max_num_seqs"] > limit:
        raise RuntimeError("CUDA out of memory. (simulated)")
    from aiohttp import web

    web.run_app(_Server(arguments.settings).app(), host="127.0.0.1", port=arguments.port, print=None)


if __name__ == "__main__":
    main()
