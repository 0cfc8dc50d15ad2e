"""A stand-in of the harness for quick tests: its calls as `optimize.harness.child` makes them, on a task's JSONL alone.

It asks an endpoint as the harness does (`echo`, tokens), with words for tokens. That the true harness behaves like it
is shown by the slow tests, which run it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

FILES = {
    "lm_eval-0.1.dist-info/METADATA": "Metadata-Version: 2.1\nName: lm_eval\nVersion: 0.1\n",
    "lm_eval/__init__.py": '''
import json, pathlib

def simple_evaluate(model, tasks, num_fewshot, limit, task_manager, log_samples, bootstrap_iters, **seeds):
    (task,) = tasks
    rows = [json.loads(line) for line in pathlib.Path(f"{task}.jsonl").read_text().splitlines()][:limit]
    samples = [
        {"doc_id": number, "filter": "none", "metrics": ["acc", "length"], "acc": float(model.right(row)),
         "length": len(row["question"]), "prompt_hash": row["question"], "target_hash": str(row["answer"])}
        for number, row in enumerate(rows)
    ]
    mean = sum(sample["acc"] for sample in samples) / len(samples)
    return {
        "samples": {task: samples[::-1]}, "versions": {task: 1.0}, "higher_is_better": {task: {"acc": True}},
        "results": {task: {"acc,none": mean, "length,none": 9.0}},
    }
''',
    "lm_eval/tasks.py": '''
import pathlib

class TaskManager:
    def __init__(self, include_path, include_defaults=True):
        self.all_tasks = [path.stem for path in pathlib.Path(include_path).glob("*.yaml")]
''',
    "lm_eval/api/__init__.py": "",
    "lm_eval/api/registry.py": '''
import json, os, urllib.request, zlib

class Dummy:
    @classmethod
    def create_from_arg_obj(cls, arguments):
        model = cls()
        model.arguments = arguments
        return model

    def right(self, row):
        return row["answer"] == 0

class Endpoint(Dummy):
    def right(self, row):
        values = [self.value(row["question"], option) for option in row["options"]]
        return values.index(max(values)) == row["answer"]

    def value(self, question, option):
        words = [zlib.crc32(word.encode()) for word in f"{question} {option}".split()]
        body = json.dumps({"prompt": [words], "echo": True, "max_tokens": 1, "logprobs": 1}).encode()
        headers = {"Content-Type": "application/json", **self.arguments["header"]}
        request = urllib.request.Request(self.arguments["base_url"], body, headers)
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request) as answer:
            (choice,) = json.load(answer)["choices"]
        return sum(choice["logprobs"]["token_logprobs"][len(question.split()):-1])

def get_model(name):
    if os.environ.get("STAND_IN_HANGS") and name != "dummy":
        import time
        time.sleep(600)
    return {"dummy": Dummy, "local-completions": Endpoint}[name]
''',
}  # fmt: skip


def install(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have this process and its children find the stand-in in a folder, before any harness that is installed."""
    for name, text in FILES.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", str(folder))
