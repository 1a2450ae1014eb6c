#!/usr/bin/env python3
"""check_gpu_train.py PROGRAM SOURCE_DIR DEVICE - training on a GPU follows training on the CPU.

Every code and every channel of host/registry.def trains for 50 rounds on both. At every report the
losses agree to 1e-5 of their size, and what does not depend on arithmetic agrees exactly: bytes,
messages, virtual time.

A lossy channel that meets a near tie sends another entry, or rounds the other way, for a difference in
the last bit; then the runs part. So those are compared where both sum in the same order: matrix products
by plain loops (COG_GEMM=loops) against a stand-in for cuBLAS that goes in order too, and one row from
each of two shards, whose sum over rows has one order only. That it is so shows in the first case, whose
losses must be the same bit for bit. On a real GPU they are not, and only exact channels are compared.
COG_TEST_SHARE=4 takes every fourth case.
"""
import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile

TOLERANCE = 1e-5
LOSSY, CODE = "topk:ratio=0.1,values=bf16,feedback=1", "frc:stragglers=1"
FIRST = {"code": CODE, "channel": "identity"}
CODES = {
    "uncoded": ["uncoded", "uncoded:precision=bf16"],
    "ignore": ["ignore:wait=3"],
    "kasync": ["kasync:k=2"],
    "replication": ["replication:blocks=2,wait=3", "replication:blocks=2,wait=3,decoder=sum"],
    "lwpd": [f"lwpd:weight=2,wait=5,decoder={d}" for d in ("transpose", "least-squares", "memory")],
    "frc": ["frc:stragglers=1"],
    "crc": ["crc:stragglers=1"],
    "acgc": [f"acgc:construction={c},degree=2,wait=6" for c in ("1", "2", "stacked")],
    "stochastic": ["stochastic:copies=2,straggle=0.2,wait=4"],
    "ye_abbe": ["ye-abbe:stragglers=1,blocks=1", "ye-abbe:stragglers=0,blocks=2"],
}
CHANNELS = {
    "identity": ["identity:feedback=1"],
    "bf16": ["bf16", "bf16:feedback=1"],
    "topk": ["topk:ratio=0.1", "topk:ratio=0.1,feedback=1", "topk:ratio=0.1,values=bf16",
             "topk:ratio=0.1,kind=global", "topk:ratio=0.1,kind=global,values=bf16,feedback=1",
             "topk:ratio=0.1,kind=threshold",
             "topk:ratio=0.1,kind=threshold,values=bf16,feedback=1"],
    "sign": ["sign", "sign:feedback=1", "sign:scale=group",
             "sign:scale=group,group=256,feedback=1"],
    "qsgd": ["qsgd", "qsgd:bits=8,rounding=nearest,feedback=1"],
    "randk": ["randk:ratio=0.2,feedback=1", "randk:kind=block,ratio=0.3,values=bf16"],
    "fosgd": ["fosgd"],
    "wyner_ziv": ["wyner-ziv:predict=linear"],
    "powersgd": ["powersgd:feedback=1"],
    "temporal": ["bf16:predict=temporal"],
    "linear": ["topk:ratio=0.1,predict=linear"],
    "difference": ["topk:ratio=0.1,predict=difference"],
    "none": ["topk:ratio=0.1,feedback=1,momentum=0.5,warmup=10"],
}
# For exact channels only: errors come out 10^10 times larger; a worker adds up more than two rows.
EXACT_ONLY = ("acgc:construction=1,", "stochastic")
# With kernels of their own. A GPU's server cannot decode the others, so it does not relay them.
WITH_KERNELS = ("identity", "bf16", "topk", "sign")
OTHERS = [{"downlink": "fp32"}, {"downlink": "bf16"}, {"optimizer": "momentum"},
          {"optimizer": "adam:rate=0.01"}]
# 260 parameters: more than one tile of 256.
PROBLEM = ["--data", "synthetic:rows=128,features=10,classes=4,seed=5", "--model", "mlp:hidden=17",
           "--batch", "1", "--rounds", "50", "--report-every", "10", "--seed", "2",
           "--stragglers", "exp:mean=0.01", "--max-amplification", "1e9"]
SAME = ("round", "bytes_up", "bytes_down", "messages_used", "virtual_seconds")


def is_exact(case):
    return (case["channel"].startswith("identity") and case.get("downlink") != "bf16" and
            not case["code"].endswith("bf16"))


def all_cases():
    for codes in CODES.values():
        for code in codes:
            channel = "identity" if code.startswith(EXACT_ONLY) else LOSSY
            yield {"code": code, "channel": channel}
    for channels in CHANNELS.values():
        for channel in channels:
            downlink = {} if channel.startswith(WITH_KERNELS) else {"downlink": "fp32"}
            yield {"code": CODE, "channel": channel, **downlink}
    for other in OTHERS:
        yield {"code": CODE, "channel": LOSSY, **other}
    for codes in CODES.values():  # exact, so that a real GPU has something to do
        if "COG_SAME_BITS" not in os.environ:
            yield {"code": codes[0], "channel": "identity"}


def train(program, device, case, folder):
    chosen = {"optimizer": "sgd:rate=0.05", **case}
    options = [text for key, value in chosen.items() for text in ("--" + key, value)]
    workers = "8" if case["code"].startswith(("lwpd", "acgc")) else "4"
    done = subprocess.run([program, "train", *PROBLEM, *options, "--workers", workers, "--device",
                           device, "--out", folder], text=True, stdout=subprocess.DEVNULL,
                          stderr=subprocess.PIPE)
    if done.returncode != 0:
        raise RuntimeError(done.stderr)
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def difference(program, device, case):
    """The largest difference of a loss; other differences are errors."""
    with tempfile.TemporaryDirectory() as folder:
        cpu, gpu = (train(program, on, case, pathlib.Path(folder) / on) for on in ("cpu", device))
    worst = 0
    for a, b in zip(cpu, gpu, strict=True):
        for key in SAME:
            if a[key] != b[key]:
                raise RuntimeError(f"round {a['round']}: {key} {a[key]} on the CPU, {b[key]} here")
        for key in ("train_loss", "test_loss"):
            worst = max(worst, abs(a[key] - b[key]) / a[key])
    if not cpu[-1]["train_loss"] < cpu[0]["train_loss"]:
        raise RuntimeError("this problem is not learnt, so it shows nothing")
    return worst


def check(program, device, case):
    """A complaint, or nothing."""
    try:
        worst = difference(program, device, case)
    except RuntimeError as error:
        return str(error)
    print(f"{worst:8.1e}", *case.values(), flush=True)
    return "" if worst <= TOLERANCE else f"losses differ by {worst:g} of their size"


def add_unlisted(source):
    """What host/registry.def names and no case does trains with its defaults."""
    registry = (pathlib.Path(source) / "host/registry.def").read_text()
    for kind, name in re.findall(r"^COG_(CODE|QUANTIZER|PREDICTOR)\((\w+)\)", registry, re.MULTILINE):
        spec = name.replace("_", "-")
        if kind == "CODE":
            CODES.setdefault(name, [spec])
        else:
            CHANNELS.setdefault(name, [spec if kind == "QUANTIZER"
                                       else f"topk:ratio=0.1,predict={spec}"])


def main(program, source, device):
    add_unlisted(source)
    try:
        same_bits = difference(program, device, FIRST) == 0
    except RuntimeError as error:
        if "no GPU can be used" in str(error) and "COG_REQUIRE_GPU" not in os.environ:
            print(f"skipped: {error}")
            sys.exit(77)
        return str(error)
    if not same_bits and "COG_SAME_BITS" in os.environ:
        return "the devices do not sum in the same order"
    if not same_bits:
        print("sums have another order here: lossy channels are not compared")
    cases = [case for case in all_cases() if same_bits or is_exact(case)]
    cases = cases[::int(os.environ.get("COG_TEST_SHARE", "1"))]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda case: check(program, device, case), cases))
    return "\n".join(f"{' '.join(case.values())}: {what}"
                     for case, what in zip(cases, found) if what)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) or 0)
