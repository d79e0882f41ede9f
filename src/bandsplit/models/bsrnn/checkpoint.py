"""Import of the weights that the paper's authors published: the settings of their network, translated to ours."""

from collections.abc import Mapping
from typing import Any

from bandsplit.core.errors import ModelFileError
from bandsplit.models.bsrnn.bands import SCHEMES
from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.bsrnn.tensor_names import tensors_from_authors
from bandsplit.models.contract import Checkpoint, Imported

# Settings of training, folders and evaluation, which the network does not depend on.
_NOT_ARCHITECTURE = {"cfg_optim", "cfg_scheduler", "cfg_eval", "name", "name_out_dir", "name_tblog_dir"}

_PARTS = ("BN.", "separator.", "maskers.")
"""Names of the parts of their network."""


def read_checkpoint(checkpoint: Checkpoint) -> Imported | None:
    """Read a checkpoint of the authors; None if its tensors are not theirs.

    Raises:
        ModelFileError: it has no settings, or unknown ones, or tensors that are missing, unexpected or misshapen; the
            message names the keys.
        ConfigError: its settings contradict each other.
    """
    if not any(name.startswith(_PARTS) for name in checkpoint.shapes):
        return None
    if checkpoint.document is not None:
        raise ModelFileError("holds its own settings: leave the configuration file out (--config)")
    if checkpoint.arguments is None:
        raise ModelFileError("is not a checkpoint of the authors: it needs their settings, hyper_parameters")
    config = config_from_authors(checkpoint.arguments)
    return Imported(
        config,
        tensors_from_authors(config, checkpoint.shapes, checkpoint.read),
        training_data="MUSDB18-HQ, by the paper's authors (not verifiable from the file)",
        licence="not stated by its authors; MUSDB18-HQ is for non-commercial use",
        format="a checkpoint in the format of the paper's authors (magronp/bsrnn)",
    )


def config_from_authors(arguments: Mapping[str, Any]) -> BsrnnConfig:
    """Translate the constructor arguments of the authors' model; absent ones get their defaults.

    Raises:
        ModelFileError: an argument is unknown or has a value that this family does not have.
    """
    given = {key: arguments[key] for key in arguments if key not in _NOT_ARCHITECTURE}
    defaults: dict[str, Any] = {
        "targets": None, "sample_rate": 44100, "n_fft": 2048, "n_hop": 512, "eps": 1e-7, "nb_channels": 2,
        "feature_dim": 64, "joint_bandsplit": False, "num_repeat": 8, "fac_sep": 2, "time_layer": "lstm",
        "band_layer": "lstm", "bidirectional": True, "fac_mask": 4, "mask_ctxt": 0, "subtract_last_trgt": False,
        "n_heads": 1, "group_num": 1, "n_att_head": 0, "attn_enc_dim": 8, "stereo": None, "fac_tac": 3,
        "act_tac": "tanh",
    }  # fmt: skip
    unknown = sorted(given.keys() - defaults.keys())
    if unknown:
        raise ModelFileError(f"hyper_parameters: unknown architecture setting(s) {unknown}; known: {sorted(defaults)}")
    a = defaults | given
    for key, legal in (("eps", 1e-7), ("bidirectional", True), ("mask_ctxt", 0)):
        if a[key] != legal:
            raise ModelFileError(f"hyper_parameters: {key} = {a[key]!r} has no counterpart here; legal: {legal!r}")
    targets = [a["targets"]] if isinstance(a["targets"], str) else a["targets"]
    if not isinstance(targets, list) or not targets or not all(isinstance(target, str) for target in targets):
        raise ModelFileError(f"hyper_parameters: targets = {targets!r} must be a name or a list of names")
    bands = "joint" if a["joint_bandsplit"] else targets[0]
    if bands not in SCHEMES or (not a["joint_bandsplit"] and len(targets) > 1):
        raise ModelFileError(f"hyper_parameters: no band scheme for targets {targets} without joint_bandsplit")
    return BsrnnConfig.parse(
        {
            "targets": targets,
            "bands": bands,
            "sample_rate_hz": a["sample_rate"],
            "channels": a["nb_channels"],
            "stft": {"n_fft": a["n_fft"], "hop_samples": a["n_hop"]},
            "n_features": a["feature_dim"],
            "n_blocks": a["num_repeat"],
            "time": _layer_from_authors("time_layer", a["time_layer"], a["fac_sep"]),
            "band": _layer_from_authors("band_layer", a["band_layer"], a["fac_sep"]),
            "norm_groups": _groups_from_authors(a),
            "heads": a["n_heads"],
            "attention": {"heads": a["n_att_head"], "encoding_dim": a["attn_enc_dim"]} if a["n_att_head"] else None,
            "stereo": _stereo_from_authors(a),
            "mask": {"hidden_factor": a["fac_mask"]},
            "residual": targets[-1] if a["subtract_last_trgt"] else None,
        }
    )


def _layer_from_authors(key: str, value: Any, factor: int) -> dict[str, Any] | None:
    if isinstance(value, Mapping) and value.keys() == {"n_dil_conv", "ks", "hs_fac"}:
        return {
            "kind": "dilated", "depth": value["n_dil_conv"], "kernel": value["ks"], "hidden_factor": value["hs_fac"],
        }  # fmt: skip
    match value:
        case None:
            return None
        case "lstm" | "gru":
            return {"kind": value, "hidden_factor": factor}
        case "conv":
            return {"kind": "conv", "hidden_factor": 2 * factor if isinstance(factor, int) else factor}
        case _:
            raise ModelFileError(f"hyper_parameters: {key} = {value!r} is unknown; legal: lstm, gru, conv, null")


def _groups_from_authors(arguments: Mapping[str, Any]) -> Any:
    n, heads, groups = (arguments[key] for key in ("feature_dim", "n_heads", "group_num"))
    if groups is not None or not isinstance(n, int) or not isinstance(heads, int) or heads < 1:
        return groups
    return max(n // heads // 16, 1)


def _stereo_from_authors(arguments: Mapping[str, Any]) -> dict[str, Any]:
    match arguments["stereo"]:
        case None:
            return {"kind": "independent"}
        case "naive":
            return {"kind": "merged"}
        case "tac":
            return {"kind": "tac", "activation": arguments["act_tac"], "hidden_factor": arguments["fac_tac"]}
        case other:
            raise ModelFileError(f"hyper_parameters: stereo = {other!r} is unknown; legal: naive, tac, null")
