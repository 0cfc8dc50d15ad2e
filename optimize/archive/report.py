"""The report within an archive, drawn from what the archive holds, so that it shows no more than that."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping

from optimize.archive.contents import STUDY
from optimize.ledger import Ledger, study_folder
from optimize.report.effects import effects_of
from optimize.report.loader import gather
from optimize.report.page import draw, html
from optimize.report.sections import period
from optimize.study.confirmation import recommendation
from optimize.study.rows import row_of, signature_warning
from optimize.study.snapshot import study_in_memory


def report_of(files: Mapping[str, bytes], name: str) -> bytes:
    """The page of a study whose files these are; says when it was measured in place of when it was written."""
    with tempfile.TemporaryDirectory() as folder:
        ledger = Ledger(study_folder(folder, name))
        for path, content in files.items():
            (ledger.folder / path).parent.mkdir(parents=True, exist_ok=True)
            (ledger.folder / path).write_bytes(content)
        study = study_in_memory(json.loads(files[STUDY]), name)
        best = recommendation(study)
        rows = [row_of(study, best)] if best else []
        facts = gather(study, ledger, rows, effects_of(study), signature_warning(study))
        return html(facts, draw(facts), "", written=period(facts)).encode()
