#!/usr/bin/env python3
"""test_nccl.py PROGRAM SOURCE_DIR - a process a rank over NCCL: whole runs, kills, freezes, and ranks that
do not belong together. Skipped (status 77) where there are no nine GPUs."""
import os
import signal

import cli
import faults

WORKERS = 8
RUN = ("train", "--data", "synthetic:rows=400,features=10,classes=3", "--model", "softmax", "--batch", "8",
       "--channel", "topk:ratio=0.1,feedback=1", "--report-every", "5", "--workers", WORKERS)
SLOW = ("--stragglers", "exp:mean=0.02")


class Nccl(cli.Case):
    def setUp(self):
        super().setUp()
        self.ranks = []
        if int(os.environ.get("COG_TEST_SHARE", "1")) > 1:
            print("skipped: one order of work is enough", flush=True)
            os._exit(77)
        # where ranks of a virtual CUDA machine exchange what they send
        os.environ["PTXRUN_NCCL_DIR"] = str(self.folder / "exchange")
        done = self.run_cograd(*RUN, "--transport", "nccl", "--rounds", "0")
        if "needs a GPU" in done.stderr or "built without" in done.stderr:
            required = int(os.environ.get("COG_REQUIRE_GPU", "0")) > WORKERS
            print(("failed: " if required else "skipped: ") + done.stderr, flush=True)
            os._exit(1 if required else 77)

    def tearDown(self):
        self.end_all()

    def end_all(self):
        for process in self.ranks:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.communicate()
        self.ranks.clear()

    def start(self, *options, timeout=20):
        """All ranks; the server's first."""
        for rank in range(WORKERS + 1):
            out = ("--out", "out", "--json", "record.json") if rank == 0 else ()
            self.ranks.append(self.start_cograd(
                *RUN, *options, *out,
                "--transport", f"nccl:meet={self.folder}/meeting,rank={rank},timeout={timeout}"))
        return self.ranks[0], self.ranks[1:]

    def test_injected_faults_keep_what_is_promised(self):
        """A quarter of the matrix, with a thread a worker."""
        del os.environ["PTXRUN_NCCL_DIR"]
        runner = faults.Runner(cli.PROGRAM)
        runner.undisturbed("nccl")
        sample = faults.cells(runner, ["nccl"], sample=True)
        self.assertGreater(len(sample), 10)
        for cell, broken in faults.run_matrix(sample, 2):
            self.assertIsNone(broken, f"{cell.row}, must be '{cell.must}'")

    def test_a_run_of_processes_is_the_run_of_sim(self):
        options = ("--code", "lwpd:weight=2,wait=8", "--rounds", "20")
        server, workers = self.start(*options)
        self.finish(server)
        for worker in workers:
            self.assertEqual(self.finish(worker), ("", ""))
        self.assertFalse((self.folder / "meeting").exists())
        self.finish(self.start_cograd(*RUN, *options, "--out", "sim"))
        self.assert_same_run("out", "sim")

    def lose(self, code, signal_number, timeout=20):
        server, workers = self.start("--code", code, "--rounds", "40", *SLOW, timeout=timeout)
        self.wait_for_round(server, 5)
        workers[3].send_signal(signal_number)
        return server, workers

    def test_lwpd_goes_on_without_a_worker_that_is_killed(self):
        server, workers = self.lose("lwpd:weight=2,wait=6", signal.SIGKILL)
        self.finish(server)
        self.assertEqual(self.record()["rounds"], 40)
        for worker in workers[:3] + workers[4:]:
            self.finish(worker)

    def test_lwpd_goes_on_without_a_frozen_worker_which_then_learns_of_it(self):
        server, workers = self.lose("lwpd:weight=2,wait=6", signal.SIGSTOP, timeout=1)
        self.finish(server)
        self.assertEqual(self.record()["rounds"], 40)
        workers[3].send_signal(signal.SIGCONT)
        for worker in workers[:3] + workers[4:]:
            self.finish(worker)
        self.assertIn(workers[3].wait(timeout=20), (0, 1))

    def test_codes_that_need_all_end_with_a_sentence_when_one_is_killed(self):
        for code, words in (("frc:stragglers=0", "worker 3 is gone"),
                            ("uncoded", "worker 3 is gone")):
            server, workers = self.lose(code, signal.SIGKILL)
            _, err = self.finish(server, status=1)
            self.assertIn(words, err)
            for worker in workers[:3] + workers[4:]:
                self.finish(worker)
            self.end_all()

    def test_workers_end_when_their_server_is_killed(self):
        server, workers = self.start("--code", "lwpd:weight=2,wait=6", "--rounds", "100000", *SLOW)
        self.wait_for_round(server, 5)
        server.kill()
        for worker in workers:
            _, err = self.finish(worker, status=1, timeout=10)
            self.assert_one_sentence(err, "server is gone")
        self.end_all()
        # what it left is no obstacle
        self.test_a_run_of_processes_is_the_run_of_sim()

    def test_a_rank_that_is_there_already_is_refused(self):
        server, workers = self.start("--code", "lwpd:weight=2,wait=6", "--rounds", "100000", *SLOW)
        self.wait_for_round(server, 5)
        for rank, words in ((0, "another server"), (3, "rank 3 already")):
            done = self.run_cograd(*RUN, "--code", "lwpd:weight=2,wait=6", "--transport",
                                   f"nccl:meet={self.folder}/meeting,rank={rank}")
            self.assertEqual(done.returncode, 1, done.stderr)
            self.assertIn(words, done.stderr)
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=20)
        for worker in workers:
            self.finish(worker)


if __name__ == "__main__":
    cli.main()
