"""Published figures of language model traffic, and lengths drawn from them.

Lengths of outputs are exponential, those of inputs log-normal with a long tail, as ServeGen found in production traffic
(Xiang et al. 2025, arXiv:2505.09999, section 3). Means are those of the data sets named at each constant.
"""

import math
import random
import re

TURNS = 2.0
"""Mean number of a user's turns in a conversation: LMSYS-Chat-1M (Zheng et al. 2024, arXiv:2309.11998, table 1)."""
CHAT_PROMPT, CHAT_ANSWER = 69.5, 214.5
"""Mean tokens of a user's message and of an answer in LMSYS-Chat-1M (the same table)."""
DOCUMENT, SUMMARY = 781.0, 56.0
"""Mean tokens of an article and of its summary in CNN/Daily Mail (See et al. 2017, arXiv:1704.04368, section 4)."""
INSTRUCTION, INSTRUCTION_ANSWER = 19.31, 58.45
"""Mean tokens of Alpaca's inputs and outputs in vLLM's paper (Kwon et al. 2023, arXiv:2309.06180, figure 11)."""
_PIECE = re.compile(r"\w+|[^\w\s]")


def tokens(text: str) -> int:
    """Words and marks of a text: within a tenth of the tokens of common vocabularies, and the same on every machine."""
    return len(_PIECE.findall(text))


def turns(rng: random.Random, most: int) -> int:
    """A number of turns from 1: geometric, as if every answer were the last one with the same probability."""
    number = 1
    while number < most and rng.random() > 1 / TURNS:
        number += 1
    return number


def input_tokens(rng: random.Random, mean: float, sigma: float) -> int:
    """A log-normal length with this mean; sigma is the standard deviation of its logarithm."""
    return max(1, round(rng.lognormvariate(math.log(mean) - sigma**2 / 2, sigma)))


def output_tokens(rng: random.Random, mean: float, least: int, most: int) -> int:
    """An exponential length with this mean, set to the nearer bound beyond them."""
    return round(min(max(rng.expovariate(1 / mean), least), most))
