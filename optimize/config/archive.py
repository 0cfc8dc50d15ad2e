"""Schema of `python -m optimize.export` and `python -m optimize.unpack`."""

from __future__ import annotations

from dataclasses import dataclass

from optimize.config.bounds import bounded, positive

STUDY, LLM_D = "study", "llm-d"
"""Formats that a study can be exported in."""


@dataclass
class Export:
    """What `python -m optimize.export` writes of a study.

    Attributes:
        format: "study" (one archive that `optimize.unpack` reads), or "llm-d" (a Benchmark Report of llm-d for each
            measurement, for other programs).
        into: The archive, or the folder of the reports; null for one named after the study in `output_dir`.
        prompts: Let answers leave, which quote prompts.
        paths: Let paths, host names and addresses leave.
    """

    format: str = bounded(STUDY, choices=(STUDY, LLM_D))
    into: str | None = None
    prompts: bool = False
    paths: bool = False


@dataclass
class Unpack:
    """The archive that `python -m optimize.unpack` adds to the studies of this machine.

    Attributes:
        archive: The file.
        name: Name of the study here; null for its own.
        max_gib: Most memory and disk that its content may take, unpacked.
        trust: Let engines run with the settings of studies that came from archives.
    """

    archive: str | None = None
    name: str | None = None
    max_gib: float = positive(4.0)
    trust: bool = False
