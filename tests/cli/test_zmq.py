#!/usr/bin/env python3
"""test_zmq.py PROGRAM SOURCE_DIR - servers and workers that come and go: `cograd train` over ZeroMQ and
`cograd worker`, with kills, freezes and strangers."""
import pathlib
import signal
import socket
import struct
import subprocess
import time

import cli

# Rounds of some 20 ms each, so that there is time to do something to a run.
SLOW = ("--data", "synthetic:rows=400,features=10,classes=3", "--model", "softmax", "--batch", "8",
        "--channel", "topk:ratio=0.1,feedback=1", "--stragglers", "exp:mean=0.01", "--report-every", "10")


class Zmtp:
    """A stranger that speaks the protocol of ZeroMQ, as a DEALER (ZMTP 3.0, mechanism NULL)."""

    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.socket.sendall(b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32))
        self.read(64)
        self.send(b"\x05READY\x0bSocket-Type" + struct.pack(">I", 6) + b"DEALER", command=True)
        self.receive()

    def read(self, count):
        data = b""
        while len(data) < count:
            got = self.socket.recv(count - len(data))
            if not got:
                raise ConnectionError("closed")
            data += got
        return data

    def send(self, data, more=False, command=False):
        flags = (1 if more else 0) | (4 if command else 0)
        if len(data) < 256:
            self.socket.sendall(bytes([flags, len(data)]) + data)
        else:
            self.socket.sendall(bytes([flags | 2]) + struct.pack(">Q", len(data)) + data)

    def receive(self):
        flags, = self.read(1)
        size, = struct.unpack(">Q", self.read(8)) if flags & 2 else self.read(1)
        return self.read(size)


class Zmq(cli.Network):
    def server(self, *arguments, keys="silence=10"):
        return self.start("train", *SLOW, "--transport", f"zmq:bind={self.address},{keys}",
                          "--json", "record.json", *arguments)

    def worker(self, *arguments):
        return self.start("worker", "--connect", self.address, "--silence", "5", "--patience", "20",
                          *arguments)

    def test_a_run_without_faults_is_the_run_of_sim(self):
        options = ("--code", "lwpd:weight=2,wait=8", "--rounds", "30")
        server = self.server(*options)
        workers = [self.worker() for _ in range(8)]
        self.finish(server)
        for worker in workers:
            self.assertEqual(self.finish(worker), ("", ""))
        over = self.record()
        self.run_cograd("train", *SLOW, *options, "--json", "record.json")
        self.assert_same_record(over, self.record())

    def check_kills(self, number, n_killed):
        server = self.server("--code", "lwpd:weight=2,wait=6", "--rounds", "80", keys="silence=2")
        workers = [self.worker() for _ in range(8)]
        self.wait_for_round(server, 10)
        for worker in workers[:n_killed]:
            worker.send_signal(number)
        self.finish(server)
        self.assertEqual(self.record()["rounds"], 80)
        self.assertEqual(self.record()["rounds_skipped"], 0)
        self.assertEqual(self.record()["stopped"], "rounds")
        for worker in workers[n_killed:]:
            self.finish(worker)
        return workers[:n_killed]

    def test_one_killed_worker_of_eight(self):
        self.check_kills(signal.SIGKILL, 1)

    def test_three_killed_workers_of_eight(self):
        self.check_kills(signal.SIGKILL, 3)

    def test_a_frozen_worker(self):
        """It is given up; thawed, it finds that the run is over."""
        frozen, = self.check_kills(signal.SIGSTOP, 1)
        frozen.send_signal(signal.SIGCONT)
        frozen.kill()

    def test_a_code_that_needs_everybody_says_so_before_the_timeout(self):
        server = self.server("--code", "crc:stragglers=0", "--channel", "identity", "--rounds", "1000",
                             "--workers", "4", "--timeout", "100")
        workers = [self.worker() for _ in range(4)]
        self.wait_for_round(server, 10)
        begin = time.monotonic()
        workers[2].kill()
        _, err = self.finish(server, 1)
        self.assertLess(time.monotonic() - begin, 20)
        self.assert_one_sentence(err, "worker", "is gone", "'crc'")

    def test_where_joiners_are_awaited_a_new_worker_takes_the_place(self):
        server = self.server("--code", "crc:stragglers=0", "--channel", "identity", "--rounds", "60",
                             "--workers", "4", keys="silence=10,rejoin=1")
        workers = [self.worker() for _ in range(4)]
        self.wait_for_round(server, 10)
        workers[1].kill()
        self.worker()
        self.finish(server)
        self.assertEqual(self.record()["rounds"], 60)
        self.assertEqual(self.record()["rounds_skipped"], 0)

    def test_workers_end_when_their_server_does_not_come_back(self):
        server = self.server("--rounds", "100000", "--workers", "2", "--code", "ignore:wait=2")
        workers = [self.start("worker", "--connect", self.address, "--patience", "1") for _ in range(2)]
        self.wait_for_round(server, 10)
        server.kill()
        for worker in workers:
            self.assert_one_sentence(self.finish(worker, 1)[1], "no server", self.address)

    def test_workers_serve_the_next_server(self):
        options = ("--rounds", "20", "--workers", "2", "--code", "ignore:wait=2")
        workers = [self.worker("--jobs", "2") for _ in range(2)]
        for _ in range(2):
            self.finish(self.server(*options))
        for worker in workers:
            self.finish(worker)

    def test_workers_find_a_server_that_was_killed_and_resumed(self):
        """What they owed comes back from the checkpoint: the run is that of sim."""
        options = ("--code", "lwpd:weight=2,wait=8", "--rounds", "60")
        keep = ("--checkpoint", "kept", "--checkpoint-every", "10", "--out", "killed")
        server = self.server(*options, *keep)
        workers = [self.worker() for _ in range(8)]
        self.wait_for_round(server, 30)
        server.kill()
        server.communicate()
        out, _ = self.finish(self.server(*options, *keep, "--resume", "kept"))
        self.assertGreaterEqual(int(out.split("round ")[1].split()[0]), 20)
        for worker in workers:
            self.assertEqual(self.finish(worker), ("", ""))
        self.run_cograd("train", *SLOW, *options, "--out", "whole")
        self.assert_same_run("killed", "whole")

    def test_a_server_whose_workers_do_not_come_says_so(self):
        server = self.server("--workers", "2", "--code", "ignore:wait=2", keys="patience=0.5")
        self.assert_one_sentence(self.finish(server, 1)[1], "no worker came", self.address)

    def test_a_signal_ends_the_wait_for_workers_too(self):
        server = self.server("--workers", "2", "--code", "ignore:wait=2", "--checkpoint", "kept")
        self.wait_for_round(server, 0)
        time.sleep(0.3)
        server.send_signal(signal.SIGINT)
        begin = time.monotonic()
        self.assertEqual(self.finish(server, 130)[1], "")
        self.assertLess(time.monotonic() - begin, 10)
        self.assertEqual(self.record()["stopped"], "interrupted")

    def catches(self, process, number):
        status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
        return int(status.split("SigCgt:")[1].split()[0], 16) >> (number - 1) & 1

    def test_a_signal_that_comes_before_anybody_is_waited_for_counts(self):
        server = self.server("--workers", "2", "--code", "ignore:wait=2", "--data",
                             "synthetic:rows=200000,features=10,classes=3")
        while not self.catches(server, signal.SIGINT):
            pass
        server.send_signal(signal.SIGINT)
        begin = time.monotonic()
        self.finish(server, 130)
        self.assertLess(time.monotonic() - begin, 30)

    def test_tokens(self):
        for name, text in (("mine", "a secret of ours\n"), ("other", "a secret of theirs\n"), ("short", "x")):
            (self.folder / name).write_text(text)
        server = self.server("--workers", "1", "--code", "ignore:wait=1", "--rounds", "20",
                             keys="token=mine")
        for arguments in (("--token", "other"), ()):
            self.assert_one_sentence(self.finish(self.worker(*arguments), 1)[1], "another token")
        self.assert_one_sentence(self.finish(self.worker("--token", "short"), 1)[1], "8 to 1023")
        self.assert_one_sentence(self.finish(self.worker("--token", "none-such"), 1)[1], "none-such")
        self.finish(self.worker("--token", "mine"))
        self.finish(server)
        self.assertGreaterEqual(self.record()["frames_refused"], 2)
        self.assert_refused(("train", *cli.SMALL, "--transport", "zmq:bind=tcp://*:5600"), 2, "token")

    def test_a_worker_whose_data_do_not_fit_says_so_and_another_may_come(self):
        server = self.server("--workers", "1", "--code", "ignore:wait=1", "--rounds", "20")
        targets = self.worker("--data", "synthetic:rows=400,features=10,classes=0")
        self.assert_one_sentence(self.finish(targets, 2)[1], "worker 0", "classes")
        self.finish(self.worker())
        self.finish(server)
        self.assertEqual(self.record()["rounds"], 20)

    def test_a_worker_is_no_train(self):
        """It would go by its own options, not by those of the server."""
        self.assert_refused(("train", *cli.SMALL, "--transport", f"zmq:connect={self.address}"), 2,
                            "cograd worker --connect", self.address)

    def test_a_second_server_takes_no_workers_of_the_first(self):
        for self.address in (self.address, f"ipc://{self.folder}/meeting"):
            first = self.server("--workers", "1", "--code", "ignore:wait=1", "--rounds", "20")
            self.wait_for_round(first, 0)
            time.sleep(0.5)
            second = self.run_cograd("train", *cli.SMALL, "--transport", f"zmq:bind={self.address}")
            self.assertEqual(second.returncode, 1)
            self.assert_one_sentence(second.stderr, "cannot listen", self.address, "in use")
            self.finish(self.worker("--jobs", "1"))
            self.finish(first)
        self.assertEqual(self.files(), ["record.json"])  # and nothing lies where they met

    def test_addresses(self):
        for address in ("tcp://127.0.0.1:99999", "tcp://127.0.0.1:0", "tcp://127.0.0.1:56x", "tcp://127.0.0.1",
                        "tcp://127.0.0.1:*", "tcp://", "5600", "127.0.0.1:5600", "inproc://here"):
            words = (":1 to :65535" if address.startswith("tcp") else "neither tcp", address)
            self.assert_refused(("worker", "--patience", "1", "--connect", address), 2, *words)
            if ":" in address:
                self.assert_refused(("train", *cli.SMALL, "--transport", f"zmq:patience=0,bind={address}"), 2, *words)

    def test_what_needs_all_workers_at_once_is_refused(self):
        self.assert_refused(("train", *cli.SMALL, "--code", "uncoded", "--transport", "zmq"), 2,
                            "all-reduce", "'zmq'")

    def frame(self, kind=10, magic=b"COG1", version=1, payload=b"", announced=None, source=0):
        return (magic + struct.pack("<BBHqiiQQQ", version, kind, 0, 0, 0, source,
                                    len(payload) if announced is None else announced, 1, 12345))

    def test_strangers_change_nothing(self):
        """Noise, half a greeting, frames without sense, damaged ones, too long ones: the run is that
        without them."""
        server = self.server("--code", "lwpd:weight=2,wait=8", "--rounds", "100")
        workers = [self.worker() for _ in range(8)]
        self.wait_for_round(server, 10)
        noise = socket.create_connection(("127.0.0.1", self.port))
        noise.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(range(256)) * 100)
        half = socket.create_connection(("127.0.0.1", self.port))
        half.sendall(b"\xff" + bytes(8) + b"\x7f\x03")
        stranger = Zmtp(self.port)
        stranger.send(b"")
        stranger.send(b"hello")
        stranger.send(b"", more=True)
        stranger.send(b"hello")
        stranger.send(self.frame()[:47])
        stranger.send(self.frame())  # a HELLO that is not sealed
        stranger.send(self.frame(version=2))
        self.assertIn(b"version 2", b"".join(stranger.receive() for _ in range(6)))
        stranger.send(self.frame(kind=2, source=3, payload=b"xx"), more=True)
        stranger.send(b"xx")
        stranger.send(self.frame(announced=1 << 60), more=True)
        stranger.send(b"x" * 1000)
        stranger.send(self.frame(kind=9, source=1))  # only the transport itself says LOST
        for _ in range(100):
            stranger.send(self.frame(kind=255), more=True)
            stranger.send(b"more than was announced")
        self.finish(server)
        for worker in workers:
            self.finish(worker)
        for connection in (noise, half, stranger.socket):
            connection.close()
        record = self.record()
        self.assertEqual(record["messages_used"], 800)
        self.assertGreaterEqual(record["frames_refused"], 105)


if __name__ == "__main__":
    cli.main()
