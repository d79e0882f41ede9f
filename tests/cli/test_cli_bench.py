"""`bandsplit bench train` and `bench separate` as a user meets them."""

import re
from importlib.util import find_spec

import pytest
from test_cli_data import run

from bandsplit.core.kernels import search_kernels
from bandsplit.tools.bench.separation import RUNTIMES
from matrices import multiply_small_everywhere


@pytest.fixture(autouse=True)
def _small_matrices(monkeypatch: pytest.MonkeyPatch):
    multiply_small_everywhere(monkeypatch)


def test_steps_are_measured_beside_the_matrix_rate(capsys: pytest.CaptureFixture[str]):
    options = ("demo", "--batch", "1", "--steps", "1", "--device", "cpu", "--markdown")
    code, output = run(capsys, "bench", "train", *options)
    assert code == 0, output
    assert "large matrix products" in output
    assert "batch 1 x 1 s, fp32, medians of 1 step(s)" in output
    (row,) = [line for line in output.splitlines() if line.startswith("| demo |")]
    step_ms, examples_per_s, gflop, share, peak_mb = (cell.strip(" %") for cell in row.strip("| ").split("|")[1:])
    # To the printed digits: whole milliseconds, and three significant digits, however fast the machine is. How they are
    # computed is tested with the measurement (`tests/tools/test_bench.py`).
    least, most = (1000 / (float(step_ms) + digit) for digit in (0.5, -0.5))
    assert least * 0.995 <= float(examples_per_s) <= most * 1.005
    assert float(gflop) > 0 and float(share) >= 0 and float(peak_mb) > 0


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("demo", "bse"), "did you mean 'base'?"),
        (("--precision", "tf32"), "'tf32' needs CUDA, and the device is 'cpu'; use 'fp32' or 'bf16'"),
        (("--precision", "fp16"), "'fp16' needs CUDA, and the device is 'cpu'; use 'fp32' or 'bf16'"),
        (("--device", "tpu"), "device: 'tpu' cannot be used here"),
    ],
)
def test_what_cannot_be_measured_is_named(options: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]):
    code, output = run(capsys, "bench", "train", "--device", "cpu", *options)
    assert code != 0
    assert text in output


SEPARATE = ("bench", "separate", "--device", "cpu", "--recipe", "mini-base", "--chunk", "0.5", "--rounds", "1")


@pytest.mark.slow
@pytest.mark.parametrize("more", ["onnx", "kernels", "native"])
def test_separation_is_measured_in_every_way_there_is(more: str, capsys: pytest.CaptureFixture[str]):
    ways = ["plain", "torch"]
    if more == "onnx":
        ways += ["onnx", "int8"] if find_spec("onnxruntime") and find_spec("onnx") else []
    elif (kernels := search_kernels().kernels) is not None:
        ways += [more, *(f"{more}-{precision}" for precision in kernels.precisions[1:])]
    code, output = run(capsys, *SEPARATE, "--runtime", ",".join(ways), "--markdown")
    assert code == 0, output
    assert "fp32, medians of 1 round(s)" in output
    rows = [[cell.strip(" %") for cell in line.strip("| ").split("|")] for line in output.splitlines() if "|" in line]
    measured = {row[1].strip(): row[2:] for row in rows if row[0].strip() == "mini-base"}
    assert list(measured) == ways
    for way, (chunk_s, realtime, quicker, gflop, matrix_rate, share, *peak, peak_mb, difference) in measured.items():
        assert chunk_s == "0.5"
        assert float(realtime) > 0 and float(matrix_rate) > 0 and float(peak_mb) > 0
        assert float(share) >= 0
        # Of one round, so the ratio of what is printed: each of the three numbers to 0.005.
        low, high = (
            (float(realtime) + digit) / max(float(measured["plain"][1]) - digit, 1e-9) for digit in (-0.005, 0.005)
        )
        assert low - 0.005 <= float(quicker) <= high + 0.005
        assert gflop == measured["plain"][3]
        assert float(difference) < (0.3 if "int8" in way else 0.05 if "bf16" in way else 1e-5)
        if way.startswith(("kernels", "native")):
            assert float(peak[0]) > 0 and float(peak[1]) >= 0
        else:
            assert peak == ["-", "-"]


def test_the_help_names_every_runtime(capsys: pytest.CaptureFixture[str]):
    code, output = run(capsys, "bench", "separate", "--help")
    assert code == 0 and set(RUNTIMES) <= set(re.findall(r"[\w-]+", output))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--runtime", "tensorrt"), "tensorrt cannot be measured; runtimes: plain, torch, kernels, kernels-bf16"),
        (("--recipe", "bse"), "did you mean 'base'?"),
        (("-n", "nothing.onnx"), "nothing.onnx: no such"),
    ],
)
def test_separation_that_cannot_be_measured_is_named(
    options: tuple[str, ...], text: str, capsys: pytest.CaptureFixture[str]
):
    code, output = run(capsys, *SEPARATE, *options)
    assert code != 0
    assert text in output
