"""How far the answer to a streamed request has come, and from where a second engine can go on with it. Pure.

A second engine may begin only at a boundary: where all that the tokens say is text. vLLM keeps a character back until
its last byte is there, and from tokens that end within one it would repeat the whole prompt. It also keeps back an end
in which a stop string may begin, so that the last boundary can lie before the end of what the client has. The second
engine then repeats the difference, which is compared and left out. A sampled answer cannot be repeated: with stop
strings, the client gets its text up to the last boundary, a few characters later than otherwise.
"""

from __future__ import annotations

from array import array
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

_LOOK_BACK = 16
_WITHHELD_MAX = 32


class Contradiction(Exception):
    """The second engine says something else than what the client already has."""


@dataclass
class TokenRoom:
    """Room for the tokens of all requests under way, which take four bytes each.

    Attributes:
        capacity: Tokens that there is room for.
        size: Tokens that are there.
    """

    capacity: int
    size: int = 0

    def take(self, tokens: int) -> bool:
        """Make room for so many more; False if there is none."""
        enough = self.size + tokens <= self.capacity
        self.size += tokens if enough else 0
        return enough


class Progress:
    """Tokens and text of one answer. Lengths and positions are in characters of the text.

    Args:
        room: Room for its tokens; `close` frees it.
        held_back: Length that vLLM holds back at the end of the text.
        stop_overlap: Length at the end of the text, held back or not, in which a stop string may have begun.
        repeatable: Whether another engine would say the same.

    Attributes:
        prompt: Tokens of the prompt; empty while they are unknown.
        tokens: Tokens of the answer.
        prompt_count: Number of tokens of the prompt, held or not.
        count: Number of tokens of the answer, held or not.
    """

    def __init__(self, room: TokenRoom, held_back: int, stop_overlap: int, repeatable: bool) -> None:
        self._room, self._held_back, self._stop_overlap = room, held_back, stop_overlap
        self._withholds = stop_overlap > 0 and not repeatable
        self.prompt, self.tokens, self._open = array("I"), array("I"), True
        self.prompt_count = self.count = 0
        self._length = 0  # of what the present engine has sent, with what was there when it began
        self._sent = 0  # of what the client has
        self._tail = ""  # what the client has from the first boundary on
        self._withheld = ""  # what it is to have next
        self._boundaries = deque([(0, 0)])  # (tokens, length of their text); the next engine begins at the first one
        self._doubtful: tuple[int, int] | None = None  # the same of a later place that may lie within a character

    @property
    def overlap(self) -> int:
        """Length of what the next engine has to repeat."""
        return len(self._tail)

    def close(self) -> None:
        """Hold no token any more: no other engine can go on."""
        self._room.size -= len(self.prompt) + len(self.tokens)
        self.prompt, self.tokens, self._open = array("I"), array("I"), False

    def begin(self, prompt: Sequence[int]) -> None:
        """Take the tokens of the prompt, once."""
        if self.prompt_count == 0:
            self.prompt_count = len(prompt)
            self._hold(self.prompt, prompt)

    def add(self, tokens: Sequence[int], text: str, finished: bool = False) -> str:
        """Take what an engine has sent, `finished` with its last event, and return what the client is to have now.

        Raises:
            Contradiction: it does not repeat what the client has.
        """
        self.count += len(tokens)
        self._hold(self.tokens, tokens)
        self._withheld += self._compared(text)
        self._length += len(text)
        if text:
            self._note_place(len(tokens))
        self._advance()
        addition = self._released(finished)
        self._sent += len(addition)
        self._tail += addition
        self._cut_tail()
        return addition

    @property
    def doubtful(self) -> array[int]:
        """The last tokens of an answer that another engine can go on with where they end with a character."""
        return self.tokens[: self._doubtful[0]][-_LOOK_BACK:] if self._doubtful is not None else array("I")

    def settle(self, incomplete: int | None) -> None:
        """Take in how many of the `doubtful` tokens belong to a character that is not complete; None for unknown."""
        if incomplete is not None and self._doubtful is not None:
            count, length = self._doubtful
            self._boundaries = deque([(count - incomplete, length)])
            self._cut_tail()
        self._doubtful = None

    def restart(self) -> None:
        """Go back to where the next engine begins."""
        self._room.size -= self.count
        self.count, self._length = self._boundaries[0]
        self._room.size += self.count
        del self.tokens[self.count :]
        self._boundaries, self._doubtful, self._withheld = deque([(self.count, self._length)]), None, ""

    def _hold(self, held: array[int], tokens: Sequence[int]) -> None:
        if self._open and self._room.take(len(tokens)):
            held.extend(tokens)
        elif self._open:
            self.close()

    def _note_place(self, tokens: int) -> None:
        """Note the end of an event that has text: a single token ends with a character, several need not."""
        place = (self.count, self._length + self._held_back)
        if tokens == 1:
            self._boundaries.append(place)
        self._doubtful = place if tokens > 1 and not self._stop_overlap else None

    def _compared(self, text: str) -> str:
        """The part of a text that comes after what the client has."""
        repeated = max(0, self._sent - self._length)
        start = len(self._tail) - repeated
        if text[:repeated] != self._tail[start : start + len(text)]:
            raise Contradiction
        return text[repeated:]

    def _advance(self) -> None:
        """Leave boundaries behind that have a later one before every stop string that may come."""
        safe = self._length + self._held_back - self._stop_overlap
        while len(self._boundaries) > 1 and self._boundaries[1][1] <= safe:
            self._boundaries.popleft()

    def _released(self, finished: bool) -> str:
        """The text that is no longer withheld."""
        if len(self._withheld) > self._stop_overlap + _WITHHELD_MAX:  # events of several tokens have no boundaries
            self._withholds = False
        whole = finished or not self._withholds
        size = len(self._withheld) if whole else max(0, self._boundaries[0][1] - self._sent)
        text, self._withheld = self._withheld[:size], self._withheld[size:]
        return text

    def _cut_tail(self) -> None:
        overlap = self._sent - self._boundaries[0][1]
        self._tail = self._tail[len(self._tail) - overlap :]
