"""Loss and gradient of a ReLU network with softmax cross-entropy, summed over rows, in double.

Reads a problem written by test_mlp.c (int32 rows and 4 widths; then float32 parameters, x, y) and
writes float64 loss and gradient. PyTorch's autograd when it is installed, else NumPy by hand.
"""
import sys

import numpy as np

try:
    import torch
except ImportError:
    torch = None


def read_problem(path):
    raw = open(path, "rb").read()
    rows, *widths = np.frombuffer(raw, np.int32, 5)
    numbers = np.frombuffer(raw, np.float32, offset=20).astype(np.float64)
    n_params = sum(o * (i + 1) for i, o in zip(widths, widths[1:]))
    params, rest = numbers[:n_params], numbers[n_params:]
    x = rest[: rows * widths[0]].reshape(rows, widths[0])
    return widths, params, x, rest[rows * widths[0] :].astype(np.int64)


def split(params, widths):
    layers, at = [], 0
    for i, o in zip(widths, widths[1:]):
        layers.append((params[at : at + o * i].reshape(o, i), params[at + o * i : at + o * i + o]))
        at += o * (i + 1)
    return layers


def with_torch(widths, params, x, y):
    p = torch.tensor(params, requires_grad=True)
    h = torch.tensor(x)
    for k, (w, b) in enumerate(split(p, widths)):
        h = torch.nn.functional.linear(torch.relu(h) if k > 0 else h, w, b)
    loss = torch.nn.functional.cross_entropy(h, torch.tensor(y), reduction="sum")
    loss.backward()
    return loss.item(), p.grad.numpy()


def with_numpy(widths, params, x, y):
    layers, inputs = split(params, widths), [x]
    for w, b in layers:
        inputs.append(np.maximum(inputs[-1] @ w.T + b, 0))
    scores = inputs[-2] @ layers[-1][0].T + layers[-1][1]
    scores -= scores.max(axis=1, keepdims=True)
    share = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
    loss = -np.log(share[np.arange(len(y)), y]).sum()
    delta = share - np.eye(widths[-1])[y]
    pieces = []
    for (w, _), below in zip(layers[::-1], inputs[-2::-1]):
        pieces = [(delta.T @ below).ravel(), delta.sum(axis=0)] + pieces
        delta = (delta @ w) * (below > 0)
    return loss, np.concatenate(pieces)


if __name__ == "__main__":
    loss, gradient = (with_torch if torch else with_numpy)(*read_problem(sys.argv[1]))
    np.concatenate([[loss], gradient]).tofile(sys.argv[2])
