"""One configuration for mixed traffic, on live engines: three studies of the demo, and the one with the least regret.

Usage: python -m benchmarks.mix_live [--trials 4] [--folder FOLDER]

Each study is measured with its confirmation. `optimize.recommend` then has each measure what the others recommend and
it has not tried, and names the configuration that gives up least over the mix.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from tempfile import mkdtemp

from benchmarks.common import RESULTS, ROOT, provenance, require_quiet, run_verb

MIX = {"chat": 0.5, "bulk": 0.3, "abtest": 0.2}


def report(folder: Path, seconds: dict[str, float], words: Sequence[str], command: str) -> str:
    """What the mix said, and what it took, as Markdown."""
    took = ", ".join(f"{name} {second / 60:.1f} min" for name, second in seconds.items())
    lines = ["# One configuration for mixed traffic", "", provenance(command), "", f"Took: {took}.", ""]
    for title, name in (("before any study measured what the others recommend", "before"), ("after", "mix")):
        path = folder / f"{name}.md"
        text = path.read_text(encoding="utf-8").strip() if path.is_file() else "no configuration in common"
        lines += [f"## By `optimize.recommend {words[0]}`, {title}", "", text.split("\ndeploy (")[0].strip(), ""]
    common = len(json.loads((folder / "mix.json").read_text(encoding="utf-8")))
    lines.append(f"All three studies have measured {common} engines in the end.")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=4)
    parser.add_argument("--folder", type=Path, help="output_dir of the studies, kept; a temporary one by default")
    arguments = parser.parse_args()
    require_quiet()
    folder = arguments.folder or Path(mkdtemp(prefix="mix-live-"))
    place = f"output_dir={folder}"
    seconds = {n: run_verb("optimize", [f"+study={n}", f"study.trials={arguments.trials}", place]) for n in MIX}
    mix = [f"mix={{{', '.join(f'{name}: {share}' for name, share in MIX.items())}}}"]
    if subprocess.run([sys.executable, "-m", "optimize.recommend", *mix, place], cwd=ROOT, check=False).returncode == 0:
        (folder / "mix.md").rename(folder / "before.md")
    seconds["what they lacked"] = run_verb("optimize.recommend", [*mix, "mix_measure=true", place])
    text = report(folder, seconds, mix, f"python -m benchmarks.mix_live --trials {arguments.trials}")
    (RESULTS / "mix.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
