#!/usr/bin/env python3
"""check_experiments.py PROGRAM - the short version of every experiment bears out what it states.

Each must end well, leave a table and, with gnuplot, a picture for every script; a name that does not
exist is refused.
"""
import csv
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile


def names(program):
    listed = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    return re.findall(r"^  (\S+) ", listed, re.M)


def check_results(folder):
    tables = sorted(folder.glob("*.csv"))
    for table in tables:
        with open(table, newline="") as file:
            rows = list(csv.reader(file))
        if len(rows) < 2 or {len(row) for row in rows} != {len(rows[0])}:
            return f"{table.name} is no table"
    for script in folder.glob("*.gp"):
        picture = script.with_suffix(".png")
        if shutil.which("gnuplot") and (not picture.exists() or picture.stat().st_size < 2000):
            return f"{picture.name} is missing"
    return "" if tables else "no table was written"


def run(program, name):
    with tempfile.TemporaryDirectory() as out:
        done = subprocess.run([program, name, "--quick", "--out", out], text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        problem = check_results(pathlib.Path(out, name)) if done.returncode == 0 else ""
    print(done.stdout)
    if done.returncode or problem:
        print(f"{name}: status {done.returncode} {problem}")
    return done.returncode == 0 and not problem


def main(program):
    good = [run(program, name) for name in names(program)]
    unknown = subprocess.run([program, "nope"], capture_output=True, text=True)
    refused = unknown.returncode == 2 and "'nope'" in unknown.stderr
    return 0 if good and all(good) and refused else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
