"""Files that flags name: absolute, mounted read-only, in the bundle's contents, and as they were measured."""

import dataclasses
import json
import os
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from optimize.config.deploy import Alerts
from optimize.config.schema import StudyConfig
from optimize.deploy.bundle import MARK, make_deployment, make_folder, write_bundle
from optimize.engine.base import EngineConfig
from optimize.engine.flag_files import fingerprint
from optimize.engine.vllm import VllmLauncher
from optimize.errors import ConfigError
from optimize.study.rows import StudyRow
from tests.optimize.deploy.readers import (
    called,
    compose_service,
    fake_program,
    kubernetes_call,
    kubernetes_container,
)
from tests.optimize.rows import study_row

TEMPLATE, ADAPTER = "a b/t's $HOME.jinja", "adapters/sql"
FLAGS = {
    "chat_template": TEMPLATE,
    "lora_modules": [f"sql={ADAPTER}", json.dumps({"name": "again", "path": ADAPTER, "base_model_name": "m"})],
    "speculative_config": {"model": "draft", "num_speculative_tokens": 3},
    "tokenizer": "org/tokenizer",
}


@pytest.fixture
def row(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StudyRow:
    """A row whose flags name files below the present folder, and the hashes that its study took of them."""
    monkeypatch.chdir(tmp_path)
    for folder in ("a b", ADAPTER, "draft"):
        Path(folder).mkdir(parents=True)
    Path(TEMPLATE).write_text("{{ messages }}")
    (Path(ADAPTER) / "adapter_config.json").write_text("{}")
    config = EngineConfig("org/model", "fp16", tuple(FLAGS.items()))
    row = study_row(VllmLauncher().deploy_command(config), "vllm 0.25.1+cu130")
    measured = json.dumps({path: fingerprint(path) for path in (TEMPLATE, ADAPTER, "draft")})
    return dataclasses.replace(
        row, row=dataclasses.replace(row.row, signature={**row.row.signature, "files": measured})
    )


def written(row: StudyRow) -> Path:
    folder = make_folder(Path("bundle"))
    write_bundle(make_deployment(row, StudyConfig(), folder), Alerts(), None)
    return folder


def arguments(template: str, adapter: str, draft: str) -> list[str]:
    return [
        f"--chat-template={template}", "--lora-modules", f"sql={adapter}",
        json.dumps({"name": "again", "path": adapter, "base_model_name": "m"}),
        f"--speculative-config={json.dumps({'model': draft, 'num_speculative_tokens': 3})}",
        "--tokenizer=org/tokenizer",
    ]  # fmt: skip


IN_CONTAINER = ("/files/1-t-s-HOME.jinja", "/files/2-sql", "/files/3-draft")


def test_the_script_finds_the_files_wherever_it_is_started(row: StudyRow, tmp_path: Path) -> None:
    folder, programs = written(row), tmp_path / "bin"
    fake_program(programs, "vllm")
    call = called(["bash", str(folder / "serve.sh")], programs, Path("/"))
    assert call.argv[5:-1] == arguments(*(str(tmp_path / path) for path in (TEMPLATE, ADAPTER, "draft")))


def test_compose_mounts_the_files_read_only(row: StudyRow, tmp_path: Path) -> None:
    service = compose_service((written(row) / "compose.yaml").read_text())
    assert service["command"][4:-1] == arguments(*IN_CONTAINER)
    mounts = {volume["source"]: volume for volume in service["volumes"] if volume["type"] == "bind"}
    assert {source: volume["target"] for source, volume in mounts.items()} == {
        "./key_gate.py": "/gate/key_gate.py",
        **{str(tmp_path / path): at for path, at in zip((TEMPLATE, ADAPTER, "draft"), IN_CONTAINER, strict=True)},
    }
    assert all(volume["read_only"] and not volume["bind"]["create_host_path"] for volume in mounts.values())


def test_kubernetes_mounts_a_claim_with_the_files_read_only(row: StudyRow) -> None:
    folder = written(row)
    text = (folder / "kubernetes.yaml").read_text()
    assert kubernetes_call(text).argv[4:-1] == arguments(*IN_CONTAINER)
    assert {"name": "files", "mountPath": "/files", "readOnly": True} in kubernetes_container(text)["volumeMounts"]
    deployment, *_ = yaml.safe_load_all(text)
    claim = {"claimName": "vllm-chat-files", "readOnly": True}
    assert {"name": "files", "persistentVolumeClaim": claim} in deployment["spec"]["template"]["spec"]["volumes"]
    kubernetes_validate.validate(deployment, kubernetes_validate.latest_version(), strict=True)
    readme = (folder / "README.md").read_text()
    assert "`vllm-chat-files`" in readme and all(f"`{place}`" in readme for place in IN_CONTAINER)


def test_the_bundles_contents_list_the_files_with_their_hashes(row: StudyRow, tmp_path: Path) -> None:
    files = json.loads((written(row) / MARK).read_text())["files"]
    assert [file["path"] for file in files] == [str(tmp_path / path) for path in (TEMPLATE, ADAPTER, "draft")]
    assert [file["sha256"] for file in files] == [fingerprint(file["path"]) for file in files]


def test_a_file_that_has_changed_since_it_was_measured_is_refused(row: StudyRow) -> None:
    Path(TEMPLATE).write_text("{{ other }}")
    with pytest.raises(ConfigError, match=r"HOME.jinja, which has changed since it was measured"):
        written(row)
    assert list(Path("bundle").iterdir()) == []


@pytest.mark.parametrize("path", [TEMPLATE, "draft"])
def test_a_file_that_is_gone_is_refused(row: StudyRow, path: str) -> None:
    os.rename(path, "elsewhere")
    with pytest.raises(ConfigError, match="run this command in the folder that the study ran in"):
        written(row)


def test_a_file_of_another_trial_of_the_study_may_be_gone(row: StudyRow) -> None:
    signature = {**row.row.signature, "files": json.dumps({"of-another-trial": "0" * 16})}
    written(dataclasses.replace(row, row=dataclasses.replace(row.row, signature=signature)))
