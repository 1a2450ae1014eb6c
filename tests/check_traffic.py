#!/usr/bin/env python3
"""check_traffic.py BUILD_DIR SIMT_PROGRAM - the virtual CUDA machine counts the bytes that the executor counts.

Both run tests/gpu_traffic.c, one the compiled kernels, the other their source. Operation by operation the launches, the
bytes stored must be the same, and so must the 32-byte sectors loaded and stored, but for the few that the virtual
machine counts in addition: of the kernels' parameters, which compiled code reads by address, and of words that
only atomics touch. Skipped (status 77) where one is missing.
"""
import os
import pathlib
import subprocess
import sys

PARAMETER_SECTORS, ATOMIC_SECTORS = 16, 4  # of a launch, at most


def counts(command, **environment):
    done = subprocess.run(command, text=True, capture_output=True, env={**os.environ, **environment})
    if done.returncode:
        sys.exit(f"{command}: status {done.returncode}\n{done.stdout}{done.stderr}")
    lines = (line.split("\t") for line in done.stdout.splitlines())
    return {name: tuple(map(int, numbers)) for name, *numbers in lines}


def main(build, simt):
    runner, program = pathlib.Path(build, "vgpu", "vgpu"), pathlib.Path(build, "gpu_traffic")
    for needed, what in ((runner, "no virtual CUDA machine was built"),
                         (pathlib.Path(simt), "the preset simt was not built")):
        if not needed.is_file():
            print("skipped:", what)
            return 77
    executed = counts([simt])
    compiled = counts([runner, program], PTXRUN_ASYNC="sync", PTXRUN_STRICT="1")
    different = executed.keys() ^ compiled.keys()
    for name in executed.keys() & compiled.keys():
        launches, stored, loads, stores = executed[name]
        others = compiled[name]
        if (launches, stored) != others[:2] or not (
                0 <= others[2] - loads <= PARAMETER_SECTORS * launches and
                0 <= others[3] - stores <= ATOMIC_SECTORS * launches):
            different.add(name)
            print(f"{name}: launches, bytes stored, sectors loaded and stored are {executed[name]} on the "
                  f"executor, {others} on the virtual machine")
    print(f"{len(executed)} operations, {len(different)} differ")
    return 1 if different or not executed else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
