"""Sensors and estimates of energy: codecarbon, kept quiet, offline and without PUE.

Figures are read through codecarbon's public interface (an output handler, ``flush``, ``stop``). The sensor behind a
figure is not public: it is looked up in the hardware objects of the tracker, in this module alone.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from importlib.metadata import version
from typing import Any

from bandsplit.core.errors import ConfigError
from bandsplit.core.machine import cores
from bandsplit.runs.energy.card import JOULES_PER_KWH, Component, Hardware, Intensity, Part

NEVER_S = 1e8
"""Period of codecarbon's own sampling: never, since two threads that sample at once would count energy twice."""

_OPTIONS: dict[str, Any] = {
    "project_name": "bandsplit",
    "measure_power_secs": NEVER_S,
    "api_call_interval": -1,
    "emissions_endpoint": None,
    "electricitymaps_api_token": None,
    "tracking_mode": "machine",
    "log_level": "warning",
    "logger_preamble": "",
    "force_cpu_power": None,
    "force_ram_power": None,
    "force_mode_cpu_load": False,
    "rapl_include_dram": False,
    "rapl_prefer_psys": False,
    "pue": 1.0,
    "wue": 0.0,
    "force_carbon_intensity_g_co2e_kwh": 0.0,  # we compute CO2e, from raw energy
    "allow_multiple_runs": True,  # the lock of a single run takes over SIGINT and SIGTERM
    "country_iso_code": None,
    "cloud_provider": None,
    "cloud_region": None,
    "region": None,
    "country_2letter_iso_code": None,
}
"""All other options of codecarbon, so that its configuration files and environment variables have no effect."""

_CPU_SENSORS = {
    "intel_rapl": "RAPL counters of the CPU packages",
    "windows_emi": "Windows Energy Meter Interface",
    "intel_power_gadget": "Intel Power Gadget",
    "apple_powermetrics": "powermetrics",
}


class Sensors:
    """A codecarbon tracker of one node."""

    def __init__(self, gpus: Sequence[int]) -> None:
        """Start it.

        Args:
            gpus: numbers of the GPUs in use, as torch counts them.

        Raises:
            Exception: whatever keeps codecarbon from working.
        """
        self.notes: list[str] = []
        self._n_gpus = len(gpus)
        self._log = _Quiet(self.notes)
        logging.getLogger("codecarbon").addFilter(self._log)  # before the import, which logs too
        import codecarbon
        from codecarbon.output_methods.base_output import BaseOutput

        class Latest(BaseOutput):
            total: Any = None

            def out(self, total: Any, delta: Any) -> None:
                self.total = total

        self.tool = f"codecarbon {version('codecarbon')}"
        self._handler = Latest()
        self._gpu_problem, nvml = _nvml_numbers(gpus)
        self._tracker = codecarbon.OfflineEmissionsTracker(
            output_methods=[], output_handlers=[self._handler], gpu_ids=nvml or None, **_OPTIONS
        )
        self._tracker.start()
        self.read()
        self.scope = "the whole node's CPU and memory, whoever uses them; GPUs: only those of the run"
        self.components = self._find_components()

    def read(self) -> dict[Part, float]:
        """Return the raw joules of each part since the start.

        Raises:
            RuntimeError: codecarbon has no figures.
        """
        self._tracker.flush()
        return self._totals()

    def stop(self) -> dict[Part, float]:
        """Stop, and return the last figures."""
        self._tracker.stop()
        logging.getLogger("codecarbon").removeFilter(self._log)
        return self._totals()

    def _totals(self) -> dict[Part, float]:
        total = self._handler.total
        if total is None:
            raise RuntimeError(f"codecarbon does not start ({'; '.join(self.notes) or 'no reason given'})")
        joules: dict[Part, float] = {
            "cpu": total.cpu_energy * JOULES_PER_KWH,
            "gpu": total.gpu_energy * JOULES_PER_KWH,
            "memory": total.ram_energy * JOULES_PER_KWH,
        }
        if not self._n_gpus or self._gpu_problem:
            joules["gpu"] = 0.0  # codecarbon counts all GPUs of the node where it is given none
        return joules

    def hardware(self, gpu_names: Sequence[str], gpu_tdp_w: float | None) -> Hardware:
        """Describe the node for an estimate without sensors."""
        import psutil

        available = cores()
        physical = min(available, psutil.cpu_count(logical=False) or available)
        total = self._handler.total
        memory_gb = float(total.ram_total_size)
        return Hardware(
            cpu=str(total.cpu_model), cores=physical, memory_gb=memory_gb, gpus=tuple(gpu_names), gpu_tdp_w=gpu_tdp_w
        )

    def _find_components(self) -> dict[Part, Component]:
        parts = {type(part).__name__: part for part in self._tracker._hardware}
        return {"cpu": self._cpu(parts), "gpu": self._gpu(parts.get("GPU")), "memory": self._memory(parts)}

    def _cpu(self, parts: dict[str, Any]) -> Component:
        if "AppleSiliconChip" in parts:
            return Component(state="measured", how="powermetrics")
        if (cpu := parts.get("CPU")) is None:
            return Component(state="absent", how="codecarbon knows no way to tell the power of this CPU")
        if (sensor := _CPU_SENSORS.get(cpu._mode)) is not None:
            return Component(state="measured", how=sensor)
        unknown = any("but we don't know it" in note for note in self.notes)
        origin = "4 W per thread, since its table lacks this CPU" if unknown else "from its table of CPUs"
        load = "x (0.1 + 0.9 load^3)" if cpu._mode == "cpu_load" else "x 0.5, whatever the load"
        how = f"codecarbon: TDP of {cpu._tdp:g} W ({origin}) {load}"
        return Component(state="estimated", how=how, watts=float(cpu._tdp))

    def _gpu(self, gpu: Any) -> Component:
        if not self._n_gpus:
            return Component(state="absent", how="the run uses no GPU", needed=False)
        if gpu is None or self._gpu_problem:
            return Component(state="absent", how=self._gpu_problem or "codecarbon finds no GPU that it can read")
        used = [device for device in gpu.devices.devices if device.gpu_index in gpu._get_gpu_ids()]
        if all(device._has_counter for device in used):
            return Component(state="measured", how="energy counters of the GPUs (NVML)")
        return Component(state="measured", how="power readings of the GPUs (NVML), each second")

    def _memory(self, parts: dict[str, Any]) -> Component:
        if (memory := parts.get("RAM")) is None:
            return Component(state="absent", how="codecarbon knows no way to tell the power of this memory")
        watts = float(memory.total_power().W)
        return Component(
            state="estimated", how=f"codecarbon: constant {watts:g} W, from the size of memory", watts=watts
        )


class _Quiet(logging.Filter):
    """Filter that drops all records and keeps warnings as notes."""

    def __init__(self, notes: list[str]) -> None:
        super().__init__()
        self.notes = notes

    def filter(self, record: logging.LogRecord) -> bool:
        note = record.getMessage().splitlines()[0].strip() if record.getMessage() else ""
        wanted = record.levelno >= logging.WARNING and not note.startswith("Multiple instances of codecarbon")
        if wanted and note not in self.notes and len(self.notes) < 20:
            self.notes.append(note)
        return False


def _nvml_numbers(gpus: Sequence[int]) -> tuple[str, list[int]]:
    """Return why GPUs cannot be found, and their numbers in NVML, which ignores CUDA_VISIBLE_DEVICES."""
    if not gpus:
        return "", []
    try:
        import pynvml
        import torch

        pynvml.nvmlInit()
        uuids = [f"GPU-{torch.cuda.get_device_properties(gpu).uuid}" for gpu in gpus]
        return "", [pynvml.nvmlDeviceGetIndex(pynvml.nvmlDeviceGetHandleByUUID(uuid)) for uuid in uuids]
    except Exception as error:
        return f"the GPUs of the run are not found with NVML ({error})", []


def find_intensity(
    given_g_per_kwh: float | None = None, country: str | None = None, source: str = "given by hand"
) -> Intensity | None:
    """Return the emissions of the electricity that a user gives, or None if nothing is given.

    Args:
        given_g_per_kwh: grams of CO2e per kWh.
        country: ISO code of three letters; its figure is in codecarbon's table.
        source: where the given figure comes from.

    Raises:
        ConfigError: both are given, or the figure or the country is illegal.
    """
    if given_g_per_kwh is not None:
        if country is not None:
            raise ConfigError(f"--intensity {given_g_per_kwh:g} and --country {country}: give one of the two")
        if not 0 <= given_g_per_kwh < 5000:
            raise ConfigError(f"--intensity {given_g_per_kwh:g}: must be grams of CO2e per kWh, from 0 to 5000")
        return Intensity(g_per_kwh=given_g_per_kwh, source=source)
    if country is None:
        return None
    notes: list[str] = []
    quiet = _Quiet(notes)
    logging.getLogger("codecarbon").addFilter(quiet)
    try:
        from codecarbon.input import DataSource
    except ImportError:
        raise ConfigError("--country: needs codecarbon; pip install 'bandsplit[train]', or give --intensity") from None
    finally:
        logging.getLogger("codecarbon").removeFilter(quiet)
    table = DataSource().get_global_energy_mix_data()
    row = table.get(country.upper())
    if not isinstance(row, dict) or row.get("carbon_intensity") is None:
        raise ConfigError(
            f"--country {country}: must be an ISO code of three letters, for example FRA; or give --intensity"
        )
    where = f"{row['country_name']} {row['year']}, table of codecarbon {version('codecarbon')}"
    return Intensity(g_per_kwh=float(row["carbon_intensity"]), source=where)
