"""The program of a simulated engine: `python -m optimize.engine.simulated_server PORT SETTINGS`.

It imports little, because every trial of a study on simulated engines starts one.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import zlib
from typing import Any

from aiohttp import web

from optimize.engine.gate import KEY, admits

_POOL_BLOCKS, _BLOCK_BYTES = 1000, 1 << 20
_DROPPED_SHARE = {"published": 0.10, "fp16": 0.10, "int8": 0.13, "int4": 0.20}


class _Server:
    """HTTP server. Each running request holds a slot, and tokens take longer the more slots are held."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._slots = asyncio.Semaphore(int(settings["max_num_seqs"]))
        self._running = self._waiting = self._served = 0

    def app(self) -> Any:
        @web.middleware
        async def gate(request: Any, handler: Any) -> Any:
            headers = ((name.lower(), value) for name, value in request.raw_headers)
            return await handler(request) if admits(headers, os.environ[KEY]) else web.Response(status=401)

        app = web.Application(middlewares=[gate])
        app.add_routes(
            [
                web.get("/health", lambda _: _reply({})),
                web.get("/v1/models", lambda _: _reply({"data": [{"id": "model", "max_model_len": 128}]})),
                web.get("/metrics", self.metrics),
                web.post("/reset_prefix_cache", lambda _: _reply({"success": True})),
                web.post("/collective_rpc", self.rpc),
                web.post("/tokenize", self.tokenize),
                web.post("/v1/completions", self.complete),
                web.post("/v1/chat/completions", self.complete),
            ]
        )
        return app

    async def metrics(self, _: Any) -> Any:
        lines = [
            f'vllm:cache_config_info{{block_size="128",kv_cache_memory_bytes="{_POOL_BLOCKS * _BLOCK_BYTES}"}} 1.0',
            f"vllm:kv_cache_usage_perc {min(1.0, self._running / _POOL_BLOCKS)}",
            f"vllm:num_requests_running {self._running}",
            f"vllm:num_requests_waiting {self._waiting}",
            "vllm:num_preemptions_total 0",
        ]
        return web.Response(text="\n".join(lines) + "\n")

    async def rpc(self, request: Any) -> Any:
        call = await request.json()
        result: dict[str, Any] = {}
        if call["method"] == "memory_report":
            result = {
                "kv_pool_bytes": _POOL_BLOCKS * _BLOCK_BYTES, "kv_block_tokens": 128, "kv_block_bytes": _BLOCK_BYTES,
                "max_sequences": self._settings["max_num_seqs"], "activations_bytes": None,
            }  # fmt: skip
        elif call["method"] == "effective_values":
            result = {name: self._settings[name] for name in call["args"] if name in self._settings}
        return await _reply({"results": [result]})

    async def tokenize(self, request: Any) -> Any:
        """Tokenize: one token per word."""
        body = await request.json()
        text = body["prompt"] if "prompt" in body else body["messages"][-1]["content"]
        return await _reply({"tokens": [_token(word) for word in text.split()]})

    async def complete(self, request: Any) -> Any:
        body = await request.json()
        if body.get("prompt_logprobs") is not None:
            return await _reply({"choices": [{"text": "", "prompt_logprobs": self._logprobs(body["prompt"])}]})
        if body.get("echo"):
            prompts = body["prompt"] if isinstance(body["prompt"][0], list) else [body["prompt"]]
            choices = [{"index": i, "text": "", "logprobs": self._echo(prompt)} for i, prompt in enumerate(prompts)]
            return await _reply({"choices": choices})
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


async def _reply(content: object) -> Any:
    return web.json_response(content)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("settings", type=json.loads)
    arguments = parser.parse_args()
    limit = arguments.settings["oom_above_seqs"]
    if limit is not None and arguments.settings["max_num_seqs"] > limit:
        raise RuntimeError("CUDA out of memory. (simulated)")
    web.run_app(_Server(arguments.settings).app(), host="127.0.0.1", port=arguments.port, print=None)


if __name__ == "__main__":
    main()
