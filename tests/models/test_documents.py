"""Configuration files of other software: what is read, and what is refused with one message in little time."""

from itertools import pairwise
from pathlib import Path

import pytest

from bandsplit.core.errors import ModelFileError
from bandsplit.models.documents import MOST_BYTES, read_document

MSST = """
audio:
  chunk_size: 352800
  num_channels: 2
model:
  dim: 384
  freqs_per_bands: !!python/tuple
    - 2
    - 4
  multi_stft_resolutions_window_sizes: !!python/tuple [4096, 2048]
  dropout: 0.1
  stereo: true
training:
  instruments: [vocals, other]
  target_instrument: null
"""


def test_a_configuration_is_plain_data_and_its_tuples_are_lists(tmp_path: Path):
    (tmp_path / "x.yaml").write_text("\ufeff" + MSST, encoding="utf-8")
    assert read_document(tmp_path / "x.yaml") == {
        "audio": {"chunk_size": 352800, "num_channels": 2},
        "model": {
            "dim": 384, "freqs_per_bands": [2, 4], "multi_stft_resolutions_window_sizes": [4096, 2048],
            "dropout": 0.1, "stereo": True,
        },
        "training": {"instruments": ["vocals", "other"], "target_instrument": None},
    }  # fmt: skip


LAUGHS = "a: &a [x, x]\n" + "".join(f"{new}: &{new} [*{old}, *{old}]\n" for old, new in pairwise("abcdefghi"))
MERGES = "a: &a {x: 1}\n" + "".join(f"{new}: &{new} {{<<: [*{old}, *{old}]}}\n" for old, new in pairwise("abcde"))
REFUSED = {
    "laughs": (LAUGHS, r"has the alias \*a: write its value in its place"),
    "merges": (MERGES, r"has the alias \*a: write"),
    "itself": ("a: &a [*a]", r"has the alias \*a: write"),
    "deep": ("a: " + "[" * 5000, "is nested more than 20 levels deep"),
    "deep blocks": ("\n".join(" " * n + "a:" for n in range(50)), "is nested more than 20 levels deep"),
    "long": ("x" * (MOST_BYTES + 1), f"is not a configuration: it has more than {MOST_BYTES} bytes"),
    "code": ("a: !!python/object/apply:os.system ['touch owned']", "has the tag tag:yaml.org,2002:python/object/apply"),
    "a name": (
        "a: !!python/name:os.system ''",
        "has the tag tag:yaml.org,2002:python/name:os.system; legal: !!",
    ),
    "another tag": ("a: !thing 3", "has the tag !thing; legal"),
    "a tuple of no list": ("a: !!python/tuple 3", "is not a YAML configuration: !!python/tuple needs a list"),
    "a list": ("[1, 2]", "is not a configuration: it must map names to values, is list"),
    "nothing": ("", "is not a configuration: it must map names to values, is NoneType"),
    "a page": ("<!DOCTYPE html>\n<html>", "is not a configuration: it must map names to values, is str"),
    "twice": ("model:\n  dim: 1\n  dim: 2\n", "is not a YAML configuration: 'dim' is set twice"),
    "two documents": ("a: 1\n---\nb: 2\n", "is not a YAML configuration: expected a single document"),
    "cut": ("a: [1, 2", "is not a YAML configuration: while parsing a flow sequence"),
    "a date": ("a: 2026-11-28", "its options: date is not a setting; legal: texts, numbers, lists, mappings, null"),
    "a number as a name": ("model: {1: 2}", "its options: names must be text, found int"),
    "a list as a name": ("? [1]\n: 2", "is not a YAML configuration: while constructing a mapping"),
    "digits": ("a: " + "9" * 10_000, "is not a YAML configuration: Exceeds the limit"),
    "control characters": ("a: \0", "is not a YAML configuration: unacceptable character"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_a_configuration_is_refused_with_one_message(tmp_path: Path, name: str):
    text, message = REFUSED[name]
    path = tmp_path / "x.yaml"
    path.write_text(text)
    with pytest.raises(ModelFileError, match=message) as caught:
        read_document(path)
    assert str(caught.value).startswith(f"{path}: ") and len(str(caught.value)) < 600
    assert not Path("owned").exists()


def test_files_that_cannot_be_read_are_named(tmp_path: Path):
    with pytest.raises(ModelFileError, match=r"no\.yaml: no such configuration file"):
        read_document(tmp_path / "no.yaml")
    with pytest.raises(ModelFileError, match=r"cannot be opened .*; name a configuration file"):
        read_document(tmp_path)
    (tmp_path / "x.yaml").write_bytes(b"PK\x03\x04\xff\xfe")
    with pytest.raises(ModelFileError, match="is not a configuration: it is not text"):
        read_document(tmp_path / "x.yaml")
