"""Texts of given lengths, cut and put together from a workload's prompts, with the blocks that a trace shares."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from optimize.errors import ConfigError
from optimize.traces.requests import Requests
from optimize.workload.tokens import tokenizer_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_REMEDY = "workload.prompt_tokens needs it: remove prompt_tokens, or give a local model"
_REMEDY_FOR_TRACES = "the lengths of a trace need it: give a local model"
_BLOCKS_KEPT = 4096
_ADJUSTMENTS = 4


def of_lengths(prompts: Sequence[Any], lengths: Sequence[int], model: str) -> list[str]:
    """Texts of these numbers of the model's tokens: each prompt is cut, or continued with the prompts that follow it.

    Raises:
        ConfigError: chat messages, or a model without a tokenizer's file.
    """
    if not all(isinstance(prompt, str) for prompt in prompts):
        raise ConfigError("workload.prompt_tokens needs prompts that are plain text: chat messages cannot be cut")
    source = _Source(tokenizer_of(model, _REMEDY), prompts)
    return [source.text(_cut(source.following(row), length)) for row, length in enumerate(lengths)]


def of_requests(prompts: Sequence[Any], requests: Requests, model: str) -> list[str]:
    """Prompts for recorded requests, with their numbers of tokens; those that share leading blocks share their text.

    No two others begin alike, however few prompts there are to make them of: an engine's prefix cache is to find what
    the trace shares, and nothing else.

    Args:
        prompts: What texts are made of; of chat messages their contents.
        requests: The requests, with their numbers of tokens.
        model: Model whose tokens are counted.

    Raises:
        ConfigError: a model without a tokenizer's file.
    """
    assert requests.prompt_tokens is not None
    lengths: list[int] = requests.prompt_tokens.tolist()
    source = _Source(tokenizer_of(model, _REMEDY_FOR_TRACES), [_plain(prompt) for prompt in prompts])
    if requests.blocks is None:
        texts = [source.text(_cut(source.anywhere(row), length)) for row, length in enumerate(lengths)]
        return source.adjusted(texts, lengths)
    block = lru_cache(_BLOCKS_KEPT)(lambda number: source.text(_cut(source.anywhere(number), requests.block_tokens)))
    texts = ["".join(map(block, blocks)) for blocks in requests.blocks]
    return source.adjusted(texts, lengths)


def _plain(prompt: Any) -> str:
    if isinstance(prompt, str):
        return prompt
    return "\n".join(message["content"] for message in prompt if isinstance(message["content"], str))


def _cut(tokens: Iterable[int], length: int) -> list[int]:
    return list(itertools.islice(tokens, length))


class _Source:
    """Tokens to make texts of."""

    def __init__(self, tokenizer: Tokenizer, prompts: Sequence[str]) -> None:
        self._tokenizer = tokenizer
        self._ids: list[list[int]] = [ids for ids in self._encoded(prompts) if ids] or [[0]]

    def _encoded(self, texts: Sequence[str]) -> list[list[int]]:
        return [encoded.ids for encoded in self._tokenizer.encode_batch(list(texts), add_special_tokens=False)]

    def text(self, tokens: Sequence[int]) -> str:
        return str(self._tokenizer.decode(list(tokens)))

    def following(self, row: int) -> Iterable[int]:
        """The tokens of a prompt and of those after it, over and over."""
        return itertools.chain.from_iterable(self._ids[at % len(self._ids)] for at in itertools.count(row))

    def anywhere(self, seed: int) -> Iterable[int]:
        """Tokens from within a prompt on, and of others in random order, without end."""
        rng = random.Random(seed)
        first = rng.choice(self._ids)
        yield from first[rng.randrange(len(first)) :]
        while True:
            yield from rng.choice(self._ids)

    def adjusted(self, texts: Sequence[str], lengths: Sequence[int]) -> list[str]:
        """The texts, longer or shorter at their ends by the tokens that they lack or have too many."""
        adjusted, rows = list(texts), list(range(len(texts)))
        for _ in range(_ADJUSTMENTS):
            ids = self._encoded([adjusted[row] for row in rows])
            wrong = [(row, tokens) for row, tokens in zip(rows, ids, strict=True) if len(tokens) != lengths[row]]
            for row, tokens in wrong:
                adjusted[row] = self.text(_cut(itertools.chain(tokens, self.anywhere(row)), lengths[row]))
            rows = [row for row, _ in wrong]
        return adjusted
