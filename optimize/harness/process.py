"""Runs the lm-evaluation-harness in a child process: its imports take seconds, and its settings stay out of ours.

The child's whole work is in `optimize.harness.child`; a job and its result are JSON.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from objectives.accuracy import Accuracy
from optimize.checkpoint import folder_on_disk
from optimize.engine.base import Endpoint
from optimize.engine.proxies import proxy_of, with_direct_loopback
from optimize.errors import ConfigError, OptimizeError
from optimize.redaction import redact

TASKS = Path(__file__).with_name("tasks")
"""Folder of the tasks that come with this project."""
INSTALLATION = f"{sys.executable} -m pip install --no-deps --require-hashes -r requirements/lm_eval.txt"
_PACKAGE = "lm_eval"
_CHILD = Path(__file__).with_name("child.py")
_LOCAL_DATA = re.compile(r"^dataset_path: *(arrow|csv|json|parquet|text) *$", re.MULTILINE)
"""Line of a task whose data are files: the library's readers of formats are named in place of a data set of a hub."""
_POLL_S = 0.5
_TOGETHER, _TIMEOUT_S, _ATTEMPTS = 8, 300, 2


class HarnessError(OptimizeError):
    """The harness has no result. The message says why, in its own words."""


@dataclass(frozen=True, slots=True)
class Backend:
    """A model of the harness's registry, and its arguments.

    Attributes:
        name: Name in the registry: "local-completions", "hf".
        arguments: Its arguments.
    """

    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class TaskResult:
    """Result of one task or group.

    Attributes:
        version: Its version, as its author counts them.
        hash: Twelve hexadecimal digits over the prompts and the targets of its documents.
        scores: Score of each document between 0 and 1, in their order.
        reported: The figure that the harness itself reports; None for a group.
    """

    version: str
    hash: str
    scores: list[float]
    reported: float | None

    def __str__(self) -> str:
        return f"{self.version} ({len(self.scores)} documents, {self.hash})"


def check_harness(key: str) -> None:
    """Refuse an accuracy where there is no harness.

    Args:
        key: The setting that needs it, for the message.

    Raises:
        ConfigError: the harness is not installed.
    """
    try:
        version(_PACKAGE)
    except PackageNotFoundError:
        raise ConfigError(
            f"{key} needs the lm-evaluation-harness, which is not installed: {INSTALLATION} (without a checkout: "
            "pip install 'vllm-optimize[accuracy]')"
        ) from None


def describe(accuracy: Accuracy, key: str) -> str:
    """The tasks of an accuracy: their versions, their numbers of documents and the hash of what these are.

    Args:
        accuracy: The tasks and what is asked of them.
        key: The setting that names them, for messages.

    Raises:
        ConfigError: the harness is not installed, knows no such task, or cannot load its data.
    """
    check_harness(key)
    folder = accuracy.include_path
    if folder is not None and not Path(folder).is_dir():
        raise ConfigError(f"{key}.include_path={folder} is no folder: give that of your tasks' YAML files")
    try:
        return _describe(json.dumps(_job(accuracy)), version(_PACKAGE))
    except HarnessError as error:
        raise ConfigError(f"{key}: {error}") from error


@cache
def _describe(job: str, release: str) -> str:
    """The same tasks are loaded once per process, which takes seconds."""
    tasks = _run(json.loads(job), lambda: None)
    return f"{', '.join(f'{name} {task}' for name, task in tasks.items())}; lm_eval {release}"


def evaluate(accuracy: Accuracy, backend: Backend, check: Callable[[], None] = lambda: None) -> dict[str, TaskResult]:
    """Task -> result of a model.

    Args:
        accuracy: The tasks and what is asked of them.
        backend: The model.
        check: Called every now and then; what it raises ends the harness.

    Raises:
        HarnessError: there is no result.
    """
    return _run({**_job(accuracy), "backend": asdict(backend)}, check)


def served_by(endpoint: Endpoint, tokenizer: str, max_tokens: int) -> Backend:
    """The model behind an endpoint, asked for log-probabilities of tokens (`echo` of the completions API).

    Args:
        endpoint: Its address and key, which is sent to no other.
        tokenizer: Folder or Hugging Face id of its tokenizer.
        max_tokens: Its longest sequence.
    """
    url = endpoint.url("/completions")
    arguments = {
        "model": endpoint.model, "base_url": url, "header": endpoint.headers or {"Accept": "application/json"},
        "tokenizer": located(tokenizer), "tokenizer_backend": "huggingface", "max_length": max_tokens,
        # Requests at a time leave the environment's proxies out; one by one they are followed.
        "num_concurrent": 1 if proxy_of(url) else _TOGETHER,
        "timeout": _TIMEOUT_S, "max_retries": _ATTEMPTS,
    }  # fmt: skip
    return Backend("local-completions", arguments)


def located(model: str) -> str:
    """The absolute path of a model's folder, for the harness runs in another; the id of one not on this disk."""
    folder = folder_on_disk(model)
    return model if folder is None else str(folder.resolve())


def _job(accuracy: Accuracy) -> dict[str, Any]:
    folder = TASKS if accuracy.include_path is None else Path(accuracy.include_path)
    return {**asdict(accuracy), "include_path": str(folder.resolve())}


def _run(job: Mapping[str, Any], check: Callable[[], None]) -> dict[str, TaskResult]:
    with TemporaryDirectory() as folder:
        out, log = Path(folder) / "result.json", Path(folder) / "log"
        with log.open("w", encoding="utf-8") as sink:
            child = subprocess.Popen(
                [sys.executable, "-P", str(_CHILD), str(out)], cwd=job["include_path"], env=environment(is_local(job)),
                stdin=subprocess.PIPE, stdout=sink, stderr=sink, text=True,
            )  # fmt: skip
            try:
                _feed(child, json.dumps(job))
                _wait(child, check)
            finally:
                child.kill()  # it has ended by itself, unless an exception came first
                child.wait()
        return _results(out, log)


def _feed(child: subprocess.Popen[str], job: str) -> None:
    assert child.stdin is not None
    try:
        with child.stdin:
            child.stdin.write(job)
    except BrokenPipeError:  # it says why in its log
        return


def _wait(child: subprocess.Popen[str], check: Callable[[], None]) -> None:
    while True:
        try:
            child.wait(_POLL_S)
            return
        except subprocess.TimeoutExpired:
            check()


def _results(out: Path, log: Path) -> dict[str, TaskResult]:
    if out.is_file():
        results: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        if "error" not in results:
            return {name: TaskResult(**result) for name, result in results.items()}
        raise HarnessError(redact(results["error"]))
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    raise HarnessError(redact(f"the harness died: {lines[-1][:300] if lines else 'without a word'}"))


def is_local(job: Mapping[str, Any]) -> bool:
    """Whether the data of the tasks and the model of a job are files of this machine."""
    arguments = job.get("backend", {}).get("arguments", {})
    models = [Path(arguments[key]) for key in ("tokenizer", "pretrained") if key in arguments]
    tasks = [Path(job["include_path"]) / f"{task}.yaml" for task in job["tasks"]]
    return all(model.is_dir() for model in models) and all(map(_has_local_data, tasks))


def _has_local_data(task: Path) -> bool:
    return task.is_file() and _LOCAL_DATA.search(task.read_text(encoding="utf-8")) is not None


def environment(offline: bool) -> dict[str, str]:
    """Our environment, in which no request goes to this machine by way of a proxy, and no foreign key to an engine.

    Args:
        offline: Whether no model hub is asked. Where none can be reached, one that is asked in vain costs a minute.
    """
    hub = {"HF_HUB_OFFLINE": "1"} if offline else {}
    quiet = {"TOKENIZERS_PARALLELISM": "false", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "OPENAI_API_KEY": ""}
    return {**with_direct_loopback(os.environ), **quiet, **hub}
