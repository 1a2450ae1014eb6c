#!/usr/bin/env python3
"""test_kills.py PROGRAM SOURCE_DIR - a short campaign of kills (kills.py), and that it would notice."""
import pathlib
import subprocess
import sys
import tempfile
import time

import cli
import kills


class Kills(cli.Case):
    def test_a_few_kills_of_workers_and_of_a_server(self):
        done = subprocess.run([sys.executable, kills.__file__, cli.PROGRAM, str(cli.SOURCE), "--runs", "2",
                               "--servers", "1", "--mixed", "0", "--json", "kills.json"], text=True, cwd=self.folder,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=500)
        self.assertEqual(done.returncode, 0, done.stdout)
        found = self.record("kills.json")
        self.assertEqual((found["workers"]["ended_well"], found["servers"]["ended_well"]), (2, 1), found)
        self.assertGreater(found["workers"]["workers_killed"], 0, found)

    def test_what_is_left_is_noticed(self):
        around = kills.Surroundings(self.folder)
        around.remember()
        with tempfile.NamedTemporaryFile(prefix="cograd-left-", dir="/tmp") as file:
            self.assertIn(file.name, around.leaks(0))
        sleeper = subprocess.Popen(["sleep", "100"], env=around.environment | {"PATH": "/usr/bin:/bin"})
        while pathlib.Path(f"/proc/{sleeper.pid}/comm").read_text() != "sleep\n":
            time.sleep(0.01)
        self.assertIn(f"process {sleeper.pid} (sleep)", around.leaks(0))
        sleeper.kill()
        sleeper.wait()
        self.assertEqual(around.processes(), set())


if __name__ == "__main__":
    cli.main()
