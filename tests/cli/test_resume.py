#!/usr/bin/env python3
"""test_resume.py PROGRAM SOURCE_DIR - checkpoints: runs that go on as if they had never stopped."""
import os
import signal
import time

import cli

CLOCKS = ("seconds", "scheme")
FOREVER = ("--rounds", "100000000")


class Resume(cli.Case):
    def log(self, folder):
        """Lines of the log by round, wall clocks taken out."""
        return {line["round"]: {k: v for k, v in line.items() if k not in CLOCKS}
                for line in super().log(folder)}

    def test_a_resumed_log_is_the_whole_log(self):
        for name, arguments, same_as_plain in (
                ("all", ("--code", "lwpd:weight=2,wait=8"), True),
                ("reduce", ("--code", "uncoded", "--optimizer", "adam:rate=0.01"), True),
                ("some", ("--code", "kasync:k=3", "--stragglers", "exp:mean=0.01"), False)):
            keep = ("--checkpoint", f"{name}-kept", "--checkpoint-every", "10")
            self.train(*arguments, "--rounds", "20", *keep, "--out", f"{name}-first")
            done = self.train(*arguments, "--rounds", "50", "--resume", f"{name}-kept", *keep, "--out",
                              f"{name}-second")
            self.assertIn("round 20 ", done.stdout.splitlines()[0])
            self.train(*arguments, "--rounds", "50", "--out", f"{name}-whole",
                       *(() if same_as_plain else ("--checkpoint", "other", *keep[2:])))
            whole, second = self.log(f"{name}-whole"), self.log(f"{name}-second")
            self.assertEqual(sorted(second), [0, 10, 20, 30, 40, 50])
            for line in second:  # round 20 is looked at before its checkpoint drops what is late
                if same_as_plain or line != 20:
                    self.assertEqual(second[line], whole[line], name)

    def test_only_the_checkpoint_is_left(self):
        self.train("--rounds", "25", "--checkpoint", "deep/kept")
        self.assertEqual(self.files(), ["deep/kept/checkpoint"])

    def test_a_signal_leaves_the_last_round(self):
        child = self.start_cograd("train", *cli.SMALL, *FOREVER, "--checkpoint", "kept",
                                  "--checkpoint-every", "1000000", "--transport", "threads")
        self.addCleanup(child.stdout.close)
        self.addCleanup(child.stderr.close)
        while "round 10 " not in child.stdout.readline():
            pass
        child.send_signal(signal.SIGTERM)
        child.communicate(timeout=60)
        self.assertEqual(child.returncode, 143)
        first = self.train("--rounds", "11", "--resume", "kept").stdout.splitlines()[0]
        self.assertGreaterEqual(int(first.split("round ")[1].split()[0]), 10)

    def test_a_killed_run_goes_on(self):
        child = self.start_cograd("train", *cli.SMALL, *FOREVER, "--checkpoint", "kept",
                                  "--checkpoint-every", "1")
        for _ in range(3):
            child.stdout.readline()
        time.sleep(0.2)  # some of a file may be written now
        child.kill()
        child.communicate(timeout=60)
        self.train("--rounds", "1", "--resume", "kept", "--checkpoint", "kept")
        self.assertEqual(self.files(), ["kept/checkpoint"])

    def test_another_number_of_workers_goes_on_and_says_so(self):
        code = ("--code", "lwpd:weight=2", "--channel", "topk:ratio=0.1,feedback=1")
        self.train(*code, "--rounds", "50", "--checkpoint", "kept", "--out", "first")
        whole = self.train(*code, "--rounds", "200", "--json", "whole.json")
        for command, n in ((("train", "--workers", "12"), 12), (("launch", "-n", "16", "train"), 16)):
            done = self.run_cograd(*command, *cli.SMALL, *code, "--rounds", "200", "--resume", "kept",
                                   "--out", "out")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn(f"resumed with {n} workers where there were 8: parameters, optimizer, and the sum of "
                          "what workers owed are kept.", done.stdout)
            log = self.log("out")
            self.assertEqual(min(log), 0)
            self.assertEqual(log[50]["train_loss"], self.log("first")[50]["train_loss"])
            self.assertLess(log[200]["train_loss"], 1.05 * self.record("whole.json")["train_loss"])
        self.assertNotIn("resumed", whole.stdout)
        self.assert_refused(("train", *cli.SMALL, "--rounds", "60", "--resume", "kept", *code, "--code",
                             "replication:blocks=3", "--workers", "9"), 2, "8 workers and 2 blocks", "9 and 3")

    def test_what_cannot_be_resumed_is_refused(self):
        self.train("--rounds", "5", "--checkpoint", "kept")
        train = ("train", *cli.SMALL, "--rounds", "9", "--out", "out", "--resume")
        self.assert_refused((*train, "nowhere"), 1, "nowhere/checkpoint", "No such file")
        self.assert_refused((*train, "kept", "--seed", "7"), 2, "seed = 1", "seed = 7")
        self.assert_refused((*train, "kept", "--data", "synthetic:rows=400,features=10,classes=3,"
                             "seed=9"), 2, "hash")
        file = self.folder / "kept/checkpoint"
        whole = file.read_bytes()
        file.write_bytes(whole[:-1])
        self.assert_refused((*train, "kept"), 1, "kept/checkpoint", "bytes")
        file.write_bytes(whole[:99] + bytes([whole[99] ^ 1]) + whole[100:])
        self.assert_refused((*train, "kept"), 1, "damaged")
        file.unlink()
        os.mkfifo(file)  # nobody will ever write there
        self.assert_refused((*train, "kept"), 1, "no regular file")
        self.assert_refused((*train[:-3], "--checkpoint", "/dev/null/x"), 1, "/dev/null")


if __name__ == "__main__":
    cli.main()
