#!/usr/bin/env python3
"""faults.py PROGRAM [--sample] [--only WORD] [--transports a,b] [--jobs N] [--json FILE]

The matrix of faults: every kind at every point over every transport, and what the engine promises.

    a  every run ends: a failed one within its timeout and a tenth, with a sentence
    b  without so many workers as the code can miss, a run goes on with exactly what came: its history,
       replayed in virtual time without the fault, gives the same loss to the last digit
    c  no answer is taken twice
    d  damaged, doubled and foreign frames are refused and counted
    e  a server that dies leaves a checkpoint from which the run ends as if nothing had been; a damaged
       checkpoint is refused
    and no process is left behind.

What a cell must do follows from the fault alone (`expectation`):

    refused    the fault cannot be there: a sentence, exit status 2
    same       nothing is lost: a run that waits for every worker ends with the loss of one without fault
    goes on    an answer is lost: a code with redundancy goes on (b, c), one without fails in words (a)
    gives up   a worker that is asked for its state says nothing: the run fails in words (a)
    resumes    the server dies (e)
    file       the checkpoint is damaged (e)
    job ends   MPI forgives no death: all ranks end, in words (a)

Exit status: 0, or 1 when a cell broke a promise."""
import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

PROCESS, FRAMES, BYTES = ("kill", "stop", "slow"), ("drop", "duplicate", "reorder"), \
    ("corrupt", "half-write", "wrong-version")
KINDS = PROCESS + FRAMES + BYTES
POINTS = ("before-encode", "mid-send", "after-send", "during-decode", "during-checkpoint")
TRANSPORTS = ("sim", "threads", "zmq", "mpi")
EVERYWHERE = (*TRANSPORTS, "nccl")  # which needs a GPU a rank, and is there when it is asked for
WORKERS, ROUNDS, TIMEOUT, PAUSE = 4, 40, 1.5, 0.3
STRUCK = 15  # the round; checkpoints are written every CHECKPOINTS rounds
CHECKPOINTS = 5
LONGEST = 120  # seconds, also on a busy machine: more is a run that does not end
PROBLEM = ("--data", "synthetic:rows=400,features=10,classes=3", "--model", "softmax", "--batch", "8",
           "--channel", "topk:ratio=0.2,feedback=1", "--stragglers", "exp:mean=0.002", "--rounds", str(ROUNDS),
           "--report-every", "10", "--timeout", "30")
HASTY = ("--timeout", str(TIMEOUT))  # for runs that must fail; others are not to fail for want of a core
STRICT, TOLERANT = ("--code", "frc:stragglers=0"), ("--code", "frc:stragglers=1")
MPI = ("mpirun", "--oversubscribe", "--allow-run-as-root", "--bind-to", "none", "--mca", "btl", "self,vader",
       "--mca", "pml", "ob1", "-n", str(WORKERS + 1))


class Broken(Exception):
    pass


def demand(condition, sentence):
    if not condition:
        raise Broken(sentence)


class Done:
    """A run that has ended."""

    def __init__(self, status, err, wall, record):
        self.status, self.err, self.wall, self.record = status, err, wall, record

    def __str__(self):
        return f"status {self.status}, '{self.err.strip()[-300:]}'"


class Runner:
    def __init__(self, program):
        self.program = program
        self.quiet = {}  # transport: a run without faults

    def command(self, transport, options):
        if transport == "zmq":
            return [self.program, "launch", "-n", str(WORKERS), "train", *options]
        command = [self.program, "train", "--workers", str(WORKERS), "--transport", transport, *options]
        return [*MPI, *command] if transport == "mpi" else command

    def run(self, folder, transport, *options, struck=True):
        """One run in its folder; nobody of it may be left."""
        record = pathlib.Path(folder) / "record.json"
        record.unlink(missing_ok=True)
        mark = f"COGRAD_FAULTS={uuid.uuid4()}"
        name, value = mark.split("=")
        environment = {**os.environ, name: value, "ASAN_OPTIONS": "detect_leaks=0"}
        begin = time.monotonic()
        process = subprocess.Popen(self.command(transport, (*PROBLEM, "--json", "record.json", *options)),
                                   cwd=folder, env=environment, text=True, stdin=subprocess.DEVNULL,
                                   stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            err = process.communicate(timeout=LONGEST)[1]
        except subprocess.TimeoutExpired:
            end_all(mark)
            process.communicate()
            raise Broken(f"no end after {LONGEST} s: {' '.join(options)}") from None
        wall = time.monotonic() - begin
        left = wait_for_none(mark)
        demand(not left, f"processes are left: {left}")
        return Done(process.returncode, err, wall, json.loads(record.read_text()) if record.exists() else None)

    def undisturbed(self, transport):
        """Made before the cells: what they are compared with."""
        if transport not in self.quiet:
            with tempfile.TemporaryDirectory() as folder:
                done = self.run(folder, transport, *STRICT, "--checkpoint", "kept", "--checkpoint-every",
                                str(CHECKPOINTS))
                demand(done.status == 0, f"a run without faults fails over {transport}: {done}")
                self.quiet[transport] = done
        return self.quiet[transport]


def marked(mark):
    found = []
    for folder in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            pass
    return found


def wait_for_none(mark):
    """mpirun ends a moment before what it has started."""
    deadline = time.monotonic() + 5
    while (left := marked(mark)) and time.monotonic() < deadline:
        time.sleep(0.05)
    end_all(mark)
    return left


def end_all(mark):
    for pid in marked(mark):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass


# ---------------------------------------------------------------------------- what a cell must do

def at_worker(kind, point):
    """...-checkpoint: a worker is asked for its state; a frame there would be the server's file."""
    return ("worker",) if point != "during-checkpoint" else ("server", "worker") if kind in PROCESS else ("server",)


def is_refused(kind, point, transport):
    return (point == "during-decode" and kind not in PROCESS or
            point == "during-checkpoint" and kind in FRAMES or
            (kind, point) in (("drop", "after-send"), ("reorder", "before-encode")) or
            transport == "mpi" and kind in BYTES and point != "during-checkpoint")


def expectation(kind, point, whom, transport):
    if is_refused(kind, point, transport):
        return "refused"
    if point == "during-decode" or whom == "server":
        if kind in BYTES:
            return "file"
        if kind == "kill":
            return "resumes"
        return "refused" if transport == "sim" else "same"  # virtual time does not pass in a server
    if kind == "kill":
        return "job ends" if transport == "mpi" else "goes on"
    if kind == "stop" and transport != "mpi":  # there it is for a while: a frozen rank is never noticed
        return "gives up" if point == "during-checkpoint" else "goes on"
    return "goes on" if kind == "drop" or kind in BYTES and point != "after-send" else "same"


def spec(kind, point, whom, transport):
    keys = [f"at={point}", f"round={STRUCK}"]
    if point != "during-decode":
        keys.append(f"worker={'server' if whom == 'server' else 1}")
    if kind == "slow" or kind == "stop" and (transport == "mpi" or point == "during-decode" or whom == "server"):
        keys.append(f"seconds={PAUSE}")
    return f"{kind}:{','.join(keys)}"


def refused_frames(kind, point, transport):
    """At least so many; None: it depends on the moment, or is counted by a worker."""
    if kind == "kill" or point == "before-encode" and transport in ("zmq", "mpi"):
        return None
    if kind == "duplicate":
        return 0 if point == "before-encode" else 1
    return 1 if kind in BYTES else 0


# ---------------------------------------------------------------------------- promises

class Cell:
    def __init__(self, runner, kind, point, whom, transport):
        self.runner, self.kind, self.point, self.whom, self.transport = runner, kind, point, whom, transport
        self.must = expectation(kind, point, whom, transport)
        self.spec = spec(kind, point, whom, transport)
        self.row = f"{kind} {point}" + (f" ({whom})" if point == "during-checkpoint" and kind in PROCESS else "")

    def run(self, folder, *options):
        return self.runner.run(folder, self.transport, "--faults", self.spec, *options)

    def kept(self):
        return ("--checkpoint", "kept", "--checkpoint-every", str(CHECKPOINTS)) \
            if self.point in ("during-checkpoint", "during-decode") else ()

    def check_frames(self, record):
        least = refused_frames(self.kind, self.point, self.transport)
        came = record["frames_refused"]
        if least is not None:
            demand(came >= least and (least > 0 or came == 0), f"{came} frames refused, expected {least}")

    def check_failure(self, done):
        """a: in words, within the timeout and a tenth after a run of the usual length."""
        quiet = self.runner.undisturbed(self.transport).record["seconds"]
        demand(done.status == 1 and done.record is not None and done.record.get("error"), f"no sentence: {done}")
        demand(any(line.startswith("cograd") for line in done.err.splitlines()), f"no sentence: {done}")
        seconds, most = done.record["seconds"], 1.1 * TIMEOUT + 3 * quiet + 1
        demand(seconds <= most, f"it failed after {seconds:.2f} s, more than {most:.2f}")

    def refused(self, folder):
        done = self.run(folder, *STRICT)
        demand(done.status != 0 and "cograd" in done.err and done.record is None or
               done.record is not None and done.record["rounds"] == 0, f"not refused: {done}")

    def same(self, folder):
        done = self.run(folder, *STRICT, *self.kept())
        demand(done.status == 0, str(done))
        expected = self.runner.undisturbed(self.transport).record["train_loss"]
        demand(done.record["train_loss"] == expected, f"a loss of {done.record['train_loss']}, not {expected}")
        demand(done.record["rounds"] == ROUNDS, f"{done.record['rounds']} rounds")
        self.check_frames(done.record)

    def goes_on(self, folder):
        done = self.run(folder, *TOLERANT, *self.kept(), "--record", "history")
        demand(done.status == 0 and done.record["rounds"] == ROUNDS, str(done))
        demand(done.record["rounds_skipped"] == 0, "rounds were skipped")
        self.check_frames(done.record)
        check_history((pathlib.Path(folder) / "history").read_text())
        again = self.runner.run(folder, "sim", *TOLERANT, "--replay", "history")
        demand(again.status == 0, f"no replay: {again}")
        demand(again.record["train_loss"] == done.record["train_loss"],
               f"a loss of {done.record['train_loss']}, in the replay {again.record['train_loss']}")
        self.check_failure(self.run(folder, *STRICT, *HASTY, *self.kept()))

    def gives_up(self, folder):
        for code in STRICT, TOLERANT:
            self.check_failure(self.run(folder, *code, *HASTY, *self.kept()))

    def resumes(self, folder):
        done = self.run(folder, *STRICT, *self.kept())
        demand(done.status != 0 and done.record is None, f"the server lives: {done}")
        again = self.runner.run(folder, self.transport, *STRICT, "--resume", "kept")
        demand(again.status == 0 and again.record["rounds"] == ROUNDS, f"not resumed: {again}")
        expected = self.runner.undisturbed(self.transport).record["train_loss"]
        demand(again.record["train_loss"] == expected,
               f"resumed to a loss of {again.record['train_loss']}, not {expected}")

    def file(self, folder):
        self.spec = self.spec.replace(f",round={STRUCK}", f",round={ROUNDS}")  # the last one written
        done = self.run(folder, *STRICT, *self.kept())
        demand(done.status == 0, str(done))
        again = self.runner.run(folder, self.transport, *STRICT, "--resume", "kept")
        demand(again.status != 0 and "checkpoint" in again.err, f"not refused: {again}")

    def job_ends(self, folder):
        done = self.run(folder, *STRICT, *self.kept())
        quiet = self.runner.undisturbed(self.transport).wall
        demand(done.status != 0 and done.err.strip(), f"no sentence: {done}")
        most = 1.1 * TIMEOUT + 3 * quiet + 3
        demand(done.wall <= most, f"the job ended after {done.wall:.2f} s, more than {most:.2f}")

    def check(self):
        """None, or what is broken."""
        with tempfile.TemporaryDirectory() as folder:
            try:
                getattr(self, self.must.replace(" ", "_"))(folder)
            except Broken as broken:
                return str(broken)
        return None


def check_history(text):
    """c: an answer is taken once in the life of a worker."""
    taken = set()
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["j"]:
            taken = {t for t in taken if t[1] != words[1]}
        elif words[:1] == ["m"] and len(words) == 4:
            demand(tuple(words) not in taken, f"taken twice: {line}")
            taken.add(tuple(words))


# ---------------------------------------------------------------------------- the matrix

def transports_of(program):
    info = subprocess.run([program, "info"], text=True, stdout=subprocess.PIPE, check=True).stdout
    there = ["sim", "threads"]
    if re.search(r"ZeroMQ +built in", info):
        there.append("zmq")
    if re.search(r"NCCL +built in", info):
        there.append("nccl")
    if re.search(r"MPI +built in", info) and shutil.which("mpirun") and "sanitizers thread" not in info:
        there.append("mpi")
    return there


def cells(runner, transports, only="", sample=False):
    rows = [(k, p, w) for k in KINDS for p in POINTS for w in at_worker(k, p)]
    return [Cell(runner, *row, transport) for i, row in enumerate(rows) for t, transport in enumerate(EVERYWHERE)
            if transport in transports and only in f"{' '.join(row)} {transport}" and
            (not sample or (i + t) % len(TRANSPORTS) == 0)]


def run_matrix(all_cells, jobs):
    """[(cell, None or what is broken)], and the failures as they come."""
    def check(cell):
        broken = cell.check()
        if broken is not None:  # a machine that stalls for a second breaks a deadline: once more, alone
            print(f"again: {cell.row} over {cell.transport}: {broken}", flush=True)
        return cell, broken
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        found = list(pool.map(check, all_cells))
    return [(cell, broken if broken is None else cell.check()) for cell, broken in found]


def print_table(found, transports):
    rows = {}
    for cell, broken in found:
        rows.setdefault(cell.row, {})[cell.transport] = cell.must if broken is None else "BROKEN"
    width = max(map(len, rows))
    print(f"{'':{width}}", *(f"{t:10}" for t in transports))
    for row, results in rows.items():
        print(f"{row:{width}}", *(f"{results.get(t, ''):10}" for t in transports))


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", type=os.path.abspath)
    parser.add_argument("--sample", action="store_true", help="every kind at every point once")
    parser.add_argument("--only", default="", help="cells with this in their name")
    parser.add_argument("--transports", default=",".join(TRANSPORTS))
    parser.add_argument("--jobs", type=int, default=3, help="cells at a time")
    parser.add_argument("--json", help="write the results there")
    arguments = parser.parse_args()
    begin = time.monotonic()
    runner = Runner(arguments.program)
    there = [t for t in transports_of(arguments.program) if t in arguments.transports.split(",")]
    for transport in there:
        runner.undisturbed(transport)
    found = run_matrix(cells(runner, there, arguments.only, arguments.sample), arguments.jobs)
    print_table(found, there)
    n_broken = sum(broken is not None for _, broken in found)
    for cell, broken in found:
        if broken is not None:
            print(f"{cell.row} over {cell.transport}, --faults {cell.spec}: {broken}")
    print(f"{len(found)} cells, {n_broken} broken, {time.monotonic() - begin:.0f} s")
    if arguments.json:
        results = [{"fault": c.row, "transport": c.transport, "must": c.must, "spec": c.spec, "broken": b}
                   for c, b in found]
        pathlib.Path(arguments.json).write_text(json.dumps(results, indent=1) + "\n")
    return 1 if n_broken else 0


if __name__ == "__main__":
    sys.exit(main())
