"""Checkpoints that must not be imported, and pickles that must not run."""

import io
import os
import pickle
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from bandsplit.core.errors import ConfigError, ModelFileError
from bandsplit.models.bsrnn.checkpoint import config_from_authors
from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.importing import import_checkpoint
from checkpoints import checkpoint_of
from places import CHECKPOINT

ARGUMENTS = {"targets": "bass", "feature_dim": 8, "num_repeat": 1, "fac_mask": 1}


class Attack:
    """Runs a command when a careless loader reads it."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (self.command,)


class Exploit(dict):
    """Hides the attack in a subclass of a plain container."""

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return eval, ("__import__('pathlib').Path('owned').touch()",)


def plain(path: Path, state: Any, arguments: Any) -> Path:
    torch.save({"state_dict": state, "hyper_parameters": arguments}, path)
    return path


def weights() -> dict[str, torch.Tensor]:
    """The authors' tensors for one block, cut out of the golden checkpoint."""
    from torch import serialization

    names = serialization.get_unsafe_globals_in_checkpoint(CHECKPOINT)
    inert: Any = [
        (type(name.rpartition(".")[2], (), {"__init__": lambda *_: None, "__setstate__": lambda *_: None}), name)
        for name in names
    ]
    with serialization.safe_globals(inert):
        state = torch.load(CHECKPOINT, weights_only=True)["state_dict"]
    return {key: tensor for key, tensor in state.items() if "separator.1." not in key}


ONE_BLOCK = ARGUMENTS | {"stereo": "tac", "act_tac": "prelu", "n_att_head": 2, "attn_enc_dim": 4}


def test_a_plain_saved_dict_is_imported(tmp_path: Path):
    model, card = import_checkpoint(
        plain(tmp_path / "bass.pt", weights(), ONE_BLOCK | {"name_out_dir": "x", "cfg_optim": {"lr": 1}})
    )
    assert model.config.targets == ("bass",)
    assert isinstance(model.config, BsrnnConfig) and model.config.n_blocks == 1
    assert card.source_sha256 is not None
    assert len(card.source_sha256) == 64


@pytest.mark.parametrize("place", ["state_dict", "hyper_parameters", "callbacks"])
def test_code_in_the_pickle_does_not_run(tmp_path: Path, place: str):
    proof = tmp_path / "owned"
    checkpoint: dict[str, Any] = {"state_dict": OrderedDict(weights()), "hyper_parameters": ONE_BLOCK}
    checkpoint[place] = Attack(f"touch '{proof}'")
    path = tmp_path / "evil.ckpt"
    torch.save(checkpoint, path)
    with pytest.raises(ModelFileError, match=r"refused, nothing was run: besides tensors it asks for posix.system"):
        import_checkpoint(path)
    assert not proof.exists()


def test_eval_hidden_in_a_container_does_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelFileError, match=r"nothing was run.*builtins.eval"):
        import_checkpoint(plain(tmp_path / "evil.ckpt", weights(), Exploit()))
    assert not (tmp_path / "owned").exists()


def test_the_attacks_of_these_tests_are_real(tmp_path: Path):
    proof = tmp_path / "owned"
    pickle.loads(pickle.dumps(Attack(f"touch '{proof}'")))
    assert proof.exists()


def test_a_bare_pickle_is_refused_unread(tmp_path: Path):
    path, proof = tmp_path / "evil.ckpt", tmp_path / "owned"
    path.write_bytes(pickle.dumps(Attack(f"touch '{proof}'")))
    with pytest.raises(ModelFileError, match="is not a checkpoint"):
        import_checkpoint(path)
    assert not proof.exists()


def test_another_zip_file_is_refused(tmp_path: Path):
    with zipfile.ZipFile(tmp_path / "x.ckpt", "w") as file:
        file.writestr("hello.txt", "hello")
    with pytest.raises(ModelFileError, match="cannot be read as a checkpoint"):
        import_checkpoint(tmp_path / "x.ckpt")


def test_a_cut_checkpoint_is_refused(tmp_path: Path):
    whole = CHECKPOINT.read_bytes()
    for tenth in range(10):
        (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) * tenth // 10])
        with pytest.raises(ModelFileError, match=r"cut.ckpt"):
            import_checkpoint(tmp_path / "cut.ckpt")


def test_a_missing_checkpoint_is_named(tmp_path: Path):
    with pytest.raises(ModelFileError, match=r"no.ckpt: no such checkpoint"):
        import_checkpoint(tmp_path / "no.ckpt")


def test_a_file_without_weights_is_refused(tmp_path: Path):
    torch.save({"epoch": 3}, tmp_path / "x.ckpt")
    with pytest.raises(ModelFileError, match=r"x\.ckpt: holds no weights: it needs names .* it has epoch$"):
        import_checkpoint(tmp_path / "x.ckpt")


def test_missing_unexpected_and_misshapen_tensors_are_named(tmp_path: Path):
    state = weights()
    del state["BN.3.1.bias"]
    state["BN.99.1.bias"] = torch.zeros(8)
    with pytest.raises(ModelFileError, match=r"missing: BN.3.1.bias; unexpected: BN.99.1.bias"):
        import_checkpoint(plain(tmp_path / "x.ckpt", state, ONE_BLOCK))
    state = weights()
    state["maskers.0.mask.4.3.weight"] = torch.zeros(7, 8, 1)
    with pytest.raises(ModelFileError, match=r"misshapen: .*maskers.0.mask"):
        import_checkpoint(plain(tmp_path / "x.ckpt", state, ONE_BLOCK))
    state = weights()
    state["separator.0.time_net.proj.weight"] = torch.zeros(8, 31)
    with pytest.raises(ModelFileError, match=r"misshapen: separator.0.time_net.proj.weight \(8, 31\)"):
        import_checkpoint(plain(tmp_path / "x.ckpt", state, ONE_BLOCK))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_experts": 4}, r"unknown architecture setting\(s\) \['n_experts'\]"),
        ({"mask_ctxt": 1}, "mask_ctxt = 1 has no counterpart here"),
        ({"bidirectional": False}, "bidirectional = False has no counterpart here"),
        ({"eps": 1e-5}, "eps = 1e-05 has no counterpart"),
        ({"time_layer": "mamba"}, "time_layer = 'mamba' is unknown; legal: lstm, gru, conv, null"),
        ({"stereo": "ms"}, "stereo = 'ms' is unknown; legal: naive, tac, null"),
        ({"targets": "piano"}, r"no band scheme for targets \['piano'\] without joint_bandsplit"),
        ({"targets": ["vocals", "bass"]}, "without joint_bandsplit"),
        ({"targets": None}, "targets = None must be a name"),
    ],
)
def test_architecture_settings_without_a_counterpart_are_refused(change: dict[str, Any], message: str):
    with pytest.raises(ModelFileError, match=message):
        config_from_authors(ARGUMENTS | change)


@pytest.mark.parametrize(
    ("change", "groups"),
    [({}, 1), ({"feature_dim": 64}, 4), ({"feature_dim": 64, "n_heads": 2}, 2), ({"feature_dim": 130}, 8)],
)
def test_no_number_of_groups_means_one_for_sixteen_features_of_a_head(change: dict[str, Any], groups: int):
    arguments = ARGUMENTS | {"group_num": None} | change
    if groups == 8:  # which does not divide 130: the authors' network cannot be built either
        with pytest.raises(ConfigError, match="norm_groups: 8 does not divide n_features / heads = 130"):
            config_from_authors(arguments)
    else:
        assert config_from_authors(arguments).norm_groups == groups


def test_a_checkpoint_without_a_number_of_groups_is_imported_with_those_it_means(tmp_path: Path):
    checkpoint = torch.load(io.BytesIO(checkpoint_of("bass", feature_dim=32)), weights_only=True)
    models = []
    for groups in (None, 2, 1):
        arguments = checkpoint["hyper_parameters"] | {"group_num": groups}
        models.append(import_checkpoint(plain(tmp_path / "bass.ckpt", checkpoint["state_dict"], arguments))[0])
    mixture = torch.randn(1, 2, 5000, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        meant, two, one = (model(mixture).signal for model in models)
    assert models[0].config.norm_groups == 2
    assert torch.equal(meant, two) and not torch.equal(meant, one)


def test_hyper_parameters_that_are_no_mapping_are_refused(tmp_path: Path):
    with pytest.raises(ModelFileError, match="must be a mapping"):
        import_checkpoint(plain(tmp_path / "x.ckpt", weights(), [1, 2]))


def test_a_zip_file_that_claims_to_span_several_disks_is_refused(tmp_path: Path):
    data = bytearray(CHECKPOINT.read_bytes())
    locator = data.rindex(b"PK\x06\x07")
    data[locator + 4 : locator + 8] = b"\x01\0\0\0"
    (tmp_path / "a.ckpt").write_bytes(data)
    with pytest.raises(ModelFileError, match=r"a\.ckpt: cannot be read as a checkpoint, nothing was run: "):
        import_checkpoint(tmp_path / "a.ckpt")
