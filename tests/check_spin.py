#!/usr/bin/env python3
"""check_spin.py SOURCE_DIR CC - the model of a step's protocol (spin/step.pml) keeps its claims in all of its
states, and does not when a precaution is taken away.

Spin writes a program for every variant, which searches its states: all of them, or the verdict counts for
nothing. Without spin or the compiler the test is skipped (status 77).
"""
import concurrent.futures
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

MOST_MEGABYTES = 500
DEPTH = 10000
SLOW = ("-O2", "-DSAFETY", f"-DMEMLIM={MOST_MEGABYTES}")
FAST = ("-O0", "-DSAFETY", f"-DMEMLIM={MOST_MEGABYTES}")
CYCLES = ("-O0", "-DNP", "-DNOFAIR", f"-DMEMLIM={MOST_MEGABYTES}")

# What must hold: macros of the model, how to compile the search.
PROOFS = (
    ("one answer makes a round", ("-DNEED=1",), SLOW),
    ("both answers make a round", ("-DNEED=2",), SLOW),
    ("one answer, rounds end by themselves", ("-DNEED=1", "-DPATIENT"), FAST),
    ("both answers, rounds end by themselves", ("-DNEED=2", "-DPATIENT"), FAST),
    ("one answer, no cycles", ("-DNEED=1", "-DPATIENT"), CYCLES),
)

# What each claim is called when Spin finds it broken.
BROKEN = {
    "once": r"assertion violated .*used\[w\]&",
    "bound": r"assertion violated .*round-said\[w\]",
    "life": r"assertion violated .*==life\[w\]",
    "truth": r"assertion violated .*told==",
    "asks": r"assertion violated .*!\(due\[w\]\)",
    "ends": r"invalid end state",
}

# A precaution, the variant that needs it, and the claim that breaks without it.
FAULTS = (
    ("no_bound", ("-DNEED=1", "-DPATIENT"), "bound"),
    ("any_round", ("-DNEED=1",), "once"),
    ("any_copy", ("-DNEED=2", "-DPATIENT"), "asks"),
    ("any_life", ("-DNEED=1", "-DPATIENT"), "life"),
    ("not_renewed", ("-DNEED=2", "-DPATIENT"), "truth"),
    ("not_asked_again", ("-DNEED=1", "-DPATIENT"), "ends"),
    ("losses_not_missed", ("-DNEED=1", "-DPATIENT"), "ends"),
    ("debts_inherited", ("-DNEED=1", "-DPATIENT"), "ends"),
    ("no_deadline", ("-DNEED=1",), "ends"),
)


def search(model, compiler, macros, flags):
    """The report of an exhaustive search."""
    with tempfile.TemporaryDirectory() as folder:
        for command in (["spin", "-a", *macros, model],
                        [compiler, "-w", *flags, "-o", "pan", "pan.c"]):
            done = subprocess.run(command, cwd=folder, text=True, capture_output=True)
            if done.returncode != 0:
                return f"{command[0]} failed: {done.stdout}{done.stderr}"
        command = ["./pan", f"-m{DEPTH}", "-w20"] + (["-l"] if flags is CYCLES else [])
        done = subprocess.run(command, cwd=folder, text=True, capture_output=True)
        return done.stdout + done.stderr


def objection(report, reaches_all):
    """Why this report proves nothing; None when it does."""
    for word in ("max search depth too small", "out of memory", "memory limit", "not completed", "warning:"):
        if word in report:
            return word
    if re.search(r"errors: 0$", report, re.M) is None or "Full statespace search" not in report:
        return "no clean result"
    unreached = re.findall(r"^\tstep\.pml:.*, (?!\"-end-\")(.*)$", report, re.M)
    return f"never reached: {unreached}" if reaches_all and unreached else None


def states(report):
    found = re.search(r"(\S+) states, stored", report)
    return found.group(1) if found else "?"


def check_proof(model, compiler, proof):
    name, macros, flags = proof
    report = search(model, compiler, macros, flags)
    why = objection(report, reaches_all=flags is SLOW)
    if why is None:
        return True, f"{name}: holds in {states(report)} states"
    return False, f"{name}: {why}\n{report}"


def check_fault(model, compiler, fault):
    name, macros, claim = fault
    report = search(model, compiler, (f"-DFAULT_{name}", *macros), FAST)
    if re.search(BROKEN[claim], report) and re.search(r"errors: 1$", report, re.M):
        return True, f"without a precaution ({name}): '{claim}' breaks, as it must"
    return False, f"without a precaution ({name}) '{claim}' holds\n{report}"


def main(root, compiler):
    if shutil.which("spin") is None or shutil.which(compiler) is None:
        print("skipped: spin or a C compiler is not installed")
        return 77
    model = str(root.resolve() / "tests/spin/step.pml")
    known = set(re.findall(r"FAULT_([a-z_]+)", pathlib.Path(model).read_text()))
    untried = known ^ {name for name, _, _ in FAULTS}
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(check_proof, model, compiler, p) for p in PROOFS]
        runs += [pool.submit(check_fault, model, compiler, f) for f in FAULTS]
        results = [run.result() for run in runs]
    print("\n".join(text for _, text in results))
    if untried:
        print(f"faults of the model and of this file differ: {sorted(untried)}")
    return 0 if all(ok for ok, _ in results) and not untried else 1


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1]), sys.argv[2]))
