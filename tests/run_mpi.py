#!/usr/bin/env python3
"""run_mpi.py PROGRAM [ARGUMENT...] - runs a program of nine ranks under mpirun; skipped without one."""
import os
import shutil
import subprocess
import sys

RANKS = 9
# More ranks than cores, perhaps as root, and on this machine alone.
OPTIONS = ("--oversubscribe", "--allow-run-as-root", "--bind-to", "none", "--mca", "btl", "self,vader",
           "--mca", "pml", "ob1")


def main():
    if shutil.which("mpirun") is None:
        print("skipped: mpirun is not installed")
        return 77
    # What MPI itself keeps until the end of a process is not this program's leak.
    environment = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
    done = subprocess.run(["mpirun", *OPTIONS, "-n", str(RANKS), *sys.argv[1:], "mpi"], timeout=300,
                          env=environment, stdin=subprocess.DEVNULL)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
