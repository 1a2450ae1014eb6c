#!/usr/bin/env python3
"""test_faults.py PROGRAM SOURCE_DIR - a quarter of the matrix of faults (faults.py), and that it would
notice; and what the option says of mistakes."""
import cli
import faults

class Faults(cli.Case):
    def test_every_kind_at_every_point_over_one_transport(self):
        runner = faults.Runner(cli.PROGRAM)
        there = [t for t in faults.transports_of(cli.PROGRAM) if t in faults.TRANSPORTS]
        for transport in there:
            runner.undisturbed(transport)
        sample = faults.cells(runner, there, sample=True)
        self.assertGreater(len(sample), 20)
        for cell, broken in faults.run_matrix(sample, 3):
            self.assertIsNone(broken, f"{cell.row} over {cell.transport}, must be '{cell.must}'")

    def test_a_broken_promise_is_noticed(self):
        """Cells that are asked for what they cannot do."""
        runner = faults.Runner(cli.PROGRAM)
        for kind, point, must, words in (
                ("kill", "mid-send", "same", "status 1"),
                ("slow", "mid-send", "goes on", "no sentence"),
                ("slow", "mid-send", "gives up", "no sentence"),
                ("slow", "mid-send", "refused", "not refused"),
                ("slow", "mid-send", "resumes", "the server lives"),
                ("kill", "during-decode", "same", "status -9"),
                ("slow", "during-checkpoint", "file", "not refused")):
            cell = faults.Cell(runner, kind, point, "worker", "sim")
            cell.must = must
            with self.subTest(cell.row, must=must):
                self.assertIn(words, cell.check() or "nothing")
        again = "m 1 2 3\n"
        faults.check_history(again + "j 1\n" + again)
        self.assertRaises(faults.Broken, faults.check_history, again + "j 2\n" + again)

    def test_mistakes_are_one_sentence(self):
        for words, spec in (("'explode' kill", "explode"), ("'worker' 'any'", "kill:worker=8"),
                            ("one request", "reorder:at=before-encode"),
                            ("worker server", "kill:at=mid-send,worker=server"),
                            ("no time", "slow:at=during-decode")):
            self.assert_refused(("train", *cli.SMALL, "--faults", spec), 2 if "time" not in words else 1,
                                *words.replace("'any'", "any").split())
        self.assert_refused(("train", *cli.SMALL, "--code", "uncoded", "--faults", "kill"), 2, "all-reduce")


if __name__ == "__main__":
    cli.main()
