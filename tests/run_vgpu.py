#!/usr/bin/env python3
"""run_vgpu.py BUILD_DIR build [FOLDER] | BUILD_DIR ORDER CTEST - the tests of the GPU on a virtual one.

A virtual CUDA machine is a folder with `build.sh`, which leaves `lib/` with stand-ins for the CUDA
libraries, and `vgpu`, which runs an unmodified CUDA program on them. It is found through FOLDER or the
environment variable COG_VGPU; `build` copies it to BUILD_DIR/vgpu and builds it there. Then every test
labelled `gpu` runs with strict checks in one ORDER of asynchronous work: sync, lazy, rand:1, threads, each
with blocks and warps in an order of its own. All cases of training run in `sync`, a fourth of them in the others.
Without such a folder the tests are skipped (status 77); a test that finds no GPU there has failed.
"""
import os
import pathlib
import shutil
import subprocess
import sys


SCHEDULE = {"sync": "0", "lazy": "1", "rand:1": "2", "threads": "0"}


def build(machine, source):
    if not source:
        print("skipped: no virtual CUDA machine (COG_VGPU) is given")
        return 77
    if not (pathlib.Path(source) / "build.sh").is_file():
        print(f"there is no build.sh in {source}")
        return 1
    # Newer files only: what was built from the rest stays.
    for file in sorted(p for p in pathlib.Path(source).rglob("*") if p.is_file()):
        copy = machine / file.relative_to(source)
        if not copy.exists() or copy.stat().st_mtime < file.stat().st_mtime:
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copy)
            copy.chmod(0o755 if os.access(file, os.X_OK) else 0o644)
    return subprocess.run(["./build.sh"], cwd=machine).returncode


def run(build_dir, machine, order, ctest):
    runner = machine / "vgpu"
    if not runner.is_file():
        print("skipped: no virtual CUDA machine was built")
        return 77
    env = {**os.environ, "PTXRUN_ASYNC": order, "PTXRUN_STRICT": "1", "PTXRUN_GRACE": "1",
           "PTXRUN_SCHED": SCHEDULE[order], "COG_REQUIRE_GPU": "9",
           "COG_TEST_SHARE": "1" if order == "sync" else "4"}
    if "COG_GEMM:STRING=loops" in (pathlib.Path(build_dir) / "CMakeCache.txt").read_text():
        env["COG_SAME_BITS"] = "1"
    command = [runner, ctest, "-j2", "-L", "^gpu$", "--no-tests=error", "--output-on-failure"]
    done = subprocess.run(command, cwd=build_dir, env=env, text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    print(done.stdout)
    return done.returncode


def main(build_dir, order, argument=None):
    machine = pathlib.Path(build_dir) / "vgpu"
    if order == "build":
        return build(machine, argument or os.environ.get("COG_VGPU"))
    return run(build_dir, machine, order, argument)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
