"""Choice of a chunk plan for a model: its authors' own, changes to it, or another."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, get_args

from bandsplit.core.config import Config
from bandsplit.core.errors import ConfigError
from bandsplit.models.chunk_config import ChunkConfig, CrossfadeConfig
from bandsplit.models.contract import Geometry, ModelConfig
from bandsplit.separation.chunks import describe_chunks, longest_samples

SAME_PLAN = CrossfadeConfig(geometry="even")
"""The plan for comparing systems under one; all its chunks have one length."""

CHUNK_OPTIONS: Mapping[str, str] = {
    "chunk_s": "--chunk",
    "overlap": "--overlap",
    "hop_s": "--hop",
    "geometry": "--geometry",
    "overlaps": "--overlaps",
    "trim_s": "--trim",
    "exact_batch": "--exact-batch",
    "sixteen_bits": "--sixteen-bits",
    "power": "--power",
    "multiple_samples": "--multiple",
    "less_samples": "--less",
    "shifts": "--shifts",
    "normalise": "--normalise",
    "tta": "--tta",
}
"""Settings of the methods, and their options on the command line."""

_METHODS: Mapping[str, type[ChunkConfig]] = {
    method.model_fields["kind"].default: method for method in get_args(get_args(ChunkConfig)[0])
}


def choose_chunks(
    chunks: ChunkConfig | Mapping[str, Any] | None,
    model: ModelConfig,
    name: str,
    changes: Mapping[str, Any] = MappingProxyType({}),
) -> ChunkConfig:
    """Choose the plan for a model.

    Args:
        chunks: the plan itself; or changes, ``kind`` among them, to the plan that the model's authors used; or None for
            that plan.
        model: the model.
        name: its name in errors.
        changes: earlier changes to the authors' plan, by a bag.

    Raises:
        ConfigError: a setting is unknown, illegal, missing or has no meaning with the method or the model; or the model
            does not take chunks of this length.
    """
    geometry = model.geometry
    theirs = change_chunks(changes, geometry.published, geometry.best_s)
    if isinstance(chunks, Config):
        as_theirs = {"normalise": theirs.normalise} if chunks.normalise is None else {}
        chosen = chunks.model_copy(update=as_theirs)
    else:
        chosen = change_chunks(chunks or {}, theirs, geometry.best_s)
    check_chunks(chosen, geometry, model.sample_rate_hz, name)
    if "channels" in chosen.tta and (model.any_channels or model.channels == 1):
        raise ConfigError(f"--tta channels: changes nothing for {name}, which sees each channel alone; leave it out")
    return chosen


def change_chunks(settings: Mapping[str, Any], plan: ChunkConfig, best_s: float | None = None) -> ChunkConfig:
    """Change settings of a plan.

    Args:
        settings: the changes, ``kind`` among them.
        plan: what is changed.
        best_s: chunk length for another method than the plan's; None: the method's own, or the plan's if it has none.

    Raises:
        ConfigError: a setting is unknown, illegal, missing or has no meaning with the method.
    """
    kind = settings.get("kind", plan.kind)
    fields = check_settings(settings, kind).model_fields
    if kind == plan.kind:
        start = plan.model_dump()
    else:
        start = {"normalise": plan.normalise, "tta": plan.tta}
        if best_s is not None or fields["chunk_s"].is_required():
            start["chunk_s"] = best_s or plan.chunk_s
    made = {**start, **settings, "kind": kind}
    if missing := [CHUNK_OPTIONS[name] for name in fields if fields[name].is_required() and name not in made]:
        raise ConfigError(f"{', '.join(missing)}: is needed with --method {kind}")
    return _METHODS[kind].parse(made)


def check_settings(settings: Mapping[str, Any], kind: str) -> type[ChunkConfig]:
    """Return the class of the method ``kind``.

    Raises:
        ConfigError: there is no such method, or a setting has no meaning with it.
    """
    if kind not in _METHODS:
        raise ConfigError(f"--method {kind}: is not a method; choose one of {', '.join(_METHODS)}")
    config = _METHODS[kind]
    if wrong := [CHUNK_OPTIONS[name] for name in settings if name in CHUNK_OPTIONS and name not in config.model_fields]:
        raise ConfigError(f"{', '.join(wrong)}: has no meaning with --method {kind}; leave it out")
    return config


def check_chunks(config: ChunkConfig, geometry: Geometry, sample_rate_hz: int, name: str) -> None:
    """Check that a model called ``name`` takes the longest chunks of a plan.

    Raises:
        ConfigError: it does not.
    """
    most = geometry.fixed_samples
    longest = longest_samples(config, sample_rate_hz)
    if most is not None and longest > most:
        raise ConfigError(
            f"chunks: {describe_chunks(config)} has chunks of {longest / sample_rate_hz:.3f} s, but {name} takes at "
            f"most {most / sample_rate_hz:.3f} s at once; choose a shorter --chunk"
        )
