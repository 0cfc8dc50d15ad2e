"""The JSON documents within a stream of server-sent events, however its bytes are cut. Pure.

Source: the HTML standard, section 9.2, "Server-sent events": lines end in LF, CRLF or CR; a line that begins with a
colon is a comment; a space after the colon of a field is optional; several `data` lines are one text. Servers are met
half way where they leave the standard: a document counts as soon as it is whole, with or without the blank line that
ends its event; a bare JSON line is data; `error:` in the place of a field's name is an event of that type.
"""

from __future__ import annotations

import json
from typing import Any

_END_MARK, _ERROR, _BOM = b"[DONE]", b"error", b"\xef\xbb\xbf"
_LONGEST_BYTES = 1 << 24

Document = dict[str, Any]


class EventStream:
    """Takes the bytes of one stream as they arrive.

    Attributes:
        ended: Whether the stream's own end mark, `[DONE]`, has arrived; what comes after it is left unread.
    """

    def __init__(self) -> None:
        self._rest, self._data, self._type = b"", b"", b""
        self._after_cr = self._begun = self.ended = False

    def feed(self, data: bytes) -> list[Document]:
        """The documents that these bytes complete.

        Raises:
            ValueError: an event holds anything else than a JSON document.
        """
        if self._after_cr or b"\r" in data:
            data = self._with_line_feeds(data)
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        if len(self._rest) > _LONGEST_BYTES:
            raise ValueError(f"a line of more than {_LONGEST_BYTES} bytes")
        return self._documents(lines)

    def close(self) -> list[Document]:
        """The documents that the end of the stream completes: its last line may lack its end.

        Raises:
            ValueError: as for `feed`.
        """
        rest, self._rest = self._rest, b""
        return self._documents([rest, b""])

    def _with_line_feeds(self, data: bytes) -> bytes:
        """The bytes with LF at the end of every line, also where CR and LF arrive apart."""
        if self._after_cr and data.startswith(b"\n"):
            data = data[1:]
        self._after_cr = data.endswith(b"\r")
        return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _documents(self, lines: list[bytes]) -> list[Document]:
        documents = []
        if lines and not self._begun:
            self._begun, lines[0] = True, lines[0].removeprefix(_BOM)
        for line in lines:
            if self.ended:
                break
            document = self._datum(line[5:]) if line.startswith(b"data:") else self._other(line)
            if document is not None:
                documents.append(document)
        return documents

    def _other(self, line: bytes) -> Document | None:
        """What a line other than data completes, if anything: comments, ids and unknown fields say nothing."""
        if not line:
            return self._end_of_event() if self._data or self._type else None
        if line.startswith(b"event:"):
            self._type = line[6:].strip()
        elif line.startswith(b"error:"):
            self._type = _ERROR
            return self._datum(line[6:])
        elif line.startswith(b"{"):
            return self._datum(line)
        return None

    def _datum(self, value: bytes) -> Document | None:
        self._data = self._data + b"\n" + value if self._data else value
        text = self._data.strip()
        if text.startswith(_END_MARK):
            self.ended = True
        if not text or self.ended:
            return None
        try:
            document = json.loads(text.decode("utf-8", "replace"))
        except ValueError:
            return None  # the rest of it may stand in further lines
        self._data = b""
        if not isinstance(document, dict):
            raise ValueError(f"no JSON object: {_excerpt(text)}")
        return self._typed(document)

    def _end_of_event(self) -> Document | None:
        text, kind = self._data.strip(), self._type
        self._data = self._type = b""
        if text and kind == _ERROR:
            return {"error": _excerpt(text)}
        if text:
            raise ValueError(f"no JSON: {_excerpt(text)}")
        return None

    def _typed(self, document: Document) -> Document:
        """A document of an event of the type `error` says that it is one, whatever its own fields."""
        return document if self._type != _ERROR or document.get("error") else {"error": document}


def _excerpt(text: bytes) -> str:
    return text[:300].decode(errors="replace")
