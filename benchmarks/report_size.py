"""How large the report of a thousand trials is, and how long headless Chromium takes to open it.

The trials are made up (their signature says simulated): it is their number that counts here. The rest is real: Optuna's
study, the ledger on disk, the report as `python -m optimize.report` writes it, and a browser that opens it from disk.

    python -m benchmarks.report_size --trials 1000 --opens 10
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.common import RESULTS, mean_interval, provenance, require_quiet
from optimize.report.page import write_report
from optimize.testing.made_up_study import made_up


def opening_s(page_file: Path, opens: int) -> list[float]:
    """Seconds from asking for the page until it is loaded and two frames are drawn, each time in a tab of its own."""
    from tests.browser import chromium

    sizes = []
    with TemporaryDirectory(ignore_cleanup_errors=True) as profile, chromium(Path(profile)) as browser:
        for _ in range(opens):
            with browser.page() as page:
                began = time.monotonic()
                page.open(page_file.as_uri())
                sizes.append(time.monotonic() - began)
    return sizes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--opens", type=int, default=10)
    args = parser.parse_args()
    require_quiet()
    with TemporaryDirectory() as folder:
        facts = made_up(Path(folder), args.trials)
        began = time.monotonic()
        page, figures = write_report(facts, Path(folder) / "report", "http://127.0.0.1:5000")
        writing_s, size = time.monotonic() - began, page.stat().st_size / 2**20
        beside = sum(f.stat().st_size for f in figures.iterdir()) / 2**20
        mean, low, high = mean_interval(opened := opening_s(page, args.opens))
    lines = [
        "| | |", "|---|---|", f"| report.html | {size:.2f} MiB |",
        f"| figures beside it (SVG, PNG) | {beside:.1f} MiB |",
        f"| writing all of it | {writing_s:.1f} s |",
        f"| opening it, mean of {len(opened)} | {mean:.2f} [{low:.2f}, {high:.2f}] s |",
        f"| opening it, the longest (the first, browser cold) | {max(opened):.2f} s |",
    ]  # fmt: skip
    what = (
        f"The report of {args.trials} made-up trials of four objectives and four knobs, opened from disk by headless "
        "Chromium, each time in a new tab: from asking for it until it is loaded and two frames are drawn."
    )
    command = f"python -m benchmarks.report_size --trials {args.trials} --opens {args.opens}"
    text = "\n\n".join(["# The report's size", provenance(command), what, "\n".join(lines)])
    print(text)
    (RESULTS / "report_size.md").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
