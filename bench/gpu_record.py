#!/usr/bin/env python3
"""gpu_record.py [--out FILE] [--quick] [--build-dir DIR] [--virtual RUNNER] - what runs on this GPU.

Builds with the preset cuda, runs the tests labelled `gpu`, the bench of packs next to device copies
with a cold cache (messages of 2^10 to 2^28 bytes, floor bytes over copy bandwidth) and a training run,
and writes one JSON record with the names of the device and of the software. Without a GPU it says so and
writes nothing. --virtual runs every program through RUNNER, a virtual CUDA machine: the record is
then marked "virtual" and its times mean nothing. --quick takes small messages and few calls.
"""
import argparse
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent


def fail(sentence):
    print(f"gpu_record: {sentence}", file=sys.stderr)
    sys.exit(1)


def call(command, **options):
    return subprocess.run([str(c) for c in command], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **options)


def build(folder):
    if call(["cmake", "--preset", "cuda", "-B", folder], cwd=ROOT).returncode != 0:
        fail("the preset cuda cannot be configured; `./run toolkit` fetches CUDA's compiler")
    done = call(["cmake", "--build", folder], cwd=ROOT)
    if done.returncode != 0:
        fail("the build failed:\n" + done.stdout[-2000:])


def smi(field):
    if shutil.which("nvidia-smi") is None:
        return None
    done = call(["nvidia-smi", f"--query-gpu={field}", "--format=csv,noheader"])
    return done.stdout.splitlines()[0].strip() if done.returncode == 0 and done.stdout else None


def toolkit_version(folder):
    cache = (folder / "CMakeCache.txt").read_text()
    nvcc = re.search(r"^CMAKE_CUDA_COMPILER:\w+=(.*)$", cache, re.M)
    done = call([nvcc[1], "--version"]) if nvcc else None
    found = re.search(r"release ([\d.]+), V([\d.]+)", done.stdout) if done else None
    return found[2] if found else None


def tests(run, folder):
    done = call([*run, "ctest", "-L", "^gpu$", "--no-tests=error", "--output-on-failure"],
                cwd=folder, env={**os.environ, "COG_REQUIRE_GPU": "1"})
    found = re.findall(r"Test\s+#\d+: (\w+) \.+\**\s*(\w+)[\s\w]*?([\d.]+) sec", done.stdout)
    return {"passed": done.returncode == 0,
            "tests": [{"name": n, "result": r, "seconds": float(s)} for n, r, s in found]}


def packs(run, folder, quick):
    flags = ["-b", "1K", "-e", "16K", "-f", "16", "-n", "3", "-w", "1"] if quick else [
        "-b", "1K", "-e", "256M", "-f", "4", "-n", "50", "-w", "5"]
    with tempfile.TemporaryDirectory() as scratch:
        file = pathlib.Path(scratch) / "packs.json"
        done = call([*run, folder / "cograd-bench-pack", "-d", "cuda", *flags, "-J", file])
        print(done.stdout)
        if done.returncode != 0:
            fail("the bench of packs failed")
        return json.loads(file.read_text())


def training(run, folder, quick):
    with tempfile.TemporaryDirectory() as scratch:
        file = pathlib.Path(scratch) / "record.json"
        flags = ["--data", "synthetic:rows=480,features=12,classes=3", "--model", "mlp:hidden=8",
                 "--batch", "16", "--rounds", "3"] if quick else ["--rounds", "500"]
        done = call([*run, folder / "cograd", "train", "--device", "cuda", *flags, "--json", file])
        if done.returncode != 0:
            fail("training failed:\n" + done.stdout[-1000:])
        return json.loads(file.read_text())


def require_gpu(run, folder):
    done = call([*run, folder / "cograd-bench-pack", "-d", "cuda", "-b", "1K", "-e", "1K", "-n",
                 "1", "-w", "0", "-c", "identity"])
    if done.returncode != 0:
        sentence = done.stdout.strip().splitlines()[-1] if done.stdout.strip() else "no GPU"
        fail(f"nothing was measured: {sentence.split(': ', 1)[-1]}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="gpu-record.json")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--build-dir", default="build-cuda")
    parser.add_argument("--virtual", metavar="RUNNER")
    options = parser.parse_args()
    folder = (ROOT / options.build_dir).resolve()
    run = [options.virtual] if options.virtual else []
    build(folder)
    require_gpu(run, folder)
    record = {"virtual": bool(options.virtual), "device": smi("name"),
              "driver": smi("driver_version"), "toolkit": toolkit_version(folder),
              "commit": call(["git", "rev-parse", "HEAD"], cwd=ROOT).stdout.strip(),
              "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
              "gpu_tests": tests(run, folder), "packs": packs(run, folder, options.quick),
              "training": training(run, folder, options.quick)}
    partial = pathlib.Path(options.out + ".partial")
    partial.write_text(json.dumps(record, indent=2) + "\n")
    partial.replace(options.out)
    good = record["gpu_tests"]["passed"] and all(p["wrong"] == 0 for p in record["packs"])
    print(f"{options.out}: tests {'passed' if record['gpu_tests']['passed'] else 'FAILED'}, "
          f"{len(record['packs'])} lines of packs")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
