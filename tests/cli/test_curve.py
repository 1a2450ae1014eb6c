#!/usr/bin/env python3
"""test_curve.py PROGRAM SOURCE_DIR - runs over ZeroMQ that are encrypted: who has no key stays out, and nothing
can be read on the wire, for which a relay between worker and server looks at every byte."""
import os
import shutil
import socket
import struct
import subprocess
import threading

import cli

# Parameters of 360 KB: more than one part of a message, which encryption makes longer.
PROBLEM = ("--data", "synthetic:rows=40,features=30000,classes=3", "--model", "softmax", "--batch", "8",
           "--workers", "1", "--code", "ignore:wait=1", "--channel", "identity", "--downlink", "fp32",
           "--rounds", "4", "--report-every", "4")


class Relay:
    """Hands on what comes, both ways, to a server that may not be there yet; and keeps it."""

    def __init__(self, to):
        self.to, self.seen, self.connections = to, bytearray(), []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        try:
            while True:
                near, _ = self.listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.to))
                except OSError:
                    near.close()
                    continue
                self.connections += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=self.copy, args=(one, other), daemon=True).start()
        except OSError:
            pass  # closed

    def copy(self, one, other):
        try:
            while data := one.recv(1 << 16):
                self.seen += data
                other.sendall(data)
        except OSError:
            pass
        for end in (one, other):
            end.close()

    def close(self):
        self.listener.close()
        for connection in self.connections:
            connection.close()


class Curve(cli.Network):
    def server(self, keys, *problem):
        server = self.start("train", *(problem or PROBLEM), "--json", "record.json", "--transport",
                            f"zmq:bind=tcp://127.0.0.1:{self.port},silence=10{keys}")
        return server

    def worker(self, *arguments, port=None, patience=20):
        return self.start("worker", "--connect", f"tcp://127.0.0.1:{port or self.port}", "--silence", "10",
                          "--patience", patience, *arguments)

    def wait_for(self, name):
        for _ in range(1000):
            if (self.folder / name).exists():
                return
            threading.Event().wait(0.01)
        self.fail(f"there is no {name}")

    def run_through_relay(self, keys, *arguments):
        """What a run with these keys shows on the wire, and its record."""
        relay = Relay(self.port)
        self.addCleanup(relay.close)
        server = self.server(keys)
        if "curve" in keys:
            self.wait_for("key.pub")
        worker = self.worker(*arguments, port=relay.port)
        self.finish(server)
        self.finish(worker)
        return bytes(relay.seen), self.record()

    def parameters_in(self, wire):
        """Pieces of the long payloads, PARAMS or messages, that are seen in clear."""
        pieces, at = [], wire.find(b"COG1")
        while at >= 0:
            kind, = struct.unpack_from("<B", wire, at + 5)
            size, = struct.unpack_from("<Q", wire, at + 24)
            if kind in (1, 2) and size > 100000:
                pieces.append(wire[at + 1048:at + 1112])
            at = wire.find(b"COG1", at + 1)
        return pieces

    def test_nothing_can_be_read_on_the_wire(self):
        (self.folder / "token").write_text("nobody else knows\n")
        plain, record = self.run_through_relay(",token=token", "--token", "token")
        pieces = self.parameters_in(plain)
        self.assertGreaterEqual(len(pieces), 8)
        self.assertIn(b"synthetic:rows=40", plain)
        self.assertNotIn(b"nobody else knows", plain)
        hidden, same = self.run_through_relay(",token=token,curve=key", "--token", "token", "--curve-key",
                                              "key.pub")
        self.assert_same_record(record, same)  # so the same floats travelled
        self.assertGreater(len(hidden), record["bytes_up"] + record["bytes_down"])
        for secret in (*pieces, b"COG1", b"synthetic", b"softmax", b"nobody else knows"):
            self.assertNotIn(secret, hidden)

    def test_who_has_another_key_or_none_stays_out(self):
        server = self.server(",curve=key", *PROBLEM[:-4], "--rounds", "20")
        self.wait_for("key.pub")
        public = (self.folder / "key.pub").read_text()
        other = public[:20] + ("a" if public[20] != "a" else "b") + public[21:]
        (self.folder / "other.pub").write_text(other)
        for words, *arguments in (("may ask for a key",), ("it has another", "--curve-key", "other.pub")):
            worker = self.worker(*arguments, patience=60)
            self.assert_one_sentence(self.finish(worker, 1)[1], words)
        self.finish(self.worker("--curve-key", "key.pub"))
        self.finish(server)
        self.assertGreaterEqual(self.record()["frames_refused"], 2)
        self.assertEqual(self.record()["rounds"], 20)

    def test_a_server_without_keys_is_not_trusted(self):
        """A worker that was given a key talks to nobody in clear."""
        server = self.server(",curve=key")
        self.wait_for("key.pub")
        server.kill()
        server.communicate()
        server = self.server(",patience=8")
        worker = self.worker("--curve-key", "key.pub", patience=60)
        self.assert_one_sentence(self.finish(worker, 1)[1], "it has another, or none")
        self.assert_one_sentence(self.finish(server, 1)[1], "no worker came")

    def test_keys(self):
        """The secret one is its owner's alone, and made once; files that hold none are refused."""
        for _ in range(2):
            server = self.server(",patience=0,curve=key")
            self.assert_one_sentence(self.finish(server, 1)[1], "no worker came")
            made = {name: (self.folder / name).read_text() for name in ("key", "key.pub")}
            self.assertEqual((self.folder / "key").stat().st_mode & 0o777, 0o600)
            (self.folder / "key.pub").unlink()
        self.finish(self.server(",patience=0,curve=key"), 1)
        self.assertEqual(made, {name: (self.folder / name).read_text() for name in made})
        self.assertNotIn(made["key"].split()[1], made["key.pub"])
        self.assertEqual([name for name in self.files() if name.startswith("key")], ["key", "key.pub"])
        train = ("train", *PROBLEM, "--transport")
        (self.folder / "key").rename(self.folder / "old")
        self.assert_refused((*train, "zmq:curve=key"), 1, "key.pub", "does not belong")
        (self.folder / "old").rename(self.folder / "key")
        self.assertEqual(made["key.pub"], (self.folder / "key.pub").read_text())
        (self.folder / "key").chmod(0o640)
        self.assert_refused((*train, "zmq:curve=key"), 2, "others may read", "chmod 600")
        self.assert_refused((*train, "zmq:curve=key.pub"), 2, "others may read")
        (self.folder / "key.pub").chmod(0o600)
        self.assert_refused((*train, "zmq:curve=key.pub"), 1, "cograd-secret-key")
        self.assert_refused((*train, "zmq:curve=none-such/key"), 1, "none-such/key")
        self.assert_refused((*train, "zmq:curve=new,tokn=x"), 2, "tokn")
        self.assertFalse((self.folder / "new").exists())
        worker = ("worker", "--connect", "tcp://127.0.0.1:1", "--curve-key")
        self.assert_refused((*worker, "key"), 1, "cograd-public-key")
        self.assert_refused((*worker, "none-such"), 1, "none-such")
        (self.folder / "no.pub").write_text(made["key.pub"][:-2] + "~\n")
        self.assert_refused((*worker, "no.pub"), 1, "no.pub", "40 characters of Z85")

    def test_beyond_this_machine_there_is_no_listening_without_token_or_key(self):
        self.assert_refused(("train", *PROBLEM, "--transport", f"zmq:bind=tcp://*:{self.port}"), 2, "token=FILE",
                            "curve=FILE")
        server = self.start("train", *PROBLEM, "--transport",
                            f"zmq:bind=tcp://*:{self.port},patience=0,curve=key")
        self.assert_one_sentence(self.finish(server, 1)[1], "no worker came")

    def test_a_zeromq_without_curve_is_told(self):
        """One that is built without is hard to come by: here it says so of itself."""
        if shutil.which("cc") is None or "address" in self.run_cograd("info").stdout:
            self.skipTest("no compiler, or a build that wants its own library first")
        (self.folder / "without.c").write_text("int zmq_has(const char *what) { return what == 0; }\n")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", "without.so", "without.c"], cwd=self.folder, check=True)
        done = self.run_cograd("train", *PROBLEM, "--transport", "zmq:curve=key",
                               env={**os.environ, "LD_PRELOAD": str(self.folder / "without.so")})
        self.assertNotEqual(done.returncode, 0)
        self.assert_one_sentence(done.stderr, "without CURVE")
        self.assertFalse((self.folder / "key").exists())


if __name__ == "__main__":
    cli.main()
