"""`bandsplit bench train` as a user meets it."""

import pytest

from test_cli_data import run


def test_steps_are_measured_beside_the_matrix_rate(capsys: pytest.CaptureFixture[str]):
    options = ("--recipe", "demo", "--batch", "1", "--steps", "1", "--device", "cpu", "--markdown")
    code, output = run(capsys, "bench", "train", *options)
    assert code == 0, output
    assert "large matrix products" in output
    assert "batch 1 x 1 s, fp32, medians of 1 step(s)" in output
    (row,) = [line for line in output.splitlines() if line.startswith("| demo |")]
    step_ms, examples_per_s, gflop, share, peak_mb = (cell.strip(" %") for cell in row.strip("| ").split("|")[1:])
    assert float(examples_per_s) == pytest.approx(1000 / float(step_ms), rel=0.02)
    assert float(gflop) > 0
    assert 0 < float(share) < 100
    assert float(peak_mb) > 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--recipe", "bse"), "did you mean 'base'?"),
        (("--recipe", ","), "names none; name some"),
        (("--precision", "tf32"), "'tf32' needs CUDA, and the device is 'cpu'; use 'fp32' or 'bf16'"),
        (("--device", "tpu"), "device: 'tpu' cannot be used here"),
    ],
)
def test_what_cannot_be_measured_is_named(options: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]):
    code, output = run(capsys, "bench", "train", "--device", "cpu", *options)
    assert code != 0
    assert text in output
