"""The families of networks: one line for each here, the rest in a folder per family.

The parts of a family are named ``module:attribute`` and imported when they are used, so that configurations are read
without PyTorch, and networks are built without ONNX.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator, SerializeAsAny

from bandsplit.core.errors import ConfigError
from bandsplit.models.contract import Flop, ModelConfig, NativeCore, OnnxCore, Shapes

if TYPE_CHECKING:
    from bandsplit.models.network import SeparationModel


@dataclass(frozen=True)
class Family:
    """A kind of network, and the places of its parts."""

    config: str
    """Its class of configurations, a `ModelConfig`."""
    shapes: str
    """Function from a configuration to `Shapes`, which are compared with files before anything is built."""
    build: str
    """Function from a configuration to a `SeparationModel` with random weights from torch's global generator."""
    flop: str
    """Function from a configuration and a number of samples to `Flop`."""
    weights: str | None = None
    """Function from a `Checkpoint` to `Imported`, or to None if the names of its tensors are not of this family; it
    raises ModelFileError or ConfigError for one that is, and cannot be read."""
    onnx: str | None = None
    """Class without arguments that is an `OnnxCore`."""
    native: str | None = None
    """Class without arguments that is a `NativeCore`."""


FAMILIES = {
    "bsrnn": Family(
        config="bandsplit.models.bsrnn.config:BsrnnConfig",
        shapes="bandsplit.models.bsrnn.shapes:tensor_shapes",
        build="bandsplit.models.bsrnn.build:build_network",
        flop="bandsplit.models.bsrnn.flop:count_flop",
        weights="bandsplit.models.bsrnn.checkpoint:read_checkpoint",
        onnx="bandsplit.models.bsrnn.onnx_core:BsrnnOnnx",
        native="bandsplit.models.bsrnn.native:BsrnnNative",
    ),
    "htdemucs": Family(
        config="bandsplit.models.demucs.config:HtDemucsConfig",
        shapes="bandsplit.models.demucs.shapes:tensor_shapes",
        build="bandsplit.models.demucs.build:build_htdemucs",
        flop="bandsplit.models.demucs.flop:count_flop",
        weights="bandsplit.models.demucs.weights:read_checkpoint",
        onnx="bandsplit.models.demucs.onnx_core:TwoBranchOnnx",
    ),
    "hdemucs": Family(
        config="bandsplit.models.demucs.config:HybridDemucsConfig",
        shapes="bandsplit.models.demucs.shapes:tensor_shapes",
        build="bandsplit.models.demucs.build:build_hdemucs",
        flop="bandsplit.models.demucs.flop:count_flop",
        weights="bandsplit.models.demucs.weights:read_checkpoint",
        onnx="bandsplit.models.demucs.onnx_core:TwoBranchOnnx",
    ),
    "demucs": Family(
        config="bandsplit.models.demucs.time_config:DemucsConfig",
        shapes="bandsplit.models.demucs.time_shapes:tensor_shapes",
        build="bandsplit.models.demucs.time_network:build_demucs",
        flop="bandsplit.models.demucs.time_flop:count_flop",
        weights="bandsplit.models.demucs.weights:read_checkpoint",
        onnx="bandsplit.models.demucs.time_onnx_core:TimeOnnx",
    ),
    "demucs_v2": Family(
        config="bandsplit.models.demucs.time_config:DemucsV2Config",
        shapes="bandsplit.models.demucs.time_shapes:tensor_shapes",
        build="bandsplit.models.demucs.time_network:build_demucs_v2",
        flop="bandsplit.models.demucs.time_flop:count_flop",
        weights="bandsplit.models.demucs.weights:read_checkpoint",
        onnx="bandsplit.models.demucs.time_onnx_core:TimeOnnx",
    ),
    "bs_roformer": Family(
        config="bandsplit.models.bs_roformer.config:BsRoformerConfig",
        shapes="bandsplit.models.bs_roformer.shapes:tensor_shapes",
        build="bandsplit.models.bs_roformer.build:build_network",
        flop="bandsplit.models.bs_roformer.flop:count_flop",
        weights="bandsplit.models.bs_roformer.weights:read_checkpoint",
        onnx="bandsplit.models.bs_roformer.onnx_core:BsRoformerOnnx",
    ),
    "tfc_tdf": Family(
        config="bandsplit.models.tfc_tdf.config:TfcTdfConfig",
        shapes="bandsplit.models.tfc_tdf.shapes:tensor_shapes",
        build="bandsplit.models.tfc_tdf.network:build_network",
        flop="bandsplit.models.tfc_tdf.flop:count_flop",
        weights="bandsplit.models.tfc_tdf.weights:read_checkpoint",
        onnx="bandsplit.models.tfc_tdf.onnx_core:TfcTdfOnnx",
    ),
    "dttnet": Family(
        config="bandsplit.models.dttnet.config:DttnetConfig",
        shapes="bandsplit.models.dttnet.shapes:tensor_shapes",
        build="bandsplit.models.dttnet.network:DttnetNetwork",
        flop="bandsplit.models.dttnet.flop:count_flop",
        weights="bandsplit.models.dttnet.weights:read_checkpoint",
        onnx="bandsplit.models.layers.unet_model_onnx:UnetModelOnnx",
    ),
    "mdx_net": Family(
        config="bandsplit.models.mdx_net.config:MdxNetConfig",
        shapes="bandsplit.models.mdx_net.shapes:tensor_shapes",
        build="bandsplit.models.mdx_net.network:MdxNetwork",
        flop="bandsplit.models.mdx_net.flop:count_flop",
        weights="bandsplit.models.mdx_net.weights:read_checkpoint",
        onnx="bandsplit.models.layers.unet_model_onnx:UnetModelOnnx",
    ),
    "presunet": Family(
        config="bandsplit.models.presunet.config:PresunetConfig",
        shapes="bandsplit.models.presunet.shapes:tensor_shapes",
        build="bandsplit.models.presunet.network:build_network",
        flop="bandsplit.models.presunet.flop:count_flop",
        weights="bandsplit.models.presunet.weights:read_checkpoint",
        onnx="bandsplit.models.presunet.onnx_core:PresunetOnnx",
    ),
}
UNNAMED = "bsrnn"
"""The family of configurations that name none: they were written before there was a second family."""

_MISSING = {
    "weights": "checkpoints of other software cannot be imported",
    "onnx": "its models cannot be exported to ONNX; separate with the .safetensors model",
    "native": "its models need PyTorch or onnxruntime",
}
"""The parts that a family may lack, and the consequence of each for users."""


def find_part(family: str, part: str) -> Any:
    """Import a part of a family.

    Raises:
        ConfigError: there is no such family, or it lacks the part.
    """
    if not isinstance(family, str) or family not in FAMILIES:
        near = difflib.get_close_matches(str(family), FAMILIES, n=1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ConfigError(f"family: {family!r} is not a family of networks; {hint}legal: {', '.join(FAMILIES)}")
    place = getattr(FAMILIES[family], part)
    if place is None:
        raise ConfigError(f"family {family!r} has no part {part!r}: {_MISSING[part]}")
    try:
        return resolve_name(place)
    except ModuleNotFoundError as error:
        if error.name is None or not place.startswith(error.name):
            raise  # the part needs a missing library: the caller knows what to install
        raise ConfigError(f"family {family!r} lacks its part {part!r}: there is no module {error.name}") from None
    except AttributeError:
        raise ConfigError(f"family {family!r} lacks its part {part!r}: {place.replace(':', ' has no ')}") from None


def parse_model(data: Any) -> ModelConfig:
    """Turn plain data into the configuration of the family that it names.

    Raises:
        ConfigError: it is not a configuration, or names no known family.
    """
    return _config_class(data).parse(data)


def _config_class(data: Any) -> type[ModelConfig]:
    return find_part(data.get("family", UNNAMED) if isinstance(data, dict) else UNNAMED, "config")


def _validate(data: Any) -> ModelConfig:
    if isinstance(data, ModelConfig):
        return data
    try:
        kind = _config_class(data)
    except ConfigError as error:
        raise ValueError(str(error)) from None
    return kind.model_validate(data)


AnyModelConfig = Annotated[SerializeAsAny[ModelConfig], BeforeValidator(_validate)]
"""Type of a field that holds a configuration of any family."""


def tensor_shapes(config: ModelConfig) -> Shapes:
    """Yield name and shape of each tensor in the network's state dict, in its order."""
    return find_part(config.family, "shapes")(config)


def build_network(config: ModelConfig) -> SeparationModel:
    """Build the network with random weights; `bandsplit.models.network.build_model` checks its size first."""
    return find_part(config.family, "build")(config)


def count_flop(config: ModelConfig, samples: int) -> Flop:
    """Count the operations that one signal of ``samples`` with all its channels takes."""
    return find_part(config.family, "flop")(config, samples)


def onnx_core(config: ModelConfig) -> OnnxCore:
    """Return the ONNX export of the family.

    Raises:
        ConfigError: the family has none.
    """
    return find_part(config.family, "onnx")()


def native_core(config: ModelConfig) -> NativeCore:
    """Return the networks of the family in the CPU kernels.

    Raises:
        ConfigError: the family has none.
    """
    return find_part(config.family, "native")()
