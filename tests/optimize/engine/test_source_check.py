"""Warm starts rely on how vLLM's source looks; what was seen of each release is kept in `layouts/`."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from optimize.engine.flags import vllm_root
from optimize.engine.source_check import outline, problems
from optimize.engine.vllm_adaptation import SUPPORTED, Unsupported, check_version

SEEN = {path.stem: json.loads(path.read_text()) for path in (Path(__file__).parent / "layouts").glob("*.json")}


@pytest.mark.parametrize("release", ["0.25.0", "0.33.0"])
def test_the_first_and_the_last_supported_release_look_as_expected(release: str) -> None:
    assert problems(SEEN[release]) == []
    assert release.rpartition(".")[0] in (SUPPORTED[0], SUPPORTED[-1])


def test_the_installed_release_looks_as_expected() -> None:
    assert problems(outline(vllm_root())) == []


@pytest.mark.parametrize(
    ("file", "kind", "message"),
    [
        ("v1/utils.py", "imports", "API servers"),
        ("v1/utils.py", "start_methods", "API servers"),
        ("platforms/cpu.py", "functions", "check_and_update_config"),
        ("platforms/cpu.py", "variables", "check_and_update_config"),
        ("utils/system_utils.py", "functions", "start method of workers"),
        ("utils/ompmultiprocessing.py", "variables", "OpenMP"),
        ("v1/metrics/prometheus.py", "variables", "PROMETHEUS_MULTIPROC_DIR"),
        ("entrypoints/cli/serve.py", "functions", "ServeSubcommand"),
        ("entrypoints/launchers/cli_args.py", "functions", "arguments"),
    ],
)
def test_a_missing_feature_is_named(file: str, kind: str, message: str) -> None:
    changed: dict[str, Any] = copy.deepcopy(SEEN["0.32.0"])
    changed[file][kind] = []
    (problem,) = problems(changed)
    assert message in problem


def test_an_outline_is_read_from_the_text_alone(tmp_path: Path) -> None:
    folder = tmp_path / "platforms"
    folder.mkdir()
    (folder / "cpu.py").write_text(
        "import not_installed\n"
        "class CpuPlatform(not_installed.Platform):\n"
        "    @classmethod\n"
        "    def check_and_update_config(cls, config):\n"
        "        os.environ['VLLM_WORKER_MULTIPROC_METHOD'] = 'spawn'\n"
    )
    assert outline(tmp_path) == {
        "platforms/cpu.py": {
            "imports": [],
            "functions": ["CpuPlatform.check_and_update_config"],
            "start_methods": [],
            "variables": ["VLLM_WORKER_MULTIPROC_METHOD"],
        }
    }


@pytest.mark.parametrize("version", ["0.24.1", "0.34.0", "1.0", "unknown"])
def test_other_releases_are_refused(version: str) -> None:
    with pytest.raises(Unsupported, match=version):
        check_version(version)
