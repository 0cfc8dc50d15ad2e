"""`python -m optimize.sync`: mirror to MLflow the trials that it could not receive while a study ran."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from optimize.cli import complain_of, run_verb
from optimize.config.schema import StudyConfig, Tracking
from optimize.errors import DamagedFile, OptimizeError, one_line
from optimize.files import reading
from optimize.ledger import Ledger, TrialRecord
from optimize.redaction import redacted
from optimize.study.info import FILE, StudyInfo

if TYPE_CHECKING:
    from optimize.tracking.mlflow_mirror import Mirror


def _sync(config: StudyConfig, config_yaml: str) -> int:
    folders = sorted(path.parent for path in Path(config.output_dir).glob("studies/*/trials/"))
    total, damage = 0, list[str]()
    for folder in folders:
        ledger = Ledger(folder)
        try:
            total += sync_study(ledger, config.tracking)
        except DamagedFile as error:
            damage.append(f"study {folder.name} is not mirrored: {error}")
        damage += ledger.damage.values()
    print(f"{total} trials mirrored to {redacted(config.tracking.uri)} ({len(folders)} studies checked)")
    return complain_of(damage)


def sync_study(ledger: Ledger, tracking: Tracking) -> int:
    """Mirror every ended trial of one study that MLflow lacks.

    Returns:
        Number of mirrored trials.

    Raises:
        DamagedFile: the description of the study cannot be read.
        OptimizeError: MLflow still rejects them.
    """
    from optimize.tracking.mlflow_mirror import Mirror

    if not (ledger.folder / FILE).exists():
        raise DamagedFile(f"{ledger.folder / FILE} is gone: the study's own command writes it anew")
    mirror = Mirror(tracking, ledger, StudyInfo.read(ledger.folder))
    try:
        return _mirror(mirror, ledger)
    except Exception as error:  # MLflow passes on any exception of its stores and transports
        raise OptimizeError(f"{redacted(tracking.uri)} does not accept results: {one_line(error)}") from error


def _mirror(mirror: Mirror, ledger: Ledger) -> int:
    from optimize.tracking.tracker import summary_of

    is_known = mirror.is_complete(ledger.folder) and bool(mirror.lifecycle(ledger.folder))
    pending = list(_pending(mirror, ledger, is_known))
    if pending or not is_known:
        mirror.open_parent(_config_of(ledger))
        for record in pending:
            mirror.end(record)
        metrics, note, status = summary_of(ledger.folder)
        mirror.close_parent(metrics, note, sorted((ledger.folder / "report").glob("*")), status)
    elif mirror.lifecycle(ledger.folder) == "deleted":
        print(
            f"study {ledger.folder.name} was deleted in MLflow, and stays so; MLflow's restore command brings it back"
        )
    return len(pending)


def _pending(mirror: Mirror, ledger: Ledger, is_known: bool) -> Iterator[TrialRecord]:
    """The ended trials that were not mirrored, or whose runs are gone from MLflow with the study's.

    Args:
        mirror: MLflow.
        ledger: The study's folder.
        is_known: Whether MLflow has the study's run; then it has those of the trials that were mirrored.
    """
    for record in ledger.records():
        folder = ledger.trial_folder(record.number)
        is_mirrored = mirror.is_complete(folder) and (is_known or bool(mirror.lifecycle(folder)))
        if record.ended_at is not None and not is_mirrored:
            yield record


def _config_of(ledger: Ledger) -> str | None:
    """The study's configuration; None where it cannot be read."""
    path = ledger.folder / "config.yaml"
    try:
        with reading(path, "the study's own command writes it anew"):
            return path.read_text(encoding="utf-8")
    except DamagedFile as error:
        ledger.damage[path] = str(error)
        return None


def main() -> None:
    run_verb(_sync)


if __name__ == "__main__":
    main()
