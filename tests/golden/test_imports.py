"""Files as other software writes them, made of the golden weights: imported by the command, they give its outputs."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors import safe_open
from torch import Tensor

from bandsplit.models.card import stored_types
from bandsplit.models.families import FAMILIES
from bandsplit.models.files import load_model
from command_line import run_command

STEMS = {1: ["vocals"], 2: ["vocals", "other"]}


def roformer_document(settings: dict[str, Any]) -> dict[str, Any]:
    """A configuration file of Music-Source-Separation-Training around the arguments of the class."""
    sizes = {"freqs_per_bands": tuple(settings["freqs_per_bands"])} if "freqs_per_bands" in settings else {}
    return {
        "audio": {"chunk_size": 88200, "num_channels": 2 if settings["stereo"] else 1, "sample_rate": 44100},
        "model": settings | sizes,
        "training": {"instruments": STEMS[settings["num_stems"]], "target_instrument": None, "lr": 1e-5},
        "inference": {"batch_size": 1, "num_overlap": 2},
    }


CASES: dict[str, tuple[str, Callable[[dict[str, Any]], dict[str, Any]], float]] = {
    "bs_roformer/two-stems-depth-2": ("bs_roformer", roformer_document, 1e-5),
    "bs_roformer/mono-linear-skip": ("bs_roformer", roformer_document, 1e-5),
    "bs_roformer/published-bands": ("bs_roformer", roformer_document, 1e-5),
    "mel_band_roformer/two-stems": ("bs_roformer", roformer_document, 1e-5),
    "mel_band_roformer/published-bands": ("bs_roformer", roformer_document, 1e-5),
    "tfc_tdf_v3/four-stems-two-scales": ("tfc_tdf", lambda settings: settings, 1e-5),
    "tfc_tdf_v3/batch-norm-relu": ("tfc_tdf", lambda settings: settings, 1e-5),
    "dttnet/bass-two-paths": ("dttnet", lambda settings: settings, 3e-5),
    "dttnet/vocals-five-blocks": ("dttnet", lambda settings: {"model": settings | {"_target_": "src.dp_tdf"}}, 3e-5),
}
CONTAINERS: dict[str, Callable[[dict[str, Tensor]], Any]] = {
    "bs_roformer": lambda state: {"model_state_dict": state, "epoch": 3, "optimizer_state_dict": {"state": {}}},
    "tfc_tdf": lambda state: state,
    "dttnet": lambda state: {"state_dict": state, "pytorch-lightning_version": "1.9.0", "callbacks": {}},
}
known = [
    pytest.param(name, marks=pytest.mark.skipif(CASES[name][0] not in FAMILIES, reason="not a family here yet"))
    for name in CASES
]


class Case:
    """A golden file, its tensors split, and the files that are made of it."""

    def __init__(self, shared: Path, folder: Path, name: str) -> None:
        with safe_open(shared / "golden" / "systems" / f"{name}.safetensors", framework="pt") as file:
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
            settings = json.loads(file.metadata()["config"])
        self.family, document, self.most = CASES[name]
        self.state = {key.removeprefix("weights/"): t for key, t in tensors.items() if key.startswith("weights/")}
        self.input, self.output = tensors["input"], tensors["output"]
        self.files = folder / "model.ckpt", folder / "model.yaml"
        self.files[1].write_text(yaml.dump(document(settings)))

    def imported(self, capsys: pytest.CaptureFixture[str], state: dict[str, Tensor], out: str) -> Path:
        """Write the checkpoint and import it by the command."""
        torch.save(CONTAINERS[self.family](state), self.files[0])
        path = self.files[0].with_name(f"{out}.safetensors")
        ended = run_command(capsys, "models", "import", self.files[0], "--config", self.files[1], "-o", path)
        assert ended.code == 0, ended.err
        return path

    def estimates(self, path: Path) -> Tensor:
        with torch.inference_mode():
            return load_model(path).separate(self.input[None])[0]


@pytest.mark.parametrize("name", known)
def test_an_imported_file_gives_the_reference_output(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
):
    case = Case(shared, tmp_path, name)
    found = case.estimates(case.imported(capsys, case.state, "m"))
    expected = case.output.reshape(found.shape[:-1] + case.output.shape[-1:])
    difference = (found[..., : expected.shape[-1]] - expected).abs().max() / expected.abs().max()
    assert difference <= case.most


@pytest.mark.parametrize("name", known[0:1] + known[5:])
def test_a_half_file_stays_half_and_gives_what_its_rounded_numbers_give(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
):
    case = Case(shared, tmp_path, name)
    # Constants of the transform are compared with those computed here, so they stay as they are.
    half = {
        key: tensor.half() if tensor.is_floating_point() and key not in ("window", "freq_pad") else tensor
        for key, tensor in case.state.items()
    }
    single = {key: tensor.float() if tensor.is_floating_point() else tensor for key, tensor in half.items()}
    small, large = case.imported(capsys, half, "half"), case.imported(capsys, single, "single")
    assert set(stored_types(small)) == {"F16"} and set(stored_types(large)) == {"F32"}
    assert sum(stored_types(small).values()) == sum(stored_types(large).values())
    assert torch.equal(case.estimates(small), case.estimates(large))


@pytest.mark.parametrize("name", known[0:1] + known[5:6] + known[7:8])
def test_a_configuration_that_does_not_fit_is_named(
    shared: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
):
    case = Case(shared, tmp_path, name)
    torch.save(CONTAINERS[case.family](case.state), case.files[0])

    out = tmp_path / "m.safetensors"

    def refused() -> str:
        ended = run_command(
            capsys, "models", "import", case.files[0], "--config", case.files[1], "-o", tmp_path / "m.s"
        )
        assert ended.code == 1 and ended.err.count("Traceback") == 0
        assert len(ended.err) < 3000 and not out.exists()
        return " ".join(ended.err.split())

    document = yaml.load(case.files[1].read_text(), Loader=yaml.UnsafeLoader)
    section = document.get("model", document)
    for width in {"dim", "num_channels", "g"} & section.keys():
        case.files[1].write_text(yaml.dump(_with(document, {width: section[width] * 2})))
        assert width in refused() or "do not fit" in refused()
    case.files[1].write_text(yaml.dump(_with(document, {"no_such_option": 3})))
    assert "no_such_option" in refused()
    case.files[1].write_text("{}\n")
    assert "--config" in refused() or "needs" in refused()


def _with(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    if "model" in document:
        return document | {"model": document["model"] | changes}
    return document | changes
