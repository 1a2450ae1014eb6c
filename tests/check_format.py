#!/usr/bin/env python3
"""check_format.py SOURCE_DIR - every C file is as clang-format 14 writes it, and no comment is too wide.

clang-format leaves comments alone, which may be tables. Another version lays out a few constructs
differently, so only 14 is asked; without it the test is skipped (status 77).
"""
import pathlib
import re
import shutil
import subprocess
import sys

FOLDERS = ("include", "host", "kernels", "tests", "bench")
ENDINGS = (".c", ".h", ".cpp", ".cu", ".cuh")
WIDTH = 100
COMMENT = re.compile(r" *(/\*|\*|//)")


def formatter():
    for name in ("clang-format-14", "clang-format"):
        path = shutil.which(name)
        if path:
            version = subprocess.run([path, "--version"], capture_output=True, text=True).stdout
            if "version 14." in version:
                return path
    return None


def wide_comments(file):
    """Where a line of a comment is wider than code may be."""
    lines = pathlib.Path(file).read_text().splitlines()
    return [f"{file}:{i}" for i, line in enumerate(lines, 1) if len(line) > WIDTH and COMMENT.match(line)]


def main(root):
    tool = formatter()
    if tool is None:
        print("skipped: clang-format 14 is not installed")
        return 77
    files = sorted(str(f) for d in FOLDERS for f in (root / d).rglob("*") if f.suffix in ENDINGS)
    if not files:
        print(f"no C files below {root}")
        return 1
    wide = [place for file in files for place in wide_comments(file)]
    for place in wide:
        print(f"{place}: wider than {WIDTH} columns")
    run = subprocess.run([tool, "--dry-run", "--Werror", "-ferror-limit=1", *files])
    print(f"{len(files)} files: {'all formatted' if run.returncode == 0 else 'run ' + tool + ' -i'}")
    return 1 if run.returncode or wide else 0


if __name__ == "__main__":
    sys.exit(main(pathlib.Path(sys.argv[1])))
