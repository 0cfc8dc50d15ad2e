"""Revisions of a model of the hub, in a cache folder as the hub's library writes it: each is a model of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from huggingface_hub import constants

from optimize.checkpoint import (
    content_hash,
    follow_revision,
    hash_of_files,
    hub_name,
    local_folder,
    tensor_bytes,
)
from optimize.checkpoint import files as checkpoint_files
from optimize.config.schema import Model, Recipe, StudyConfig
from optimize.engine.adapters import adapters_of
from optimize.engine.base import EngineConfig
from optimize.engine.revisions import HubModel, drafts_of, with_commits
from optimize.engine.vllm import VllmLauncher
from optimize.errors import ConfigError
from optimize.harness.process import located
from optimize.model.hashes import model_hash
from optimize.plan import make_plan
from optimize.plan.signature import models_in_words
from optimize.quantize.checkpoints import _job, checkpoint_folder
from optimize.study import rows
from tests.optimize.model.test_hub import TENSORS
from tests.optimize.plan.chat_study import here

MODEL, MAIN, OTHER = "somebody/tiny", "0" * 40, "1" * 40


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Mapping[str | None, Path]]:
    """Revision -> folder of its snapshot, of two whose weights differ; `None` and the branch `main` are the first."""
    folder = tmp_path / "hub" / "models--somebody--tiny"
    for number, commit in enumerate((MAIN, OTHER)):
        snapshot, blob = folder / "snapshots" / commit, folder / "blobs" / commit
        for path in (snapshot, blob.parent):
            path.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(TENSORS + bytes([number]) * (number + 1))
        (snapshot / "model.safetensors").symlink_to(blob)
        (snapshot / "config.json").write_text("{}", encoding="utf-8")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(MAIN, encoding="ascii")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(checkpoint_files, "_REVISIONS", {})
    checkpoint_files._snapshot.cache_clear()
    yield {None: folder / "snapshots" / MAIN, OTHER: folder / "snapshots" / OTHER}
    checkpoint_files._snapshot.cache_clear()


def test_the_hash_of_a_revision_is_that_of_its_files(hub: Mapping[str | None, Path]) -> None:
    assert content_hash(MODEL) == hash_of_files(hub[None]) and hub_name(MODEL) == f"{MODEL}@{MAIN}"
    assert tensor_bytes(MODEL) == 9
    follow_revision(MODEL, OTHER)
    assert content_hash(MODEL) == hash_of_files(hub[OTHER]) != hash_of_files(hub[None])
    assert hub_name(MODEL) == f"{MODEL}@{OTHER}" and tensor_bytes(MODEL) == 10
    assert local_folder(MODEL) == hub[OTHER] and located(MODEL) == str(hub[OTHER])


def test_revisions_that_are_not_on_this_disk_differ_by_their_names(hub: Mapping[str | None, Path]) -> None:
    names, hashes = set(), set()
    for revision in (None, "v1", "v2"):
        follow_revision("somebody/absent", revision)
        names.add(hub_name("somebody/absent"))
        hashes.add(content_hash("somebody/absent"))
    assert names == {"somebody/absent", "somebody/absent@v1", "somebody/absent@v2"} and len(hashes) == 3


def test_the_hash_of_a_large_revision_is_kept_for_it_alone(hub: Mapping[str | None, Path], tmp_path: Path) -> None:
    newest = max(file.stat().st_ctime_ns for folder in hub.values() for file in folder.iterdir())

    def kept() -> str:
        return model_hash(MODEL, tmp_path / "cache", pytest.fail, 1, lambda: newest + 10**10)

    assert kept() == hash_of_files(hub[None])
    follow_revision(MODEL, OTHER)
    assert kept() == hash_of_files(hub[OTHER]) == content_hash(MODEL)
    assert len(list((tmp_path / "cache").glob("hashes/*/hash.json"))) == 2


def test_the_revision_that_is_hashed_is_the_one_that_is_quantized(
    hub: Mapping[str | None, Path], tmp_path: Path
) -> None:
    model, recipe, folders = Model("tiny", MODEL), Recipe("int8", scheme="W8A8"), set()
    for revision, folder in hub.items():
        follow_revision(MODEL, revision)
        folders.add(checkpoint_folder(model, recipe, tmp_path))
        job = _job(model, recipe, tmp_path, None)
        assert (job["model"], job["source"], job["model_hash"]) == (MODEL, str(folder), hash_of_files(folder))
    assert len(folders) == 2


def test_an_engine_loads_the_revision_that_was_hashed(hub: Mapping[str | None, Path]) -> None:
    for flags, commit in (((), MAIN), ((("revision", "main"),), MAIN), ((("revision", OTHER),), OTHER)):
        command = VllmLauncher().deploy_command(EngineConfig(MODEL, "published", flags))
        assert f"vllm serve {MODEL} --host=127.0.0.1 --revision={commit}" in command
    assert "revision" not in VllmLauncher().deploy_command(EngineConfig("somebody/absent", "published", ()))


def row(signature: Mapping[str, str]) -> rows.Row:
    return rows.Row("chat", "", "chat", None, {}, {}, signature, "")  # type: ignore[arg-type]


def test_a_row_belongs_to_the_revision_it_was_measured_with(hub: Mapping[str | None, Path], tmp_path: Path) -> None:
    def check(signature: Mapping[str, str], model: str = MODEL, **flags: str) -> None:
        config = StudyConfig(engine={}, model=Model("tiny", model, flags), cache_dir=str(tmp_path))
        rows._check_model(row(signature), "tiny", config)

    measured = {"model": f"tiny {hash_of_files(hub[OTHER])}", "source": f"{MODEL}@{OTHER}"}
    check(measured, revision=OTHER)
    with pytest.raises(ConfigError, match="give the model it belongs to"):
        check(measured)
    elsewhere = {**measured, "source": f"somebody/absent@{OTHER}"}
    check(elsewhere, "somebody/absent")
    with pytest.raises(ConfigError, match="give the model it belongs to"):
        check(elsewhere, "somebody/another")


# --- draft models -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "drafts"),
    [
        ([{"model": MODEL, "num_speculative_tokens": 3}], [HubModel(MODEL, None)]),
        (['{"model": "somebody/tiny", "revision": "v2"}', None], [HubModel(MODEL, "v2")]),
        # Knobs that are parts of the flag, each choice by itself.
        ([{"model": MODEL}, {"revision": "v1"}, {"revision": "v2"}], [HubModel(MODEL, "v1"), HubModel(MODEL, "v2")]),
        ([{"method": "ngram", "model": "ngram"}, {"model": "./somebody/tiny"}, "{no JSON"], []),
    ],
)
def test_the_draft_models_of_a_study_are_those_of_the_hub(values: list[object], drafts: list[HubModel]) -> None:
    flags: list[tuple[str, object]] = [("max_num_seqs", 8), ("model", MODEL)]
    assert drafts_of([*flags, *(("speculative_config", value) for value in values)]) == drafts


def test_an_engine_loads_the_draft_model_that_was_hashed(hub: Mapping[str | None, Path]) -> None:
    """The branch may go on between two engines of a study."""
    setting = {"model": MODEL, "num_speculative_tokens": 3}
    for value, commit in ((setting, MAIN), (json.dumps(setting), MAIN), ({**setting, "revision": OTHER}, OTHER)):
        command = VllmLauncher().deploy_command(EngineConfig("demo/model", "fp16", (("speculative_config", value),)))
        assert f'"revision": "{commit}"' in command and "--revision" not in command
    folder = EngineConfig("demo/model", "fp16", (("speculative_config", {"model": "demo/model"}),))
    assert "revision" not in VllmLauncher().deploy_command(folder)


def test_figures_belong_to_the_contents_of_the_draft_model(hub: Mapping[str | None, Path], tmp_path: Path) -> None:
    """A hub's draft model stood in no signature, so that a study went on with another one."""
    override = f"engine.flags.speculative_config={{model: {MODEL}, num_speculative_tokens: 3}}"
    plan = make_plan(here(tmp_path, override))
    assert plan.signature["drafts"] == f"{MODEL}@{MAIN} {hash_of_files(hub[None])}"
    assert plan.fingerprint()["drafts"] == plan.signature["drafts"]
    drafts = [HubModel(MODEL, OTHER), HubModel("somebody/absent", None)]
    words = f"somebody/absent@main; {MODEL}@{OTHER} {hash_of_files(hub[OTHER])}"
    assert models_in_words("drafts", drafts, tmp_path / "cache") == {"drafts": words}
    assert models_in_words("drafts", [], tmp_path / "cache") == {}


def test_the_studys_own_model_may_be_its_draft_model_in_another_revision(hub: Mapping[str | None, Path]) -> None:
    flags = (("revision", "main"), ("speculative_config", {"model": MODEL, "revision": OTHER}))
    command = VllmLauncher().deploy_command(EngineConfig(MODEL, "published", flags))
    assert f"--revision={MAIN}" in command and f'"revision": "{OTHER}"' in command


# --- adapters -----------------------------------------------------------------------------------------------------


@pytest.fixture
def hub_adapter(hub: Mapping[str | None, Path]) -> Path:
    """The same hub's model as a LoRA adapter."""
    config = {"r": 8, "peft_type": "LORA", "base_model_name_or_path": "demo"}
    (hub[None] / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    (hub[None] / "adapter_model.safetensors").write_bytes(TENSORS)
    return hub[None]


@pytest.mark.parametrize(
    "form", [f"sql={MODEL}", f'{{"name": "sql", "path": "{MODEL}"}}', {"name": "sql", "path": MODEL}]
)
def test_an_engine_loads_the_adapter_that_was_hashed(hub_adapter: Path, form: object) -> None:
    """vLLM takes no revision of an adapter, and would load what the hub has when an engine starts."""
    for value in (form, [form]):
        flags = with_commits({"lora_modules": value}, "demo/model")
        assert adapters_of(flags) == {"sql": str(hub_adapter)}
    elsewhere = {"lora_modules": ["a=somebody/absent", f"b={hub_adapter}"]}
    assert with_commits(elsewhere, "demo/model") == elsewhere


def test_figures_belong_to_the_contents_of_the_adapter(hub_adapter: Path, tmp_path: Path) -> None:
    """A hub's adapter stood in no signature, so that a study went on with another one."""
    plan = make_plan(here(tmp_path, f"model.lora={{sql: {MODEL}}}"))
    assert plan.signature["adapters"] == f"{MODEL}@{MAIN} {hash_of_files(hub_adapter)}"
    assert plan.fingerprint()["adapters"] == plan.signature["adapters"]
    assert "drafts" not in plan.signature


def test_an_adapter_of_the_hub_is_checked_as_one_in_a_folder(hub_adapter: Path, tmp_path: Path) -> None:
    config = json.loads((hub_adapter / "adapter_config.json").read_text(encoding="utf-8"))
    (hub_adapter / "adapter_config.json").write_text(json.dumps({**config, "use_dora": True}), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"adapter sql \(somebody/tiny\) is DoRA, which vLLM does not serve"):
        make_plan(here(tmp_path, f"model.lora={{sql: {MODEL}}}"))
