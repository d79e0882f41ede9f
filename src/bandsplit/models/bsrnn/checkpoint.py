"""Import of the weights that the paper's authors published: Lightning checkpoints become one-file models.

Nothing in a checkpoint's pickle is executed, see `bandsplit.models.pickled`. Its settings and the types and shapes of
its tensors are checked before any weight is read.
"""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from bandsplit.core.errors import ModelFileError
from bandsplit.models.bsrnn.bands import SCHEMES
from bandsplit.models.bsrnn.config import BsrnnConfig
from bandsplit.models.bsrnn.tensor_names import tensors_from_authors
from bandsplit.models.contract import Imported
from bandsplit.models.pickled import TYPES, PickledFile, Record, StoredTensor

# Settings of training, folders and evaluation, which the network does not depend on.
_NOT_ARCHITECTURE = {"cfg_optim", "cfg_scheduler", "cfg_eval", "name", "name_out_dir", "name_tblog_dir"}

_DEEPEST, _LONGEST = 20, 100_000  # limits for settings: levels of nesting; values and characters


def read_checkpoint(path: Path) -> Imported:
    """Read a checkpoint of the authors.

    A plain ``torch.save``d dict with ``state_dict`` and ``hyper_parameters`` is accepted too.

    Raises:
        ModelFileError: no such checkpoint, forbidden content, unknown architecture settings, or tensors that are
            missing, unexpected, misshapen or not weights; the message names the keys.
        ConfigError: its settings contradict each other.
    """
    with PickledFile(path) as file:
        config, tensors = _read_tensors(file)
    return Imported(
        config,
        tensors,
        training_data="MUSDB18-HQ, by the paper's authors (not verifiable from the file)",
        licence="not stated by its authors; MUSDB18-HQ is for non-commercial use",
        format="a checkpoint in the format of the paper's authors (magronp/bsrnn)",
    )


def _read_tensors(file: PickledFile) -> tuple[BsrnnConfig, dict[str, Tensor]]:
    """Return the configuration of a checkpoint, and its weights under our names."""
    if not isinstance(file.content, dict) or not {"state_dict", "hyper_parameters"} <= file.content.keys():
        raise ModelFileError("is not a checkpoint of the authors: it needs state_dict and hyper_parameters")
    theirs = _stored_weights(file.content["state_dict"], file.path.stat().st_size)
    config = config_from_authors(_Settings().plain(file.content["hyper_parameters"]))
    shapes = {name: tensor.shape for name, tensor in theirs.items()}
    return config, tensors_from_authors(config, shapes, lambda name: file.tensor(theirs[name]))


def _stored_weights(state: Any, file_bytes: int) -> dict[str, StoredTensor]:
    """Return the tensors of a state dict; all are plain, of real numbers, and together no larger than the file.

    Raises:
        ModelFileError: one is not.
    """
    if not isinstance(state, dict) or not all(isinstance(name, str) for name in state):
        raise ModelFileError("its state_dict must map names to tensors")
    for name, tensor in state.items():
        if not isinstance(tensor, StoredTensor):
            kind = tensor.name if isinstance(tensor, Record) else type(tensor).__name__
            raise ModelFileError(f"its state_dict must map names to plain tensors, but {name} is {kind}")
        if tensor.type not in TYPES:
            raise ModelFileError(
                f"its state_dict has numbers that cannot be weights: {name} is of type {tensor.type}; legal: "
                f"{', '.join(TYPES)}"
            )
    numbers_bytes = sum(math.prod(tensor.shape) * TYPES[tensor.type].itemsize for tensor in state.values())
    if numbers_bytes > file_bytes:
        largest = max(state, key=lambda name: math.prod(state[name].shape))
        raise ModelFileError(
            f"its tensors repeat the numbers of the file: they claim {numbers_bytes} bytes of {file_bytes}; the "
            f"largest is {largest} {state[largest].shape}"
        )
    return state


class _Settings:
    """Reader of settings that may be shared, nested or endless; it stops after a number of values and characters."""

    def __init__(self) -> None:
        self._left = _LONGEST

    def plain(self, value: Any, depth: int = 0) -> Any:
        """Strip the records from settings: OmegaConf keeps values in ``_val`` and containers in ``_content``.

        Raises:
            ModelFileError: they are nested too deeply (or in themselves), too many, or not plain values.
        """
        self._left -= 1 + len(value) if isinstance(value, str) else 1
        if depth > _DEEPEST or self._left < 0:
            raise ModelFileError(f"hyper_parameters: more than {_DEEPEST} levels deep, or more than {_LONGEST} values")
        if isinstance(value, Record) and value.name.startswith("omegaconf.") and isinstance(value.state, dict):
            return self.plain(value.state.get("_val", value.state.get("_content")), depth + 1)
        if isinstance(value, dict):
            if strange := [key for key in value if not isinstance(key, str)]:
                raise ModelFileError(f"hyper_parameters: names must be text, found {type(strange[0]).__name__}")
            kept = {key: item for key, item in value.items() if depth > 1 or key not in _NOT_ARCHITECTURE}
            return {key: self.plain(item, depth + 1) for key, item in kept.items()}
        if isinstance(value, list | tuple):
            return [self.plain(item, depth + 1) for item in value]
        if value is None or isinstance(value, str | int | float):
            return value
        kind = value.name if isinstance(value, Record) else type(value).__name__
        raise ModelFileError(f"hyper_parameters: {kind} is not a setting; legal: texts, numbers, lists, mappings, null")


def config_from_authors(arguments: Mapping[str, Any]) -> BsrnnConfig:
    """Translate the constructor arguments of the authors' model; absent ones get their defaults.

    Raises:
        ModelFileError: an argument is unknown or has a value that this family does not have.
    """
    if not isinstance(arguments, Mapping):
        raise ModelFileError("hyper_parameters must be a mapping of constructor arguments")
    given = {key: value for key, value in arguments.items() if key not in _NOT_ARCHITECTURE}
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
