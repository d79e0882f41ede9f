"""Import of TFC-TDF UNets from other software: what is inferred, what is asked for, what is refused."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.models.contract import Checkpoint
from bandsplit.models.importing import import_checkpoint
from bandsplit.models.network import build_model
from bandsplit.models.tfc_tdf.config import TfcTdfConfig
from bandsplit.models.tfc_tdf.weights import read_checkpoint, rename
from public_tfc_tdf import DOCUMENT, SETTINGS, their_name, weights

LEAST = {
    "audio": {"n_fft": 128, "hop_length": 32, "sample_rate": 8000},
    "model": {"act": "gelu", "norm": "InstanceNorm"},
    "training": {"instruments": ["vocals", "other"]},
    "inference": {"dim_t": 16, "num_overlap": 4},
}


def read(tensors: dict[str, Tensor], document: Any = None) -> TfcTdfConfig:
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    found = read_checkpoint(Checkpoint(shapes, tensors.__getitem__, None, document))
    assert found is not None and isinstance(found.config, TfcTdfConfig)
    assert {rename(name): tensor.dtype for name, tensor in tensors.items() if "num_batches" not in name} == {
        name: tensor.dtype for name, tensor in found.tensors.items()
    }
    return found.config


def changed(section: str, **options: Any) -> dict[str, Any]:
    return DOCUMENT | {section: DOCUMENT[section] | options}


def test_names_of_tensors_are_translated_both_ways():
    names = build_model(TfcTdfConfig.parse(SETTINGS)).state_dict().keys()
    assert [rename(their_name(name)) for name in names] == list(names)
    assert rename("encoder_blocks.1.tfc_tdf.blocks.0.tdf.3.bias") == "unet.encoder.1.0.tdf.1.norm.bias"
    assert rename("strange.0.weight") == "strange.0.weight"


@pytest.mark.parametrize("document", [DOCUMENT, LEAST], ids=["complete", "least"])
def test_configuration_is_read_and_the_rest_inferred(document: dict[str, Any]):
    config = read(weights(), document)
    expected = TfcTdfConfig.parse(SETTINGS)
    assert config == expected


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({"norm": {"kind": "batch"}}, {"norm": "BatchNorm"}),
        ({"norm": {"kind": "group", "groups": 2}}, {"norm": "GroupNorm2"}),
        ({"norm": None}, {"norm": None}),
        ({"activation": {"kind": "elu", "alpha": 0.5}}, {"act": "elu0.5"}),
        ({"activation": {"kind": "relu"}}, {"act": "relu"}),
        (
            {"scale_frames": 1, "scale_bins": 4, "n_scales": 2, "bottleneck_factor": 1},
            {"scale": [1, 4], "bottleneck_factor": 1},
        ),
    ],
    ids=str,
)
def test_options_of_the_network_are_translated(settings: dict[str, Any], options: dict[str, Any]):
    document = changed("model", **options)
    assert read(weights(**settings), document) == TfcTdfConfig.parse(SETTINGS | settings)


def test_one_target_and_its_name():
    config = read(weights(targets=["other"]), changed("training", target_instrument="other"))
    assert config.targets == ("other",)
    with pytest.raises(ModelFileError, match=r"name 2 target\(s\), but the tensors have 1"):
        read(weights(targets=["other"]), DOCUMENT)


def test_batch_counts_are_left_out_and_half_precision_is_kept():
    tensors = {name: tensor.half() for name, tensor in weights(norm={"kind": "batch"}).items()}
    counts = {
        name.replace("running_mean", "num_batches_tracked"): torch.tensor(9) for name in tensors if "mean" in name
    }
    assert counts
    read(tensors | counts, changed("model", norm="BatchNorm"))


def test_what_the_tensors_do_not_say_is_asked_for():
    with pytest.raises(
        ModelFileError,
        match=r"is a TFC-TDF UNet with 4 \+ 2 features, 2 scales of 2 block\(s\) and 16 bins x 12 channels, but its "
        r"tensors do not say: audio.sample_rate, audio.n_fft, audio.hop_length, inference.dim_t, model.act, "
        r"model.norm, training.instruments; name the configuration file .* with --config",
    ):
        read(weights())
    with pytest.raises(ModelFileError, match=r"do not say: audio\.n_fft; name"):
        read(weights(norm={"kind": "batch"}), {"audio": {"sample_rate": 8000, "hop_length": 32, "dim_t": 16},
             "model": {"act": "gelu"}, "training": {"instruments": ["a"]}})  # fmt: skip


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (changed("model", growth=3, num_scales=5), "growth is 3, not 2; num_scales is 5, not 2"),
        (changed("model", bottleneck_factor=7), "bottleneck_factor is 7, not in 3 to 3"),
        (changed("model", num_channels="4"), "num_channels is 4, not 4"),
        (changed("model", norm="LayerNorm"), "norm = 'LayerNorm' is not supported; legal: InstanceNorm, BatchNorm"),
        (changed("model", norm="GroupNorm"), "norm = 'GroupNorm' is not supported"),
        (changed("model", act="tanh"), r"act = 'tanh' is not supported; legal: gelu, relu, elu with its alpha"),
        (changed("model", dropout=0.1), "model: unknown option.*dropout"),
        (changed("audio", n_ftt=128), r"audio: unknown option.*n_ftt = 128 \(did you mean n_fft\?\)"),
        (changed("audio", hop_length="x"), "audio.hop_length|stft.hop_samples"),
        (changed("inference", normalize=True), "normalize = True is not supported"),
        (changed("inference", num_overlap=0), "plan.folded.overlaps"),
        (DOCUMENT | {"audio": [1]}, "audio: must map names of options"),
        (DOCUMENT | {"modle": {}}, r"modle = \{\} \(did you mean model\?\)"),
        (changed("training", instruments="vocals"), "targets"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_options_without_a_counterpart_are_refused(document: dict[str, Any], message: str):
    with pytest.raises((ModelFileError, ConfigError), match=message):
        read(weights(), document)


def test_tensors_that_do_not_fit_are_named():
    tensors = weights()
    strange = tensors | {"stft.window": torch.zeros(4)}
    with pytest.raises(ModelFileError, match=r"1 tensor\(s\) do not fit.*unexpected: stft.window"):
        read(strange, DOCUMENT)
    tensors.pop("final_conv.0.weight")
    with pytest.raises(ModelFileError, match=r"missing: leave\.0\.weight"):
        read(tensors, DOCUMENT)
    tensors.pop("first_conv.weight")
    with pytest.raises(ModelFileError, match=r"has no first_conv\.weight, without which it is no TFC-TDF UNet"):
        read(tensors, DOCUMENT)


def test_tensors_of_other_families_are_left_to_them():
    assert read_checkpoint(Checkpoint({"band_split.to_features.0.0.gamma": (4,)}, lambda name: name)) is None


def test_a_file_and_its_yaml_become_a_model(tmp_path: Path):
    torch.save({"state_dict": weights(), "epoch": 3}, tmp_path / "model.ckpt")
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(DOCUMENT))
    model, card = import_checkpoint(tmp_path / "model.ckpt", tmp_path / "model.yaml")
    assert model.config == TfcTdfConfig.parse(SETTINGS)
    assert "TFC-TDF UNet v3" in card.source
    torch.testing.assert_close(model.state_dict()["enter.weight"], weights()["first_conv.weight"])
