"""Import of CWS-PResUNet's checkpoints: what a file says, what must be said, and what is refused."""

from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from authors_networks import checkpoint
from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.models.contract import Imported
from bandsplit.models.importing import import_checkpoint
from bandsplit.models.presunet.config import PresunetConfig
from bandsplit.models.presunet.network import build_network
from bandsplit.models.presunet.weights import read_checkpoint, their_name

SMALL: dict[str, Any] = {
    "targets": ["bass", "drums", "other"], "stft": {"n_fft": 64, "hop_samples": 14}, "widths": [3, 5], "n_blocks": 2,
}  # fmt: skip
HOP = {"hop_length": 59}  # 59 // 4 = 14


def weights(**changes: Any) -> dict[str, Tensor]:
    """Weights of a small network as its authors would store them."""
    made = PresunetConfig.parse(SMALL | changes)
    torch.manual_seed(0)
    single = len(made.targets) == 1
    return {their_name(name, made, single): value for name, value in build_network(made).state_dict().items()}


def imported(tensors: dict[str, Tensor], document: dict[str, Any] | None) -> Imported:
    found = read_checkpoint(checkpoint(tensors, document))
    assert found is not None
    return found


@pytest.mark.parametrize(
    "changes", [{}, {"channels": 1}, {"widths": [4], "n_blocks": 1}, {"targets": ["guitar"], "widths": [3, 5, 4]}],
    ids=str,
)  # fmt: skip
def test_every_option_is_read_from_names_and_shapes(changes: dict[str, Any]):
    expected = PresunetConfig.parse(SMALL | changes)
    found = imported(weights(**changes), HOP | ({"target": "guitar"} if "targets" in changes else {}))
    assert found.config == expected
    assert list(found.tensors) == list(build_network(expected).state_dict())


def test_a_published_file_of_three_targets_needs_no_configuration():
    found = imported(weights(stft={"n_fft": 512, "hop_samples": 110}, targets=["other", "bass", "drums"]), None)
    assert found.config.targets == ("bass", "drums", "other")
    assert found.config.sample_rate_hz == 44100 and found.config.model_dump()["stft"]["hop_samples"] == 110
    assert "MUSDB18-HQ" in found.training_data and "MIT" in found.licence


def test_numbers_keep_their_type_and_what_changes_no_estimate_is_left_out():
    tensors = {name: value.half() for name, value in weights().items()}
    tensors |= {
        "bn0.num_batches_tracked": torch.tensor(3),
        "f_helper.stft.conv_real.weight": torch.zeros(33, 1, 64),
        "f_helper.istft.conv_imag.weight": torch.zeros(64, 64, 1),
        "wav_spec_loss.stft.conv_real.weight": torch.zeros(33, 1, 64),
    }
    found = imported(tensors, HOP)
    assert {value.dtype for value in found.tensors.values()} == {torch.float16}
    assert torch.equal(found.tensors["unet.decoder.0.norm.bias"], tensors["decoder_block1.bn1.bias"])


def test_filters_are_those_of_the_file():
    tensors = weights() | {"f_helper.qmf.ana_conv_filter.weight": torch.full((4, 1, 64), 0.5)}
    assert (imported(tensors, HOP).tensors["bank.analysis"] == 0.5).all()


def test_files_of_other_families_are_left_to_them():
    others = {name.replace("f_helper.qmf.", "qmf."): value for name, value in weights().items()}
    assert read_checkpoint(checkpoint(others, HOP)) is None


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            None,
            r"of one target, whose files do not say which: name a yaml file with --config that says target, such as",
        ),
        ({}, r"^the configuration file: needs the option 'target'$"),
        (
            {"target": "vocals"} | HOP | {"hop_lenght": 3},
            r"unknown option\(s\): hop_lenght = 3 \(did you mean hop_length\?\); known: ",
        ),
        ({"target": "vocals", "hop_length": "59"}, r"hop_length = '59' must be an integer, in samples$"),
        ({"target": "vocals"}, r"n_fft 64 and hop_samples 110"),
        ({"target": "mixture"} | HOP, r"targets: .*cannot be file names"),
        ({"target": "vocals", "sample_rate": 0} | HOP, r"^sample_rate_hz: "),
    ],
)
def test_what_is_missing_or_wrong_in_a_configuration_is_named(document: dict[str, Any] | None, message: str):
    with pytest.raises((ModelFileError, ConfigError), match=message):
        imported(weights(targets=["vocals"]), document)


def test_targets_that_the_tensors_name_need_not_and_cannot_be_named():
    with pytest.raises(ModelFileError, match=r"unknown option\(s\): target"):
        imported(weights(), HOP | {"target": "bass"})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bn0.bias": None}, r"1 tensor\(s\) do not fit.*missing: bn0\.bias"),
        ({"head.weight": (3,)}, r"unexpected: head\.weight"),
        ({"drums_blocks.1.bias": (3,)}, r"misshapen: drums_blocks\.1\.bias is \(3,\), expected \(32,\)"),
        ({"bn0.weight": ()}, r"^bn0\.weight: must have axes, and the sizes follow it$"),
        ({"encoder_block2.conv_block1.conv1.weight": None}, r"^encoder_block2\.conv_block1\.conv1\.weight: is missing"),
    ],
)
def test_tensors_that_do_not_fit_are_named(changes: dict[str, Any], message: str):
    tensors = weights()
    for name, shape in changes.items():
        tensors.pop(name, None)
        if shape is not None:
            tensors[name] = torch.zeros(shape)
    with pytest.raises(ModelFileError, match=message):
        imported(tensors, HOP)


def test_a_lightning_file_becomes_a_model_whatever_its_settings_hold(tmp_path: Path):
    tensors = weights(targets=["vocals"])
    state = {"state_dict": tensors, "hyper_parameters": {"hparams": Namespace(lr=1e-3)}, "epoch": 49}
    torch.save(state, tmp_path / "model.ckpt")
    (tmp_path / "model.yaml").write_text("target: vocals\nhop_length: 56\n")
    model, card = import_checkpoint(tmp_path / "model.ckpt", tmp_path / "model.yaml")
    assert model.config == PresunetConfig.parse(SMALL | {"targets": ["vocals"]})
    assert "CWS-PResUNet" in card.source
    torch.testing.assert_close(model.state_dict()["heads.0.leave.bias"], tensors["after_conv2.bias"])
