"""Published models that are one checkpoint, with a configuration file, known settings, or neither."""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import dummy_family
import public_tfc_tdf
from bandsplit.core.errors import ConfigError
from bandsplit.models.card import read_card, stored_types
from bandsplit.models.families import FAMILIES
from bandsplit.models.files import load_model
from bandsplit.models.network import build_model
from bandsplit.models.pretrained import store as model_store
from bandsplit.models.pretrained.registry import MARKER
from bandsplit.models.tfc_tdf.config import TfcTdfConfig
from checkpoints import Store, checkpoint_entry
from command_line import run_command
from dummy_family import DummyConfig, halving
from webserver import damaged, refuse, serve

SETTINGS: dict[str, Any] = {"targets": ["vocals", "bass"], "sample_rate_hz": 8000}
YAML = b"targets: !!python/tuple\n- vocals\n- bass\nsample_rate_hz: 8000\n"


@pytest.fixture(autouse=True)
def dummy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FAMILIES, "dummy", dummy_family.FAMILY)


def body(**settings: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(halving(DummyConfig.parse({**SETTINGS, **settings})).state_dict(), buffer)
    return buffer.getvalue()


def has(store: Store, config: bytes | None = YAML, checkpoint: bytes | None = None, **changes: Any) -> bytes:
    """Register a checkpoint; its server has it and its configuration file."""
    checkpoint = body() if checkpoint is None else checkpoint
    changes = {"targets": ["vocals", "bass"], "family": "dummy", **changes}
    store.lists(checkpoint_entry(checkpoint, config, **changes))
    store.does(serve(checkpoint))
    if config is not None:
        store.server.pages["/models/tiny.yaml"] = [serve(config)]
    return checkpoint


def test_a_checkpoint_with_its_configuration_file_is_fetched_and_only_the_model_is_kept(store: Store):
    checkpoint, seen = has(store), []
    (file,) = store.install(progress=lambda *news: seen.append(news))
    assert store.names == ["tiny"] and sorted(path.name for path in file.parent.iterdir()) == [MARKER, file.name]
    config, card = read_card(file)
    sha256 = hashlib.sha256(checkpoint).hexdigest()
    assert config.targets == ("vocals", "bass") and card.name == "tiny"
    assert card.source == f"tiny.ckpt (sha256 {sha256}) of https://weights.invalid/about"
    assert card.scores == {"published SDR of vocals in dB (noise)": 1.5}
    assert json.loads((file.parent / MARKER).read_text())["files"][0]["source_sha256"] == sha256
    assert list(dict.fromkeys(stage for stage, *_ in seen)) == ["download", "check", "import"]


@pytest.mark.parametrize("fetched", [True, False])
def test_a_public_network_with_its_yaml_or_known_settings_is_fetched_and_estimates_as_it_did(
    store: Store, tmp_path: Path, fetched: bool
):
    torch.save({"state_dict": public_tfc_tdf.weights(), "epoch": 3}, tmp_path / "model.ckpt")
    config = yaml.safe_dump(public_tfc_tdf.DOCUMENT).encode() if fetched else None
    known = {} if fetched else {"document": public_tfc_tdf.DOCUMENT}
    checkpoint = (tmp_path / "model.ckpt").read_bytes()
    has(store, config, checkpoint, family="tfc_tdf", targets=["vocals", "other"], **known)
    (file,) = store.install()
    torch.manual_seed(0)
    original = build_model(TfcTdfConfig.parse(public_tfc_tdf.SETTINGS)).eval()
    mixture = 0.1 * torch.randn(1, 2, 15 * 32)
    assert torch.equal(load_model(file)(mixture).signal, original(mixture).signal)


def test_known_settings_need_no_configuration_file(store: Store):
    has(store, None, document=SETTINGS)
    (file,) = store.install()
    assert read_card(file)[0].targets == ("vocals", "bass")


def test_a_checkpoint_that_holds_its_settings_needs_no_others_and_its_digest_may_be_a_prefix(
    store: Store, tmp_path: Path
):
    buffer = io.BytesIO()
    state = halving(DummyConfig.parse(SETTINGS)).state_dict()
    torch.save({"state_dict": state, "hyper_parameters": SETTINGS}, buffer)
    sha256 = hashlib.sha256(buffer.getvalue()).hexdigest()
    has(store, None, buffer.getvalue(), holds_settings=True, sha256="00000000")
    assert store.entry.lack is None and "digest:   first 8 digits of the sha256" in store.entry.notice()
    assert store.error(config=tmp_path).endswith("are registered, or in its files; leave --config out")
    assert f"has sha256 {sha256}, not 00000000... (its first 8 digits): it was damaged" in store.error()
    has(store, None, buffer.getvalue(), holds_settings=True, sha256=sha256[:8])
    (file,) = store.install()
    assert read_card(file)[1].source == f"tiny.ckpt (sha256 {sha256}) of https://weights.invalid/about"


def test_without_a_registered_digest_the_user_must_give_the_md5_and_the_size_is_an_estimate(store: Store):
    checkpoint = body()
    has(store, None, document=SETTINGS, sha256=None, bytes=len(checkpoint) // 3)
    assert store.entry.lack == "md5" and "digest:   none is known, and the size is an estimate" in store.entry.notice()
    assert "no md5 of tiny.ckpt is registered" in store.error() and store.server.asked == []
    assert "not 00000000000000000000000000000000: it was damaged" in store.error(md5=32 * "0")
    has(store, None, document=SETTINGS, sha256=None, bytes=len(checkpoint) // 5)
    assert "is another file: it has" in store.error(md5=32 * "0")
    has(store, None, document=SETTINGS, sha256=None, bytes=len(checkpoint) // 3)
    (file,) = store.install(md5=hashlib.md5(checkpoint).hexdigest().upper())
    assert read_card(file)[0].targets == ("vocals", "bass")


def test_half_precision_stays_half_on_the_disk(store: Store):
    state = {name: tensor.half() for name, tensor in halving(DummyConfig.parse(SETTINGS)).state_dict().items()}
    buffer = io.BytesIO()
    torch.save({"state_dict": state}, buffer)
    has(store, checkpoint=buffer.getvalue())
    assert stored_types(store.install()[0]) == {"F16": 12}


def test_an_unknown_configuration_must_be_named_before_anything_is_asked(store: Store, tmp_path: Path):
    has(store, None, targets=[])
    assert store.entry.lack == "config"
    assert store.error() == (
        "tiny: no configuration of tiny.ckpt is registered; find the file that came with it "
        "(https://weights.invalid/about) and give it with --config"
    )
    assert store.error(config=tmp_path / "no.yaml").startswith(f"{tmp_path / 'no.yaml'}: no such file")
    assert store.server.asked == []
    (tmp_path / "my.yaml").write_bytes(YAML)
    (file,) = store.install(config=tmp_path / "my.yaml")
    assert read_card(file)[0].targets == ("vocals", "bass") and (tmp_path / "my.yaml").exists()


def test_options_without_a_meaning_are_refused(store: Store, tmp_path: Path):
    has(store, None, document=SETTINGS)
    assert store.error(config=tmp_path).endswith(
        "the settings of tiny are registered, or in its files; leave --config out"
    )
    assert store.error(md5=32 * "0").endswith("the sha256 of tiny.ckpt is registered; leave --md5 out")
    store.has({})
    assert store.error(config=tmp_path).endswith("checkpoints of tiny hold their settings; leave it out")


def test_copies_brought_here_need_no_network_and_are_checked_and_kept(store: Store, tmp_path: Path):
    checkpoint = has(store)
    store.patch.setenv("BANDSPLIT_OFFLINE", "1")
    files: dict[str, Any] = {"archive": tmp_path / "a.ckpt", "config": tmp_path / "a.yaml"}
    files["archive"].write_bytes(checkpoint)
    files["config"].write_bytes(YAML + b"taps: 3\n")
    message = "copy tiny.ckpt and tiny.yaml to this machine and give it with --archive and --config"
    assert message in store.error() and message in store.error(archive=files["archive"])
    assert store.error(**files).startswith(f"{files['config']}: its sha256 is ")
    files["config"].write_bytes(YAML)
    assert store.install(**files) and store.server.asked == []
    assert all(path.exists() for path in files.values())


def test_a_damaged_or_cut_checkpoint_is_no_model(store: Store):
    checkpoint = has(store)
    store.does(serve(damaged(checkpoint)))
    assert "it was damaged in transit or is another file" in store.error() and store.names == ["tiny.yaml"]
    store.does(serve(checkpoint + b"more"))
    assert "is another file: it has " in store.error()
    store.does(serve(checkpoint[:100]))
    assert "the download (0.0 MB) has sha256 " in store.error() and store.names == ["tiny.yaml"]
    assert model_store.remove_model(store.entry) > 0 and store.names == []
    store.does(refuse(404))
    assert "name another source with --mirror, or a local copy of tiny.ckpt with --archive" in store.error()


def test_a_checkpoint_of_something_else_is_no_model(store: Store):
    has(store, targets=["drums"])
    assert "tiny.ckpt: is a model of bass, vocals, which tiny does not have; remove it" in store.error().replace(
        f"{store.cache / 'models' / 'tiny.ckpt'}: ", ""
    )
    has(store, targets=["vocals", "bass", "drums"])
    model_store.remove_model(store.entry)
    assert "tiny.ckpt: is not tiny: it needs vocals, bass, drums, and has vocals, bass; " in store.error()
    has(store, config=b"targets: [vocals]\n", targets=["vocals"])
    model_store.remove_model(store.entry)
    assert "misshapen: filters.weight" in store.error()


def test_a_family_that_cannot_be_imported_is_named_before_the_download(store: Store):
    has(store, family="nothing")
    with pytest.raises(ConfigError, match="family: 'nothing' is not a family of networks"):
        store.install()
    assert store.server.asked == []


def test_it_is_listed_shown_fetched_copied_and_removed(
    store: Store, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    has(store, None, targets=[], published=())
    store.patch.setenv("COLUMNS", "100")

    def run(*arguments: Any) -> str:
        ended = run_command(capsys, "models", *arguments)
        assert ended.code == 0, ended.err
        return " ".join((ended.out + ended.err).split())

    assert "dummy: tiny needs config - - - - - -" in run("list")
    assert "stems: named by its configuration file quality: not published" in run("show", "tiny")
    (tmp_path / "my.yaml").write_bytes(YAML)
    assert "tiny: 1 model file(s) in " in run("fetch", "tiny", "--yes", "--config", tmp_path / "my.yaml")
    assert "dummy: tiny cached" in run("list")
    assert "targets vocals, bass" in run("show", "tiny") and "weights 12 of F32" in run("show", "tiny")
    assert json.loads(run("show", "tiny", "--json"))[0]["weights"] == {"F32": 12}
    assert run("export", "tiny", tmp_path / "out") == str(tmp_path / "out" / "tiny.safetensors")
    assert "MB freed" in run("remove", "tiny") and store.names == []
