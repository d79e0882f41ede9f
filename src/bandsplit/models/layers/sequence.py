"""Sequence layers ``(b l n) -> (b l n)``: they know nothing of bands, frames or channels; the caller adds the residual.

Source: docs/numerics.md#sequence-layer; paper, section III-A; paper, section III-B2.
"""

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional as F

from bandsplit.models.layers.cpu_work import TwoPaths, is_plain_cpu_work, lacks_bf16_lstm
from bandsplit.models.layers.epsilon import EPS
from bandsplit.models.layers.lstm import projected_bilstm
from bandsplit.models.layers.threads import apply_apart, is_apart

LEAST_NUMBERS_APART = 200_000
"""Count of numbers in the sequences from which sharing them among threads is faster, by measurement."""


def our_lstm_is_quicker(sequences: int, hidden: int) -> bool:
    """Return whether our LSTM with ``hidden`` features per direction is faster than torch's, by measurement."""
    if is_apart() and hidden < 128:
        return False  # Python starts each of our steps: if steps are short, threads wait for each other in it
    return sequences >= (48 if torch.is_grad_enabled() else 32)


class SequenceNorm(nn.Module):
    """Group normalisation of each sequence over (features of a group, positions), with a gain and bias per feature."""

    def __init__(self, n_features: int, groups: int = 1, eps: float = EPS) -> None:
        """Start as the identity after normalisation."""
        super().__init__()
        self.weight = nn.Parameter(torch.ones(n_features))
        self.bias = nn.Parameter(torch.zeros(n_features))
        self.groups = groups
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """Normalise ``(b l n)``."""
        return torch.addcmul(self.bias, self.standardise(x), self.weight)

    def standardise(self, x: Tensor) -> Tensor:
        """Normalise ``(b l n)`` without gain and bias."""
        # Keeps features last, unlike nn.GroupNorm, so that no copy is made around recurrent layers.
        grouped = rearrange(x, "b l (g n) -> b g l n", g=self.groups)
        return rearrange(F.layer_norm(grouped, grouped.shape[-2:], eps=self.eps), "b g l n -> b l (g n)")


class RecurrentLayer(TwoPaths):
    """Normalisation, one recurrent layer, linear layer back to the feature dimension.

    On a CPU, in single precision, a large bidirectional LSTM uses `projected_bilstm`, which is faster than torch's and
    equivalent, and threads share the sequences of a layer that has many.
    """

    def __init__(
        self,
        kind: type[nn.LSTM] | type[nn.GRU],
        n_features: int,
        hidden: int,
        norm_groups: int = 1,
        eps: float = EPS,
        bidirectional: bool = True,
    ) -> None:
        """Make a layer of ``kind`` with ``hidden`` features per direction; ``eps`` belongs to the normalisation."""
        super().__init__()
        self.norm = SequenceNorm(n_features, norm_groups, eps)
        self.rnn = kind(n_features, hidden, batch_first=True, bidirectional=bidirectional)
        self.project = nn.Linear((1 + bidirectional) * hidden, n_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(b l n)`` to ``(b l n)``."""
        if isinstance(self.rnn, nn.LSTM) and lacks_bf16_lstm(x):
            with torch.autocast("cpu", enabled=False):
                return self.forward(x.float())
        if not self.fast or not is_plain_cpu_work(x):
            return self._forward_plainly(x)
        if torch.get_num_threads() == 1:
            return self._forward_in_one_thread(x)
        # With gradients a GRU is many small operations, for which threads would wait for each other in Python.
        few_operations = isinstance(self.rnn, nn.LSTM) or not torch.is_grad_enabled()
        if few_operations and x.numel() >= LEAST_NUMBERS_APART and not is_apart():
            return apply_apart(self._forward_in_one_thread, x, list(self.parameters()))
        return self._forward_plainly(x)

    def _forward_plainly(self, x: Tensor) -> Tensor:
        return self.project(self.rnn(self.norm(x))[0])

    def _forward_in_one_thread(self, x: Tensor) -> Tensor:
        if not isinstance(self.rnn, nn.LSTM) or not self.rnn.bidirectional:
            return self._forward_plainly(x)
        if not our_lstm_is_quicker(len(x), self.rnn.hidden_size):
            return self._forward_plainly(x)
        weight = self.gate_weights()
        project = rearrange(self.project.weight, "n (d m) -> d n m", d=2)
        return projected_bilstm(self.norm.standardise(x), weight, project, self.project.bias)

    def gate_weights(self) -> Tensor:
        """Return the weights of both directions of an LSTM, as `projected_bilstm` takes them."""
        return torch.stack([self._gate_weights(suffix) for suffix in ("", "_reverse")])

    def _gate_weights(self, suffix: str) -> Tensor:
        """Concatenate the weights of a direction, with gain and bias of the normalisation folded in."""
        names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        from_input, from_output, bias_ih, bias_hh = (getattr(self.rnn, f"{name}_l0{suffix}") for name in names)
        bias = torch.addmv(bias_ih + bias_hh, from_input, self.norm.bias)
        together = torch.cat([from_input * self.norm.weight, from_output, bias.unsqueeze(1)], dim=1)
        into, forget, candidate, outof = together.chunk(4)
        return torch.cat([into, forget, outof, candidate])


class ConvLayer(nn.Module):
    """Normalisation, one convolution with ReLU, linear layer back to the feature dimension."""

    def __init__(self, n_features: int, hidden: int, kernel: int, norm_groups: int = 1) -> None:
        """Make a layer with ``hidden`` channels and an odd ``kernel``."""
        super().__init__()
        self.norm = SequenceNorm(n_features, norm_groups)
        self.conv = nn.Conv1d(n_features, hidden, kernel, padding="same")
        self.project = nn.Linear(hidden, n_features)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(b l n)`` to ``(b l n)``."""
        return self.project(F.relu(self.conv(self.norm(x).mT)).mT)


class NormConv(nn.Sequential):
    """Group normalisation with one group, convolution of "same" length, ReLU, on ``(b n l)``."""

    def __init__(self, n_in: int, n_out: int, kernel: int, dilation: int = 1, eps: float = 1e-5) -> None:
        """Make the three; ``eps`` belongs to the normalisation."""
        super().__init__(
            nn.GroupNorm(1, n_in, eps=eps),
            nn.Conv1d(n_in, n_out, kernel, dilation=dilation, padding="same"),
            nn.ReLU(),
        )


class DilatedStack(nn.Module):
    """Dilated convolutions whose neighbouring outputs are fused before they are joined: the layer of BSCNN."""

    def __init__(self, n_features: int, hidden: int, depth: int, kernel: int) -> None:
        """Make ``depth`` convolutions of ``hidden`` channels with dilations 1, 2, 4, ..."""
        super().__init__()
        self.enter = NormConv(n_features, hidden, kernel, eps=EPS)
        self.dilated = nn.ModuleList(NormConv(hidden, hidden, kernel, dilation=2**i) for i in range(depth))
        neighbours = [len(range(depth)[max(i - 1, 0) : i + 2]) for i in range(depth)]
        self.fuse = nn.ModuleList(NormConv(count * hidden, hidden, kernel) for count in neighbours)
        self.leave = NormConv(depth * hidden, n_features, kernel, eps=EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(b l n)`` to ``(b l n)``."""
        y = self.enter(x.mT)
        outputs: list[Tensor] = []
        for layer in self.dilated:
            y = layer(y)
            outputs.append(y)
        fused = [fuse(torch.cat(outputs[max(i - 1, 0) : i + 2], dim=1)) for i, fuse in enumerate(self.fuse)]
        return self.leave(torch.cat(fused, dim=1)).mT
