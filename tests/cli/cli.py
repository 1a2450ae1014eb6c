"""cli.py - runs the command for its tests. Every test gets a folder of its own, where nothing but
what it asked for may be left."""
import json
import os
import pathlib
import random
import socket
import subprocess
import sys
import tempfile
import unittest

PROGRAM, SOURCE = None, None

# Small enough for a round to take a millisecond.
SMALL = ("--data", "synthetic:rows=400,features=10,classes=3", "--model", "softmax", "--batch", "8",
         "--code", "lwpd:weight=2", "--channel", "topk:ratio=0.1", "--report-every", "10")


class Case(unittest.TestCase):
    def setUp(self):
        self._folder = tempfile.TemporaryDirectory()
        self.addCleanup(self._folder.cleanup)
        self.folder = pathlib.Path(self._folder.name)

    def run_cograd(self, *arguments, timeout=120, **options):
        return subprocess.run([PROGRAM, *map(str, arguments)], text=True, timeout=timeout,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=self.folder,
                              **options)

    def train(self, *arguments, status=0, command="train"):
        """A small run."""
        done = self.run_cograd(command, *SMALL, *arguments)
        self.assertEqual(done.returncode, status, done.stderr)
        return done

    def start_cograd(self, *arguments):
        return subprocess.Popen([PROGRAM, *map(str, arguments)], text=True, cwd=self.folder,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def finish(self, process, status=0, timeout=180):
        """What a started command wrote: standard output, standard error."""
        out, err = process.communicate(timeout=timeout)
        self.assertEqual(process.returncode, status, out + err)
        return out, err

    def wait_for_round(self, process, least):
        """Reads the progress of a run until it has made so many rounds."""
        for line in process.stdout:
            words = line.split()
            if "round" in words and int(words[words.index("round") + 1]) >= least:
                return
        self.fail(f"ended before round {least}: {process.stderr.read()}")

    def record(self, name="record.json"):
        return json.loads((self.folder / name).read_text())

    def log(self, folder="out"):
        lines = (self.folder / folder / "log.jsonl").read_text().splitlines()
        return [json.loads(line) for line in lines]

    # Of a line of the log: what no clock and no name changes.
    SAME = ("train_loss", "test_loss", "test_accuracy", "bytes_up", "bytes_down", "messages_used")

    def assert_same_run(self, one, other):
        """Two logs are the same, bit for bit and from the first line to the last."""
        one, other = self.log(one), self.log(other)
        self.assertEqual([line["round"] for line in one], [line["round"] for line in other])
        for a, b in zip(one, other):
            for key in self.SAME:
                self.assertEqual(a[key], b[key], (key, a["round"]))

    def assert_same_record(self, one, other, *but):
        """What no clock changes, and not what carried the bytes."""
        for key in one:
            if key not in ("seconds", "virtual_seconds", "transport", *but):
                self.assertEqual(one[key], other[key], key)

    def files(self):
        return sorted(str(f.relative_to(self.folder)) for f in self.folder.rglob("*")
                      if not f.is_dir())

    def assert_one_sentence(self, text, *words):
        """One line that names the command; with every word in it."""
        self.assertEqual(text.count("\n"), 1, f"not one line: {text!r}")
        self.assertTrue(text.startswith("cograd"), text)
        for word in words:
            self.assertIn(word, text)

    def assert_refused(self, arguments, status, *words):
        done = self.run_cograd(*arguments)
        with self.subTest(" ".join(map(str, arguments))):
            self.assertEqual(done.returncode, status, done.stderr)
            self.assert_one_sentence(done.stderr, *words)


def free_port():
    """One on which nobody listens, and below those that the system gives to who connects."""
    first = int(pathlib.Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])
    while True:
        port = random.randrange(min(20000, first - 1000), first)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
                return port
            except OSError:
                pass


class Network(Case):
    """Several processes, which meet at a port and end with the test."""

    def setUp(self):
        super().setUp()
        self.processes = []
        self.port = free_port()
        self.address = f"tcp://127.0.0.1:{self.port}"

    def tearDown(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def start(self, *arguments):
        self.processes.append(self.start_cograd(*arguments))
        return self.processes[-1]


def main():
    global PROGRAM, SOURCE
    PROGRAM, SOURCE = os.path.abspath(sys.argv[1]), pathlib.Path(sys.argv[2]).resolve()
    unittest.main(module="__main__", argv=sys.argv[:1] + sys.argv[3:], verbosity=2)
