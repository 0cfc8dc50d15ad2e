"""Places for engines: read, checked for overlap, dealt out, taken once."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from optimize.errors import ConfigError
from optimize.executor import placement
from optimize.executor.placement import Place, cpu_places, gpu_places, read_cpus, siblings, taken
from optimize.hardware import Device

HERE = sorted(os.sched_getaffinity(0))


@pytest.mark.parametrize(
    ("text", "cpus"), [("0", (0,)), ("0-3,8", (0, 1, 2, 3, 8)), ("2,0", (0, 2)), ("1-1", (1,)), ("3,3", (3,))]
)
def test_sets_are_read_as_taskset_does(text: str, cpus: tuple[int, ...]) -> None:
    assert read_cpus(text) == cpus


@pytest.mark.parametrize("text", ["", "a", "3-1", "0,,1", "-1", "0-"])
def test_other_syntax_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no list of processors"):
        read_cpus(text)


def test_a_place_is_printed_in_the_syntax_of_taskset() -> None:
    assert str(Place(cpus=(0, 1, 2, 8))) == "CPU 0-2,8"
    assert str(Place(cpus=(4,), gpus=(1,))) == "GPU 1, CPU 4"
    assert str(Place(cpus=(4,), gpus=("MIG-a", "MIG-b"))) == "GPU MIG-a,MIG-b, CPU 4"
    assert str(Place()) == "the whole machine"


def test_processors_that_are_not_there_are_refused() -> None:
    with pytest.raises(ConfigError, match="not available to this process"):
        cpu_places(["100000"])


@pytest.mark.parametrize("sets", [["{0}", "{0}"], ["{0}", "{0},{0}"]])
def test_sets_that_share_a_processor_are_refused(sets: list[str]) -> None:
    with pytest.raises(ConfigError, match="give every core to one set"):
        cpu_places([text.format(HERE[0]) for text in sets])


def test_a_processor_is_its_own_sibling() -> None:
    assert HERE[0] in siblings(HERE[0])


def test_a_place_is_taken_by_one_worker_at_a_time() -> None:
    place = Place(cpus=tuple(HERE))
    with taken([place]) as mine:
        assert mine == place
        with pytest.raises(ConfigError, match="taken by another worker"), taken([place]):
            pass
    with taken([place]):
        pass


def test_engines_are_placed_on_the_devices_that_are_visible_and_on_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    devices = [Device("MIG-a", 0, None), Device(3, 3, None)]
    monkeypatch.setattr(placement, "visible_devices", lambda: devices)
    assert [place.gpus for place in gpu_places(None, {}, [])] == [("MIG-a",), (3,)]
    assert [place.gpus for place in gpu_places(None, {"tensor_parallel_size": 2}, [])] == [("MIG-a", 3)]
    devices.clear()
    assert gpu_places(None, {}, []) == []
    with pytest.raises(ConfigError, match="shows 0 GPUs"):
        gpu_places(1, {}, [])


NOBODY = 65534
TAKE = """
import os, sys
from optimize.errors import ConfigError
from optimize.executor.placement import Place, taken
user, cpu, gpu = map(int, sys.argv[1:])
if os.geteuid() == 0:
    os.setegid(user)
    os.seteuid(user)
try:
    with taken([Place(cpus=(cpu,), gpus=(gpu,))]):
        print("taken", flush=True)
        sys.stdin.read()
except ConfigError as error:
    print(error, flush=True)
"""


def _take(user: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", TAKE, str(user), str(HERE[0]), str(os.getpid())],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def test_users_share_a_machine_and_no_place() -> None:
    """The second user is refused while the first is there, and no file of the first is in the way afterwards."""
    for first, second in ((0, NOBODY), (NOBODY, 0)):
        with _take(first) as holder:
            assert holder.stdout is not None and holder.stdout.readline() == "taken\n"
            with _take(second) as other:
                assert "is taken by another worker, perhaps of another user" in other.communicate()[0]
            holder.communicate()
        with _take(second) as other:
            assert other.communicate()[0] == "taken\n"


def test_places_of_another_namespace_are_free(monkeypatch: pytest.MonkeyPatch) -> None:
    place = Place(cpus=tuple(HERE))
    with taken([place]):
        monkeypatch.setenv("OPTIMIZE_PLACES", "of another test")
        with taken([place]) as same:
            assert same == place


def test_a_place_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with taken([Place(cpus=tuple(HERE))]):
        assert list(tmp_path.iterdir()) == []


def test_the_first_that_is_free_is_taken() -> None:
    places = [Place(cpus=tuple(HERE)), Place()]
    with taken(places) as first, taken(places) as second:
        assert [first, second] == places


def test_a_place_without_bounds_has_room_for_all() -> None:
    with taken([Place()]) as first, taken([Place()]) as second:
        assert first == second == Place()


@pytest.mark.skipif(len(HERE) < 2, reason="needs two processors")
def test_processes_started_in_a_place_stay_within_it() -> None:
    code = (
        "import os, subprocess, sys\n"
        "from optimize.executor.placement import Place\n"
        f"Place(cpus=({HERE[0]},), gpus=(1, 2)).take()\n"
        'child = \'import os; print(sorted(os.sched_getaffinity(0)), os.environ["CUDA_VISIBLE_DEVICES"], '
        'os.environ["CUDA_DEVICE_ORDER"])\'\n'
        "print(subprocess.check_output([sys.executable, '-c', child], text=True).strip())\n"
    )
    message = subprocess.check_output([sys.executable, "-c", code], text=True).strip()
    assert message == f"[{HERE[0]}] 1,2 PCI_BUS_ID"
