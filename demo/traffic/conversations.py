"""Requests of many conversations that go on at the same time, in the order of time."""

import random
from typing import Any

from demo.traffic import published
from demo.traffic.sources import Document, Exchange, conversations, documents, single_lines

SYSTEM = (
    "You are the assistant of a community website. Answer in plain words and keep it short. If you are not sure, "
    "say so, and ask back when a question is unclear."
)
NUMBER = 150
_MOST_TURNS = 8
_SPREAD = 1.3  # of the logarithm of a message's length; the published spread lies at twice the mean
_LONG = 100
_LONGEST = 500
_ANSWER_LIMITS = (16, 512)
_START_GAP_S, _THINK_S, _READ_S_PER_TOKEN = 4.0, 15.0, 0.2
_SHAREGPT = {"user": "human", "assistant": "gpt"}
Message = dict[str, str]


def rows(seed: int) -> list[dict[str, Any]]:
    """All requests: messages, limit of the answer, and the second at which the user sends them.

    A request holds the history of its conversation, so the one before it is a prefix of it.
    """
    requests = [request for requests, _ in _conversations(seed) for request in requests]
    return sorted(requests, key=lambda request: (request["offset_s"], request["conversation"]))


def sharegpt(seed: int) -> list[dict[str, Any]]:
    """The same conversations in the form of ShareGPT: with their last answers, and without the system prompt."""
    return [
        {"id": f"conversation-{number}", "conversations": [
            {"from": _SHAREGPT[message["role"]], "value": message["content"]} for message in history[1:]
        ]}
        for number, (_, history) in enumerate(_conversations(seed))
    ]  # fmt: skip


def _conversations(seed: int) -> list[tuple[list[dict[str, Any]], list[Message]]]:
    """Requests and whole history of every conversation."""
    rng = random.Random(f"conversations-{seed}")
    talks = _talks(rng)
    conversations, start_s = [], 0.0
    for number, talk in enumerate(talks):
        start_s += rng.expovariate(1 / _START_GAP_S)
        conversations.append(_requests(talk, number, start_s, rng))
    return conversations


def _talks(rng: random.Random) -> list[list[Exchange]]:
    """Conversations of drawn numbers of turns: written ones, cut to theirs, and single ones about a pasted text."""
    turns = sorted((published.turns(rng, _MOST_TURNS) for _ in range(NUMBER)), reverse=True)
    written = conversations()
    rng.shuffle(written)
    written.sort(key=len, reverse=True)
    pasted = _pasted(sum(turns), sum(map(_is_long, written)), rng)
    talks = [talk[:number] for talk, number in zip(written, turns[: len(turns) - len(pasted)], strict=False)]
    talks += pasted
    rng.shuffle(talks)
    return talks


def _is_long(talk: list[Exchange]) -> int:
    return sum(published.tokens(exchange.message) >= _LONG for exchange in talk)


def _pasted(requests: int, written: int, rng: random.Random) -> list[list[Exchange]]:
    """Questions about pasted texts: one for each long message that the drawn lengths have beyond those written."""
    lengths = [published.input_tokens(rng, published.CHAT_PROMPT, _SPREAD) for _ in range(requests)]
    long = [min(length, _LONGEST) for length in lengths if length >= _LONG][written:]
    texts, questions = documents(), single_lines("questions")
    rng.shuffle(texts)
    rng.shuffle(questions)
    return [
        [Exchange(f"{questions[i % len(questions)]}\n\n{_excerpt(texts[i % len(texts)], length, rng)}")]
        for i, length in enumerate(long)
    ]


def _excerpt(text: Document, length: int, rng: random.Random) -> str:
    """Successive paragraphs of a text, from a random one on, of about this many tokens."""
    first = rng.randrange(max(1, len(text.paragraphs) - length // 60))
    paragraphs: list[str] = []
    for paragraph in text.paragraphs[first:]:
        paragraphs.append(paragraph)
        if sum(map(published.tokens, paragraphs)) >= length - 20:
            break
    return "\n\n".join(paragraphs)


def _requests(
    talk: list[Exchange], number: int, start_s: float, rng: random.Random
) -> tuple[list[dict[str, Any]], list[Message]]:
    history: list[Message] = [{"role": "system", "content": SYSTEM}]
    requests, at_s = [], start_s
    for turn, exchange in enumerate(talk, 1):
        history = [*history, {"role": "user", "content": _message(exchange, rng)}]
        limit = published.output_tokens(rng, published.CHAT_ANSWER, *_ANSWER_LIMITS)
        requests.append(
            {"prompt": history, "max_tokens": limit, "conversation": number, "turn": turn, "offset_s": round(at_s, 1)}
        )
        answer = _answer(exchange, rng)
        history = [*history, {"role": "assistant", "content": answer}]
        at_s += rng.expovariate(1 / _THINK_S) + _READ_S_PER_TOKEN * published.tokens(answer)
    return requests, history


def _message(exchange: Exchange, rng: random.Random) -> str:
    """The message with none, some or all of its further sentences; after a pasted text they stand on their own."""
    further = exchange.further[: rng.randint(0, len(exchange.further))]
    if not further:
        return exchange.message
    return exchange.message + ("\n\n" if "\n" in exchange.message else " ") + " ".join(further)


def _answer(exchange: Exchange, rng: random.Random) -> str:
    """The answer's first paragraph, and those after it up to a drawn length."""
    length = published.output_tokens(rng, published.CHAT_ANSWER, *_ANSWER_LIMITS)
    text = "\n\n".join(exchange.answer[:1])
    for paragraph in exchange.answer[1:]:
        longer = f"{text}\n\n{paragraph}"
        text = longer if published.tokens(longer) <= length else text
    return text
