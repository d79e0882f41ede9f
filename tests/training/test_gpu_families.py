"""Each family on a GPU: forward as on a CPU, a training step in each precision, separation of a song."""

import pytest
import torch

from bandsplit.data.examples.dataset import Example
from bandsplit.models.network import build_model
from bandsplit.separation.separator import Separator
from bandsplit.training.execution import BatchPlan, Execution, make_fabric
from bandsplit.training.learner import Learner
from small_recipes import SMALL, small_run

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DEVICE = "cuda"


@pytest.mark.parametrize("name", SMALL)
def test_estimates_are_those_of_a_cpu(name: str):
    torch.manual_seed(0)
    model = build_model(small_run(name).model).eval()
    mixture = 0.1 * torch.randn(1, model.config.channels, model.config.geometry.fitting(12_000))
    with torch.inference_mode():
        expected = model(mixture).signal
        found = model.to(DEVICE)(mixture.to(DEVICE)).signal.cpu()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-3 * float(expected.abs().max()))


@pytest.mark.parametrize("precision", ["fp32", "tf32", "bf16", "fp16"])
@pytest.mark.parametrize("name", SMALL)
def test_steps_in_every_precision_learn(name: str, precision: str):
    config = small_run(name, {"training.precision": precision})
    torch.manual_seed(0)
    learner = Learner(config, BatchPlan(2, 1, 1), Execution(DEVICE), make_fabric(config.training, Execution(DEVICE)))
    samples = round(config.training.excerpt_s * config.model.sample_rate_hz)
    stems = 0.1 * torch.randn(2, len(config.model.targets) + 1, config.model.channels, samples, device=DEVICE)
    example = Example(stems.sum(1), stems[:, :-1], ["", ""])
    losses = []
    for _ in range(5):
        losses.append(learner.backward(example, last=True).item())
        learner.update(1e-4)
    assert all(torch.isfinite(parameter).all() for parameter in learner.plain_model.parameters())
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("name", SMALL)
def test_a_song_is_separated_as_on_a_cpu(name: str):
    torch.manual_seed(0)
    model = build_model(small_run(name).model)
    song = 0.1 * torch.randn(2, 3 * model.config.sample_rate_hz).numpy()
    expected = Separator(model, device="cpu").separate(song, model.config.sample_rate_hz)
    found = Separator(model, device=DEVICE).separate(song, model.config.sample_rate_hz)
    for target, estimate in expected.items():
        assert abs(found[target] - estimate).max() <= 1e-3 * abs(estimate).max() + 1e-6
