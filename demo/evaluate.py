"""Score a model: `python -m demo.evaluate [--model FOLDER] [--workload FILE ...] [--beams 1 4]`.

Runs through transformers, without an engine: a check on the model itself, beside what a study measures.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from sacrebleu.metrics.bleu import BLEU
from transformers import AutoModelForCausalLM, AutoTokenizer

from demo.pairs import MAX_POSITIONS, MODEL_FOLDER
from demo.workloads import LINES, WORKLOAD_FOLDER

_BATCH = 50
_RESAMPLES = 1000


@dataclass(frozen=True, slots=True)
class Score:
    """Corpus BLEU (0 to 100) with the half-width of its 95 % bootstrap interval."""

    bleu: float
    half_width: float
    signature: str

    def __str__(self) -> str:
        """Return `value +- half-width`."""
        return f"{self.bleu:.2f} +- {self.half_width:.2f}"


def read(path: Path) -> list[dict[str, str]]:
    """Read a workload."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def score(hypotheses: Sequence[str], references: Sequence[str]) -> Score:
    """Score answers against one reference each."""
    metric = BLEU()
    result: Any = metric.corpus_score(list(hypotheses), [list(references)], n_bootstrap=_RESAMPLES)
    return Score(result.score, result._ci, str(metric.get_signature()))


def _generate(model: Any, tokenizer: Any, prompts: Sequence[str], beams: int) -> list[str]:
    batch = tokenizer(list(prompts), return_tensors="pt", padding=True, padding_side="left")
    width = batch["input_ids"].shape[1]
    answers = model.generate(
        input_ids=batch["input_ids"],
        attention_mask=batch["attention_mask"],
        num_beams=beams,
        do_sample=False,
        max_new_tokens=MAX_POSITIONS - width,
    )
    decoded: list[str] = tokenizer.batch_decode(answers[:, width:], skip_special_tokens=True)
    return decoded


def translate(model: Any, tokenizer: Any, prompts: Sequence[str], beams: int) -> list[str]:
    """Answer all prompts in their order; batches are of similar length to save padding."""
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    answers = [""] * len(prompts)
    with torch.inference_mode():
        for start in range(0, len(order), _BATCH):
            part = order[start : start + _BATCH]
            texts = _generate(model, tokenizer, [prompts[index] for index in part], beams)
            for index, text in zip(part, texts, strict=True):
                answers[index] = text
    return answers


def reference_logprobs(
    model_folder: Path, prompts: Sequence[str], references: Sequence[str], dtype: torch.dtype = torch.float16
) -> dict[int, tuple[float, int]]:
    """Row -> (sum of the log-probabilities of the reference's tokens, how many these are), row by row."""
    tokenizer: Any = AutoTokenizer.from_pretrained(model_folder)
    model: Any = AutoModelForCausalLM.from_pretrained(model_folder, dtype=dtype)
    figures = {}
    for row, (prompt, reference) in enumerate(zip(prompts, references, strict=True)):
        context, whole = tokenizer(prompt)["input_ids"], tokenizer(prompt + reference)["input_ids"]
        ids = torch.tensor([whole])
        with torch.inference_mode():
            scores = torch.log_softmax(model(ids).logits[0, :-1].float(), dim=-1)
        of_each = scores[torch.arange(len(whole) - 1), ids[0, 1:]][len(context) - 1 :]
        figures[row] = (float(of_each.sum()), len(of_each))
    return figures


def evaluate(model_folder: Path, workload: Path, beams: int, limit: int | None = None) -> Score:
    """Score a model folder on a workload file with greedy (`beams` 1) or beam search."""
    tokenizer = AutoTokenizer.from_pretrained(model_folder)
    # FP32 arithmetic on the stored weights: faster than FP16 on CPUs, and the weights decide the answers.
    model = AutoModelForCausalLM.from_pretrained(model_folder, dtype=torch.float32)
    rows = read(workload)[:limit]
    answers = translate(model, tokenizer, [row["prompt"] for row in rows], beams)
    return score(answers, [row["reference"] for row in rows])


def main() -> None:
    """Print one line per workload and beam width."""
    parser = argparse.ArgumentParser(description="Score the demo model.")
    workloads = [WORKLOAD_FOLDER / f"{name}.jsonl" for name in LINES]
    parser.add_argument("--model", type=Path, default=MODEL_FOLDER)
    parser.add_argument("--workload", type=Path, nargs="+", default=workloads)
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4])
    parser.add_argument("--limit", type=int, help="score the first rows only")
    arguments = parser.parse_args()
    for workload in arguments.workload:
        for beams in arguments.beams:
            result = evaluate(arguments.model, workload, beams, arguments.limit)
            print(f"{workload.stem} beams={beams} BLEU {result} ({result.signature})", flush=True)


if __name__ == "__main__":
    main()
