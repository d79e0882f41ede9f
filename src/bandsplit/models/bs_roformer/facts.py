"""Sizes of a network that follow from the names and shapes of the tensors in a public checkpoint."""

import re
from collections.abc import Mapping
from typing import Literal, NamedTuple

from bandsplit.core.errors import ModelFileError
from bandsplit.models.contract import Shape

_LAYER = re.compile(r"layers\.(\d{1,6})\.(\d{1,6})\.layers\.(\d{1,6})\..+")
_MASK_LAYER = re.compile(r"mask_estimators\.(\d{1,6})\.to_freqs\.(\d{1,6})\.0\.(\d{1,6})\.weight")
_BAND = re.compile(r"band_split\.to_features\.(\d{1,6})\.0\.gamma")


class Facts(NamedTuple):
    """Sizes of a network."""

    n_features: int
    n_blocks: int
    heads: int
    head_features: int
    places: dict[str, int]
    """Number of the transformers of each axis within their blocks."""
    layers: dict[str, int]
    """Layers of the transformers of each axis."""
    norm: Literal["final", "each"]
    band_features: tuple[int, ...]
    """Numbers of a frame in each band: real and imaginary parts of all its bins in all channels."""
    stems: int
    mask_hidden: int | None
    """Hidden size of the mask estimators; None without hidden layers."""
    mask_layers: int
    """Linear layers of the mask estimators."""

    @property
    def channels(self) -> int:
        """Channels: 2 if that gives bands of complete bins, and adjacent bands a transform of a power of two."""
        if self.norm == "each":
            return 2 if all(size % 4 == 0 for size in self.band_features) else 1
        hops, rest = divmod(sum(self.band_features) - 4, 4)
        return 2 if rest == 0 and hops.bit_count() == 1 else 1

    def widths(self, channels: int) -> list[int]:
        """Return the bins of each band."""
        return [size // (2 * channels) for size in self.band_features]

    def describe(self) -> str:
        """Describe the network in a line."""
        kind = "BS-RoFormer" if self.norm == "final" else "Mel-Band RoFormer"
        return (
            f"a {kind} ({len(self.band_features)} bands, {self.n_features} features, {self.n_blocks} blocks, "
            f"{self.heads} heads of {self.head_features}, {self.channels} channel(s), {self.stems} stem(s))"
        )


def find_facts(shapes: Mapping[str, Shape]) -> Facts:
    """Infer the sizes.

    Raises:
        ModelFileError: a tensor that says one of them is missing.
    """
    layers = [tuple(map(int, found.groups())) for name in shapes if (found := _LAYER.fullmatch(name))]
    masks = [tuple(map(int, found.groups())) for name in shapes if (found := _MASK_LAYER.fullmatch(name))]
    bands = [int(found[1]) for name in shapes if (found := _BAND.fullmatch(name))]
    if not layers or not masks or not bands:
        raise ModelFileError("has tensors of a RoFormer, but lacks all of its blocks, masks or bands; is it complete?")
    numbers = sorted({number for _, number, _ in layers})
    # Some versions number the transformers from 1 if there is no linear attention.
    axes = {2: ("time", "band"), 3: ("linear", "time", "band")}.get(len(numbers))
    if axes is None:
        raise ModelFileError(
            f"has {len(numbers)} transformers in each block; a RoFormer has 2, or 3 with linear attention"
        )
    places = dict(zip(axes, numbers, strict=True))
    first = f"layers.0.{places['time']}.layers.0"
    hidden = "mask_estimators.0.to_freqs.0.0.0.weight"
    mask_layers = 1 + max(layer for _, _, layer in masks) // 2
    return Facts(
        n_features=_shape(shapes, f"{first}.0.norm.gamma", 1)[0],
        n_blocks=1 + max(block for block, _, _ in layers),
        heads=_shape(shapes, f"{first}.0.to_gates.weight", 2)[0],
        head_features=2 * _shape(shapes, f"{first}.0.rotary_embed.freqs", 1)[0],
        places=places,
        layers={
            axis: 1 + max(layer for _, found, layer in layers if found == number) for axis, number in places.items()
        },
        norm="final" if "final_norm.gamma" in shapes else "each",
        band_features=tuple(_shape(shapes, f"band_split.to_features.{k}.0.gamma", 1)[0] for k in range(1 + max(bands))),
        stems=1 + max(stem for stem, _, _ in masks),
        mask_hidden=_shape(shapes, hidden, 2)[0] if mask_layers > 1 else None,
        mask_layers=mask_layers,
    )


def _shape(shapes: Mapping[str, Shape], name: str, axes: int) -> Shape:
    """Return the shape of a tensor.

    Raises:
        ModelFileError: it is missing, or has another number of axes.
    """
    if name not in shapes:
        raise ModelFileError(f"lacks the tensor {name}")
    if len(shapes[name]) != axes:
        raise ModelFileError(f"misshapen: {name} is {tuple(shapes[name])}, expected {axes} axes")
    return shapes[name]
