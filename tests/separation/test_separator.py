"""The separator: any rate, any channels the model takes, exactly the input's shape, and errors that say what to do."""

import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from bandsplit.audio import files as audio
from bandsplit.core.errors import AudioError, ConfigError, ModelFileError
from bandsplit.models.chunk_config import CrossfadeConfig, OverlapAddConfig
from bandsplit.separation.separator import Separator
from bandsplit.separation.torch_network import TorchNetwork
from songs import noise
from tiny_models import RATE_HZ, separator, tiny_model, write_tiny_model


@pytest.fixture(autouse=True)
def one_thread():
    """More threads only get in each other's way at these sizes."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


STEREO = {"independent": {}, "merged": {"stereo": {"kind": "merged"}}, "tac": {"stereo": {"kind": "tac"}}}


@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("sample_rate_hz", [RATE_HZ, 22050, 48000])
@pytest.mark.parametrize("samples", [1, 2, 300, 20_011])
@pytest.mark.parametrize("stereo", STEREO)
def test_estimates_have_the_shape_of_the_input(channels: int, sample_rate_hz: int, samples: int, stereo: str):
    estimates = separator(tiny_model(**STEREO[stereo])).separate(noise(channels, samples), sample_rate_hz)
    assert list(estimates) == ["vocals", "bass"]
    for estimate in estimates.values():
        assert estimate.shape == (channels, samples) and estimate.dtype == np.float32
        assert np.isfinite(estimate).all()


def test_a_song_of_one_chunk_is_what_the_network_makes_of_it():
    model, mixture = tiny_model(), noise(2, 4000)
    with torch.inference_mode():
        expected = model(torch.from_numpy(mixture)[None]).signal[0].numpy()
    estimates = separator(model).separate(mixture, RATE_HZ)
    np.testing.assert_allclose(np.stack(list(estimates.values())), expected, atol=1e-6)


def test_long_songs_follow_the_chunk_plan():
    model, mixture = tiny_model(), noise(2, 20_000)
    chunks = CrossfadeConfig(chunk_s=1)
    whole = separator(model, chunks=chunks)
    assert [(c.start, c.stop) for c in whole.plans(20_000, RATE_HZ)[0].chunks] == [
        (0, 8800),
        (8000, 17_600),
        (16_800, 20_000),
    ]
    with torch.inference_mode():
        second = model(torch.from_numpy(mixture[None, :, 8000:17_600])).signal[0, 1].numpy()
    estimate = whole.separate(mixture, RATE_HZ)["bass"]
    np.testing.assert_allclose(estimate[:, 8800:16_800], second[:, 800:8800], atol=1e-6)


@pytest.mark.parametrize("chunks", [CrossfadeConfig(chunk_s=0.5), OverlapAddConfig(chunk_s=0.5, hop_s=0.2)], ids=repr)
def test_batches_change_nothing_that_can_be_heard(chunks: Any):
    model, mixture = tiny_model(), noise(2, 20_000)
    one = separator(model, chunks=chunks).separate(mixture, RATE_HZ)
    four = separator(model, chunks=chunks, batch_size=4).separate(mixture, RATE_HZ)
    for target in one:
        np.testing.assert_allclose(four[target], one[target], atol=1e-6)


def test_numpy_gives_numpy_and_torch_gives_torch():
    parts, mixture = separator(), noise(2, 3000)
    from_numpy = parts.separate(mixture, RATE_HZ)
    from_torch = parts.separate(torch.from_numpy(mixture).requires_grad_(), RATE_HZ)
    from_double = parts.separate(torch.from_numpy(mixture).double(), RATE_HZ)
    for target, estimate in from_numpy.items():
        assert isinstance(estimate, np.ndarray) and isinstance(from_torch[target], torch.Tensor)
        assert from_torch[target].dtype == from_double[target].dtype == torch.float32
        np.testing.assert_array_equal(from_torch[target].numpy(), estimate)
        np.testing.assert_array_equal(from_double[target].numpy(), estimate)


def test_strided_and_read_only_arrays_are_welcome_and_left_alone():
    mixture = noise(3000, 2).T
    mixture.flags.writeable = False
    before = mixture.copy()
    estimates = separator().separate(mixture, RATE_HZ)
    np.testing.assert_array_equal(mixture, before)
    np.testing.assert_array_equal(estimates["bass"], separator().separate(before, RATE_HZ)["bass"])


@pytest.mark.parametrize("sample_rate_hz", [RATE_HZ, 44100])
def test_silence_in_gives_silence_out(sample_rate_hz: int):
    for estimate in separator().separate(np.zeros((2, 50_000), np.float32), sample_rate_hz).values():
        assert not estimate.any() and np.isfinite(estimate).all()


def test_no_samples_in_gives_no_samples_out():
    calls = []
    estimates = separator().separate(np.zeros((2, 0), np.float32), 44100, lambda *done: calls.append(done))
    assert {target: estimate.shape for target, estimate in estimates.items()} == {"vocals": (2, 0), "bass": (2, 0)}
    assert not calls


def test_independent_models_take_any_number_of_channels_and_treat_each_alike():
    parts, mixture = separator(), noise(5, 3000)
    assert parts.channels is None
    surround = parts.separate(mixture, RATE_HZ)["vocals"]
    for channel in range(5):
        alone = parts.separate(mixture[channel : channel + 1], RATE_HZ)["vocals"]
        np.testing.assert_allclose(surround[channel : channel + 1], alone, atol=1e-6)


@pytest.mark.parametrize("kind", ["merged", "tac"])
def test_mono_for_a_stereo_model_is_duplicated_and_averaged_with_a_note(kind: str, caplog: pytest.LogCaptureFixture):
    parts, mixture = separator(tiny_model(**STEREO[kind])), noise(1, 3000)
    assert parts.channels == 2
    stereo = parts.separate(np.repeat(mixture, 2, axis=0), RATE_HZ)["vocals"]
    with caplog.at_level("INFO", "bandsplit"):
        mono = parts.separate(mixture, RATE_HZ)["vocals"]
    np.testing.assert_allclose(mono[0], stereo.mean(axis=0), atol=1e-6)
    assert "mono was duplicated to the 2 channels the model needs" in caplog.text


@pytest.mark.parametrize(
    "channels, pairs, alone", [(3, [(0, 1)], [2]), (6, [(0, 1), (4, 5)], [2, 3]), (8, [(0, 1), (4, 5), (6, 7)], [2, 3])]
)
def test_surround_for_a_stereo_model_is_separated_in_pairs_with_a_note(channels, pairs, alone, caplog):
    parts, mixture = separator(tiny_model(stereo={"kind": "tac"})), noise(channels, 1000)
    with caplog.at_level("INFO", "bandsplit"):
        found = parts.separate(mixture, RATE_HZ)["vocals"]
    assert f"{channels} channels were separated in pairs, in the order of wav: L/R, C" in caplog.text
    for group in (*map(list, pairs), *([one] for one in alone)):
        np.testing.assert_allclose(found[group], parts.separate(mixture[group], RATE_HZ)["vocals"], atol=1e-6)


def test_channels_that_make_no_surround_are_refused():
    with pytest.raises(AudioError, match=r"has 9 channels, but the model needs 2; give 2 of them .*surround of 3 to 8"):
        separator(tiny_model(stereo={"kind": "tac"})).separate(noise(9, 100), RATE_HZ)


def test_single_target_models_join_even_if_their_bands_differ(tmp_path: Path):
    vocals, bass = tiny_model("vocals", seed=1), tiny_model("bass", seed=2, bands=[(250, 8)], stereo={"kind": "tac"})
    write_tiny_model(tmp_path / "vocals.safetensors", "vocals", seed=1)
    both, mixture = separator([tmp_path / "vocals.safetensors", bass]), noise(2, 3000)
    assert both.targets == ("vocals", "bass") and both.channels == 2 and both.sample_rate_hz == RATE_HZ
    estimates = both.separate(mixture, RATE_HZ)
    for target, model in (("vocals", vocals), ("bass", bass)):
        np.testing.assert_array_equal(estimates[target], separator(model).separate(mixture, RATE_HZ)[target])


def test_models_that_do_not_go_together_are_refused(tmp_path: Path):
    write_tiny_model(tmp_path / "a.safetensors", "vocals")
    with pytest.raises(ConfigError, match=r"'vocals': estimated by both .*a\.safetensors and model 2 of the list"):
        separator([tmp_path / "a.safetensors", tiny_model("vocals", "bass")])
    with pytest.raises(ConfigError, match="model 2 of the list: works at 16000 Hz, but model 1 of the list at 8000 Hz"):
        separator([tiny_model("vocals"), tiny_model("bass", sample_rate_hz=16000)])
    with pytest.raises(
        ConfigError, match="model 1 of the list needs 2 channels and model 2 of the list needs 3 channels"
    ):
        separator([tiny_model("vocals", **STEREO["tac"]), tiny_model("bass", **STEREO["tac"], channels=3)])
    with pytest.raises(ConfigError, match="the list is empty"):
        Separator([])
    with pytest.raises(ConfigError, match="model 1 of the list: is a int; give the path"):
        separator([3])
    with pytest.raises(ModelFileError, match="no such model file"):
        separator(tmp_path / "missing.safetensors")


def test_a_device_that_is_not_here_is_refused():
    with pytest.raises(ConfigError, match=r"device: 'cuda:99' cannot be used here .*legal: 'auto', 'cpu', 'cuda'"):
        Separator(tiny_model(), device="cuda:99")
    with pytest.raises(ConfigError, match="device: 'toaster' cannot be used here"):
        Separator(tiny_model(), device="toaster")
    with pytest.raises(ConfigError, match=r"device: 'meta' cannot be used here .*legal: 'auto', 'cpu', 'cuda'"):
        Separator(tiny_model(), device="meta")


@pytest.mark.parametrize(
    "mixture, text",
    [
        (np.zeros(100, np.float32), r"shape \(100,\); it must be \(channels, samples\), for mono use audio\[None, :\]"),
        (torch.zeros(1, 2, 100), r"shape \(1, 2, 100\); it must be .*separate the items of a batch one by one"),
        (np.zeros((2, 100), np.int16), r"dtype int16; give float32 .*audio.astype\('float32'\) / 32768"),
        (torch.zeros(2, 100, dtype=torch.int32), r"dtype torch.int32; .*torch: audio.float\(\) / 32768"),
        (np.zeros((100, 2), np.float32), r"shape \(100, 2\) looks like \(samples, channels\); use audio.T"),
        (np.zeros((0, 100), np.float32), "no channels"),
        ([[0.0, 1.0]], "is a list; give a NumPy array or a torch tensor"),
        (np.full((2, 100), np.nan, np.float32), r"audio: sample 0 \(0.000 s\) of channel 0 is nan"),
        (torch.tensor([[0.0, 0.0], [0.0, torch.inf]]), r"audio: sample 1 \(0.000 s\) of channel 1 is inf"),
        (np.zeros((2, 100), np.complex64), r"dtype complex64; give the waveform itself .*: audio.real"),
        (torch.zeros(2, 100, dtype=torch.complex64), r"dtype torch.complex64; give the waveform itself"),
        (np.full((2, 100), -1e300), "sample 0 of channel 0 is -1e[+]300, beyond the range of float32"),
        (torch.full((2, 100), 1e300, dtype=torch.float64), r"sample 0 of channel 0 is 1e[+]300, beyond the range"),
        (np.full((2, 100), -np.inf), r"audio: sample 0 \(0.000 s\) of channel 0 is -inf"),
        (np.full((2, 100), 1e30, np.float32), "the estimate of 'vocals' is not finite; the mixture peaks at 1e[+]30"),
    ],
)
def test_what_is_not_audio_is_refused_with_the_fix(mixture: Any, text: str):
    with pytest.raises(AudioError, match=text):
        separator().separate(mixture, RATE_HZ)


def test_a_sample_rate_that_is_none_is_refused():
    with pytest.raises(AudioError, match=r"sample_rate_hz: 44100\.0 is not a positive integer"):
        separator().separate(noise(2, 10), 44100.0)  # type: ignore[arg-type]
    with pytest.raises(AudioError, match=r"sample_rate_hz: 10000000000 is too high; legal: 1 to 10000000 Hz"):
        separator().separate(noise(2, 10), 10**10)


def test_a_batch_has_at_least_one_chunk():
    with pytest.raises(ConfigError, match="batch_size: 0"):
        separator(batch_size=0)


def test_progress_counts_the_seconds_of_all_models():
    calls: list[tuple[float, float]] = []
    parts = separator([tiny_model("vocals"), tiny_model("bass")], chunks=CrossfadeConfig(chunk_s=0.5))
    parts.separate(noise(2, 48_000), 16_000, lambda done_s, total_s, _stage: calls.append((done_s, total_s)))
    done = [done_s for done_s, _ in calls]
    assert len(calls) > 6 and done == sorted(done) and done[-1] == pytest.approx(3)
    assert {total_s for _, total_s in calls} == {3.0}


def test_threads_share_a_separator_and_get_equal_results():
    parts, mixtures = separator(chunks=CrossfadeConfig(chunk_s=0.5)), [noise(2, 12_000, seed) for seed in range(4)]
    expected = [parts.separate(mixture, RATE_HZ)["vocals"] for mixture in mixtures]
    found: dict[int, np.ndarray] = {}

    def work(number: int) -> None:
        found[number] = parts.separate(mixtures[number], RATE_HZ)["vocals"]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in range(4):
        np.testing.assert_array_equal(found[number], expected[number])


@pytest.mark.parametrize("name", ["song.wav", "Für Élise – live.v2.flac", "a b.ogg", "夜.mp3"])
def test_a_file_becomes_a_folder_of_stems(tmp_path: Path, name: str):
    path = tmp_path / name
    audio.write(path, noise(2, 22_050), 22_050)
    result = separator().separate_file(path, tmp_path / "out folder")
    assert result.track == name.rpartition(".")[0]
    assert list(result.paths) == ["vocals", "bass"] and result.audio_s == 1.0 and result.wall_s > 0
    assert result.notes == ("resampled from 22050 Hz to the model's 8000 Hz and back",)
    assert "chunk" in str(result.plans[0])
    for target, stem in result.paths.items():
        assert stem == tmp_path / "out folder" / result.track / f"{target}.wav"
        assert audio.info(stem) == audio.AudioInfo(22_050, 2, 22_050, "WAV", "FLOAT")
    expected = separator().separate(audio.read(path)[0], 22_050)
    np.testing.assert_array_equal(audio.read(result.paths["bass"])[0], expected["bass"])


def test_a_name_of_dots_does_not_lead_out_of_the_folder(tmp_path: Path):
    audio.write(tmp_path / "song.wav", noise(2, 100), RATE_HZ)
    (tmp_path / "song.wav").rename(tmp_path / "...wav")
    result = separator().separate_file(tmp_path / "...wav", tmp_path / "out")
    assert result.paths["bass"] == tmp_path / "out" / "...wav" / "bass.wav"


def test_a_mono_file_for_a_stereo_model_gives_mono_stems_and_a_note(tmp_path: Path):
    audio.write(tmp_path / "mono.wav", noise(1, 1), RATE_HZ)
    result = separator(tiny_model(stereo={"kind": "merged"})).separate_file(tmp_path / "mono.wav", tmp_path)
    assert result.notes == ("mono was duplicated to the 2 channels the model needs; stems are mono again",)
    assert audio.info(result.paths["vocals"]).channels == 1 and audio.info(result.paths["vocals"]).samples == 1


def test_bad_files_leave_no_folder_behind(tmp_path: Path):
    soundfile.write(tmp_path / "surround.wav", noise(9, 100).T, RATE_HZ)
    (tmp_path / "text.wav").write_text("la")
    parts = separator(tiny_model(stereo={"kind": "tac"}))
    with pytest.raises(AudioError, match=r"surround\.wav: has 9 channels, but the model needs 2"):
        parts.separate_file(tmp_path / "surround.wav", tmp_path / "out")
    with pytest.raises(AudioError, match=r"text\.wav: is not audio"):
        parts.separate_file(tmp_path / "text.wav", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_to_is_found_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    audio.write(tmp_path / "song.wav", noise(2, 100), RATE_HZ)
    parts = separator()
    monkeypatch.setattr(next(iter(parts._networks.values())), "estimate", None)
    with pytest.raises(AudioError, match=r"song\.wav/song: cannot be written to .*; choose another output folder"):
        parts.separate_file(tmp_path / "song.wav", tmp_path / "song.wav")


def test_a_song_is_never_overwritten_by_its_own_stem(tmp_path: Path):
    (tmp_path / "vocals").mkdir()
    song = tmp_path / "vocals" / "vocals.wav"
    audio.write(song, noise(2, 100), RATE_HZ)
    before = song.read_bytes()
    with pytest.raises(AudioError, match="would be overwritten by the stem"):
        separator().separate_file(song, tmp_path)
    assert song.read_bytes() == before


@pytest.mark.parametrize("stereo", [{"kind": "independent"}, {"kind": "merged"}, {"kind": "tac"}])
def test_threads_that_share_out_chunks_and_channels_compute_what_one_does(stereo: dict[str, Any]):
    network = TorchNetwork(tiny_model(stereo=stereo), torch.device("cpu"))
    batch = np.stack([noise(2, 5000), noise(2, 5000)[::-1], 0.5 * noise(2, 5000)])
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        assert network.batch_size == 2
        shared = network.estimate(batch)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(threads)
    assert shared.shape == (3, 2, 2, 5000)
    np.testing.assert_allclose(shared, network.estimate_plainly(batch), atol=1e-6)


def test_a_lower_precision_changes_estimates_a_little():
    model, mixture = tiny_model(), noise(2, 9000)
    exact, rough = (separator(model, precision=name).separate(mixture, RATE_HZ) for name in ("fp32", "bf16"))
    for target, stem in exact.items():
        assert 0 < np.abs(rough[target] - stem).max() < 0.05 * np.abs(stem).max()
    with pytest.raises(ConfigError, match="precision: 'fp16' needs a GPU; on a CPU use 'fp32'"):
        separator(model, precision="fp16")
    with pytest.raises(ConfigError, match="precision: 'int4' is unknown; choose one of fp32, bf16, fp16, int8"):
        separator(model, precision="int4")
