"""Import of DTTNet's checkpoints: what a file says, what must be said, and what is refused."""

from typing import Any

import pytest
import torch
from torch import Tensor

from authors_networks import checkpoint
from bandsplit.core.errors import ModelFileError
from bandsplit.models.contract import Imported
from bandsplit.models.dttnet.config import DttnetConfig
from bandsplit.models.dttnet.network import DttnetNetwork
from bandsplit.models.dttnet.weights import _their_name, read_checkpoint
from plain_dttnet import ARGUMENTS, make_weights

LEAST = {"target_name": "other", "hop_length": 24, "dim_t": 16}


def imported(weights: dict[str, Tensor], document: dict[str, Any] | None) -> Imported:
    found = read_checkpoint(checkpoint(weights, document))
    assert found is not None
    return found


def test_what_the_tensors_say_need_not_be_said():
    weights = make_weights(ARGUMENTS)
    stated = imported(weights, ARGUMENTS)
    assert imported(weights, LEAST).config == stated.config
    assert "86" in stated.training_data and "Apache-2.0" in stated.licence


@pytest.mark.parametrize(
    "changes",
    [
        {"unet": {"block": "plain", "tdf": None, "levels": 1, "kernel": 5}, "dual_path": {"rnn": "gru", "heads": 1}},
        {"unet": {"block": "res1", "tdf": {"kind": "square", "bias": True}, "levels": 0}, "dual_path": {"layers": 1}},
        {"unet": {"convs": 1, "levels": 1}, "channels": 1, "dual_path": {"bidirectional": False, "layers": 2}},
    ],
)
def test_every_option_is_read_from_names_and_shapes(changes: dict[str, Any]):
    changes["unet"]["n_features"] = 32
    config = DttnetConfig.parse(
        {"targets": ["bass"], "stft": {"n_fft": 128, "hop_samples": 32}, "bins": 48, **changes}
        | {"plan": {"kind": "trimmed", "chunk_s": 32 * 15 / 44100, "trim_s": 64 / 44100}}
    )
    weights = {_their_name(name, config): value for name, value in DttnetNetwork(config).state_dict().items()}
    weights |= {"window": torch.hann_window(128), "freq_pad": torch.zeros(1, 2 * config.channels, 17, 1)}
    found = imported(weights, {"target_name": "bass", "hop_length": 32, "dim_t": 16})
    assert found.config == config


def test_numbers_keep_their_type_and_counts_of_batches_are_left_out():
    weights = {name: value.half() for name, value in make_weights(ARGUMENTS).items()}
    weights |= {"first_conv.1.num_batches_tracked": torch.tensor(3)}
    found = imported(weights, {"_target_": "anything", "model": LEAST | {"lr": 1e-4, "optimizer": "adamW"}} | {})
    assert {value.dtype for value in found.tensors.values()} == {torch.float16}
    assert torch.equal(found.tensors["unet.enter.layer.bias"], weights["first_conv.0.bias"])


def test_files_of_other_families_are_left_to_them():
    weights = make_weights(ARGUMENTS)
    others = {name.replace("bottleneck_block2.bsrnn", "separator"): value for name, value in weights.items()}
    assert read_checkpoint(checkpoint(others, ARGUMENTS)) is None


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (None, r"hold no settings: name their configuration file with --config, or a yaml file with target_name, hop"),
        ({"target_name": "other", "dim_t": 16}, r"^the configuration file: needs the option 'hop_length'$"),
        ({"hop_length": 24, "dim_t": 16}, r"^the configuration file: needs the option 'target_name'$"),
        (LEAST | {"bnd": 3}, r"^the configuration file: unknown option\(s\): bnd = 3 \(did you mean bn\?\); known: "),
        (LEAST | {"bn_norm": "IN"}, r"bn_norm = 'IN' is not supported; legal: 'BN'"),
        (LEAST | {"block_type": "TFC"}, r"block_type = 'TFC' is not supported; legal: 'TFC_TDF_Res2', 'TFC_TDF', "),
        (LEAST | {"num_blocks": "5"}, r"num_blocks = '5' must be an integer$"),
        (LEAST | {"bandsequence": {"rnn_type": "RNN"}}, r"bandsequence: rnn_type = 'RNN' is not supported"),
        (LEAST | {"bandsequence": {"dropout": 0.1}}, r"bandsequence: unknown option\(s\): dropout"),
        (LEAST | {"bandsequence": [1]}, r"bandsequence: must map names of options to values"),
        ({"model": LEAST, "seed": 3}, r"^the configuration file: unknown option\(s\): seed"),
        (
            LEAST | {"l": 3},
            r"do not fit the configuration: missing: encoding_blocks\.0\.tfc1\.H\.2\.0\.weight",
        ),
        (LEAST | {"num_blocks": 3}, r"misshapen: bottleneck_block1\.|unexpected: decoding_blocks\.1"),
        (LEAST | {"n_fft": 128, "dim_f": 40}, r"^window: is not the periodic Hann window of 128 samples"),
    ],
)
def test_what_is_missing_or_does_not_fit_is_named(document: dict[str, Any] | None, message: str):
    with pytest.raises(ModelFileError, match=message):
        read_checkpoint(checkpoint(make_weights(ARGUMENTS), document))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"window": torch.hann_window(96, periodic=False)}, r"^window: is not the periodic Hann window of 96 samples"),
        ({"freq_pad": torch.full((1, 4, 9, 1), 0.1)}, r"^freq_pad: must be zero"),
        ({"extra.weight": torch.zeros(3)}, r"unexpected: extra\.weight"),
        ({"us.0.1.bias": torch.zeros(3)}, r"misshapen: us\.0\.1\.bias is \(3,\), expected \(24,\)"),
        ({"first_conv.0.weight": torch.zeros(3)}, r"first_conv\.0\.weight: has shape \(3,\), and must have 4 axes"),
    ],
)
def test_damaged_files_are_refused(change: dict[str, Tensor], message: str):
    with pytest.raises(ModelFileError, match=message):
        read_checkpoint(checkpoint(make_weights(ARGUMENTS) | change, LEAST))
