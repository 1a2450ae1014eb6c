#!/usr/bin/env python3
"""check_ptxas.py SOURCE_DIR | --self-test - every kernel compiles for every GPU within its budget.

nvcc translates kernels/*.cu with warnings as errors; ptxas then tells registers and spills of each
kernel. Streaming kernels live from many threads in flight: at most 64 registers, so that 1024 threads
fit on a multiprocessor, and nothing spilled. Without nvcc the test is skipped (status 77).
"""
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

ARCHITECTURES = (80, 90, 100)
MAX_REGISTERS = 64
# -fmad=false: products and sums are fused where the source says fmaf, nowhere else.
FLAGS = ["-std=c++17", "-O3", "-fmad=false", "-Werror", "all-warnings", "-Xptxas", "-v", "-c"]
KERNEL = re.compile(
    r"Compiling entry function '(?P<name>\w+)' for '(?P<gpu>\w+)'.*?"
    r"(?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers",
    re.S,
)


def compiler(root):
    fetched = [root / "toolkit/bin/nvcc", pathlib.Path("/usr/local/cuda/bin/nvcc")]
    return shutil.which("nvcc") or next((str(f) for f in fetched if f.is_file()), None)


def objections(report):
    """What ptxas says, as (number of kernels, highest register count, sentences)."""
    kernels = list(KERNEL.finditer(report))
    sentences = []
    for k in kernels:
        spilled = int(k["stores"]) + int(k["loads"])
        if spilled > 0:
            sentences.append(f"{k['name']} on {k['gpu']} spills {spilled} bytes")
        if int(k["registers"]) > MAX_REGISTERS:
            sentences.append(f"{k['name']} on {k['gpu']} uses {k['registers']} registers")
    return len(kernels), max([int(k["registers"]) for k in kernels], default=0), sentences


def check(root, nvcc):
    targets = [f"-gencode=arch=compute_{a},code=sm_{a}" for a in ARCHITECTURES]
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for file in sorted((root / "kernels").glob("*.cu")):
            command = [nvcc, *FLAGS, *targets, "-I", str(root / "kernels"), str(file), "-o",
                       f"{folder}/kernel.o"]
            run = subprocess.run(command, capture_output=True, text=True)
            report = run.stdout + run.stderr
            n, registers, sentences = objections(report)
            if run.returncode != 0 or n == 0 or n % len(ARCHITECTURES) != 0:
                print(f"{file.name}: nvcc gave {run.returncode} and {n} kernels\n{report}")
                good = False
                continue
            print("\n".join(sentences) or f"{file.name}: {n // len(ARCHITECTURES)} kernels for "
                  f"{len(ARCHITECTURES)} GPUs, at most {registers} registers, no spills")
            good = good and not sentences
    return good


def self_test():
    """A report with one good kernel, one that spills and one too wide."""
    line = ("ptxas info    : Compiling entry function '{}' for 'sm_90'\n"
            "ptxas info    : Function properties for {}\n"
            "    {} bytes stack frame, {} bytes spill stores, {} bytes spill loads\n"
            "ptxas info    : Used {} registers, used 1 barriers\n")
    report = (line.format("a", "a", 0, 0, 0, 64) + line.format("b", "b", 8, 8, 12, 40)
              + line.format("c", "c", 0, 0, 0, 65))
    found = objections(report)
    good = found == (3, 65, ["b on sm_90 spills 20 bytes", "c on sm_90 uses 65 registers"])
    print("both breaches found" if good else found)
    return good


def main(argument):
    if argument == "--self-test":
        return 0 if self_test() else 1
    root = pathlib.Path(argument)
    nvcc = compiler(root)
    if nvcc is None:
        print("skipped: nvcc is not installed; `./run toolkit` fetches it")
        return 77
    return 0 if check(root, nvcc) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
