#!/usr/bin/env python3
"""test_launch.py PROGRAM SOURCE_DIR - `cograd launch`: the run is that of one process, and whatever
happens, no process is left."""
import os
import pathlib
import shutil
import signal
import subprocess
import time
import uuid

import cli

PROBLEM = ("--data", "synthetic:rows=400,features=10,classes=3", "--model", "softmax", "--batch", "8",
           "--channel", "topk:ratio=0.1,feedback=1", "--report-every", "10", "--json", "record.json")
SLOW = ("--stragglers", "exp:mean=0.01")
FOREVER = (*SLOW, "--rounds", "100000000")


class Launch(cli.Case):
    def setUp(self):
        super().setUp()
        self.mark = f"COGRAD_TEST={uuid.uuid4()}"
        name, value = self.mark.split("=")
        self.environment = {**os.environ, name: value}
        self.processes = []

    def tearDown(self):
        for pid in self.family():
            os.kill(pid, signal.SIGKILL)
        for process in self.processes:
            process.communicate()

    def launch(self, *arguments, n=4):
        process = subprocess.Popen([cli.PROGRAM, "launch", "-n", str(n), *arguments], text=True,
                                   cwd=self.folder, env=self.environment, stdout=subprocess.PIPE,
                                   stderr=subprocess.PIPE)
        self.processes.append(process)
        return process

    def family(self, word=""):
        """Whoever inherited this test's mark and has `word` on the command line, by when it began."""
        found = []
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if (self.mark.encode() in (folder / "environ").read_bytes().split(b"\0") and
                        word.encode() in (folder / "cmdline").read_bytes().split(b"\0")):
                    found.append(int(folder.name))
            except (OSError, ProcessLookupError):
                pass
        return sorted(found)

    def workers(self):
        return self.family("worker")

    def server(self):
        pid, = self.family("--transport")
        return pid

    def finish(self, process, status=0, timeout=60):
        """What the command has to say besides its output."""
        return super().finish(process, status, timeout)[1]

    def assert_nobody_left(self, patience=0):
        deadline = time.monotonic() + patience
        while self.family() and time.monotonic() < deadline:
            time.sleep(0.05)
        self.assertEqual(self.family(), [])

    def test_the_run_is_that_of_one_process(self):
        options = (*PROBLEM, "--code", "lwpd:weight=2,wait=8", "--rounds", "30", "--baseline",
                   "ignore:wait=8")
        self.assertEqual(self.finish(self.launch("train", *options, n=8), 0), "")
        self.assert_nobody_left()
        over = self.record()
        self.run_cograd("train", *options)
        sim = self.record()
        self.assert_same_record(over, sim, "baseline")
        self.assertEqual(over["baseline"]["train_loss"], sim["baseline"]["train_loss"])
        self.assertEqual(self.files(), ["record.json"])

    def test_a_dead_worker_is_named_and_the_run_goes_on(self):
        process = self.launch("train", *PROBLEM, *SLOW, "--code", "ignore:wait=3", "--rounds", "60")
        self.wait_for_round(process, 10)
        os.kill(self.workers()[0], signal.SIGKILL)
        self.assert_one_sentence(self.finish(process, 0), "worker 0", "signal 9")
        self.assertEqual(self.record()["rounds"], 60)
        self.assert_nobody_left()

    def test_one_that_dies_before_it_comes_is_not_waited_for(self):
        process = self.launch("train", *PROBLEM, "--code", "ignore:wait=3", "--rounds", "20")
        while not self.family("3"):  # its rank
            time.sleep(0.001)
        os.kill(self.family("3")[0], signal.SIGKILL)
        begin = time.monotonic()
        self.assert_one_sentence(self.finish(process, 0), "worker 2", "signal 9")
        self.assertLess(time.monotonic() - begin, 30)
        self.assertEqual(self.record()["rounds"], 20)
        self.assert_nobody_left()

    def test_dead_workers_are_replaced(self):
        process = self.launch("--restart", "train", *PROBLEM, *SLOW, "--code", "crc:stragglers=0",
                              "--channel", "identity", "--rounds", "60")
        for least in (10, 30):
            self.wait_for_round(process, least)
            os.kill(self.workers()[1], signal.SIGKILL)
        err = self.finish(process, 0)
        self.assertEqual(err.count("started anew"), 2, err)
        self.assertEqual((self.record()["rounds"], self.record()["rounds_skipped"]), (60, 0))
        self.assert_nobody_left()

    # Rounds wait for everybody: residuals, carried thresholds, predictors, momentum.
    MEMORIES = (("--code", "lwpd:weight=2,wait=8", "--channel", "topk:kind=threshold,ratio=0.1,feedback=1"),
                ("--code", "crc:stragglers=0", "--channel", "topk:ratio=0.2,predict=temporal",
                 "--optimizer", "adam:rate=0.01"))
    KEPT = ("--checkpoint", "kept", "--checkpoint-every", "10")

    def kill_server(self, process, *rounds):
        for least in rounds:
            self.wait_for_round(process, least)
            os.kill(self.server(), signal.SIGKILL)

    def test_a_killed_server_goes_on_from_its_checkpoint_bit_for_bit(self):
        for options in self.MEMORIES:
            options = (*PROBLEM[:-2], *options, "--rounds", "80")
            process = self.launch("--restart", "train", *options, *SLOW, *self.KEPT, "--out", "killed", n=8)
            self.kill_server(process, 20, 50)
            err = self.finish(process, 0)
            self.assertEqual(err, 2 * "cograd launch: the server was ended by signal 9 (Killed); it is started "
                                      "anew, from its checkpoint\n")
            self.assert_nobody_left()
            self.run_cograd("train", *options, "--out", "whole")
            self.assert_same_run("killed", "whole")
            for folder in ("killed", "whole"):  # and no temporary file
                found = sorted(f.name for f in (self.folder / folder).iterdir())
                self.assertEqual([f for f in found if f != "curves.png"],
                                 ["curves.gp", "log.jsonl", "record.json"])
            self.assertEqual([f.name for f in (self.folder / "kept").iterdir()], ["checkpoint"])
            shutil.rmtree(self.folder / "kept")

    def test_a_killed_server_does_not_go_on_from_the_checkpoint_of_another_run(self):
        options = (*PROBLEM[:-2], "--code", "ignore:wait=4", "--workers", "4")
        self.run_cograd("train", *options, "--rounds", "50", "--checkpoint", "kept")
        options = (*options[:-2], "--rounds", "30")
        process = self.launch("--restart", "train", *options, *SLOW, "--checkpoint", "kept",
                              "--checkpoint-every", "1000", "--out", "killed")
        self.kill_server(process, 10)
        self.assert_one_sentence(self.finish(process, 0), "started anew, from the beginning")
        self.run_cograd("train", *options, "--workers", "4", "--out", "whole")
        self.assert_same_run("killed", "whole")
        self.assert_nobody_left()

    def test_where_a_run_cannot_repeat_it_says_so_and_goes_on(self):
        options = (*PROBLEM, "--code", "lwpd:weight=2,wait=6", "--rounds", "60")
        process = self.launch("--restart", "train", *options, *SLOW, *self.KEPT, n=8)
        self.kill_server(process, 20)
        self.assert_one_sentence(self.finish(process, 0), "from its checkpoint", "not repeat bit for bit")
        self.assertEqual(self.record()["rounds"], 60)
        self.assert_nobody_left()

    def test_an_interrupt_ends_the_run_in_good_order(self):
        process = self.launch("train", *PROBLEM, *FOREVER, "--code", "ignore:wait=4")
        self.wait_for_round(process, 10)
        process.send_signal(signal.SIGINT)
        self.assertEqual(self.finish(process, 130), "")
        self.assertEqual(self.record()["stopped"], "interrupted")
        self.assert_nobody_left()

    def test_nobody_survives_a_launcher_that_is_killed(self):
        process = self.launch("train", *PROBLEM, *FOREVER, "--code", "ignore:wait=4")
        self.wait_for_round(process, 10)
        self.assertEqual(len(self.family()), 6)
        process.kill()
        self.assert_nobody_left(20)

    def test_nobody_survives_a_server_that_is_killed(self):
        process = self.launch("train", *PROBLEM, *FOREVER, "--code", "ignore:wait=4")
        self.wait_for_round(process, 10)
        os.kill(self.server(), signal.SIGKILL)
        self.finish(process, 137)
        self.assert_nobody_left()

    def test_nobody_survives_a_frozen_worker(self):
        process = self.launch("train", *PROBLEM, *SLOW, "--code", "ignore:wait=3", "--rounds", "40")
        self.wait_for_round(process, 10)
        os.kill(self.workers()[0], signal.SIGSTOP)
        self.finish(process, 0)
        self.assert_nobody_left()

    def test_when_all_workers_die_the_run_ends(self):
        process = self.launch("train", *PROBLEM, *FOREVER, "--code", "ignore:wait=4")
        self.wait_for_round(process, 10)
        for pid in self.workers():
            os.kill(pid, signal.SIGKILL)
        begin = time.monotonic()
        process.communicate(timeout=60)
        self.assertNotEqual(process.returncode, 0)
        self.assertLess(time.monotonic() - begin, 20)
        self.assert_nobody_left()

    def test_a_server_whose_workers_all_die_completes_its_files(self):
        """It is told to end once, however often the kernel reports of children: a second time is at once."""
        process = self.launch("train", *PROBLEM, *FOREVER, "--code", "ignore:wait=4")
        self.wait_for_round(process, 10)
        server = self.server()
        os.kill(server, signal.SIGSTOP)
        for pid in self.workers():
            os.kill(pid, signal.SIGKILL)
        for _ in range(4):
            self.assertIn("signal 9", process.stderr.readline())
        os.kill(server, signal.SIGCONT)
        process.communicate(timeout=60)
        self.assertIn(self.record()["stopped"], ("interrupted", "failed"))
        self.assert_nobody_left()

    def test_who_ignores_that_a_terminal_goes_is_not_interrupted(self):
        ignored = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGHUP, ignored)
        process = self.launch("train", *PROBLEM, *SLOW, "--code", "ignore:wait=4", "--rounds", "60")
        self.wait_for_round(process, 10)
        for pid in (process.pid, self.server()):
            os.kill(pid, signal.SIGHUP)
        self.assertEqual(self.finish(process, 0), "")
        self.assertEqual(self.record()["stopped"], "rounds")

    def test_mistakes_are_one_sentence(self):
        for words, *arguments in (
                ("-n",),
                ("train compare", "-n", "2"),
                ("-n '0'", "-n", "0", "train"),
                ("-n 'x'", "-n", "x", "train"),
                ("'--fly'", "--fly", "-n", "2", "train"),
                ("train compare", "-n", "2", "info"),
                ("'--transport' launch", "-n", "2", "train", "--transport", "sim"),
                ("'--tr' launch", "-n", "2", "train", "--tr", "sim"),
                ("'--workers=3' launch", "-n", "2", "train", "--workers=3"),
                ("beginning --record", "--restart", "-n", "2", "train", "--checkpoint", "a", "--record", "b")):
            self.assert_refused(("launch", *arguments), 2, *words.split())
        err = self.finish(self.launch("train", *PROBLEM, "--code", "nope"), 2)
        self.assert_one_sentence(err, "'nope'")
        self.assert_nobody_left()


if __name__ == "__main__":
    cli.main()
