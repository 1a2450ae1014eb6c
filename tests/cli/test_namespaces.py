#!/usr/bin/env python3
"""test_namespaces.py PROGRAM SOURCE_DIR - `cograd train` between network namespaces of Linux: a server and
workers with interfaces, addresses and links of their own, which are slow (tc tbf), late (tc netem, where the
kernel has it) and cut (ip link set down).

    hub: the server, 10.83.0.1, on a bridge of links  ==== veth ====  worker i: 10.83.0.(2 + i)

Names bear the number of this process. What it made is removed when a test ends, and what such a process left
behind when it was killed, at the next start. Skipped (status 77) where namespaces are not permitted."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import time

import cli

WORKERS = 4
PREFIX = "cograd-test"
PORT = 5600  # the hub is a network of its own: nobody else is there
PROBLEM = ("--data", "synthetic:rows=400,features=10,classes=3", "--model", "softmax", "--batch", "8",
           "--workers", str(WORKERS), "--report-every", "10")
# Rounds of some 20 ms each, so that there is time to do something to a run.
SLOW = (*PROBLEM, "--stragglers", "exp:mean=0.01")
SILENCE = 1  # seconds
SLACK = 3.5  # TCP gives up after 3 s what it cannot deliver; and the rest is this machine's


def call(*command, check=True):
    done = subprocess.run(command, text=True, capture_output=True, timeout=20)
    if check and done.returncode != 0:
        raise OSError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done


def name_of(what):
    return f"{PREFIX}-{os.getpid()}-{what}"


def remove_left_behind():
    for line in call("ip", "netns", "list").stdout.splitlines():
        found = re.match(rf"{PREFIX}-(\d+)-", line)
        if found and not pathlib.Path("/proc", found.group(1)).exists():
            call("ip", "netns", "del", line.split()[0], check=False)


def why_not():
    """Why there can be no namespaces here; None when there can."""
    try:
        remove_left_behind()
        call("ip", "netns", "add", name_of("a"))
        call("ip", "-n", name_of("a"), "link", "add", "link1", "type", "veth", "peer", "name", "link2")
        call("ip", "-n", name_of("a"), "link", "add", "bridge", "type", "bridge")
        call("tc", "-n", name_of("a"), "qdisc", "add", "dev", "link1", "root", "tbf", "rate", "1mbit",
             "burst", "32kb", "latency", "50ms")
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    finally:
        if pathlib.Path("/run/netns", name_of("a")).exists():
            call("ip", "netns", "del", name_of("a"), check=False)
    return None


class Network(cli.Case):
    rate_bits = 20_000_000  # a second, each way of each link
    delay_ms = 2

    def setUp(self):
        super().setUp()
        self.processes = []
        self.add_namespace("hub")
        self.ip("hub", "link", "add", "bridge", "type", "bridge")
        self.ip("hub", "address", "add", "10.83.0.1/24", "dev", "bridge")
        self.ip("hub", "link", "set", "bridge", "up")
        for i in range(WORKERS):
            self.add_worker(i)
        self.addCleanup(self.end_processes)  # runs first
        (self.folder / "token").write_text("nobody else knows")

    def add_namespace(self, what):
        self.addCleanup(call, "ip", "netns", "del", name_of(what), check=False)
        call("ip", "netns", "add", name_of(what))
        self.ip(what, "link", "set", "lo", "up")

    def add_worker(self, i):
        self.add_namespace(i)
        call("ip", "link", "add", f"link{i}", "netns", name_of("hub"), "type", "veth", "peer", "name",
             "up0", "netns", name_of(i))
        self.ip("hub", "link", "set", f"link{i}", "master", "bridge")
        self.ip(i, "address", "add", f"10.83.0.{2 + i}/24", "dev", "up0")
        for what, link in (("hub", f"link{i}"), (i, "up0")):
            self.ip(what, "link", "set", link, "up")
            self.shape(what, link)

    def shape(self, what, link):
        call("tc", "-n", name_of(what), "qdisc", "add", "dev", link, "root", "handle", "1:", "tbf", "rate",
             str(self.rate_bits), "burst", "16kb", "latency", "200ms")
        call("tc", "-n", name_of(what), "qdisc", "add", "dev", link, "parent", "1:", "netem", "delay",
             f"{self.delay_ms}ms", check=False)

    def ip(self, what, *arguments):
        return call("ip", "-n", name_of(what), *arguments).stdout

    def end_processes(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def start_in(self, what, *command):
        process = subprocess.Popen(["ip", "netns", "exec", name_of(what), *map(str, command)], text=True,
                                   cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.processes.append(process)
        return process

    def server(self, *arguments, keys=""):
        transport = f"zmq:bind=tcp://0.0.0.0:{PORT},token=token,silence={SILENCE}{keys}"
        return self.start_in("hub", cli.PROGRAM, "train", "--transport", transport, "--json", "record.json",
                             *arguments)

    def workers(self):
        return [self.start_in(i, cli.PROGRAM, "worker", "--connect", f"tcp://10.83.0.1:{PORT}", "--rank",
                              i + 1, "--token", "token", "--silence", SILENCE, "--patience", "20")
                for i in range(WORKERS)]

    def set_link(self, i, state):
        self.ip("hub", "link", "set", f"link{i}", state)

    def assert_run_of_sim(self, *options):
        over = self.record()
        self.run_cograd("train", *options, "--json", "record.json")
        self.assert_same_record(over, self.record())
        self.assert_links_carried(over["bytes_up"], over["bytes_down"])
        return over

    def assert_links_carried(self, up, down):
        links = json.loads(self.ip("hub", "-json", "-statistics", "link"))
        carried = [link["stats64"] for link in links if link["ifname"].startswith("link")]
        self.assertEqual(len(carried), WORKERS)
        self.assertGreater(sum(link["rx"]["bytes"] for link in carried), up)
        self.assertGreater(sum(link["tx"]["bytes"] for link in carried), down)


class Zmq(Network):
    def test_a_run_over_links_is_the_run_of_sim(self):
        options = (*PROBLEM, "--code", "replication:blocks=2,wait=4", "--channel",
                   "topk:ratio=0.1,feedback=1", "--rounds", "30")
        server = self.server(*options)
        workers = self.workers()
        for process in (server, *workers):
            self.finish(process)
        self.assert_run_of_sim(*options)

    def test_one_of_four_links_is_cut_and_the_run_ends_without_it(self):
        server = self.server(*SLOW, "--code", "ignore:wait=3", "--rounds", "100")
        workers = self.workers()
        self.wait_for_round(server, 20)
        self.set_link(2, "down")
        begin = time.monotonic()
        self.finish(server)
        self.assertLess(time.monotonic() - begin, 80 * 0.1 + SILENCE + SLACK)
        record = self.record()
        self.assertEqual((record["rounds"], record["rounds_skipped"]), (100, 0))
        for i in (0, 1, 3):
            self.finish(workers[i])

    def test_a_run_that_needs_a_cut_worker_says_so_within_its_deadline(self):
        server = self.server(*SLOW, "--code", "crc:stragglers=0", "--channel", "identity", "--rounds", "1000",
                             "--timeout", "100")
        self.workers()
        self.wait_for_round(server, 20)
        self.set_link(1, "down")
        begin = time.monotonic()
        _, err = self.finish(server, 1)
        self.assertLess(time.monotonic() - begin, SILENCE + SLACK)
        self.assert_one_sentence(err, "worker 1 is gone", "'crc'")

    def test_a_worker_comes_back_when_its_link_does(self):
        """The code needs all of them, so the run ends only with the worker that was cut."""
        server = self.server(*SLOW, "--code", "crc:stragglers=0", "--channel", "identity", "--rounds", "60",
                             keys=",rejoin=1")
        workers = self.workers()
        self.wait_for_round(server, 20)
        self.set_link(3, "down")
        time.sleep(SILENCE + 1)
        self.assertIsNone(server.poll())
        self.set_link(3, "up")
        self.finish(server, timeout=20)
        record = self.record()
        self.assertEqual((record["rounds"], record["rounds_skipped"]), (60, 0))
        for worker in workers:
            self.finish(worker)


# Instead of ssh: ranks are started in the namespace that has the address, as a machine of that name.
AGENT = f"""#!/bin/sh
host=$1; shift
i=$((${{host#10.83.0.}} - 2))
exec ip netns exec {PREFIX}-{os.getpid()}-$i unshare --uts sh -c "hostname worker$i; $*"
"""


class Mpi(Network):
    def test_a_run_over_links_is_the_run_of_sim(self):
        """All bytes go over the links: transports by which ranks of one machine meet are off."""
        info = self.run_cograd("info").stdout
        if shutil.which("mpirun") is None or not re.search("MPI +built in", info) or "sanitizers thread" in info:
            self.skipTest("MPI is not there, or not built for this sanitizer")
        (self.folder / "agent").write_text(AGENT)
        (self.folder / "agent").chmod(0o755)
        options = (*PROBLEM, "--code", "replication:blocks=2,wait=4", "--rounds", "30")
        hosts = ",".join(f"10.83.0.{rank + 1}:1" for rank in range(WORKERS + 1))
        settings = {"plm_rsh_agent": self.folder / "agent", "plm_rsh_no_tree_spawn": 1, "btl": "tcp,self",
                    "pml": "ob1", "btl_tcp_if_include": "10.83.0.0/24", "oob_tcp_if_include": "10.83.0.0/24",
                    "orte_keep_fqdn_hostnames": 1}
        # What MPI itself keeps until the end of a process is not this program's leak.
        run = self.start_in("hub", "env", "ASAN_OPTIONS=detect_leaks=0", "mpirun", "-x", "ASAN_OPTIONS",
                            "--allow-run-as-root", "-H", hosts, "-n", WORKERS + 1,
                            *(word for item in settings.items() for word in ("--mca", *item)),
                            cli.PROGRAM, "train", "--transport", "mpi", *options, "--json", "record.json")
        self.finish(run)
        self.assert_run_of_sim(*options)


class Slow(Network):
    rate_bits = 1_000_000

    def test_links_are_as_slow_as_they_are_made(self):
        options = (*PROBLEM, "--code", "ignore:wait=4", "--channel", "identity", "--rounds", "100",
                   "--data", "synthetic:rows=400,features=200,classes=3")
        server = self.server(*options)
        workers = self.workers()
        for process in (server, *workers):
            self.finish(process)
        record = self.assert_run_of_sim(*options)
        # The first 16 KB of a link are free, and bits are of frames, without what TCP adds.
        self.assertGreater(record["seconds"], 0.9 * 8 * record["bytes_up"] / WORKERS / self.rate_bits)


if __name__ == "__main__":
    if (reason := why_not()) is not None:
        print(f"skipped: no network namespaces here: {reason}")
        sys.exit(77)
    cli.main()
