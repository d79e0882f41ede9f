"""Choice of a chunk plan for models: their authors' own, changes to it, or one for all."""

from collections.abc import Mapping, Sequence
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
}
"""Settings of the methods, and their options on the command line."""

_METHODS: Mapping[str, type[ChunkConfig]] = {
    method.model_fields["kind"].default: method for method in get_args(get_args(ChunkConfig)[0])
}


def choose_chunks(
    chunks: ChunkConfig | Mapping[str, Any] | None, models: Sequence[ModelConfig], names: Sequence[str]
) -> ChunkConfig:
    """Choose the plan for models that are used together.

    Args:
        chunks: the plan itself; or changes, ``kind`` among them, to the plan that the models' authors used; or None for
            that plan.
        models: the models.
        names: their names in errors.

    Raises:
        ConfigError: the authors' plans differ, so that one must be named; a setting is unknown, illegal, missing or has
            no meaning with the method; or a model does not take chunks of this length.
    """
    geometries = [model.geometry for model in models]
    if isinstance(chunks, Config):
        chosen = chunks
    else:
        for geometry, name in zip(geometries, names, strict=True):
            if geometry.published != geometries[0].published:
                raise ConfigError(
                    f"chunks: {names[0]} and {name} come with different plans; name the plan with --method and --chunk"
                )
        chosen = change_chunks(chunks or {}, geometries[0].published, geometries[0].best_s)
    for model, geometry, name in zip(models, geometries, names, strict=True):
        check_chunks(chosen, geometry, model.sample_rate_hz, name)
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
    elif best_s is not None or fields["chunk_s"].is_required():
        start = {"chunk_s": best_s or plan.chunk_s}
    else:
        start = {}
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
