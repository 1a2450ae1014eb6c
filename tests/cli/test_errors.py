#!/usr/bin/env python3
"""test_errors.py PROGRAM SOURCE_DIR - every bad input gets one sentence, the right status, and leaves
nothing behind."""
import gzip
import os
import resource
import struct
import subprocess
import time

import cli

USAGE, FAILED = 2, 1


class Refusals(cli.Case):
    def refuse(self, status, words, *arguments):
        self.assert_refused(arguments, status, *words.split())
        self.assertEqual(self.files(), self.given, "files were left behind")

    def setUp(self):
        super().setUp()
        self.given = []

    def give(self, name, content):
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        self.given = self.files()
        return path


class Arguments(Refusals):
    def test_command_lines_that_make_no_sense(self):
        for words, *arguments in (
                ("subcommand",),
                ("subcommand 'fly'", "fly"),
                ("unknown '--fly'", "train", "--fly", "3"),
                ("unknown '--fly'", "compare", "--fly=3"),
                ("unknown '-x'", "train", "-x"),
                ("ambiguous '--s'", "train", "--s", "3"),
                ("--rounds value", "train", "--rounds"),
                ("'extra'", "train", "extra"),
                ("'--scheme'", "train", "--scheme", "name=a"),
                ("'--baseline'", "compare", "--baseline", "uncoded"),
                ("scheme", "compare"),
                ("code", "code"),
                ("'--fly'", "code", "--fly"),
                ("'fly'", "code", "fly"),
                ("'x'", "code", "lwpd", "--workers", "x"),
                ("'weight'", "code", "lwpd:weight=1"),
                ("'fly'", "info", "fly"),
                ("'fly'", "help", "fly")):
            self.refuse(USAGE, words, *arguments)

    def test_nccl_says_what_it_lacks(self):
        built_in = "NCCL         built in" in self.run_cograd("info").stdout
        words = "'nccl' GPU server each worker" if built_in else "built without 'nccl' './run toolkit' 'cuda'"
        self.refuse(FAILED, words, "train", "--transport", "nccl", "--workers", "1000", "--code", "ignore")

    def test_values_out_of_range(self):
        for words, *arguments in (
                ("workers '0'", "--workers", "0"),
                ("workers '-3'", "--workers=-3"),
                ("workers 'three'", "--workers", "three"),
                ("rounds '1.5'", "--rounds", "1.5"),
                ("rounds '99999999999999999999'", "--rounds", "99999999999999999999"),
                ("seed '-1'", "--seed=-1"),
                ("batch '-1'", "--batch=-1"),
                ("seconds 'nan'", "--seconds", "nan"),
                ("seconds '-1'", "--seconds=-1"),
                ("epochs '0'", "--epochs", "0"),
                ("target-accuracy 'nan'", "--target-accuracy", "nan"),
                ("target-accuracy '97'", "--target-accuracy", "97"),
                ("timeout 'inf'", "--timeout", "inf"),
                ("out", "--out", "")):
            self.refuse(USAGE, words, "train", *arguments)

    def test_specs_that_name_what_is_not_there(self):
        for words, *arguments in (
                ("'nope' lwpd", "--code", "nope"),
                ("'lwpd' 'fly' weight", "--code", "lwpd:fly=1"),
                ("'weight'", "--code", "lwpd:weight"),
                ("'nope' topk", "--channel", "nope"),
                ("'topk' 'fly' ratio", "--channel", "topk:fly=1"),
                ("'nope'", "--downlink", "nope"),
                ("'nope' sgd", "--optimizer", "nope"),
                ("'nope' sim", "--transport", "nope"),
                ("'nope' cpu", "--device", "nope"),
                ("'nope' exp", "--stragglers", "nope"),
                ("'nope' mlp", "--model", "nope"),
                ("'nope'", "--baseline", "nope"),
                ("'a?[31m?'", "--code", "a\x1b[31m\n")):
            self.refuse(USAGE, words, "train", *cli.SMALL, *arguments)

    def test_specs_with_impossible_values(self):
        for words, *arguments in (
                ("rate -1", "--optimizer", "sgd:rate=-1"),
                ("rate 'nan'", "--optimizer", "sgd:rate=nan"),
                ("rate 'fast'", "--optimizer", "sgd:rate=fast"),
                ("ratio 0", "--channel", "topk:ratio=0"),
                ("ratio 2", "--channel", "topk:ratio=2"),
                ("ratio 'nan'", "--channel", "topk:ratio=nan"),
                ("weight", "--code", "lwpd:weight=3"),
                ("8", "--workers", "8", "--code", "lwpd:weight=16"),
                ("7", "--workers", "7", "--code", "lwpd:weight=2"),
                ("wait 9", "--code", "lwpd:weight=2,wait=9"),
                ("6", "--workers", "6", "--code", "frc:stragglers=3"),
                ("stragglers 8", "--workers", "8", "--code", "crc:stragglers=8"),
                ("mean", "--stragglers", "exp:mean=-1"),
                ("probability", "--stragglers", "bernoulli:probability=2"),
                ("--replay --checkpoint", "--replay", "history", "--checkpoint", "kept"),
                ("during-checkpoint --checkpoint", "--faults", "kill:worker=1,at=during-checkpoint"),
                ("during-checkpoint --checkpoint", "--faults", "drop:round=9+corrupt:at=during-checkpoint"),
                ("amplifi max-amplification", "--workers", "12", "--code", "crc:stragglers=5")):
            self.refuse(USAGE, words, "train", *cli.SMALL, *arguments)

    def test_accuracy_of_a_regression(self):
        self.refuse(USAGE, "target-accuracy classes", "train", "--data",
                    "synthetic:rows=100,features=4", "--model", "squared", "--target-accuracy", "0.9")

    def test_a_baseline_is_checked_before_anything_is_trained(self):
        begin = time.monotonic()
        self.refuse(USAGE, "'nope'", "train", *cli.SMALL, "--rounds", "100000000", "--baseline",
                    "uncoded", "--baseline-optimizer", "nope", "--out", "new")
        self.assertLess(time.monotonic() - begin, 30)

    def test_schemes(self):
        for words, *schemes in (
                ("name no value", "name= code=uncoded"),
                ("'fly'", "fly"),
                ("'fly'", "fly=3"),
                ("'data'", "data=mnist"),
                ("workers 'x'", "workers=x"),
                ("named 'a'", "name=a", "name=a"),
                ("'nope'", "name=a", "name=b code=nope")):
            arguments = [word for scheme in schemes for word in ("--scheme", scheme)]
            self.refuse(USAGE, words, "compare", *cli.SMALL, *arguments)

    def test_configuration_files(self):
        for words, text in (
                ("settings.ini:2 'fly'", "rounds = 3\nfly = 1\n"),
                ("settings.ini:1 rounds 'x'", "rounds = x\n"),
                ("settings.ini:2", "rounds = 3\nnonsense\n"),
                ("settings.ini:3 rounds twice", "rounds = 3\n\nrounds = 4\n"),
                ("settings.ini:2 rounds twice", "rounds = 3\n  4\n"),
                ("settings.ini section", "[train]\nrounds = 3\n"),
                ("settings.ini:1 'config'", "config = other.ini\n"),
                ("settings.ini:1 'scheme'", "scheme = name=a\n"),
                ("settings.ini:2 longer", "rounds = 3\nout = " + "x" * 300 + "\n")):
            self.give("settings.ini", text)
            self.refuse(USAGE, words, "train", "--config", "settings.ini")
        self.refuse(FAILED, "'none.ini'", "train", "--config", "none.ini")
        self.refuse(FAILED, "'/'", "train", "--config", "/")


IDX_IMAGES, IDX_LABELS = 0x803, 0x801


def images(rows, magic=IDX_IMAGES):
    return struct.pack(">IIII", magic, rows, 28, 28) + bytes(rows * 784)


def labels(rows, value=1):
    return struct.pack(">II", IDX_LABELS, rows) + bytes([value]) * rows


class Data(Refusals):
    """Damaged data: each case spoils one of four good files."""
    NAMES = {"train-images-idx3-ubyte": images(40), "train-labels-idx1-ubyte": labels(40),
             "t10k-images-idx3-ubyte": images(20), "t10k-labels-idx1-ubyte": labels(20)}

    def give_good(self):
        for name, content in self.NAMES.items():
            self.give(f"idx/{name}", content)

    def test_the_good_files_are_good(self):
        self.give_good()
        done = self.run_cograd("train", *cli.SMALL, "--data", "idx", "--rounds", "2")
        self.assertEqual(done.returncode, 0, done.stderr)

    def test_missing(self):
        self.refuse(FAILED, "nowhere", "train", "--data", "./nowhere")
        self.give("empty/.keep", "")
        self.refuse(FAILED, "empty", "train", "--data", "./empty")
        self.refuse(FAILED, "none.txt", "train", "--data", "libsvm:none.txt")
        done = self.run_cograd("train", "--rounds", "1", env={**os.environ, "COGRAD_DATA": "wrong"})
        self.assertEqual(done.returncode, FAILED)
        self.assert_one_sentence(done.stderr, "wrong/mnist")

    def test_too_large_for_a_loss(self):
        self.give("huge.txt", "".join(f"{r % 2} 1:3e38 2:-3e38\n" for r in range(40)))
        self.refuse(FAILED, "before the first step", "train", "--data", "libsvm:huge.txt", "--model",
                    "softmax", "--rounds", "3", "--batch", "2", "--workers", "2", "--code", "ignore")

    def test_damaged(self):
        image, label = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"
        for name, content in ((image, images(40)[:-1]), (image, images(40)[:10]), (image, b""),
                              (image, images(40, magic=0x999)), (image, images(39)),
                              (label, labels(40)[:-1]), (label, labels(40, value=200)),
                              (label, labels(40) + b"x")):
            self.give_good()
            self.give(f"idx/{name}", content)
            self.refuse(FAILED, "idx/", "train", *cli.SMALL, "--data", "idx", "--rounds", "2")

    def test_truncated_gzip(self):
        self.give_good()
        (self.folder / "idx/train-images-idx3-ubyte").unlink()
        self.give("idx/train-images-idx3-ubyte.gz", gzip.compress(images(40))[:-12])
        self.refuse(FAILED, "idx/", "train", *cli.SMALL, "--data", "idx", "--rounds", "2")

    def test_libsvm(self):
        for text in ("1 1:nan\n" * 20, "1 1:inf\n" * 20, "x 1:2\n" * 20, "1 1:2 1\n" * 20,
                     "1 0:2\n" * 20, "1 3:2 2:1\n" * 20, ""):
            self.give("rows.txt", text)
            self.refuse(FAILED, "rows.txt", "train", "--data", "libsvm:rows.txt", "--model", "squared")


class Files(Refusals):
    SHORT = ("train", *cli.SMALL, "--rounds", "20")

    def test_places_that_cannot_be_written(self):
        self.give("file", "kept")
        for words, *arguments in (
                ("file/x", "--out", "file/x"),
                ("file folder", "--out", "file"),
                ("/proc/none", "--out", "/proc/none/x"),
                ("none/x.json", "--json", "none/x.json"),
                ("file/x.json", "--json", "file/x.json"),
                ("folder", "--json", ".")):
            self.refuse(FAILED, words, "train", "--rounds", "100000000", *arguments)
        self.assertEqual((self.folder / "file").read_text(), "kept")

    def test_full_disk_for_the_record(self):
        self.refuse(FAILED, "/dev/full space", *self.SHORT, "--json", "/dev/full")
        self.refuse(FAILED, "/dev/full space", "code", "lwpd", "--json", "/dev/full")

    def test_full_disk_for_the_log(self):
        """A limit on the size of files stands for a full disk: the log passes it in mid-run."""
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (600, 600))
        (self.folder / "out").mkdir()
        begin = time.monotonic()
        done = self.run_cograd("train", *cli.SMALL, "--rounds", "100000000", "--out", "out",
                               preexec_fn=limit)
        self.assertEqual(done.returncode, FAILED, done.stderr)
        self.assert_one_sentence(done.stderr, "log.jsonl")
        self.assertEqual(self.files(), [])
        self.assertLess(time.monotonic() - begin, 30)

    def test_a_record_that_does_not_fit_leaves_the_old_one(self):
        self.give("record.json", "old")
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))
        done = self.run_cograd(*self.SHORT, "--json", "record.json", preexec_fn=limit)
        self.assertEqual(done.returncode, FAILED, done.stderr)
        self.assert_one_sentence(done.stderr, "record.json")
        self.assertEqual(self.files(), ["record.json"])
        self.assertEqual((self.folder / "record.json").read_text(), "old")

    def test_full_standard_output(self):
        with open("/dev/full", "w") as full:
            done = subprocess.run([cli.PROGRAM, *self.SHORT], stdout=full, stderr=subprocess.PIPE,
                                  text=True, cwd=self.folder)
        self.assertEqual(done.returncode, FAILED)
        self.assert_one_sentence(done.stderr, "standard output")

    def test_full_standard_output_of_a_text(self):
        for arguments in ("--help", "--version", "help", "info", "info --help", "train --help",
                          "compare -h", "code --help", "code lwpd"):
            with self.subTest(arguments), open("/dev/full", "w") as full:
                done = subprocess.run([cli.PROGRAM, *arguments.split()], stdout=full,
                                      stderr=subprocess.PIPE, text=True)
                self.assertEqual(done.returncode, FAILED)
                self.assert_one_sentence(done.stderr, "standard output")


if __name__ == "__main__":
    cli.main()
