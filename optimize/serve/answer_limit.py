"""Limit on the answers of a request: each of its prompts has as many as it asks for (`n`).

vLLM makes every answer a request of its own. Without a limit, one request to the front would be 16,384 in the engine,
or as many as the prompts that a body can hold, and `serve.requests_max` would bound nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from optimize.serve.exchange import Counts
from optimize.serve.responses import Refused


class AnswerLimit:
    """Bounds the answers of one request, and those of all requests in flight that ask for several.

    Args:
        most: Most answers of one request.
        total: Most answers of all requests in flight together; those that ask for one answer do not count.
        counts: Counts the refusals.
    """

    def __init__(self, most: int, total: int, counts: Counts) -> None:
        self._most, self._total, self._counts = most, total, counts
        self._in_flight = 0

    @contextlib.contextmanager
    def place(self, each: int, prompts: int) -> Iterator[None]:
        """A place for a request while it is answered.

        Args:
            each: Answers to each of its prompts.
            prompts: Number of its prompts.

        Raises:
            Refused: it asks for too many answers, or those of other requests leave no room for them.
        """
        answers = each * prompts
        try:
            self._check(answers, each, prompts)
        except Refused:
            self._counts.refused_answers += 1
            raise
        counted = answers if answers > 1 else 0
        self._in_flight += counted
        try:
            yield
        finally:
            self._in_flight -= counted

    def _check(self, answers: int, each: int, prompts: int) -> None:
        if answers > self._most:
            wish = f"n={each}" + (f" for each of {prompts} prompts" if prompts > 1 else "")
            message = f"{wish} exceeds the {self._most} answers allowed in a request (serve.answers_max)"
            raise Refused(400, f"{message}: request fewer", "n" if each > 1 else "prompt")
        if answers > 1 and self._in_flight + answers > self._total:
            message = f"{self._in_flight} answers of other requests are under way, {self._total} are taken"
            raise Refused(503, f"{message} (serve.answers_together): try later", None, 1)
