#!/usr/bin/env python3
"""Images a second of the network of bench_mlp.c in PyTorch on the CPU.

Same layers, batch, rate, data and order of rows.

    torch_mlp.py [SECONDS [THREADS [BATCH]]]      default 5 1 256; 0 threads: PyTorch's own choice
"""
import gzip
import os
import pathlib
import sys
import time

import torch


def mnist(kind):
    shipped = pathlib.Path(__file__).parent.parent / "data"
    folder = pathlib.Path(os.environ.get("COGRAD_DATA", shipped)) / "mnist"
    pixels = gzip.open(folder / f"{kind}-images-idx3-ubyte.gz").read()[16:]
    labels = gzip.open(folder / f"{kind}-labels-idx1-ubyte.gz").read()[8:]
    x = torch.frombuffer(bytearray(pixels), dtype=torch.uint8).reshape(-1, 784).float() / 255
    return x, torch.frombuffer(bytearray(labels), dtype=torch.uint8).long()


def train(net, optimizer, x, y, batch, seconds):
    first = images = 0
    begin = end = time.perf_counter()
    cpu_begin = time.process_time()
    while end - begin < seconds:
        for _ in range(16):
            rows = slice(first, first + batch)
            optimizer.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(net(x[rows]), y[rows]).backward()
            optimizer.step()
            first = first + batch if first + 2 * batch <= len(x) else 0
            images += batch
        end = time.perf_counter()
    return images / (end - begin), images / (time.process_time() - cpu_begin)


def main():
    given, default = [float(a) for a in sys.argv[1:4]], [5.0, 1, 256]
    seconds, threads, batch = given + default[len(given):]
    if threads:
        torch.set_num_threads(int(threads))
    (x, y), (test_x, test_y) = mnist("train"), mnist("t10k")
    net = torch.nn.Sequential(torch.nn.Linear(784, 512), torch.nn.ReLU(), torch.nn.Linear(512, 256),
                              torch.nn.ReLU(), torch.nn.Linear(256, 10))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    train(net, optimizer, x, y, int(batch), seconds / 5)
    rate, cpu_rate = train(net, optimizer, x, y, int(batch), seconds)
    with torch.no_grad():
        accuracy = (net(test_x).argmax(1) == test_y).float().mean().item()
    print(f"{rate:.0f} images/s   {cpu_rate:.0f} a CPU second, torch {torch.__version__}, "
          f"{torch.get_num_threads()} threads, batch {int(batch)}, accuracy {accuracy:.4f}")


if __name__ == "__main__":
    main()
