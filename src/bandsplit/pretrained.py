"""Import of the weights that the paper's authors published: Lightning checkpoints become one-file models.

Nothing in a checkpoint's pickle is executed: torch's weights-only loader rebuilds tensors and plain containers, and
the few configuration classes that such files mention become inert records.
"""

import zipfile
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pooch import file_hash
from torch import Tensor, serialization

from bandsplit.bands import SCHEMES
from bandsplit.config import ModelConfig
from bandsplit.errors import ConfigError, ModelFileError
from bandsplit.models.authors import tensors_from_authors
from bandsplit.models.build import build_model
from bandsplit.models.files import ModelCard, model_from_tensors
from bandsplit.models.model import BandSplitModel

_INERT_MODULES = ("omegaconf.", "typing.", "pathlib.")
_PLAIN = {"builtins.dict": dict, "builtins.list": list, "collections.defaultdict": defaultdict}

# Settings of training, folders and evaluation, which the network does not depend on.
_NOT_ARCHITECTURE = {"cfg_optim", "cfg_scheduler", "cfg_eval", "name", "name_out_dir", "name_tblog_dir"}


class _Inert:
    """Stands in for a class a checkpoint mentions; it keeps its state and does nothing."""

    def __init__(self, *_: Any, **__: Any) -> None: ...

    def __setstate__(self, state: Any) -> None:
        self.state = state


def import_checkpoint(path: Path | str) -> tuple[BandSplitModel, ModelCard]:
    """Turn a checkpoint of the authors into a model and its card.

    A plain ``torch.save``d dict with ``state_dict`` and ``hyper_parameters`` is accepted too.

    Raises:
        ModelFileError: no such checkpoint, forbidden content, unknown architecture settings, or tensors that are
            missing, unexpected or misshapen; the message names the keys.
    """
    path = Path(path)
    checkpoint = _load_without_running_code(path)
    if not isinstance(checkpoint, dict) or not {"state_dict", "hyper_parameters"} <= checkpoint.keys():
        raise ModelFileError(f"{path}: is not a checkpoint of the authors: it needs state_dict and hyper_parameters")
    state = checkpoint["state_dict"]
    if not isinstance(state, dict) or not all(isinstance(tensor, Tensor) for tensor in state.values()):
        raise ModelFileError(f"{path}: its state_dict must map names to tensors")
    try:
        config = config_from_authors(_plain(checkpoint["hyper_parameters"]))
        with torch.device("meta"):
            expected = build_model(config).state_dict()
        model = model_from_tensors(config, tensors_from_authors(config, expected, state))
    except (ModelFileError, ConfigError) as error:
        raise ModelFileError(f"{path}: {error}") from None
    card = ModelCard(
        name=path.stem,
        training_data="MUSDB18-HQ, by the paper's authors (not verifiable from the file)",
        licence="not stated by its authors; MUSDB18-HQ is for non-commercial use",
        source=f"imported from {path.name}, a checkpoint in the format of the paper's authors (magronp/bsrnn)",
        source_sha256=file_hash(str(path)),
    )
    return model, card


def _load_without_running_code(path: Path) -> Any:
    try:
        path.open("rb").close()
    except FileNotFoundError:
        raise ModelFileError(f"{path}: no such checkpoint file") from None
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be opened ({error.strerror}); name a checkpoint file") from None
    try:
        if not zipfile.is_zipfile(path):
            raise ModelFileError(f"{path}: is not a checkpoint (not a zip file as torch.save writes), or is damaged")
        wanted = serialization.get_unsafe_globals_in_checkpoint(path)
        forbidden = [name for name in wanted if name not in _PLAIN and not name.startswith(_INERT_MODULES)]
        if forbidden:
            raise ModelFileError(
                f"{path}: refused, nothing was run: besides tensors it asks for {', '.join(sorted(forbidden))}, which "
                f"has no place in a checkpoint"
            )
        inert: Any = [(_PLAIN.get(name) or type(name.rpartition(".")[2], (_Inert,), {}), name) for name in wanted]
        with serialization.safe_globals(inert):
            return torch.load(path, map_location="cpu", weights_only=True)
    except ModelFileError:
        raise
    except Exception as error:  # a damaged pickle makes the restricted unpickler raise anything
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelFileError(f"{path}: cannot be read as a checkpoint, nothing was run: {reason}") from None


def _plain(value: Any) -> Any:
    """Strip the inert records from settings: OmegaConf keeps values in ``_val`` and containers in ``_content``."""
    if isinstance(value, _Inert):
        state = getattr(value, "state", {})
        return _plain(state.get("_val", state.get("_content"))) if isinstance(state, dict) else None
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value


def config_from_authors(arguments: Mapping[str, Any]) -> ModelConfig:
    """Translate the constructor arguments of the authors' model; absent ones have their default.

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
    if not isinstance(targets, list) or not targets:
        raise ModelFileError(f"hyper_parameters: targets = {targets!r} must be a name or a list of names")
    bands = "joint" if a["joint_bandsplit"] else targets[0]
    if bands not in SCHEMES or (not a["joint_bandsplit"] and len(targets) > 1):
        raise ModelFileError(f"hyper_parameters: no band scheme for targets {targets} without joint_bandsplit")
    return ModelConfig.parse(
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
            "norm_groups": a["group_num"],
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
            return {"kind": "conv", "hidden_factor": 2 * factor}
        case _:
            raise ModelFileError(f"hyper_parameters: {key} = {value!r} is unknown; legal: lstm, gru, conv, null")


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
