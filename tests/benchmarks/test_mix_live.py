"""The page of the live mix shows the answer before and after the studies measured what they lacked."""

from __future__ import annotations

from pathlib import Path

from benchmarks.mix_live import report

MIX = ["mix={chat: 0.5, bulk: 0.5}"]


def test_the_page_shows_both_answers_and_no_paths(tmp_path: Path) -> None:
    (tmp_path / "mix.md").write_text(
        "one configuration for both: int8\n\ndeploy (row=1 of study chat): vllm serve /x\n"
    )
    (tmp_path / "mix.json").write_text("[{}, {}]")
    page = report(tmp_path, {"chat": 60.0, "what they lacked": 90.0}, MIX, "python -m benchmarks.mix_live")
    assert "no configuration in common" in page and "one configuration for both: int8" in page
    assert "chat 1.0 min, what they lacked 1.5 min" in page and "/x" not in page
    assert "have measured 2 engines" in page
