"""The U-Net of TFC-TDF blocks against the numbers of its authors' code, and its normalisation against torch's."""

from pathlib import Path

import pytest
import torch
from torch import nn

from authors_networks import read_golden, relative_difference
from bandsplit.models.layers.batch_norm import BatchNorm, UnchangedStatistics
from bandsplit.models.layers.tfc_tdf_v2 import TfcTdfUnet
from bandsplit.models.layers.tfc_tdf_v2_config import UnetConfig, unet_shapes
from bandsplit.models.layers.tfc_tdf_v2_files import find_options, take_unet, their_name
from bandsplit.models.options import Options


@pytest.mark.parametrize("name", ["mdxnet-tfctdf2", "mdxnet-tfctdf2-bias-full-tdf"])
def test_plain_blocks_give_the_output_of_kuielabs_network(shared: Path, name: str):
    found = read_golden(shared / "golden" / "systems" / "demucs_mdx_presunet" / f"{name}.safetensors")
    theirs = {key: tuple(tensor.shape) for key, tensor in found.weights.items()}
    options = find_options(theirs, "bottleneck_block")
    given = {key: value for key, value in found.arguments.items() if key in options}
    assert {key: options[key] for key in given} == given  # all that the file says, its tensors say too
    config = UnetConfig.parse(take_unet(Options({}, "config"), options))
    image, bins = found.arguments["dim_c"], found.arguments["dim_f"]
    unet = TfcTdfUnet(config, image, bins, nn.Identity()).eval()
    weights = {ours: found.weights[their_name(ours, config, "bottleneck_block")] for ours in unet.state_dict()}
    unet.load_state_dict(weights, strict=True)
    with torch.inference_mode():
        estimate = unet(found.tensors["spectrogram"])
    assert relative_difference(estimate, found.tensors["spectrogram_out"]) <= 3e-6
    assert [(key, tuple(tensor.shape)) for key, tensor in unet.state_dict().items()] == list(
        unet_shapes(config, image, bins)
    )
    assert sum(parameter.numel() for parameter in unet.parameters()) == int(found.metadata["parameters"])


def test_the_normalisation_is_torchs_without_a_count_of_batches():
    torch.manual_seed(0)
    ours, theirs = BatchNorm(3), nn.BatchNorm2d(3)
    for _ in range(3):
        x = torch.randn(2, 3, 5, 4) * 2 + 1
        assert torch.equal(ours(x), theirs(x))
    assert ours.state_dict().keys() == {"weight", "bias", "running_mean", "running_var"}
    again = BatchNorm(3).eval()
    again.load_state_dict(dict(ours.state_dict()), strict=True)
    assert torch.equal(again(x), theirs.eval()(x))


def test_statistics_do_not_change_in_a_repeated_pass():
    norm = BatchNorm(3)
    norm(torch.randn(2, 3, 5, 4))
    before = {name: value.clone() for name, value in norm.state_dict().items()}
    repeated = UnchangedStatistics(nn.Sequential(norm))
    for _ in range(2):
        with repeated:
            norm(torch.randn(2, 3, 5, 4))
    assert all(torch.equal(value, before[name]) for name, value in norm.state_dict().items())
    norm(torch.randn(2, 3, 5, 4))
    assert not torch.equal(norm.running_mean, before["running_mean"])
