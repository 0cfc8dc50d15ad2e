"""The harness's own process: python -P child.py RESULT < JOB.

The job names tasks, and a model of the harness's registry with its arguments; without a model its dummy answers, which
shows whether the tasks can be had. Everything goes through the harness's documented calls, for its inner ones change
with every release.
"""

from __future__ import annotations

import ctypes
import difflib
import gc
import hashlib
import json
import signal
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1
_PREFERRED = "acc"
_DUMMY = {"name": "dummy", "arguments": {}}
_SEEDS = dict.fromkeys(("random_seed", "numpy_random_seed", "torch_random_seed", "fewshot_random_seed"), 1234)


class Refusal(Exception):
    """A job that cannot be done. The message says why, in one line."""


def evaluate(job: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Task -> its version, the hash of its documents' prompts and targets, their scores, and the harness's own figure.

    Raises:
        Refusal: a task that does not exist, or a metric that is no share of a document.
    """
    from lm_eval import simple_evaluate
    from lm_eval.api.registry import get_model
    from lm_eval.tasks import TaskManager

    manager = TaskManager(include_path=job["include_path"], include_defaults=False)
    if not set(job["tasks"]) <= set(manager.all_tasks):
        manager = TaskManager(include_path=job["include_path"])  # reads thousands of files, for seconds
    for task in job["tasks"]:
        _check_name(task, manager.all_tasks)
    backend = job.get("backend", _DUMMY)
    model = get_model(backend["name"]).create_from_arg_obj(dict(backend["arguments"]))
    results = {}
    for task in job["tasks"]:
        answer = simple_evaluate(
            model=model, tasks=[task], num_fewshot=job["num_fewshot"], limit=job["limit"], task_manager=manager,
            log_samples=True, bootstrap_iters=100, **_SEEDS,
        )  # fmt: skip
        results[task] = _result(answer, job["metric"])
    return results


def _check_name(task: str, names: Sequence[str]) -> None:
    if task not in names:
        near = difflib.get_close_matches(task, names, n=1)
        raise Refusal(
            f"the harness has no task {task!r}; " + (f"did you mean {near[0]!r}?" if near else "lm_eval ls tasks lists")
        )


def _result(answer: Mapping[str, Any], metric: str | None) -> dict[str, Any]:
    """One task's result, or that of a group's tasks together."""
    scores, digest, reported = list[float](), hashlib.sha256(), list[float]()
    for name in sorted(answer["samples"]):
        samples = answer["samples"][name]
        chosen, rule = _metric_of(samples[0], metric)
        if not answer["higher_is_better"].get(name, {}).get(chosen, True):
            raise Refusal(f"metric {chosen} of task {name} is better when lower: name another one")
        samples = sorted((s for s in samples if s["filter"] == rule), key=lambda s: s["doc_id"])
        scores += [_share(name, chosen, sample[chosen]) for sample in samples]
        reported.append(float(answer["results"][name][f"{chosen},{rule}"]))
        for sample in samples:
            digest.update(json.dumps([sample["prompt_hash"], sample["target_hash"]]).encode())
    versions = {str(version) for version in answer["versions"].values()}
    about = {"version": "/".join(sorted(versions)), "hash": digest.hexdigest()[:12]}
    return {**about, "scores": scores, "reported": reported[0] if len(reported) == 1 else None}


def _metric_of(sample: Mapping[str, Any], metric: str | None) -> tuple[str, str]:
    """(metric, filter), the first filter where the metric names none ("exact_match,flexible-extract" names one)."""
    names = list(sample["metrics"])
    name, _, rule = (metric or (_PREFERRED if _PREFERRED in names else names[0])).partition(",")
    if name not in names:
        raise Refusal(f"the task has no metric {name!r}: it has {', '.join(names)}")
    return name, rule or str(sample["filter"])


def _share(task: str, metric: str, value: Any) -> float:
    if not isinstance(value, bool | int | float) or not 0 <= value <= 1:
        raise Refusal(f"metric {metric} of task {task} is no share of each document (got {value!r:.40})")
    return float(value)


def main() -> None:
    gc.set_threshold(50_000)  # collections among thousands of new modules take a fifth of the import
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)  # nobody waits for it any more
    job, out = json.load(sys.stdin), Path(sys.argv[1])
    try:
        result: Mapping[str, Any] = evaluate(job)
    except Refusal as refusal:
        result = {"error": str(refusal)}
    except Exception as error:  # the harness and the libraries that load its data raise anything
        result = {"error": " ".join(f"{type(error).__name__}: {error}".split())[:400]}
    out.write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main()
