#!/usr/bin/env python3
"""test_code.py PROGRAM SOURCE_DIR - `cograd code`: the table, the JSON, and one sentence for every
mistake."""
import json
import math
import os
import unittest

import cli

KEYS = {"name", "workers", "tasks", "weight", "load", "message_share", "matrix", "rank", "tight",
        "coherence", "welch", "amplification", "stragglers"}
ROW_KEYS = {"s", "error_mean", "error_worst", "bound", "floor", "recoverable_share"}


class Code(cli.Case):
    def analyse(self, spec, workers):
        done = self.run_cograd("code", spec, "--workers", workers, "--json", "code.json")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(self.files(), ["code.json"], "no temporary file stays")
        return json.loads((self.folder / "code.json").read_text()), done.stdout

    def test_published_matrix_and_its_golden_numbers(self):
        facts, text = self.analyse("lwpd:weight=2", 8)
        self.assertLessEqual(KEYS, facts.keys())
        signs = [[1, 1, 0, 0], [1, -1, 0, 0], [0, 0, 1, 1], [0, 0, 1, -1],
                 [0, 1, 1, 0], [0, 1, -1, 0], [1, 0, 0, 1], [-1, 0, 0, 1]]
        for row, expected in zip(facts["matrix"], signs, strict=True):
            for value, sign in zip(row, expected, strict=True):
                self.assertAlmostEqual(value, sign / math.sqrt(2), 12)
        self.assertEqual((facts["name"], facts["workers"], facts["tasks"]), ("lwpd", 8, 4))
        self.assertEqual((facts["weight"], facts["load"], facts["message_share"]), (2, 2, 0.5))
        self.assertEqual((facts["rank"], facts["tight"]), (4, True))
        self.assertAlmostEqual(facts["coherence"], 0.5, 12)
        self.assertAlmostEqual(facts["welch"], 0.3780, 4)
        rows = {row["s"]: row for row in facts["stragglers"]}
        for s, error, share in ((7, 3, 0), (6, 1.2857, 0), (4, .4286, 60 / 70), (1, .0612, 1),
                                (0, 0, 1)):
            self.assertLessEqual(ROW_KEYS, rows[s].keys())
            self.assertAlmostEqual(rows[s]["error_mean"], error, 4)
            self.assertAlmostEqual(rows[s]["bound"], error, 4)
            self.assertAlmostEqual(rows[s]["recoverable_share"], share, 12)
        self.assertIn("worker 7    -1  . |  .  1", text)
        self.assertIn("0.3780", text)

    def test_what_is_not_known_is_null(self):
        facts, text = self.analyse("crc:stragglers=1", 6)
        self.assertIsNone(facts["stragglers"][3]["bound"])
        self.assertEqual(facts["stragglers"][1]["bound"], 0)
        self.assertAlmostEqual(facts["amplification"], 1, 9)
        facts, text = self.analyse("kasync:k=4", 1200)
        self.assertIsNone(facts["matrix"])
        self.assertIsNone(facts["stragglers"][1]["recoverable_share"])
        self.assertNotIn("matrix", text)
        facts, text = self.analyse("acgc", 1000)  # a decode of 1000 x 1000 each set: none is made
        row = facts["stragglers"][1]
        self.assertIsNone(row["error_mean"])
        self.assertIsNotNone(row["bound"])
        self.assertIn("too large", text)

    def test_every_family_has_a_report(self):
        for spec in ("uncoded", "ignore:wait=6", "kasync:k=4", "replication", "lwpd:family=net",
                     "frc", "crc:stragglers=2", "ye-abbe:stragglers=1,blocks=2",
                     "acgc:structure=bibd", "acgc:construction=2", "stochastic"):
            with self.subTest(spec):
                facts, _ = self.analyse(spec, 8)
                self.assertEqual(len(facts["matrix"]), 8)
                self.assertEqual([row["s"] for row in facts["stragglers"]], list(range(8)))

    def test_eight_workers_are_the_default(self):
        self.assertIn("for 8 workers", self.run_cograd("code", "frc").stdout)

    def test_help(self):
        done = self.run_cograd("code", "--help")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        for word in ("--workers", "--json", "SPEC", "lwpd"):
            self.assertIn(word, done.stdout)

    def test_mistakes_get_one_sentence(self):
        refused = [
            (["code"], 2, "which code"),
            (["code", "--wokers", "8", "lwpd"], 2, "--wokers"),
            (["code", "lwpd", "--workers"], 2, "--workers"),
            (["code", "lwpd", "frc"], 2, "'frc'"),
            (["code", "lwpd", "--workers", "eight"], 2, "1..1048576", "'eight'"),
            (["code", "lwpd", "--workers", "0"], 2, "'0'"),
            (["code", "lwpd", "--workers", "-8"], 2, "'-8'"),
            (["code", "hamming"], 2, "hamming", "lwpd"),
            (["code", "frc:stragglers=3", "--workers", "6"], 2, "4 must divide 6"),
            (["code", "lwpd:wieght=2"], 2, "wieght", "weight"),
            (["code", "lwpd:weight=two"], 2, "'two'"),
            (["code", ""], 2, "empty"),
            (["code", "lwpd", "--json", "missing/code.json"], 1, "missing/code.json"),
        ]
        for arguments, status, *words in refused:
            self.assert_refused(arguments, status, *words)
        self.assertEqual(self.files(), [])

    @unittest.skipUnless(os.path.exists("/dev/full"), "no /dev/full")
    def test_a_full_disk_is_a_failure(self):
        with open("/dev/full", "w") as full:
            done = cli.subprocess.run([cli.PROGRAM, "code", "lwpd", "--json", "x.json"],
                                      stdout=full, stderr=cli.subprocess.PIPE, text=True,
                                      cwd=self.folder)
        self.assertEqual(done.returncode, 1)
        self.assert_one_sentence(done.stderr, "standard output")
        self.assertEqual(self.files(), [], "no JSON of a report nobody saw")


if __name__ == "__main__":
    cli.main()
