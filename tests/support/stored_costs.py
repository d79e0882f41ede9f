"""Made-up costs of systems, as a study stores them."""

from typing import Any

from bandsplit.studies.costs.rows import SeparationCost, TrainingCost


def separation(system: str = "small", joules: float | None = 100.0, **facts: Any) -> SeparationCost:
    """Make the cost of separating, measured on a machine ``m`` by a sensor."""
    usual: dict[str, Any] = {
        "source": "s", "machine": "m", "inference": "plan", "noise_s": 30, "passes": 1, "realtime": 2.5,
        "busy_cores": 1.9, "peak_mb": 512,
        "parts": {"cpu": {"state": "measured", "how": "RAPL"}, "gpu": {"state": "absent", "how": "-", "needed": False}},
    }  # fmt: skip
    return SeparationCost.parse(usual | {"system": system, "joules_per_min": joules} | facts)


def training(system: str = "small", **facts: Any) -> TrainingCost:
    """Make the predicted cost of a training."""
    usual: dict[str, Any] = {"source": "t", "machine": "L40S at 35 % of its peak rate", "how": "counted"}
    return TrainingCost.parse(usual | {"system": system, "hours": (8, 8), "kwh": (2, 2)} | facts)
