"""Secrets in flags and variables: no file holds one, and the server gets each from the user's secrets.env."""

import dataclasses
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from optimize.config.deploy import Alerts
from optimize.config.schema import StudyConfig
from optimize.deploy.bundle import make_deployment, make_folder, write_bundle
from optimize.deploy.verify import serving
from optimize.engine.base import EngineConfig
from optimize.engine.vllm import VllmLauncher
from optimize.errors import OptimizeError
from optimize.redaction import forgetting
from tests.optimize.deploy.readers import (
    called,
    compose_service,
    fake_program,
    kubernetes_call,
    kubernetes_container,
)
from tests.optimize.rows import study_row

GPU = "vllm 0.25.1+cu130"
WRITTEN_OUT = (
    "MY_TOKEN=planted-1 PLAIN=1 vllm serve org/model --host=127.0.0.1 --hf-token=planted-2 --store-password=planted-3 "
    """--kv-transfer-config='{"auth": "planted-3"}' --max-num-seqs=8"""
)
BY_REFERENCE = (
    "HF_TOKEN='$HF_TOKEN' MY_TOKEN='$MY_TOKEN' PLAIN=1 STORE_PASSWORD='$STORE_PASSWORD' vllm serve org/model "
    """--host=127.0.0.1 '--store-password=$STORE_PASSWORD' --kv-transfer-config='{"auth": "$STORE_PASSWORD"}' """
    "--max-num-seqs=8"
)
SECRETS = {"MY_TOKEN": "planted-1", "HF_TOKEN": "planted-2", "STORE_PASSWORD": "planted-3"}
ARGUMENTS = ["--store-password=planted-3", '--kv-transfer-config={"auth": "planted-3"}', "--max-num-seqs=8"]


@pytest.fixture(params=[WRITTEN_OUT, BY_REFERENCE], ids=["written out", "by reference"])
def bundle(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """A bundle of a command with secrets, as they are recorded now and as older studies recorded them."""
    fake_program(tmp_path / "bin", "vllm")
    folder = make_folder(tmp_path / "bundle")
    row = study_row(request.param, GPU)
    config = {**row.row.config, "flags": [["hf_token", "planted-2"]]} if request.param == WRITTEN_OUT else {}
    row = dataclasses.replace(row, row=dataclasses.replace(row.row, config={**row.row.config, **config}))
    with forgetting():
        write_bundle(make_deployment(row, StudyConfig(), folder), Alerts(), None)
        yield folder


def test_no_file_holds_a_secret_and_the_readme_names_them_all(bundle: Path) -> None:
    texts = {path.name: path.read_text() for path in bundle.iterdir()}
    assert [name for name, text in texts.items() if "planted" in text] == []
    assert all(f"`{name}`" in texts["README.md"] for name in SECRETS)


def test_the_script_takes_them_from_the_file(bundle: Path) -> None:
    lines = [f"{name}={value}\n" for name, value in {**SECRETS, "VLLM_API_KEY": "of-the-file"}.items()]
    (bundle / "secrets.env").write_text("".join(lines))
    call = called(["bash", str(bundle / "serve.sh")], bundle.parent / "bin", bundle)
    assert call.argv[5:-1] == ARGUMENTS
    assert call.environment.items() >= {**SECRETS, "PLAIN": "1"}.items()
    assert call.environment["VLLM_API_KEY"] == "k"  # the caller's comes first


def test_the_script_names_the_one_that_is_missing(bundle: Path) -> None:
    (bundle / "secrets.env").write_text("VLLM_API_KEY=k\nMY_TOKEN=a\nSTORE_PASSWORD=b\n")
    done = subprocess.run(["bash", bundle / "serve.sh"], capture_output=True, text=True, check=False, env={})
    assert done.returncode == 1 and done.stderr.startswith("HF_TOKEN: is not set") and done.stdout == ""


def test_compose_takes_them_from_the_file(bundle: Path) -> None:
    service = compose_service((bundle / "compose.yaml").read_text(), SECRETS)
    assert service["command"][4:-1] == ARGUMENTS and service["env_file"] == ["secrets.env"]
    assert service["environment"]["PLAIN"] == "1" and not service["environment"].keys() & SECRETS.keys()


def test_kubernetes_takes_them_from_the_secret(bundle: Path) -> None:
    text = (bundle / "kubernetes.yaml").read_text()
    assert kubernetes_call(text, SECRETS).argv[4:-1] == ARGUMENTS
    references = [entry["valueFrom"]["secretKeyRef"] for entry in kubernetes_container(text)["env"][-4:]]
    assert {reference["key"] for reference in references} == {"VLLM_API_KEY", *SECRETS}
    assert {reference["name"] for reference in references} == {"vllm-chat-key"}
    assert kubernetes_container(text)["envFrom"] == [{"secretRef": {"name": "vllm-chat-key"}}]  # for further ones


def test_a_short_secret_does_not_change_other_flags(tmp_path: Path) -> None:
    row = study_row("vllm serve org/model --some-token=a1 --max-num-seqs=8 --some-text=a1b", GPU)
    folder = make_folder(tmp_path / "bundle")
    with forgetting():
        write_bundle(make_deployment(row, StudyConfig(), folder), Alerts(), None)
    text = (folder / "serve.sh").read_text()
    assert '  --some-token="$SOME_TOKEN" \\\n' in text and "  --some-text=a1b \\\n" in text


def test_the_launchers_own_command_reaches_the_server_as_the_tuner_ran_it(tmp_path: Path) -> None:
    fake_program(tmp_path / "bin", "vllm")
    flags = {"hf_token": "planted-2", "store_password": "planted-3", "max_num_seqs": 8}
    launcher = VllmLauncher(env={"MY_TOKEN": "planted-1", "PLAIN": "1"})
    row = study_row(launcher.deploy_command(EngineConfig("org/model", "fp16", tuple(flags.items()))), GPU)
    folder = make_folder(tmp_path / "bundle")
    write_bundle(make_deployment(row, StudyConfig(), folder), Alerts(), None)
    assert not any("planted" in path.read_text() for path in folder.iterdir())
    call = called(["bash", str(folder / "serve.sh")], tmp_path / "bin", folder, **SECRETS)
    assert call.argv[5:-1] == ["--store-password=planted-3", "--max-num-seqs=8"]
    assert call.environment.items() >= {**SECRETS, "PLAIN": "1"}.items()


def test_the_log_of_the_verification_holds_no_secret(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (bundle / "secrets.env").write_text("".join(f"{name}='{value}'\n" for name, value in SECRETS.items()))
    monkeypatch.setenv("PATH", f"{bundle.parent}/bin:/usr/bin:/bin")
    with pytest.raises(OptimizeError, match=r"does not serve: .*\$STORE_PASSWORD"), serving(bundle, 20):
        pass
    log = (bundle / "verify.log").read_text()
    assert "--store-password=$STORE_PASSWORD" in log and "planted" not in log
