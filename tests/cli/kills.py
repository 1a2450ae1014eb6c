#!/usr/bin/env python3
"""kills.py PROGRAM SOURCE_DIR [--runs N] [--servers M] [--mixed K] [--seed S] [--json FILE]

A campaign: runs whose processes are killed at random moments, over ZeroMQ, on digits of MNIST.

    workers   N runs of LWPD on 8 workers, 3 of which get SIGKILL, at moments drawn from the length of an
              undisturbed run, its start included. The run must end by itself, within 1 % of the
              accuracy of undisturbed runs
    servers   M runs that wait for all workers, whose server gets SIGKILL and is started anew by
              `cograd launch --restart`. Its log must be that of an undisturbed run, bit for bit
    mixed     K runs that lose their server and 3 workers, all of which are started anew

and after every run the processes, the files of /tmp and /dev/shm, System V's shared memory and the
sockets of this machine must be those of before. Where that is allowed, everything happens in
namespaces of its own, so that what others start and write meanwhile is not mistaken for a leak.

Exit status: 0, or 1 when a run broke a promise; a sentence for each that did."""
import argparse
import ctypes
import gzip
import json
import os
import pathlib
import random
import re
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import tempfile
import time

N_WORKERS, N_KILLED = 8, 3
MOST_OFF = 0.01  # accuracy
LONGEST = 120  # seconds a run may take on a busy machine
TRAIN_ROWS, TEST_ROWS = 4000, 2000
PARTS = {"train": TRAIN_ROWS, "t10k": TEST_ROWS}
MODEL = ("--model", "softmax", "--batch", "32", "--optimizer", "sgd:rate=0.3", "--channel",
         "topk:ratio=0.02,feedback=1", "--stragglers", "exp:mean=0.004")
# Any 5 answers of 8 determine the exact gradient: what 3 lost workers cost is time, not accuracy.
SOME = ("--code", "lwpd:weight=2,wait=5,decoder=least-squares", "--rounds", "240", "--report-every", "120")
ALL = ("--code", "lwpd:weight=2,wait=8", "--rounds", "120", "--report-every", "10")
KEPT = ("--checkpoint", "kept", "--checkpoint-every", "10")
SAME = ("train_loss", "test_loss", "test_accuracy", "bytes_up", "bytes_down", "messages_used")


# ---------------------------------------------------------------------------- namespaces

def enter_namespaces(record, *paths):
    """This program again, where nobody else's processes and files are seen; returns where it may not.
    `record` is a descriptor to take along; `paths` must be seen from there."""
    if "COGRAD_KILLS" in os.environ or not shutil.which("unshare"):
        return
    if any(os.path.realpath(path).startswith(("/tmp/", "/dev/shm/")) for path in paths):
        return
    own = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    command = ["unshare", *own, "--mount", "--net", "--pid", "--ipc", "--fork", "--kill-child", "--mount-proc"]
    mount = "mount -t tmpfs none /tmp && mount -t tmpfs none /dev/shm"
    trial = subprocess.run([*command, "sh", "-c", mount], stdin=subprocess.DEVNULL,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    if trial.returncode == 0:
        os.environ["COGRAD_KILLS"] = str(record)
        os.set_inheritable(record, True)
        os.execvp("unshare", [*command, "sh", "-c", f'{mount} && exec "$0" "$@"', sys.executable, *sys.argv])


def is_init():
    return os.getpid() == 1


# ---------------------------------------------------------------------------- what may not be left

class Surroundings:
    """Processes, files and sockets; those of this campaign alone where others are seen too."""

    def __init__(self, folder):
        self.folder = folder
        self.before = None
        self.mark = f"COGRAD_CAMPAIGN={os.getpid()}-{time.time_ns()}"
        name, value = self.mark.split("=")
        self.environment = {**os.environ, name: value, "PATH": "/nonexistent"}  # no gnuplot: nobody looks

    def processes(self):
        found = set()
        for entry in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                marked = self.mark.encode() in (entry / "environ").read_bytes().split(b"\0")
                name = (entry / "comm").read_text().strip()
                # a zombie has no environment; alone in a namespace every process is this campaign's
                if marked or (is_init() and int(entry.name) != 1):
                    found.add(f"process {entry.name} ({name})")
            except (OSError, ProcessLookupError):
                pass
        return found

    def files(self):
        found = set()
        for top in ("/tmp", "/dev/shm"):
            for entry in os.scandir(top):
                if is_init() or re.search("cograd|zmq|ipc", entry.name):
                    found.add(entry.path)
        found -= {str(self.folder)}
        shm = pathlib.Path("/proc/sysvipc/shm")
        if is_init() and shm.exists():
            found |= {f"System V segment {line.split()[1]}" for line in shm.read_text().splitlines()[1:]}
        return found

    def sockets(self):
        """Where they can be told from those of others: else they are as gone as their processes."""
        if not is_init():
            return set()
        lines = pathlib.Path("/proc/net/unix").read_text().splitlines()[1:]
        return {f"socket {' '.join(line.split()[7:]) or 'without a name'}" for line in lines}

    def look(self):
        return self.processes() | self.files() | self.sockets()

    def remember(self):
        self.before = self.look()

    def leaks(self, patience=2):
        """What was not there before; the kernel may take a moment to clear away."""
        deadline = time.monotonic() + patience
        while True:
            if is_init():
                reap()
            left = self.look() - self.before
            if not left or time.monotonic() > deadline:
                return sorted(left)
            time.sleep(0.02)


def reap():
    """As the first process of a namespace: those whose parents died, but no child of a Popen."""
    subprocess._cleanup()


# ---------------------------------------------------------------------------- one run

class Run:
    """`cograd launch`, with processes that can be named."""

    def __init__(self, campaign, *arguments, restart=False):
        self.campaign = campaign
        self.begun = time.monotonic()
        command = [campaign.program, "launch", "-n", str(N_WORKERS), *(["--restart"] if restart else []),
                   "train", "--data", str(campaign.data), *MODEL, *arguments]
        self.process = subprocess.Popen(command, cwd=campaign.folder, env=campaign.around.environment,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)

    def age(self):
        return time.monotonic() - self.begun

    def children(self):
        pid = self.process.pid
        try:
            return pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return []

    def find(self, *words):
        """The child with these neighbouring words on its command line."""
        wanted = b"\0".join(word.encode() for word in words)
        for pid in self.children():
            try:
                if wanted + b"\0" in pathlib.Path(f"/proc/{pid}/cmdline").read_bytes():
                    return int(pid)
            except OSError:
                pass
        return None

    def kill_at(self, moment, *words):
        """True when it was there to be killed."""
        while self.process.poll() is None:
            pid = self.find(*words) if self.age() >= moment else None
            if pid is not None:
                try:
                    os.kill(pid, signal.SIGKILL)
                    return True
                except ProcessLookupError:
                    pass
            time.sleep(0.001)
        return False

    def wait_for(self, path):
        while self.process.poll() is None and not path.exists():
            time.sleep(0.001)

    def finish(self):
        """Status and output; a run that does not end is ended, with status None."""
        try:
            out, _ = self.process.communicate(timeout=LONGEST)
            return self.process.returncode, out
        except subprocess.TimeoutExpired:
            self.process.kill()
            return None, self.process.communicate()[0]


# ---------------------------------------------------------------------------- the campaign

class Campaign:
    def __init__(self, program, source, seed=1, folder=None):
        self.program = os.path.abspath(program)
        self.random = random.Random(seed)
        self.folder = pathlib.Path(folder or tempfile.mkdtemp(prefix="cograd-kills-"))
        self.around = Surroundings(self.folder)
        self.data = self.make_data(pathlib.Path(source) / "data/mnist")
        self.broken = []

    def make_data(self, mnist):
        """The first digits, so that nine processes read them in no time; else clouds of points."""
        if not mnist.is_dir():
            return f"synthetic:rows={TRAIN_ROWS},features=784,classes=10"
        out = self.folder / "digits"
        out.mkdir()
        for part, rows in PARTS.items():
            for kind in ("images-idx3", "labels-idx1"):
                data = gzip.open(mnist / f"{part}-{kind}-ubyte.gz").read()
                head = 4 + 4 * data[3]
                size = 1
                for length in struct.unpack(f">{data[3]}I", data[4:head])[1:]:
                    size *= length
                (out / f"{part}-{kind}-ubyte").write_bytes(
                    data[:4] + struct.pack(">I", rows) + data[8:head] + data[head:head + rows * size])
        return out

    def blame(self, name, sentence):
        self.broken.append(f"{name}: {sentence}")
        print(f"BROKEN {name}: {sentence}", flush=True)

    def log(self):
        lines = (self.folder / "out/log.jsonl").read_text().splitlines()
        return {line["round"]: line for line in map(json.loads, lines)}

    def record(self):
        return json.loads((self.folder / "out/record.json").read_text())

    def begin(self, *arguments, **options):
        for name in ("out", "kept"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
        self.around.remember()
        return Run(self, *arguments, "--out", "out", **options)

    def end(self, run, name, most_files):
        """Wait; what it printed when it ended well, else None. Leaks are looked for in any case."""
        status, out = run.finish()
        for leak in self.around.leaks():
            self.blame(name, f"left {leak}")
        files = sorted(str(f.relative_to(self.folder)) for f in self.folder.rglob("*")
                       if f.is_file() and "digits" not in f.parts)
        if not set(files) <= most_files:
            self.blame(name, f"left {sorted(set(files) - most_files)}")
        if status != 0:
            self.blame(name, f"status {status}: {out[-2000:]}")
        return out if status == 0 else None

    OUTPUTS = {f"out/{name}" for name in ("log.jsonl", "record.json", "curves.gp")}

    def undisturbed(self, arguments, n):
        """Accuracies and seconds of n runs that nobody disturbs, and the log of the last."""
        accuracies, seconds = [], []
        for i in range(n):
            run = self.begin(*arguments)
            if self.end(run, f"undisturbed run {i}", self.OUTPUTS) is not None:
                accuracies.append(self.record()["test_accuracy"])
                seconds.append(run.age())
        return accuracies, seconds, self.log()

    def kill_workers(self, n, report=print):
        accuracies, seconds, _ = self.undisturbed(SOME, max(1, min(5, n)))
        expected, length = statistics.mean(accuracies), statistics.median(seconds)
        report(f"undisturbed: accuracy {spread(accuracies)}, seconds {spread(seconds)}")
        offs, times, landed = [], [], 0
        for i in range(n):
            ranks = self.random.sample(range(1, N_WORKERS + 1), N_KILLED)
            moments = sorted(self.random.uniform(0, 0.9 * length) for _ in ranks)
            name = f"run {i}, " + ", ".join(f"worker {r - 1} at {t:.2f} s" for r, t in zip(ranks, moments))
            run = self.begin(*SOME)
            landed += sum(run.kill_at(t, "--rank", str(r)) for r, t in zip(ranks, moments))
            if self.end(run, name, self.OUTPUTS) is None:
                continue
            times.append(run.age())
            offs.append(self.record()["test_accuracy"] - expected)
            if abs(offs[-1]) > MOST_OFF:
                self.blame(name, f"accuracy {expected + offs[-1]:.4f}, undisturbed {expected:.4f}")
            if (i + 1) % 20 == 0:
                report(f"{i + 1} runs, {landed} workers killed, {len(self.broken)} broken promises")
        if times:
            report(f"{len(times)} of {n} runs ended well, {landed} workers killed: accuracy off by "
                   f"{spread(offs)}, seconds {spread(times)}")
        return {"runs": n, "ended_well": len(times), "workers_killed": landed, "undisturbed": accuracies,
                "off": offs, "seconds": times}

    def kill_all(self, n, report=print):
        """A server and some of its workers, everybody started anew: nothing is the same, but all end well."""
        accuracies, seconds, _ = self.undisturbed(SOME, max(1, min(3, n)))
        expected, length, offs, times, landed = statistics.mean(accuracies), max(seconds), [], [], 0
        for i in range(n):
            victims = [("--rank", str(r)) for r in self.random.sample(range(1, N_WORKERS + 1), N_KILLED)]
            victims += [("--transport",)]
            kills = sorted((self.random.uniform(0, length), victim) for victim in victims)
            name = f"mixed run {i}, " + ", ".join(f"{' '.join(v)} at {t:.2f} s" for t, v in kills)
            run = self.begin(*SOME, *KEPT, restart=True)
            landed += sum(run.kill_at(t, *victim) for t, victim in kills)
            if self.end(run, name, self.OUTPUTS | {"kept/checkpoint"}) is None:
                continue
            times.append(run.age())
            offs.append(self.record()["test_accuracy"] - expected)
            if abs(offs[-1]) > MOST_OFF:
                self.blame(name, f"accuracy {expected + offs[-1]:.4f}, undisturbed {expected:.4f}")
        if times:
            report(f"{len(times)} of {n} runs of which all is started anew ended well, {landed} processes killed: "
                   f"accuracy off by {spread(offs)}, seconds {spread(times)}")
        return {"runs": n, "ended_well": len(times), "killed": landed, "off": offs, "seconds": times}

    def kill_servers(self, n, report=print):
        _, seconds, whole = self.undisturbed(ALL, 1)
        times, landed, first = [], 0, []
        for i in range(n):
            # every third at any time, the others once there is something to go on from
            delays = [self.random.uniform(0, seconds[0] / (1 if i % 3 == 0 else 3)) for _ in range(1 + i % 2)]
            name = f"server run {i}, after " + ", ".join(f"{t:.2f} s" for t in delays)
            run = self.begin(*ALL, *KEPT, restart=True)
            for delay in delays:
                if i % 3 > 0:
                    run.wait_for(self.folder / "kept/checkpoint")
                landed += run.kill_at(run.age() + delay, "--transport")
            out = self.end(run, name, self.OUTPUTS | {"kept/checkpoint"})
            if out is None:
                continue
            times.append(run.age())
            if "anew" in out:
                first.append(int(re.findall("round (\\d+) ", out[out.rfind("anew"):])[0]))
            log = self.log()
            if sorted(log) != sorted(whole):
                self.blame(name, f"reports of rounds {sorted(log)}")
            for r in sorted(set(log) & set(whole)):
                wrong = [key for key in SAME if log[r][key] != whole[r][key]]
                if wrong:
                    self.blame(name, f"round {r} is not that of the undisturbed run: {wrong}")
                    break
        if times and first:
            report(f"{len(times)} of {n} runs ended well, {landed} servers killed, resumed last from round "
                   f"{spread(first)}: the same logs, bit for bit, seconds {spread(times)}")
        return {"runs": n, "ended_well": len(times), "servers_killed": landed, "resumed_from": first,
                "seconds": times}


def spread(numbers):
    return f"{statistics.median(numbers):.4g} ({min(numbers):.4g} to {max(numbers):.4g})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program")
    parser.add_argument("source")
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--servers", type=int, default=20)
    parser.add_argument("--mixed", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json")
    options = parser.parse_args()
    inside = os.environ.get("COGRAD_KILLS")
    record = int(inside) if inside else os.open(options.json or "/dev/null", os.O_WRONLY | os.O_CREAT, 0o666)
    enter_namespaces(record, options.program, options.source, __file__)
    print("in namespaces of its own" if inside else "among the processes of others", flush=True)
    campaign = Campaign(options.program, options.source, options.seed)
    say = lambda text: print(text, flush=True)
    try:
        found = {"seed": options.seed}
        if options.runs > 0:
            found["workers"] = campaign.kill_workers(options.runs, say)
        if options.servers > 0:
            found["servers"] = campaign.kill_servers(options.servers, say)
        if options.mixed > 0:
            found["mixed"] = campaign.kill_all(options.mixed, say)
        found["broken"] = campaign.broken
    finally:
        shutil.rmtree(campaign.folder)
    with os.fdopen(record, "w") as file:
        file.truncate(0)
        file.write(json.dumps(found, indent=1) + "\n")
    say(f"{len(campaign.broken)} promises were broken.")
    return 1 if campaign.broken else 0


if __name__ == "__main__":
    sys.exit(main())
