#!/usr/bin/env python3
"""test_runs.py PROGRAM SOURCE_DIR - what runs print and leave behind."""
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import termios
import time

import cli

KEYS = {"scheme", "workers", "rounds", "train_loss", "test_accuracy", "seconds", "virtual_seconds",
        "bytes_up", "bytes_down", "messages_used", "messages_late", "messages_dropped", "seed",
        "version", "stopped", "code", "channel", "downlink", "optimizer", "transport", "device",
        "stragglers", "data", "model", "batch", "staleness", "rounds_skipped"}
LOG_KEYS = {"scheme", "round", "seconds", "virtual_seconds", "train_loss", "test_accuracy",
            "bytes_up", "bytes_down", "messages_used"}
FOREVER = ("--rounds", "100000000")


def human(value):
    """Three digits count: 1.86, 18.6, 186, 1 860."""
    if value < 99.95:
        return f"{value:.2f}" if value < 9.995 else f"{value:.1f}"
    digits = len(str(int(value))) - 3
    return f"{round(value / 10 ** digits) * 10 ** digits:,}".replace(",", " ")


class Runs(cli.Case):
    def record(self, name="out/record.json"):
        return super().record(name)

    def test_outputs_are_complete_and_agree(self):
        done = self.train("--rounds", "25", "--out", "out", "--json", "record.json")
        self.assertEqual(done.stderr, "")
        curves = ["out/curves.gp"] + (["out/curves.png"] if shutil.which("gnuplot") else [])
        self.assertEqual(self.files(), [*curves, "out/log.jsonl", "out/record.json", "record.json"])
        record, log = self.record(), self.log()
        self.assertEqual(record, self.record("record.json"))
        self.assertLessEqual(KEYS, record.keys())
        for line in log:
            self.assertLessEqual(LOG_KEYS, line.keys())
        self.assertEqual([line["round"] for line in log], [0, 10, 20, 25])
        self.assertEqual(record["rounds"], 25)
        self.assertEqual(record["stopped"], "rounds")
        for key in ("bytes_up", "bytes_down", "messages_used", "test_accuracy", "virtual_seconds"):
            self.assertEqual(record[key], log[-1][key], key)
        self.assertEqual(record["messages_used"], 25 * 8)
        for before, after in zip(log, log[1:]):
            for key in ("bytes_up", "virtual_seconds", "seconds", "messages_used"):
                self.assertLess(before[key], after[key], key)

    def test_a_png_is_a_png(self):
        if not shutil.which("gnuplot"):
            self.skipTest("gnuplot is not installed")
        self.train("--rounds", "25", "--out", "out")
        png = (self.folder / "out/curves.png").read_bytes()
        self.assertEqual(png[:8], b"\x89PNG\r\n\x1a\n")
        self.assertEqual(png[-8:-4], b"IEND")
        subprocess.run(["gnuplot", "curves.gp"], cwd=self.folder / "out", check=True,
                       stderr=subprocess.DEVNULL)
        self.assertEqual((self.folder / "out/curves.png").read_bytes(), png)

    def test_a_png_that_was_cut_does_not_appear(self):
        fake = self.folder / "gnuplot"
        fake.write_text("#!/bin/sh\necho half > \"$3\"\n")
        fake.chmod(0o755)
        done = self.run_cograd("train", *cli.SMALL, "--rounds", "20", "--out", "out",
                               env={**os.environ, "PATH": str(self.folder)})
        self.assertEqual(done.returncode, 1)
        self.assert_one_sentence(done.stderr, "curves.png", "incomplete")
        fake.unlink()
        self.assertEqual(self.files(), ["out/curves.gp", "out/log.jsonl", "out/record.json"])

    def test_a_record_on_standard_output_follows_the_table(self):
        done = self.train("--rounds", "20", "--json", "/dev/stdout")
        self.assertEqual(json.loads(done.stdout[done.stdout.index("{"):])["rounds"], 20)

    def test_without_gnuplot_one_sentence_says_so(self):
        done = self.run_cograd("train", *cli.SMALL, "--rounds", "20", "--out", "out",
                               env={**os.environ, "PATH": "/nowhere"})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.count("gnuplot"), 1, done.stdout)
        self.assertEqual(done.stderr, "")
        self.assertEqual(self.files(), ["out/curves.gp", "out/log.jsonl", "out/record.json"])

    def test_same_seed_same_record(self):
        for name in ("a", "b"):
            self.train("--rounds", "20", "--stragglers", "exp:mean=0.01", "--json", name)
        self.train("--rounds", "20", "--stragglers", "exp:mean=0.01", "--seed", "2", "--json", "c")
        records = [self.record(name) for name in ("a", "b", "c")]
        for record in records:
            del record["seconds"], record["seed"]
        self.assertEqual(records[0], records[1])
        self.assertNotEqual(records[0], records[2])

    def test_stopping_rules(self):
        self.train("--target-accuracy", "0", "--json", "target")
        self.assertEqual(self.record("target")["stopped"], "target accuracy")
        self.assertEqual(self.record("target")["rounds"], 0)
        self.train(*FOREVER, "--seconds", "0.2", "--json", "seconds")
        self.assertEqual(self.record("seconds")["stopped"], "seconds")
        self.assertGreaterEqual(self.record("seconds")["seconds"], 0.2)
        # lwpd:weight=2 over 8 workers has 2 shards: 16 rows a round; 320 or 400 of 400 rows train
        self.train("--epochs", "2", "--json", "epochs")
        record = self.record("epochs")
        self.assertEqual(record["stopped"], "rounds")
        self.assertIn(record["rounds"] * 16, range(2 * 300, 2 * 400 + 17))

    def test_a_limit_switches_the_default_target_off(self):
        easy = ("--data", "synthetic:rows=400,features=10,classes=2,noise=0.01", "--optimizer",
                "sgd:rate=1", "--channel", "identity")
        self.train(*easy, "--json", "default")
        self.train(*easy, "--rounds", "2000", "--json", "limited")
        self.assertEqual(self.record("default")["stopped"], "target accuracy")
        self.assertGreaterEqual(self.record("default")["test_accuracy"], 0.975)
        self.assertEqual(self.record("limited")["rounds"], 2000)

    def test_a_regression_has_no_accuracy(self):
        self.train("--data", "synthetic:rows=400,features=10", "--model", "squared", "--rounds", "20",
                   "--json", "r")
        self.assertIsNone(self.record("r")["test_accuracy"])
        self.assertGreater(self.record("r")["test_loss"], 0)

    def test_divergence_is_a_failure_with_a_record(self):
        done = self.train("--data", "synthetic:rows=400,features=10", "--model", "squared",
                          "--channel", "identity", "--optimizer", "sgd:rate=1e6", "--rounds", "5000",
                          "--json", "r", status=1)
        self.assert_one_sentence(done.stderr, "smaller rate")
        self.assertEqual(self.record("r")["stopped"], "diverged")

    def test_a_loss_that_only_grows_has_diverged_before_it_overflows(self):
        self.train("--data", "synthetic:rows=400,features=10", "--model", "squared", "--channel",
                   "identity", "--optimizer", "sgd:rate=3", "--rounds", "30", "--json", "r", status=1)
        record = self.record("r")
        self.assertEqual(record["stopped"], "diverged")
        self.assertGreater(record["test_loss"], 1e6)

    def test_the_examples_of_the_help_converge(self):
        text = self.run_cograd("train", "--help").stdout.replace("\\\n", " ")
        (example,) = [line.split() for line in text.splitlines() if "--data synthetic" in line
                      and line.strip().startswith("cograd")]
        done = self.run_cograd(*example[1:], "--json", "r")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertLess(self.record("r")["test_loss"], 1)

    def test_a_run_that_starves_is_a_failure_with_a_record(self):
        done = self.train("--code", "uncoded", "--code", "lwpd:weight=2,wait=8", "--stragglers",
                          "dead:workers=2,at=15", "--timeout", "1", "--rounds", "30", "--json", "r",
                          status=1)
        self.assert_one_sentence(done.stderr, "round 15")
        self.assertEqual(self.record("r")["stopped"], "failed")
        self.assertIn("round 15", self.record("r")["error"])

    def test_baseline(self):
        done = self.train("--rounds", "20", "--baseline", "uncoded", "--baseline-optimizer",
                          "momentum:rate=0.01", "--out", "out")
        record = self.record("out/record.json")
        self.assertEqual(record["scheme"], "lwpd")
        self.assertEqual(record["baseline"]["scheme"], "uncoded")
        self.assertEqual(record["baseline"]["optimizer"], "momentum:rate=0.01")
        self.assertEqual({line["scheme"] for line in self.log()}, {"lwpd", "uncoded"})
        self.assertIn("no ratio, because there was no target", done.stdout)

    def test_ratios_are_those_of_the_records(self):
        done = self.train("--data", "synthetic:rows=400,features=10,classes=2,noise=0.01",
                          "--target-accuracy", "0.9", "--baseline", "uncoded", "--json", "r")
        record = self.record("r")
        baseline = record["baseline"]
        self.assertGreater(min(record["rounds"], baseline["rounds"]), 0)
        for words, mine, other in (
                (("fewer bytes up", "more bytes up"), record["bytes_up"], baseline["bytes_up"]),
                (("faster in virtual time", "slower in virtual time"), record["virtual_seconds"],
                 baseline["virtual_seconds"])):
            text = words[0 if mine <= other else 1]
            self.assertIn(f"{human(max(mine / other, other / mine))}x {text}", done.stdout)

    def test_compare(self):
        self.train("--rounds", "20", "--scheme", "name=first code=uncoded", "--scheme",
                   "code=frc:stragglers=1 channel=identity workers=4", "--out", "out",
                   command="compare")
        first, second = self.record()
        self.assertEqual((first["scheme"], first["code"], first["workers"]), ("first", "uncoded", 8))
        self.assertEqual((second["scheme"], second["code"], second["workers"]),
                         ("frc", "frc:stragglers=1", 4))
        self.assertIn("'first'", (self.folder / "out/curves.gp").read_text())

    def test_configuration_file_and_flags(self):
        (self.folder / "s.ini").write_text("; a comment\nrounds = 30\nstaleness=4\nseed = 5\n"
                                           "baseline = uncoded\n")
        self.train("--config", "s.ini", "--rounds", "20", "--json", "r")
        record = self.record("r")
        self.assertEqual((record["rounds"], record["staleness"], record["seed"]), (20, 4, 5))
        self.assertEqual(record["baseline"]["rounds"], 20)
        (self.folder / "c.ini").write_text("rounds = 20\nscheme = name=a code=uncoded\n"
                                           "scheme = name=b\n    code=frc:stragglers=1\n"
                                           "    channel=identity\n")
        self.train("--config", "c.ini", "--json", "r", command="compare")
        self.assertEqual([(r["scheme"], r["code"], r["channel"]) for r in self.record("r")][1],
                         ("b", "frc:stragglers=1", "identity"))

    def test_outputs_obey_umask_and_follow_links(self):
        (self.folder / "real.json").write_text("old")
        (self.folder / "link.json").symlink_to("real.json")
        self.run_cograd("train", *cli.SMALL, "--rounds", "20", "--json", "link.json", umask=0o027)
        self.assertTrue((self.folder / "link.json").is_symlink())
        self.assertEqual(self.record("real.json")["rounds"], 20)
        mode = stat.S_IMODE((self.folder / "real.json").stat().st_mode)
        self.assertEqual(mode, 0o640)

    def test_record_to_a_device(self):
        done = self.train("--rounds", "20", "--json", "/dev/stdout")
        self.assertIn('"rounds": 20', done.stdout)
        self.train("--rounds", "20", "--json", "/dev/null")
        self.assertTrue(stat.S_ISCHR(os.stat("/dev/null").st_mode))


class Ends(cli.Case):
    """Runs that are ended from outside."""

    def begin(self, *arguments):
        child = self.start_cograd("train", *cli.SMALL, *FOREVER, "--out", "out", *arguments)
        self.addCleanup(child.stdout.close)
        self.addCleanup(child.stderr.close)
        for _ in range(2):
            self.assertIn("round", child.stdout.readline())
        return child

    def assert_complete(self, stopped):
        self.assertEqual([f for f in self.files() if not f.startswith("out/curves")],
                         ["out/log.jsonl", "out/record.json"])
        record = self.record("out/record.json")
        self.assertEqual(record["stopped"], stopped)
        self.assertGreater(record["rounds"], 0)
        return record

    def test_a_signal_ends_a_run_in_order(self):
        for number in (signal.SIGINT, signal.SIGTERM):
            child = self.begin()
            begin = time.monotonic()
            child.send_signal(number)
            child.communicate(timeout=60)
            self.assertEqual(child.returncode, 128 + number)
            self.assertLess(time.monotonic() - begin, 20)
            self.assert_complete("interrupted")

    def test_a_signal_during_the_baseline_keeps_the_first_record(self):
        child = self.start_cograd("train", *cli.SMALL, "--seconds", "0.2", "--baseline", "uncoded",
                                  "--out", "out")
        while not child.stdout.readline().startswith("uncoded  round 10 "):
            pass
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=60)
        if child.returncode != 0:  # it may have ended by itself just before
            self.assertEqual(child.returncode, 130)
            self.assertEqual(self.assert_complete("seconds")["baseline"]["stopped"], "interrupted")

    def begin_round_without_end(self, code):
        child = self.start_cograd("train", *cli.SMALL, *FOREVER, "--out", "out", "--transport",
                                  "threads", "--code", code, "--stragglers",
                                  "dead:workers=8,at=15", "--timeout", "600")
        self.addCleanup(child.stdout.close)
        self.addCleanup(child.stderr.close)
        while "round 10 " not in child.stdout.readline():
            pass
        time.sleep(0.5)
        return child

    def test_a_round_that_waits_hears_a_signal(self):
        for code in "lwpd:weight=2,wait=8", "uncoded":
            child = self.begin_round_without_end(code)
            begin = time.monotonic()
            child.send_signal(signal.SIGINT)
            self.assertEqual(child.wait(timeout=60), 130, code)
            self.assertLess(time.monotonic() - begin, 10)
            self.assertEqual(child.stderr.read(), "")
            self.assert_complete("interrupted")

    def test_a_second_signal_ends_at_once_and_leaves_nothing(self):
        child = self.begin_round_without_end("lwpd:weight=2,wait=8")
        for number in (signal.SIGSTOP, signal.SIGINT, signal.SIGTERM, signal.SIGCONT):
            child.send_signal(number)  # both arrive before it can react to the first
        self.assertIn(child.wait(timeout=10), (130, 143))
        self.assertEqual(self.files(), [])

    def test_a_closed_output_ends_a_run_in_order(self):
        child = self.begin()
        child.stdout.close()
        error = child.stderr.read()
        self.assertEqual(child.wait(timeout=60), 1)
        self.assert_one_sentence(error, "standard output")
        self.assert_complete("output")


class Texts(cli.Case):
    def test_a_terminal_gets_one_changing_line(self):
        ours, theirs = os.openpty()
        termios.tcsetwinsize(theirs, (24, 40))
        child = subprocess.Popen([cli.PROGRAM, "train", *cli.SMALL, "--rounds", "40"],
                                 stdout=theirs, cwd=self.folder)
        os.close(theirs)
        text = b""
        try:
            while part := os.read(ours, 4096):
                text += part
        except OSError:  # the other end is closed: Linux says EIO
            pass
        os.close(ours)
        self.assertEqual(child.wait(), 0)
        progress = text.decode().split("\r\n")[0]
        self.assertEqual(re.findall(r"\r\w+  round (\d+) ", progress), ["0", "10", "20", "30", "40"])
        lines = progress.replace("\x1b[K", "").split("\r")
        self.assertEqual({len(line) for line in lines[1:]}, {39})  # a longer one would wrap

    def test_help_is_on_standard_output(self):
        for arguments in (["--help"], ["help"], ["train", "--help"], ["compare", "--help"],
                          ["help", "train"], ["info", "--help"], ["code", "--help"]):
            done = self.run_cograd(*arguments)
            self.assertEqual((done.returncode, done.stderr), (0, ""), arguments)
            self.assertIn("sage: cograd", done.stdout)

    def test_help_names_every_option_of_the_record(self):
        text = self.run_cograd("train", "--help").stdout
        for option in ("data", "model", "workers", "code", "channel", "downlink", "optimizer",
                       "transport", "device", "stragglers", "rounds", "epochs", "seconds", "batch",
                       "target-accuracy", "staleness", "report-every", "timeout",
                       "max-amplification", "seed", "out", "json", "config", "baseline",
                       "baseline-optimizer"):
            self.assertIn(f"--{option}=", text)

    def test_info_lists_plug_ins_with_their_keys(self):
        done = self.run_cograd("info")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for word in ("lwpd", "weight=2", "frc", "topk", "ratio=", "sim", "threads", "cpu", "mlp",
                     "hidden=512x256", "mnist", "momentum", "pareto"):
            self.assertIn(word, done.stdout)
        for name in ("qsgd", "temporal", "sim", "threads", "mpi", "zmq"):
            self.assertRegex(done.stdout, rf"\n  {name} +[a-z]", f"{name} has no summary")

    def test_version(self):
        done = self.run_cograd("--version")
        self.assertRegex(done.stdout, r"^cograd \d+\.\d+\.\d+\n$")


if __name__ == "__main__":
    cli.main()
