"""A bidirectional LSTM for CPUs with the linear layer after it; `RecurrentLayer` has the equivalent plain path.

It is faster than `torch.nn.LSTM` on a CPU for these reasons:

* one product per step computes all gates from the concatenated ``[input, last output, 1]``: there is no array of input
  products to write and read again, and the gradients of all weights and biases are one product, too;
* one direction of some sequences runs through all steps before the next one, so that the data of a step stay in a
  core's cache;
* in training the batch axis is the innermost one, so that each gate is one piece of memory and the product needs no
  transposition;
* the linear layer reads the steps' outputs in place, so that the wide output of the LSTM is never assembled.

Axes: ``d`` direction, ``m`` hidden feature of a direction; the second direction runs on reversed positions.

In training (`_run`) a step is a matrix with a column for each sequence, and all steps are kept for the backward
pass. The output of a step is written to where the next step reads it::

    inputs[t]          gates[t] = weight @ inputs[t]
    input of t      n  input gate    m  sigmoid
    output of t-1   m  forget gate   m  sigmoid        cells[t+1] = forget * cells[t] + input gate * candidate
    1               1  output gate   m  sigmoid        output of t = output gate * tanh(cells[t+1]) -> inputs[t+1]
          b            candidate     m  tanh
                             b

Without gradients (`_infer`) a sequence is a row, one state serves all steps, and nothing is kept. The output of a step
replaces that of the previous step, and its part of the linear layer is added to ``y`` immediately::

    state  (b n+m+1)  input of t | output of t-1 | 1
    gates  (b 4m)     input gate | forget gate | output gate | candidate
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK = 192
"""Most sequences that are processed at once."""


class Record(NamedTuple):
    """State of one direction's run over some sequences, for the backward pass."""

    inputs: Tensor
    """``(l+1 n+m+1 b)``: at each step the input, the output of the previous step, and a one."""
    gates: Tensor
    """``(l 4m b)``: input, forget and output gate, and the candidate, after their activations."""
    cells: Tensor
    """``(l+1 m b)``: the cell before each step, and after the last."""


def projected_bilstm(x: Tensor, weight: Tensor, project: Tensor, bias: Tensor) -> Tensor:
    """Run a bidirectional LSTM over ``(b l n)`` and map its outputs to ``(b l n)``.

    Args:
        x: sequences, ``(b l n)``.
        weight: weights of the gates, ``(d 4m n+m+1)``: for each direction the columns of the input, of the last output
            and the bias, and the rows of input, forget and output gate and of the candidate.
        project: weights of the linear layer, ``(d n m)``.
        bias: bias of the linear layer, ``(n)``.
    """
    if torch.is_grad_enabled():
        return _ProjectedBilstm.apply(x, weight, project, bias)  # type: ignore[return-value]
    y = bias.expand_as(x).contiguous()
    for part, out in zip(_chunks(x), _chunks(y), strict=True):
        for d in (0, 1):
            _infer(part, out, d, weight, project)
    return y


class _ProjectedBilstm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, project: Tensor, bias: Tensor) -> Tensor:
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        records: list[Record] = []
        for part, out in zip(_chunks(x), _chunks(y), strict=True):
            ahead, back = _run(part, weight[0]), _run(part.flip(1), weight[1])
            torch.add(_project(ahead, project[0]), _project(back, project[1]).flip(0), out=out.transpose(0, 1))
            out += bias
            records += ahead, back
        ctx.save_for_backward(weight, project, *(tensor for record in records for tensor in record))
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:  # type: ignore[override]
        weight, project, *kept = ctx.saved_tensors
        records = [Record(*kept[at : at + 3]) for at in range(0, len(kept), 3)]
        dx = torch.empty_like(dy, memory_format=torch.contiguous_format)
        dweight, dproject = torch.zeros_like(weight), torch.zeros_like(project)
        for part, out, *both in zip(_chunks(dy), _chunks(dx), records[::2], records[1::2], strict=True):
            ahead, back = (
                _run_back(dy_, record, weight[d], project[d], dweight[d], dproject[d])
                for d, (dy_, record) in enumerate(zip((part, part.flip(1)), both, strict=True))
            )
            torch.add(ahead.mT, back.mT.flip(0), out=out.transpose(0, 1))
        return dx, dweight, dproject, dy.sum((0, 1))


def _chunks(x: Tensor) -> tuple[Tensor, ...]:
    """Cut the first axis into pieces whose sizes differ by at most one."""
    return x.tensor_split(max(1, -(-len(x) // CHUNK)))


def _infer(x: Tensor, y: Tensor, d: int, weight: Tensor, project: Tensor) -> None:
    """Run direction ``d`` over ``(b l n)`` with nothing kept for a backward pass; add its part of ``y``, ``(b l n)``.

    Here sequences are rows: inputs and outputs are read and written in place, and products are fast with any number of
    rows.
    """
    b, _, n = x.shape
    m = weight.shape[1] // 4
    gates, cell, state = x.new_empty(b, 4 * m), x.new_zeros(b, m), x.new_zeros(b, n + m + 1)
    state[:, -1] = 1
    sigmoids, (into, forget, outof, candidate) = gates[:, : 3 * m], gates.split(m, dim=1)
    here, output = state[:, :n], state[:, n:-1]
    to_gates, to_y, step = weight[d].mT, project[d].mT, 1 - 2 * d
    for before, after in zip(x.unbind(1)[::step], y.unbind(1)[::step], strict=True):
        here.copy_(before)
        torch.mm(state, to_gates, out=gates)
        sigmoids.sigmoid_()
        candidate.tanh_()
        cell.mul_(forget).addcmul_(into, candidate)
        torch.tanh(cell, out=output).mul_(outof)
        after.addmm_(output, to_y)


def _run(x: Tensor, weight: Tensor) -> Record:
    """Run one direction over ``(b l n)``, whose positions are in the direction's order."""
    b, length, n = x.shape
    m = weight.shape[0] // 4
    inputs = x.new_empty(length + 1, n + m + 1, b)
    inputs[:-1, :n] = x.permute(1, 2, 0)
    inputs[0, n:-1] = 0
    inputs[:, -1] = 1
    gates = x.new_empty(length, 4 * m, b)
    cells = x.new_empty(length + 1, m, b)
    cells[0] = 0
    views = (inputs[:-1], inputs[1:, n:-1], gates, gates[:, : 3 * m], *gates.split(m, dim=1), cells[:-1], cells[1:])
    for before, after, gate, sigmoids, into, forget, outof, candidate, last_cell, cell in _steps(*views):
        torch.mm(weight, before, out=gate)
        sigmoids.sigmoid_()
        candidate.tanh_()
        torch.mul(forget, last_cell, out=cell).addcmul_(into, candidate)
        torch.tanh(cell, out=after).mul_(outof)
    return Record(inputs, gates, cells)


def _steps(*tensors: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Iterate over the first axes of all tensors together."""
    # Unbound in advance: indexing at every step would take a twentieth of the total time.
    return zip(*(tensor.unbind() for tensor in tensors), strict=True)


def _project(record: Record, project: Tensor) -> Tensor:
    """Apply a direction's part of the linear layer, ``(n m)``, to its outputs: ``(l b n)``, in the same order."""
    return torch.matmul(record.inputs[1:, len(project) : -1].mT, project.mT)


def _run_back(dy: Tensor, record: Record, weight: Tensor, project: Tensor, dweight: Tensor, dproject: Tensor) -> Tensor:
    """Return the gradient of one direction's input, ``(l n b)``, and add to those of its weights.

    Args:
        dy: gradient of the output, ``(b l n)``, positions in the direction's order.
        record: state of the forward pass.
        weight: weights of the gates, ``(4m n+m+1)``.
        project: weights of the linear layer, ``(n m)``.
        dweight: gradient of ``weight``.
        dproject: gradient of ``project``.
    """
    inputs, gates, cells = record
    n, m = project.shape
    # Copies, since products are fastest when no matrix is transposed or a slice of longer rows.
    from_gates_to_input = weight[:, :n].mT.contiguous()
    from_gates_to_output = weight[:, n:-1].mT.contiguous()
    from_y_to_output = project.mT.contiguous()
    dweight_turned, dproject_turned = weight.new_zeros(n + m + 1, 4 * m), torch.zeros_like(from_y_to_output)
    dys = dy.transpose(0, 1).contiguous()
    dxs = dy.new_empty(len(dys), n, dys.shape[1])
    dgate, doutput = torch.empty_like(gates[0]), torch.zeros_like(cells[0])
    dcell, tanh_cell, product = torch.zeros_like(doutput), torch.empty_like(doutput), torch.empty_like(doutput)
    dinto, dforget, doutof, dcandidate = dgate.split(m)
    dgate_turned, dsigmoids = dgate.mT, dgate[: 3 * m]
    outputs, sigmoid_gates = inputs[1:, n:-1], gates[:, : 3 * m]
    views = (dys, dys.mT, dxs, inputs[:-1], outputs, sigmoid_gates, *gates.split(m, dim=1), cells[:-1], cells[1:])
    steps = list(_steps(*views))
    for dy_, dy_turned, dx, before, after, sigmoids, into, forget, outof, candidate, last_cell, cell in reversed(steps):
        # `doutput` and `dcell` already hold the gradients from the next step, which was processed before this one.
        doutput.addmm_(from_y_to_output, dy_turned)
        torch.tanh(cell, out=tanh_cell)
        torch.mul(doutput, outof, out=product)
        dcell.add_(_tanh_backward(product, tanh_cell, product))
        torch.mul(dcell, candidate, out=dinto)
        torch.mul(dcell, last_cell, out=dforget)
        torch.mul(doutput, tanh_cell, out=doutof)
        _sigmoid_backward(dsigmoids, sigmoids, dsigmoids)
        _tanh_backward(torch.mul(dcell, into, out=dcandidate), candidate, dcandidate)
        dcell.mul_(forget)
        dweight_turned.addmm_(before, dgate_turned)
        dproject_turned.addmm_(after, dy_)
        torch.mm(from_gates_to_input, dgate, out=dx)
        torch.mm(from_gates_to_output, dgate, out=doutput)
    dweight += dweight_turned.mT
    dproject += dproject_turned.mT
    return dxs


def _sigmoid_backward(grad: Tensor, sigmoid: Tensor, out: Tensor) -> Tensor:
    return torch.ops.aten.sigmoid_backward.grad_input(grad, sigmoid, grad_input=out)


def _tanh_backward(grad: Tensor, tanh: Tensor, out: Tensor) -> Tensor:
    return torch.ops.aten.tanh_backward.grad_input(grad, tanh, grad_input=out)
