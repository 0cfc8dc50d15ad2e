"""Models of a hub, which a server of this process stands for: downloaded once, completed, refused with the remedy."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from huggingface_hub import constants

from optimize.checkpoint import files as checkpoint_files
from optimize.checkpoint import follow_revision, local_folder, tensor_bytes
from optimize.config.schema import Model, StudyConfig
from optimize.engine.adapters import flags_for
from optimize.engine.revisions import HubModel
from optimize.errors import ConfigError
from optimize.model.hub import fetch, fetch_hub_models, fetch_models

COMMIT = "0123456789abcdef0123456789abcdef01234567"
MODEL = "somebody/tiny"
HEADER = b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}'
TENSORS = len(HEADER).to_bytes(8, "little") + HEADER + bytes(8)
SHARDS = {"model-1.safetensors": TENSORS, "model-2.safetensors": TENSORS + b"-"}
INDEX = json.dumps({"weight_map": {"a": "model-1.safetensors", "b": "model-2.safetensors"}}).encode()
FILES = {
    "config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors.index.json": INDEX, **SHARDS,
    "pytorch_model.bin": b"the same weights", "consolidated.safetensors": b"and again", "original/weights.00.pth": b"",
}  # fmt: skip


class Hub(ThreadingHTTPServer):
    """A hub of one model.

    Attributes:
        files: Name -> content.
        refusal: None, or (HTTP status, code of the error) that answers every request for a file.
        withheld: Names of the files that are gone.
        absent: The same as `refusal`, of requests for the model's description.
        served: Names of the files that were sent.
        tokens: What requests have authorized themselves with.
    """

    daemon_threads = True

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files = dict(files)
        self.refusal: tuple[int, str] | None = None
        self.absent: tuple[int, str] | None = None
        self.withheld = set[str]()
        self.served, self.tokens = list[str](), set[str | None]()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    server: Hub

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        path = urlsplit(self.path).path
        self.server.tokens.add(self.headers.get("Authorization"))
        if path.startswith("/api/"):
            self._describe(path)
        elif self.server.refusal is not None:
            self._send(self.server.refusal[0], b"", {"X-Error-Code": self.server.refusal[1]})
        else:
            name = path.partition(f"/resolve/{COMMIT}/")[2]
            content = self.server.files[name]
            if name in self.server.withheld:
                self._send(410, b"", {})
                return
            if body:
                self.server.served.append(name)
            self._send(200, content, {"ETag": f'"{name}"', "X-Repo-Commit": COMMIT}, body)

    def _describe(self, path: str) -> None:
        if self.server.absent is not None:
            self._send(self.server.absent[0], b"{}", {"X-Error-Code": self.server.absent[1]})
            return
        sizes = {name: len(content) for name, content in self.server.files.items()}
        if "/tree/" in path:
            listing: object = [{"type": "file", "path": n, "size": s, "oid": n} for n, s in sizes.items()]
        else:
            siblings = [{"rfilename": n, "size": s, "blobId": n} for n, s in sizes.items()]
            listing = {"id": MODEL, "sha": COMMIT, "siblings": siblings, "tags": [], "downloads": 0, "private": False}
        self._send(200, json.dumps(listing).encode(), {"Content-Type": "application/json"})

    def _send(self, status: int, content: bytes, headers: Mapping[str, str], body: bool = True) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    server = Hub(FILES)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", server.url)
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", server.url + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(checkpoint_files, "_REVISIONS", {})
    checkpoint_files._snapshot.cache_clear()
    yield server
    server.shutdown()
    server.server_close()
    checkpoint_files._snapshot.cache_clear()


def test_a_model_of_the_hub_is_downloaded_once_without_what_nobody_reads(hub: Hub, tmp_path: Path) -> None:
    lines: list[str] = []
    with pytest.raises(FileNotFoundError):
        local_folder(MODEL)
    fetch(MODEL, lines.append)
    assert lines == [f"downloading {MODEL} (2 files of weights, 0.00 GB) into {tmp_path / 'hub'}"]
    assert sorted(hub.served) == sorted([*SHARDS, "config.json", "tokenizer.json", "model.safetensors.index.json"])
    assert tensor_bytes(MODEL) == 2 * 8 + 1
    fetch(MODEL, lines.append)
    assert len(lines) == 1


def test_weights_come_last_and_a_whole_file_is_not_downloaded_again(hub: Hub) -> None:
    hub.withheld = {"model-2.safetensors"}
    with pytest.raises(ConfigError, match="the same command goes on where it stopped"):
        fetch(MODEL, lambda _: None)
    assert hub.served[-1] == "model-1.safetensors"
    hub.withheld = set()
    fetch(MODEL, lambda _: None)
    assert hub.served[-1] == "model-2.safetensors" and hub.served.count("model-1.safetensors") == 1


def test_without_safetensors_the_older_format_is_downloaded(hub: Hub) -> None:
    hub.files = {"config.json": b"{}", "pytorch_model.bin": b"weights", "tf_model.h5": b"others"}
    fetch(MODEL, lambda _: None)
    assert hub.served == ["config.json", "pytorch_model.bin"]


@pytest.mark.parametrize(
    ("refusal", "message"),
    [
        ((403, "GatedRepo"), f"is gated: accept its terms on https://huggingface.co/{MODEL}, and set HF_TOKEN"),
        ((401, "RepoNotFound"), "is not on the hub, or is private: correct the id, or set HF_TOKEN"),
    ],
)
def test_what_the_hub_withholds_is_said_with_the_remedy(hub: Hub, refusal: tuple[int, str], message: str) -> None:
    hub.refusal = refusal
    with pytest.raises(ConfigError) as error:
        fetch(MODEL, lambda _: None)
    assert str(error.value).startswith(f"model.path={MODEL} {message}") and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("absent", "message"),
    [
        ((401, "RepoNotFound"), "is not on the hub, or is private"),
        ((404, "RevisionNotFound"), "has no revision 'v2' on the hub: correct model.flags.revision"),
        ((418, ""), "cannot be downloaded ("),
    ],
)
def test_a_model_that_is_not_there_is_refused_before_anything_starts(
    hub: Hub, absent: tuple[int, str], message: str
) -> None:
    hub.absent = absent
    with pytest.raises(ConfigError, match=r"^model.path=somebody/tiny ") as error:
        fetch(MODEL, lambda _: None, "v2")
    assert message in str(error.value)


def test_a_machine_that_may_not_ask_the_hub_says_so(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(ConfigError, match="and HF_HUB_OFFLINE forbids to download it: unset that"):
        fetch(MODEL, lambda _: None)


def test_a_model_without_weights_and_one_that_is_too_large_are_refused(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("optimize.model.hub.shutil.disk_usage", lambda _: type("Usage", (), {"free": 100}))
    with pytest.raises(ConfigError, match="has room for 0.0 GB: set HF_HOME"):
        fetch(MODEL, lambda _: None)
    hub.files = {"config.json": b"{}", "model-Q4.gguf": b"GGUF"}
    with pytest.raises(ConfigError, match="holds no weights that vLLM loads"):
        fetch(MODEL, lambda _: None)


def test_a_study_takes_its_revision_and_its_token_from_the_flags(hub: Hub) -> None:
    config = StudyConfig(engine={}, model=Model("tiny", MODEL, {"revision": COMMIT, "hf_token": "hf_secret"}))
    fetch_models(config, say=lambda _: None)
    assert local_folder(MODEL).name == COMMIT and hub.tokens == {"Bearer hf_secret"}


def test_a_folder_is_left_alone(tmp_path: Path) -> None:
    fetch(str(tmp_path), lambda _: pytest.fail("nothing is downloaded"))


def test_draft_models_are_downloaded_too_and_change_nothing_of_the_studys_own(hub: Hub, tmp_path: Path) -> None:
    config = StudyConfig(engine={}, model=Model("tiny", str(tmp_path), {"hf_token": "hf_secret"}))
    follow_revision(MODEL, "v9")
    fetch_hub_models(config, [HubModel(MODEL, COMMIT), HubModel(MODEL, COMMIT)], lambda _: None)
    assert hub.served.count("config.json") == 1 and hub.tokens == {"Bearer hf_secret"}
    assert checkpoint_files._REVISIONS == {MODEL: "v9"}


def test_adapters_are_downloaded_once(hub: Hub, tmp_path: Path) -> None:
    config = StudyConfig(engine={}, model=Model("tiny", str(tmp_path), {"hf_token": "hf_secret"}))
    hub.files = {"adapter_config.json": b'{"r": 64}', "adapter_model.safetensors": TENSORS}
    for _ in range(2):
        fetch_hub_models(config, [HubModel(MODEL, None)], lambda _: None)
    assert sorted(hub.served) == sorted(hub.files) and hub.tokens == {"Bearer hf_secret"}
    assert flags_for({"sql": MODEL}) == {"enable_lora": True, "lora_modules": [f"sql={MODEL}"], "max_lora_rank": 64}
