"""`python -m optimize.sync`: mirror to MLflow the trials that it could not receive while a study ran."""

from __future__ import annotations

from pathlib import Path

from optimize.cli import run_verb
from optimize.config.schema import StudyConfig, Tracking
from optimize.errors import OptimizeError
from optimize.ledger import Ledger
from optimize.redaction import redacted
from optimize.study.info import FILE, StudyInfo


def _sync(config: StudyConfig, config_yaml: str) -> int:
    folders = sorted(Path(config.output_dir).glob(f"studies/*/{FILE}"))
    total = sum(sync_study(path.parent, config.tracking) for path in folders)
    print(f"{total} trials mirrored to {redacted(config.tracking.uri)} ({len(folders)} studies checked)")
    return 0


def sync_study(folder: Path, tracking: Tracking) -> int:
    """Mirror every ended trial of one study that MLflow lacks.

    Returns:
        Number of mirrored trials.

    Raises:
        OptimizeError: MLflow still rejects them.
    """
    from optimize.tracking.mlflow_mirror import Mirror
    from optimize.tracking.tracker import summary_of

    ledger = Ledger(folder)
    mirror = Mirror(tracking, ledger, StudyInfo.read(folder))
    pending = [
        r for r in ledger.records() if r.ended_at is not None and not mirror.is_complete(ledger.trial_folder(r.number))
    ]
    try:
        if pending or not mirror.is_complete(folder):
            mirror.open_parent((folder / "config.yaml").read_text(encoding="utf-8"))
            for record in pending:
                mirror.end(record)
            metrics, note, status = summary_of(folder)
            mirror.close_parent(metrics, note, sorted((folder / "report").glob("*")), status)
    except Exception as error:  # MLflow passes on any exception of its stores and transports
        raise OptimizeError(
            f"{redacted(tracking.uri)} does not accept results: {str(error).splitlines()[0]}"
        ) from error
    return len(pending)


def main() -> None:
    run_verb(_sync)


if __name__ == "__main__":
    main()
