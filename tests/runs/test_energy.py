"""The energy meter with the real codecarbon, what it stores, and the sums over runs."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from typer.testing import CliRunner

from bandsplit.cli.main import app
from bandsplit.core.errors import ConfigError, RunError
from bandsplit.runs.energy.card import (
    JOULES_PER_KWH,
    Attempt,
    Component,
    EnergyCard,
    Hardware,
    Intensity,
    Part,
    Phase,
    Spent,
    attempt_file,
    read_attempts,
    write_record,
)
from bandsplit.runs.energy.facts import CORE_POWER, GPU_TDP, find_watts, green_algorithms_kwh
from bandsplit.runs.energy.meter import EnergyMeter
from bandsplit.runs.energy.report import find_runs, make_report
from bandsplit.runs.energy.sensors import Sensors, find_intensity
from places import ROOT
from waiting import wait_until

GRID5000 = Hardware(
    cpu="Intel(R) Xeon(R) Gold 6130 CPU @ 2.10GHz", cores=32, memory_gb=192, gpus=("NVIDIA GeForce RTX 2080 Ti",) * 4
)
MEASURED = Component(state="measured", how="counter")
ESTIMATED = Component(state="estimated", how="made up")


def made_up(number: int = 1, kwh: float = 1.0, hours: float = 10.0, **changes: Any) -> Attempt:
    """An attempt that spent 10 % of its energy in preparation, 70 % in training, 20 % in validation; the GPU half."""
    shares: dict[Phase, float] = {"preparation": 0.1, "training": 0.7, "validation": 0.2}
    parts: dict[Part, float] = {"cpu": 0.3, "gpu": 0.5, "memory": 0.2}
    phases: dict[Phase, Spent] = {}
    for phase, share in shares.items():
        joules: dict[Part, float] = {part: kwh * JOULES_PER_KWH * share * of for part, of in parts.items()}
        phases[phase] = Spent(wall_s=hours * 3600 * share, joules=joules)
    content: dict[str, Any] = {
        "attempt": number,
        "stopped": "finished",
        "started_unix_s": 0.0,
        "updated_unix_s": 0.0,
        "phases": phases,
        "components": dict.fromkeys(parts, MEASURED),
        "tool": "codecarbon 3.3.2",
        "period_s": 5.0,
        "scope": "node",
        "hardware": GRID5000,
        "pue": 1.5,
    }
    return Attempt(**content | changes)


def write_run(
    root: Path, recipe: str, target: str, usdr_db: float, *attempts: Attempt, seed: int = 0, changed: bool = False
) -> Path:
    folder = root / recipe / target / f"seed-{seed}-{'ffffffff' if changed else '01234567'}"
    run = {"recipe": recipe, "changes": {"seed": 1} if changed else {}, "seed": seed}
    run |= {"model": {"targets": target.split("+")}, "training": {"max_epochs": 3, "monitor": "usdr"}}
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"run": run}))
    validation = {"kind": "validation", "validation_loss": 0.1, "best": False}
    rows = [validation | {"epoch": n, "validation_usdr_db": usdr_db - n} for n in (2, 0, 1)]
    (folder / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"kind": "val')
    for attempt in attempts:
        write_record(attempt_file(folder, attempt.attempt), attempt)
    return folder


# --- the meter -------------------------------------------------------------------------------------------------------

METERED = """
import sys, time
from pathlib import Path
from bandsplit.runs.energy.meter import EnergyMeter

now_s = 100.0
clock = time.monotonic if sys.argv[2] == "1" else lambda: now_s
meter = EnergyMeter(Path(sys.argv[1]), int(sys.argv[2]), period_s=0.1, pue=1.5, clock=clock)
meter.start()
meter.phase("training")
if sys.argv[2] == "1":
    time.sleep(600)  # until it is killed
time.sleep(0.1)  # energy is codecarbon's, by its own clock
now_s += 4
meter.phase("validation")
time.sleep(0.1)
now_s += 3
meter.stop("finished")
print(meter.kwh(), meter.wall_s())
"""


class Clock:
    """A clock that tests set."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s


class MadeUpSensors(Sensors):
    """Counters of 10 J more of each part at each reading, until they fail."""

    def __init__(self, gpus: Sequence[int]) -> None:
        self.notes: list[str] = []
        self.tool, self.scope = "made up", "node"
        self.components: dict[Part, Component] = dict.fromkeys(("cpu", "gpu", "memory"), ESTIMATED)
        self.readings = 0
        self.broken = False

    def hardware(self, gpu_names: Sequence[str], gpu_tdp_w: float | None) -> Hardware:
        return GRID5000

    def read(self) -> dict[Part, float]:
        if self.broken:
            raise OSError("the driver is gone")
        self.readings += 1
        return dict.fromkeys(("cpu", "gpu", "memory"), 10.0 * self.readings)

    def stop(self) -> dict[Part, float]:
        return self.read()


@pytest.fixture
def sensors(monkeypatch: pytest.MonkeyPatch) -> list[MadeUpSensors]:
    """Replace the sensors; those that a meter makes are listed."""
    made: list[MadeUpSensors] = []

    def make(gpus: Sequence[int]) -> MadeUpSensors:
        made.append(MadeUpSensors(gpus))
        return made[-1]

    monkeypatch.setattr("bandsplit.runs.energy.sensors.Sensors", make)
    return made


def start_metered(folder: Path, attempt: int) -> "subprocess.Popen[str]":
    command = [sys.executable, "-W", "error", "-c", METERED, str(folder), str(attempt)]
    paths = os.pathsep.join(path for path in sys.path if path)
    return subprocess.Popen(
        command, cwd=folder, env=os.environ | {"PYTHONPATH": paths}, text=True, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.slow
def test_a_killed_attempt_counts_and_the_next_one_adds_to_it(tmp_path: Path):
    first = start_metered(tmp_path, 1)

    def trains() -> bool:
        assert first.poll() is None, first.communicate()
        attempts, problems = read_attempts(tmp_path)
        assert not problems  # the meter's file appears whole, so each read of it must succeed
        training = attempts[0].phases.get("training", Spent()) if attempts else Spent()
        return training.wall_s > 0 and sum(training.joules.values()) > 0

    wait_until(trains, "energy of the training")
    first.send_signal(signal.SIGKILL)
    assert first.communicate()[1] == ""
    killed = read_attempts(tmp_path)[0][0]
    assert killed.stopped is None and killed.joules > 0

    second = start_metered(tmp_path, 2)
    out, err = second.communicate()
    assert (second.returncode, err) == (0, "")
    kwh, wall_s = map(float, out.split())
    card = json.loads((tmp_path / "energy.json").read_text())
    assert [one["stopped"] for one in card["attempts"]] == [None, "finished"]
    assert card["attempts"][0]["kwh"] == pytest.approx(killed.joules / JOULES_PER_KWH)
    assert card["attempts"][1]["kwh"] > 0
    assert card["total"]["kwh"] == pytest.approx(kwh) == pytest.approx(sum(one["kwh"] for one in card["attempts"]))
    assert card["total"]["wall_s"] == pytest.approx(wall_s) == pytest.approx(killed.wall_s + 7)
    assert card["total"]["joules"] == pytest.approx(sum(one["joules"] for one in card["phases"].values()))
    assert card["total"]["joules"] == pytest.approx(sum(one["joules"] or 0 for one in card["components"].values()))
    assert card["phases"]["validation"]["wall_s"] == pytest.approx(3)
    assert card["phases"]["training"]["joules"] > 0 < card["phases"]["validation"]["joules"]
    assert card["kwh_with_pue"] == pytest.approx(1.5 * card["total"]["kwh"])
    assert sorted(path.name for path in tmp_path.rglob("*")) == [
        "attempt-1.json", "attempt-2.json", "energy", "energy.json",
    ]  # fmt: skip


def test_the_meter_says_where_its_figures_come_from_and_leaves_signals_alone(tmp_path: Path):
    handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    meter = EnergyMeter(tmp_path, 1, period_s=0.1, idle_s=0.2, intensity=Intensity(g_per_kwh=56, source="here"))
    meter.start()
    began_s = time.monotonic()
    wait_until(lambda: meter.kwh() > 0, "energy")
    measured_s = time.monotonic() - began_s
    meter.stop("finished")
    meter.stop("again")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == handlers
    card, problems = EnergyCard.read(tmp_path)
    assert card is not None and not problems and card.missing == ()
    assert [one.stopped for one in card.attempts] == ["finished"]
    assert card.tool.startswith("codecarbon 3.") and "node" in card.scope and card.period_s == 0.1
    assert card.co2e is not None and card.co2e.kg == pytest.approx(card.total.kwh * 0.056)
    cpu, gpu, memory = (card.components[part] for part in ("cpu", "gpu", "memory"))
    assert gpu.state == "absent" and gpu.joules is None and gpu.how == "the run uses no GPU"
    assert memory.state == "estimated" and f"{memory.watts:g} W" in memory.how
    # Memory is a constant: joules / watts must be the time it was sampled, codecarbon's own start and samples aside.
    assert memory.joules is not None and memory.watts is not None
    assert 0.9 * measured_s <= memory.joules / memory.watts <= card.total.wall_s
    has_counters = any(Path("/sys/class/powercap").glob("intel-rapl:*/energy_uj"))
    if not has_counters:
        assert cpu.state == "estimated" and f"{cpu.watts:g} W" in cpu.how and card.idle_w is None


def test_without_codecarbon_all_parts_are_absent_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    meter = EnergyMeter(tmp_path, 1, clock=(clock := Clock()))
    meter.start()
    meter.phase("training")
    clock.now_s += 3600
    meter.stop("finished")
    card, _ = EnergyCard.read(tmp_path)
    assert card is not None and meter.kwh() == 0 and card.total.wall_s == 3600
    assert [line.partition(": the")[0] for line in card.missing] == ["attempt 1: cpu", "attempt 1: memory"]
    assert "pip install 'bandsplit[train]'" in card.missing[0]
    assert card.green_algorithms.kwh is not None and card.green_algorithms.kwh > 0


def test_energy_and_time_go_to_the_phase_in_which_they_were_spent(tmp_path: Path, sensors: list[MadeUpSensors]):
    meter = EnergyMeter(tmp_path, 1, period_s=1e6, clock=(clock := Clock()))
    meter.start()
    clock.now_s += 2
    meter.phase("training")
    clock.now_s += 5
    meter.phase("validation")
    clock.now_s += 7
    meter.stop("finished")
    card, _ = EnergyCard.read(tmp_path)
    assert card is not None and sensors[0].readings == 5
    assert {phase: spent.wall_s for phase, spent in card.phases.items()} == {
        "preparation": 2, "training": 5, "validation": 7,
    }  # fmt: skip
    # Readings: as it starts, as each phase starts, and at the end; each of three parts of 10 J.
    assert {phase: spent.joules for phase, spent in card.phases.items()} == {
        "preparation": 60, "training": 30, "validation": 30,
    }  # fmt: skip


def test_sensors_that_fail_on_the_way_keep_what_they_measured_and_are_told(
    tmp_path: Path, sensors: list[MadeUpSensors]
):
    meter = EnergyMeter(tmp_path, 1, period_s=1e6)
    meter.start()
    meter.phase("training")
    before = meter.kwh()
    assert before > 0
    sensors[0].broken = True
    meter.stop("finished")
    card, _ = EnergyCard.read(tmp_path)
    assert card is not None and card.total.kwh == pytest.approx(before)
    assert all("the driver is gone" in line for line in card.missing) and len(card.missing) == 2


def test_a_folder_that_cannot_be_written_does_not_stop_the_run(tmp_path: Path, sensors: list[MadeUpSensors]):
    folder = tmp_path / "run"
    folder.write_text("a file")
    meter = EnergyMeter(folder, 1, period_s=0.01)
    meter.start()
    meter.phase("training")
    wait_until(lambda: sensors[0].readings > 5, "samples")
    meter.stop("finished")
    assert meter.kwh() > 0 and folder.read_text() == "a file"


def test_an_attempt_is_never_overwritten(tmp_path: Path):
    write_record(attempt_file(tmp_path, 1), made_up(1, kwh=2.0))
    meter = EnergyMeter(tmp_path, 1, clock=Clock())
    assert (meter.attempt, meter.kwh()) == (2, pytest.approx(2.0))
    assert meter.wall_s() == pytest.approx(36000)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_is_measured(tmp_path: Path):
    meter = EnergyMeter(tmp_path, 1, device="cuda:0", period_s=0.2, idle_s=1.0)
    meter.start()
    a = torch.randn(4096, 4096, device="cuda")
    start = time.monotonic()
    while time.monotonic() - start < 2:
        torch.cuda.synchronize()
        a = (a @ a).clamp(-1, 1)
    meter.stop("finished")
    card, _ = EnergyCard.read(tmp_path)
    assert card is not None
    gpu = card.components["gpu"]
    assert gpu.state == "measured" and gpu.joules is not None and gpu.joules > 50
    assert card.idle_w is not None and card.idle_w["gpu"] > 0


# --- the card --------------------------------------------------------------------------------------------------------


def test_a_damaged_attempt_is_told_and_the_others_count(tmp_path: Path):
    write_record(attempt_file(tmp_path, 2), made_up(2))
    attempt_file(tmp_path, 1).write_text('{"attempt": 1, "pha')
    meter = EnergyMeter(tmp_path, 3)
    assert meter.kwh() == pytest.approx(1.0)
    card, problems = EnergyCard.read(tmp_path)
    assert card is not None and card.total.kwh == pytest.approx(1.0) and tuple(problems) == card.problems
    assert problems[0].startswith("energy/attempt-1.json: damaged (") and "not counted" in problems[0]


def test_the_card_sums_attempts_by_phase_and_part_and_nodes_share_the_clock():
    absent = {**dict.fromkeys(("cpu", "memory"), MEASURED), "gpu": Component(state="absent", how="no driver")}
    estimated = {**dict.fromkeys(("cpu", "gpu"), MEASURED), "memory": Component(state="estimated", how="10 W")}
    card = EnergyCard.of(
        [
            made_up(1, kwh=1.0, hours=1.0, stopped=None, components=estimated),
            made_up(2, kwh=3.0, hours=2.0, components=absent, idle_w={"cpu": 20.0}),
            made_up(2, kwh=4.0, hours=2.0, node=1),
        ]
    )
    assert card.total.model_dump() == pytest.approx({"kwh": 8.0, "joules": 8.0 * 3.6e6, "wall_s": 3 * 3600})
    assert [card.phases[phase].kwh for phase in ("preparation", "training", "validation")] == [
        pytest.approx(0.8), pytest.approx(5.6), pytest.approx(1.6),
    ]  # fmt: skip
    assert card.components["memory"].state == "estimated"
    assert card.components["gpu"].joules == pytest.approx(4.0 * 3.6e6)
    assert card.missing == ("attempt 2: gpu: no driver",)
    assert card.idle_w == {"cpu": 20.0}


def test_green_algorithms_equals_the_formula_by_hand():
    # 32 cores of 125 W / 16, four GPUs of 250 W, 192 GB: 250 + 1000 + 71.52 W for 10 hours
    card = EnergyCard.of([made_up(hours=10.0)])
    assert card.green_algorithms.kwh == pytest.approx(13.2152)
    half = green_algorithms_kwh(10, cores=32, core_w=125 / 16, gpus_w=1000, memory_gb=192, usage=0.5)
    assert half == pytest.approx(6.9652)
    # The paper's "3 W power per 8 GB of memory" (section IV-F)
    assert green_algorithms_kwh(1000, cores=0, core_w=0, gpus_w=0, memory_gb=8) == pytest.approx(3, rel=0.01)


def test_an_unknown_gpu_has_no_estimate_until_its_tdp_is_named():
    unknown = GRID5000.model_copy(update={"gpus": ("Matrox Millennium",)})
    card = EnergyCard.of([made_up(hardware=unknown)])
    assert card.green_algorithms.kwh is None and "Matrox Millennium" in card.green_algorithms.inputs["gpu"]
    named = EnergyCard.of([made_up(hardware=unknown.model_copy(update={"gpu_tdp_w": 1000.0}))])
    assert named.green_algorithms.kwh == pytest.approx(13.2152)


@pytest.mark.parametrize(
    ("name", "watts"),
    [
        ("NVIDIA GeForce RTX 2080 Ti", 250),
        ("Tesla T4", 70),
        ("NVIDIA L40S", 350),
        ("NVIDIA L4", 72),
        ("Tesla V100-SXM2-32GB", 300),
        ("NVIDIA A100-SXM4-80GB", 400),
        ("NVIDIA A100-PCIE-40GB", 250),
        ("NVIDIA A100 80GB PCIe", 300),
        ("NVIDIA H100 80GB HBM3", 700),
        ("NVIDIA H100 PCIe", 350),
        ("NVIDIA H200", 700),
        ("NVIDIA GeForce RTX 3090 Ti", 450),
        ("NVIDIA GeForce RTX 3090", 350),
        ("NVIDIA GeForce RTX 2080", None),
        ("NVIDIA A4000", None),
    ],
)
def test_gpus_are_found_by_the_names_that_drivers_give(name: str, watts: float | None):
    found = find_watts(GPU_TDP, name)
    assert (found.watts if found else None) == watts


def test_cpus_are_found_by_the_names_that_systems_give():
    found = find_watts(CORE_POWER, "AMD EPYC 7742 64-Core Processor")
    assert found is not None and found.watts == pytest.approx(225 / 64)


def test_intensity_is_given_or_looked_up_by_country():
    assert find_intensity() is None
    assert find_intensity(30.0) == Intensity(g_per_kwh=30.0, source="given by hand")
    france = find_intensity(country="fra")
    assert france is not None and 20 < france.g_per_kwh < 100 and "France 20" in france.source
    with pytest.raises(ConfigError, match="--country XYZ: must be an ISO code"):
        find_intensity(country="XYZ")
    with pytest.raises(ConfigError, match="give one of the two"):
        find_intensity(30.0, "FRA")
    with pytest.raises(ConfigError, match="--intensity -1: must be"):
        find_intensity(-1.0)


# --- the report ------------------------------------------------------------------------------------------------------


def project(root: Path) -> Path:
    """Two recipes of two targets, a second seed, a changed run, a run without card: 20 kWh raw in all."""
    write_run(root, "base", "vocals", 7.0, made_up(1, kwh=1.0, stopped=None), made_up(2, kwh=1.0))
    write_run(root, "base", "bass", 6.0, made_up(kwh=1.0))
    write_run(root, "large", "vocals", 8.0, made_up(kwh=4.0))
    write_run(root, "large", "vocals", 9.0, made_up(kwh=3.0), seed=1)
    write_run(root, "large", "bass", 7.0, made_up(kwh=2.0))
    write_run(root, "large", "bass", 99.0, made_up(kwh=8.0), changed=True)
    write_run(root, "one-target", "vocals", 12.0)
    return root


def test_the_report_sums_all_runs_and_compares_with_the_best(tmp_path: Path):
    report = make_report(find_runs([project(tmp_path)]))
    total, best = report.total, report.best
    assert (total.runs, total.kwh, total.kwh_with_pue) == (6, pytest.approx(20.0), pytest.approx(30.0))
    assert total.hours == pytest.approx(70.0)
    assert total.green_algorithms_kwh_with_pue == pytest.approx(7 * 13.2152 * 1.5)
    assert total.co2e_kg is None
    assert sorted(Path(run).parts[-3:-1] for run in best.runs) == [("large", "bass"), ("large", "vocals")]
    assert best.kwh_with_pue == pytest.approx(1.5 * (3.0 + 2.0)) and best.total_to_best == pytest.approx(4.0)
    assert [Path(run.folder).parts[-3] for run in report.without_card] == ["one-target"]
    person, car = report.equivalents
    assert person.number == pytest.approx(30 / 2223) and "data.gouv.fr" in person.source
    assert car.number == pytest.approx(30 / 0.19) and "ev-database.org" in car.source
    assert [str(person), str(car)] == [
        "0.0135 years of electricity of a person in France", "158 km of electric car",
    ]  # fmt: skip
    little = person.model_copy(update={"number": 1.85e-9})
    assert str(little).startswith("less than 0.01 years of electricity")
    vocals = next(run for run in report.runs if run.recipe == "base" and run.targets == ("vocals",))
    assert (vocals.attempts, vocals.kwh, vocals.best_usdr_db) == (2, pytest.approx(2.0), 7.0)
    assert vocals.phases_kwh["training"] == pytest.approx(1.4)


def test_pue_and_intensity_of_the_report_take_the_place_of_the_cards(tmp_path: Path):
    runs = find_runs([project(tmp_path)])
    report = make_report(runs, pue=2.0, intensity=Intensity(g_per_kwh=50.0, source="here"))
    assert report.total.kwh == pytest.approx(20.0)
    assert report.total.kwh_with_pue == pytest.approx(40.0)
    assert report.total.co2e_kg == pytest.approx(2.0)


def test_the_papers_table_gives_its_ratio(tmp_path: Path, shared: Path):
    header, *lines = (shared / "paper" / "table2_validation_usdr.csv").read_text().split()
    column = {name: number for number, name in enumerate(header.split(","))}
    sums = []
    for line in lines:
        cells = line.split(",")
        kwh = float(cells[column["energy_kwh"]])
        sums.append(kwh)
        usdr = float(cells[column["average"]])
        targets = "vocals+bass+drums+other"
        write_run(tmp_path, cells[column["id"]], targets, usdr, made_up(kwh=kwh / 1.5))
    report = make_report(find_runs([tmp_path]))
    assert report.total.kwh_with_pue == pytest.approx(sum(sums))
    assert report.best.total_to_best == pytest.approx(sum(sums) / 508)


def test_the_command_prints_the_project_and_what_it_leaves_out(tmp_path: Path):
    project(tmp_path)
    lost = write_run(tmp_path, "base", "vocals", 1.0, seed=3)
    (lost / "energy").mkdir()
    (lost / "energy" / "attempt-1.json").write_text("{")
    result = CliRunner().invoke(
        app, ["energy", "report", str(tmp_path)], env={"COLUMNS": "200"}, catch_exceptions=False
    )
    assert result.exit_code == 0
    for text in ("= 4.0 x the 7.5 kWh", "all 6 runs: 30 kWh", "no energy card", "energy/attempt-1.json: damaged"):
        assert text in result.stdout
    result = CliRunner().invoke(app, ["energy", "report", str(tmp_path), "--json", "--pue", "2"])
    assert json.loads(result.stdout)["total"]["kwh_with_pue"] == pytest.approx(40.0)


def test_a_stored_card_without_attempts_counts(tmp_path: Path):
    folder = write_run(tmp_path, "base", "bass", 5.0)
    write_record(folder / "energy.json", EnergyCard.of([made_up(kwh=5.0)]))
    assert make_report(find_runs([folder])).total.kwh == pytest.approx(5.0)


def test_a_stored_card_that_is_damaged_is_reported(tmp_path: Path):
    folder = write_run(tmp_path, "base", "bass", 5.0)
    (folder / "energy.json").write_text('{"total": {"kwh": 1.0}}')
    (run,) = make_report(find_runs([folder])).without_card
    assert run.problems == ("energy.json: damaged (Field required); its energy is not counted",)


def test_cards_of_the_version_before_are_what_this_one_makes_of_their_attempts():
    def parse(text: str) -> dict[str, Any]:
        # From 3.12 on Python sums floats more exactly, so the last digit depends on its version.
        return json.loads(text, parse_float=lambda digits: float(f"{float(digits):.12g}"))

    (file,) = (ROOT / "tests" / "golden" / "previous").rglob("energy.json")
    card, problems = EnergyCard.read(file.parent)
    assert card is not None and not problems
    assert parse(card.model_dump_json()) == parse(file.read_text())
    assert parse(EnergyCard.model_validate_json(file.read_text()).model_dump_json()) == parse(file.read_text())


def test_folders_without_runs_are_refused(tmp_path: Path):
    with pytest.raises(RunError, match="holds no run"):
        find_runs([tmp_path])
    with pytest.raises(RunError, match="is not a folder"):
        find_runs([tmp_path / "nowhere"])
