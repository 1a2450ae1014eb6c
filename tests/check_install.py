#!/usr/bin/env python3
"""check_install.py BUILD_DIR CMAKE CC - what `cmake --install` leaves is complete and usable.

Installs to a temporary DESTDIR, then compiles, links and runs one small program twice: once through
find_package(cograd CONFIG), once through pkg-config.
"""
import os
import pathlib
import subprocess
import sys
import tempfile

CONSUMER = """#include <cograd/cograd.h>
#include <stdio.h>
#include <string.h>

int main(void) {
    cog_code *code = NULL;
    if (cog_code_create("frc:stragglers=1", 4, &code) != COG_OK) return 1;
    if (strcmp(cog_code_name(code), "frc") != 0) return 2;
    cog_code_destroy(code);
    puts(COG_VERSION);
    return 0;
}
"""
PROJECT = """cmake_minimum_required(VERSION 3.22)
project(consumer C)
find_package(cograd 0.1 CONFIG REQUIRED)
add_executable(consumer consumer.c)
target_link_libraries(consumer PRIVATE cograd::cograd)
"""
FILES = ("include/cograd/cograd.h", "include/cograd/engine.h", "share/cograd/mnist/README",
         "share/cograd/mnist/train-images-idx3-ubyte.gz")


def run(*command, **options):
    """Runs quietly; what the command printed is shown when it fails."""
    done = subprocess.run([str(c) for c in command], text=True, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **options)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stdout}status {done.returncode}")
    return done.stdout.strip()


def cached(build, name):
    for line in (build / "CMakeCache.txt").read_text().splitlines():
        if line.startswith(name + ":"):
            return line.split("=", 1)[1]
    sys.exit(f"{name} is not in {build}/CMakeCache.txt")


def consume(cmake, cc, work, root, env):
    """Versions printed by the consumer, built both ways."""
    (work / "consumer.c").write_text(CONSUMER)
    (work / "CMakeLists.txt").write_text(PROJECT)
    run(cmake, "-S", work, "-B", work / "build", f"-DCMAKE_C_COMPILER={cc}",
        f"-DCMAKE_PREFIX_PATH={root}", env=env)
    run(cmake, "--build", work / "build", env=env)
    flags = run("pkg-config", "--cflags", "--libs", "cograd", env=env).split()
    run(cc, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-std=c17", work / "consumer.c", "-o",
        work / "by_pkg_config", *flags, env=env)
    return run(work / "build" / "consumer", env=env), run(work / "by_pkg_config", env=env)


def main(build, cmake, cc):
    build = pathlib.Path(build)
    prefix = cached(build, "CMAKE_INSTALL_PREFIX")
    libdir = cached(build, "CMAKE_INSTALL_LIBDIR")
    with tempfile.TemporaryDirectory() as folder:
        stage, work = pathlib.Path(folder, "stage"), pathlib.Path(folder, "work")
        work.mkdir()
        run(cmake, "--install", build, env={**os.environ, "DESTDIR": str(stage)})
        root = stage / prefix.lstrip("/")
        missing = [f for f in FILES if not (root / f).is_file()]
        if missing:
            sys.exit(f"not installed: {', '.join(missing)}")
        env = {**os.environ, "LD_LIBRARY_PATH": str(root / libdir),
               "PKG_CONFIG_PATH": str(root / libdir / "pkgconfig"),
               "PKG_CONFIG_SYSROOT_DIR": str(stage)}
        version = run("pkg-config", "--modversion", "cograd", env=env)
        said = [*consume(cmake, cc, work, root, env)]
        if cached(build, "COG_BUILD_CLI") == "ON":
            said.append(run(root / "bin" / "cograd", "--version", env=env).removeprefix("cograd "))
        if set(said) != {version}:
            sys.exit(f"versions differ: {version} in cograd.pc, {', '.join(said)}")
    print(f"cograd {version}: installed, found by find_package and by pkg-config")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
