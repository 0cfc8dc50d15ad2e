"""What a GPU's figures depend on beside its name, from a driver that a test makes up."""

from __future__ import annotations

from typing import Any

from optimize.hardware import describe_settings, gpu_settings


class Driver:
    """NVML of GPUs by number: those below 2 tell all, others nothing but what the driver itself knows."""

    NVML_CLOCK_SM, NVML_CLOCK_MEM = 1, 2

    class NVMLError(Exception):
        """As pynvml's."""

    def __getattr__(self, name: str) -> Any:
        answers: dict[str, Any] = {
            "nvmlSystemGetDriverVersion": "580.95.05", "nvmlSystemGetCudaDriverVersion_v2": 13010,
            "nvmlDeviceGetEnforcedPowerLimit": 700_000, "nvmlDeviceGetEccMode": (1, 1),
        }  # fmt: skip

        def answer(*arguments: int) -> Any:
            if arguments and arguments[0] >= 2:
                raise self.NVMLError("not supported")
            if name == "nvmlDeviceGetMaxClockInfo":
                return {self.NVML_CLOCK_SM: 1980, self.NVML_CLOCK_MEM: 2619}[arguments[1]]
            return answers[name]

        return answer


H100 = "power limit 700 W, up to 1980 MHz, memory 2619 MHz"


def test_driver_power_limit_and_clocks_are_named_and_alike_gpus_once() -> None:
    nvml: Any = Driver()
    assert describe_settings(nvml, [0, 1]) == f"driver 580.95.05, CUDA 13.1; {H100}"
    assert describe_settings(nvml, [2]) == "driver 580.95.05, CUDA 13.1"
    capped: Any = Driver()
    capped.nvmlDeviceGetEnforcedPowerLimit = lambda handle: 350_000 if handle else 700_000
    capped.nvmlDeviceGetEccMode = lambda handle: (int(not handle), 0)
    assert describe_settings(capped, [0, 1]).split("; ") == [
        "driver 580.95.05, CUDA 13.1", H100, f"{H100.replace('700', '350')}, ECC off",
    ]  # fmt: skip


def test_a_machine_without_a_gpu_has_no_settings_of_one() -> None:
    assert gpu_settings() == ""
