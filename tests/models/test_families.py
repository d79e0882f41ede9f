"""The contract of a family, by one that is in no room: nothing elsewhere knows its name or its fields."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

import dummy_family
from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.models.card import ModelCard, read_card
from bandsplit.models.chunk_config import ChunkConfig, CrossfadeConfig, OverlapAddConfig
from bandsplit.models.families import FAMILIES, count_flop, find_part, parse_model
from bandsplit.models.files import load_model, save_model
from bandsplit.models.importing import import_checkpoint
from bandsplit.models.network import build_model
from bandsplit.models.tensors import count_parameters
from bandsplit.recipes.catalogue import RECIPES
from bandsplit.runs.config import RunConfig
from bandsplit.separation.export import export_model
from bandsplit.separation.separator import Separator
from command_line import run_command
from dummy_family import RECIPE, DummyConfig, DummyNetwork, halving
from places import PACKAGE
from songs import noise, write_dataset

CARD = ModelCard(name="filters", training_data="none", licence="CC0")
RATE_HZ = 8000


@pytest.fixture(autouse=True)
def dummy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "dummy", dummy_family.FAMILY)
    monkeypatch.setitem(RECIPES, "dummy", RECIPE)


def config(**changes: object) -> DummyConfig:
    return DummyConfig.parse({"targets": ["vocals", "bass"], "sample_rate_hz": RATE_HZ, **changes})


@pytest.mark.parametrize("geometry", [{"multiple": 256}, {"fixed": 2000}, {"multiple": 640, "taps": 3}], ids=str)
def test_songs_are_separated_in_chunks_of_the_lengths_that_the_network_takes(geometry: dict[str, int], tmp_path: Path):
    model, song = halving(config(**geometry)), noise(2, 20_011)
    separator = Separator(model, device="cpu")
    assert separator.chunks == (OverlapAddConfig(chunk_s=0.25, hop_s=0.125),)  # as its authors did
    for samples in (20_011, 2000, 1999, 300, 1):
        estimates = separator.separate(song[:, :samples], RATE_HZ)
        assert [*estimates] == ["vocals", "bass"]
        for estimate in estimates.values():
            np.testing.assert_allclose(estimate, song[:, :samples] / 2, atol=1e-7)
    soundfile.write(tmp_path / "song.wav", song.T, RATE_HZ, subtype="FLOAT")
    save_model(tmp_path / "filters.safetensors", model, CARD)
    result = Separator(tmp_path / "filters.safetensors").separate_file(tmp_path / "song.wav", tmp_path / "out")
    assert "overlap-add (chunk 0.25 s, hop 0.125 s)" in result.plans[0].title
    for path in result.paths.values():
        np.testing.assert_allclose(soundfile.read(path, dtype="float32")[0].T, song / 2, atol=1e-7)


def test_a_setting_alone_changes_the_plan_of_its_authors():
    def plan(**settings: object) -> tuple[ChunkConfig, ...]:
        return Separator(halving(config(fixed=2000)), device="cpu", chunks=settings).chunks

    assert plan(hop_s=0.25) == (OverlapAddConfig(chunk_s=0.25, hop_s=0.25),)
    assert plan(kind="crossfade", chunk_s=0.2) == (CrossfadeConfig(chunk_s=0.2),)
    with pytest.raises(
        ConfigError, match=r"has chunks of 12\.000 s, but model 1 of the list takes at most 0\.250 s at once"
    ):
        plan(kind="crossfade")
    with pytest.raises(ConfigError, match=r"^--overlap: has no meaning with --method overlap-add; leave it out$"):
        plan(overlap=0.2)


def test_models_that_come_with_different_plans_follow_each_their_own():
    other = build_model(parse_model({"targets": ["drums"], "sample_rate_hz": RATE_HZ, "bands": [[1000, 2]]})).eval()
    halves, song = halving(config()), np.random.default_rng(0).normal(0, 0.1, (2, 90_000)).astype(np.float32)
    both = Separator([halves, other], device="cpu")
    assert both.chunks == (OverlapAddConfig(chunk_s=0.25, hop_s=0.125), CrossfadeConfig())
    assert [len(plan.chunks) for plan in both.plans(90_000, RATE_HZ)] == [91, 2]
    found = both.separate(song, RATE_HZ)
    alone = Separator(halves, device="cpu").separate(song, RATE_HZ) | Separator(other, device="cpu").separate(
        song, RATE_HZ
    )
    assert list(found) == list(alone) and all(np.array_equal(found[target], alone[target]) for target in found)
    assert Separator([halves, other], device="cpu", chunks=CrossfadeConfig()).chunks == (CrossfadeConfig(),)


def test_a_file_keeps_the_family_and_old_files_that_name_none_are_still_read(tmp_path: Path):
    model = build_model(config(taps=3))
    save_model(tmp_path / "m.safetensors", model, CARD)
    found, card = read_card(tmp_path / "m.safetensors")
    assert (found, card) == (config(taps=3), CARD)
    loaded = load_model(tmp_path / "m.safetensors")
    assert isinstance(loaded, DummyNetwork)
    assert torch.equal(loaded.filters.weight, model.get_parameter("filters.weight"))
    assert parse_model({"targets": ["vocals"], "bands": "joint"}).family == "bsrnn"


def test_parameters_and_operations_are_counted():
    built = build_model(config(taps=3))
    assert count_parameters(built.config) == sum(parameter.numel() for parameter in built.parameters()) == 28
    assert count_flop(config(taps=3), 1000) == (2 * 1000 * 4 * 2 * 3, 3 * 2 * 1000 * 4 * 2 * 3)


def test_it_is_listed_trained_resumed_separated_with_and_scored(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    write_dataset(tmp_path / "songs", train=3, test=2, samples=6000)
    listed = run_command(capsys, "models", "list", "--architectures")
    assert re.search(r"dummy .*filters", listed.out)
    train = ("train", "dummy", "--target", "vocals", "--data", "songs", "--device", "cpu")
    assert run_command(capsys, *train, "--runs", "resumed", "--max-hours", "0").code == 3  # stopped, state saved
    for options in (("--runs", "whole"), ("--runs", "resumed", "--resume")):
        ended = run_command(capsys, *train, *options)
        assert ended.code == 0, ended.err
    whole, resumed = (next(Path(runs).rglob("best.safetensors")) for runs in ("whole", "resumed"))
    weights = [load_model(path).get_parameter("filters.weight") for path in (whole, resumed)]
    assert torch.equal(*weights)
    assert re.search(r"dummy +vocals +0 +finished", run_command(capsys, "runs", "whole").out)
    ended = run_command(capsys, "separate", "songs/test/Song 3/mixture.wav", "-n", whole, "-o", "stems")
    assert ended.code == 0, ended.err
    ended = run_command(capsys, "evaluate", whole, "--data", "songs", "-o", "rows.jsonl")
    assert ended.code == 0, ended.err
    assert '"overlap-add (chunk 0.25 s, hop 0.125 s)"' in Path("rows.jsonl").read_text()


def test_an_excerpt_that_the_network_does_not_take_is_refused_with_one_that_it_takes():
    with pytest.raises(ConfigError, match=r"excerpt_s: 0\.11 s are 880 samples, which the model .* use 0\.1125, 900 s"):
        RECIPE.run_config(["vocals"], changes={"training.excerpt_s": 0.11})
    with pytest.raises(ConfigError, match=r"800 samples are more than the 400 that the model takes"):
        RECIPE.run_config(["vocals"], changes={"model.fixed": 400})
    with pytest.raises(ConfigError, match=r"^model: unknown key 'tap'; did you mean 'taps'\?"):
        RECIPE.run_config(["vocals"], changes={"model.tap": 3})


def test_a_run_config_is_read_again_as_it_was():
    run = RECIPE.run_config(["vocals"])
    assert RunConfig.parse(run.model_dump(mode="json")) == run
    assert isinstance(run.model, DummyConfig)


def test_what_a_family_cannot_do_is_said_in_one_message(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    save_model(tmp_path / "m.safetensors", halving(config()), CARD)
    with pytest.raises(ConfigError, match=r"^family 'dummy' has no part 'onnx': its models cannot be exported to ONNX"):
        export_model(tmp_path / "m.safetensors", tmp_path / "m.onnx")
    for place, lack in (("dummy_family:count", "dummy_family has no count"), ("dumy:flop", "there is no module dumy")):
        monkeypatch.setitem(FAMILIES, "dummy", replace(dummy_family.FAMILY, flop=place))
        with pytest.raises(ConfigError, match=rf"^family 'dummy' lacks its part 'flop': {lack}$"):
            count_flop(config(), 1000)
    for family in (["dummy"], None, 3):
        with pytest.raises(ConfigError, match=r"^family: .* is not a family of networks; "):
            parse_model({"family": family, "targets": ["vocals"]})
    monkeypatch.delattr(DummyConfig, "geometry")
    with pytest.raises(ConfigError, match=r"^family 'dummy' lacks its part 'geometry'"):
        Separator(tmp_path / "m.safetensors")
    with pytest.raises(ConfigError, match=r"^family: 'dumy' is not a family of networks; did you mean 'dummy'\?"):
        parse_model({"family": "dumy", "targets": ["vocals"]})


def test_the_family_that_knows_the_names_of_the_tensors_reads_a_checkpoint(tmp_path: Path):
    path, network = tmp_path / "x.ckpt", halving(config())
    torch.save({"state_dict": network.state_dict(), "hyper_parameters": {"targets": ["vocals", "bass"]}}, path)
    assert isinstance(import_checkpoint(path)[0], DummyNetwork)
    torch.save({"state_dict": {"filters.weight": torch.zeros(1)}}, path)
    with pytest.raises(ModelFileError, match=r"x\.ckpt: does not name its targets; name its configuration"):
        import_checkpoint(path)
    torch.save({"lost.weight": torch.zeros(1)}, path)
    unknown = (
        r"x\.ckpt: its tensors \(lost\.weight, \.\.\.; 1 in all\) have names that no family knows; .*: bsrnn, .*dummy$"
    )
    with pytest.raises(ModelFileError, match=unknown):
        import_checkpoint(path)


@pytest.mark.parametrize("name", [name for name in FAMILIES])
def test_every_family_has_the_parts_of_the_contract(name: str):
    for part in ("config", "shapes", "build", "flop"):
        assert callable(find_part(name, part))


def test_no_other_room_names_a_family_or_its_parts():
    names = "|".join(FAMILIES)
    of_one = r"\b(bsrnn|BandSplitModel|BsrnnConfig|n_blocks|stereo\.kind)\b|config\.stft|model\.stft"
    words = re.compile(rf"{of_one}|bandsplit\.models\.({names})\b|['\"]({names})['\"]")
    folders = (PACKAGE / "models" / name for name in FAMILIES)
    at_home = (*folders, PACKAGE / "recipes", PACKAGE / "models" / "families.py")
    found = [
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in PACKAGE.rglob("*.py")
        if not any(path.is_relative_to(home) for home in at_home)
        for line in path.read_text(encoding="utf-8").splitlines()
        if words.search(line)
    ]
    assert found == []
