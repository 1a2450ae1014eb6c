#!/usr/bin/env python3
"""check_layers.py SOURCE_DIR | --self-test - includes point downwards only.

    4  host/cli  bench  tests
    3  host/engine.c server.c worker.c
    2  plug-ins and what serves them: codes compress predict transports models data ...
    1  host/device.h  host/devices/  kernels/
    0  status, check, spec, rng, range

A file includes its own layer or a lower one; no plug-in folder includes another; the registry, which
knows all plug-ins, is not known to any; the command uses include/cograd, and a few headers more to list
plug-ins; nothing includes a source file. Tests may look at everything private.
"""
import pathlib
import re
import sys
import tempfile

PLUG_IN_FOLDERS = ("codes", "compress", "predict", "transports", "models", "data", "devices")
COMMAND_MAY_USE = ("registry.h", "spec.h", "optimizer.h", "stragglers.h", "faults.h")
BOTTOM = ("status", "check", "spec", "rng", "range")
TOP = ("engine", "server", "worker")
INCLUDE = re.compile(r'^\s*#\s*include\s*["<]([^">]+)[">]', re.M)


def layer(path):
    """Layer of a file named relative to the root."""
    parts, stem = path.parts, path.stem
    if parts[0] in ("bench", "tests", "python_bindings_stub") or parts[:2] == ("host", "cli"):
        return 4
    if stem in BOTTOM:
        return 0
    if path.name == "device.h" or parts[0] == "kernels" or parts[:2] == ("host", "devices"):
        return 1
    if parts[0] == "include":
        return 3 if stem in ("engine", "cograd") else 2
    if len(parts) == 2 and stem.split("_")[0] in TOP:
        return 3
    return 2


def plug_in_folder(path):
    parts = path.parts
    return parts[1] if len(parts) > 2 and parts[1] in PLUG_IN_FOLDERS else None


def resolve(root, path, name):
    """The file an include means: beside its user, then on the include path; None when foreign."""
    for folder in (path.parent, *map(pathlib.Path, ("host", "include", "kernels", "tests"))):
        candidate = root / folder / name
        if candidate.is_file():
            return candidate.resolve().relative_to(root.resolve())
    return None


def objections(path, target):
    if target.suffix in (".c", ".cu"):
        yield "includes a source file"
    if path.parts[0] == "tests":
        return
    if layer(target) > layer(path):
        yield f"layer {layer(path)} includes layer {layer(target)}"
    mine, other = plug_in_folder(path), plug_in_folder(target)
    if other is not None and mine != other and path.parts[0] != "kernels":
        yield "includes a plug-in's own header"
    if mine is not None and target.name == "registry.h":
        yield "a plug-in knows the registry"
    if path.parts[0] == "include" and target.parts[0] != "include":
        yield "a public header includes a private one"
    if path.parts[:2] == ("host", "cli"):
        public = target.parts[:2] == ("host", "cli") or target.parts[0] == "include"
        if not public and target.name not in COMMAND_MAY_USE:
            yield "the command uses a private header"


def check(root):
    """All objections as sentences, and the number of includes looked at."""
    found, seen = [], 0
    for folder in ("include", "host", "kernels", "bench", "tests"):
        for file in sorted((root / folder).rglob("*")):
            if file.suffix not in (".c", ".h", ".cu", ".cuh"):
                continue
            path = file.relative_to(root)
            for name in INCLUDE.findall(file.read_text()):
                target = resolve(root, path, name)
                if target is not None:
                    seen += 1
                    found += [f'{path}: "{name}": {why}' for why in objections(path, target)]
    return found, seen


def self_test():
    """A small tree with a breach of every rule: each is found, and nothing else."""
    tree = {
        "include/cograd/status.h": "#include <stdio.h>\n",
        "include/cograd/code.h": '#include "cograd/status.h"\n',
        "include/cograd/data.h": '#include "check.h"\n',
        "host/check.h": '#include "cograd/status.h"\n',
        "host/spec.h": '#include "code.h"\n',
        "host/code.h": '#include "cograd/code.h"\n#include "spec.h"\n',
        "host/engine.c": '#include "code.h"\n#include "codes/tools.h"\n',
        "host/engine.h": "",
        "host/device.h": '#include "code.h"\n',
        "host/device.c": '#include "registry.h"\n',
        "host/registry.h": '#include "code.h"\n',
        "host/codes/tools.h": '#include "code.h"\n',
        "host/codes/frc.c": '#include "tools.h"\n#  include "engine.h"\n',
        "host/codes/crc.c": '#include "frc.c"\n',
        "host/models/mlp.c": '#include <codes/tools.h>\n#include "registry.h"\n#include "jansson.h"\n',
        "host/cli/main.c": '#include "code.h"\n#include "registry.h"\n#include "cograd/code.h"\n',
        "tests/test_code.c": '#include "engine.h"\n#include "codes/frc.c"\n',
    }
    expected = [
        'host/cli/main.c: "code.h": the command uses a private header',
        'host/codes/crc.c: "frc.c": includes a source file',
        'host/codes/frc.c: "engine.h": layer 2 includes layer 3',
        'host/device.h: "code.h": layer 1 includes layer 2',
        'host/engine.c: "codes/tools.h": includes a plug-in\'s own header',
        'host/models/mlp.c: "codes/tools.h": includes a plug-in\'s own header',
        'host/models/mlp.c: "registry.h": a plug-in knows the registry',
        'host/spec.h: "code.h": layer 0 includes layer 2',
        'include/cograd/data.h: "check.h": a public header includes a private one',
        'tests/test_code.c: "codes/frc.c": includes a source file',
    ]
    with tempfile.TemporaryDirectory() as folder:
        root = pathlib.Path(folder)
        for name, text in tree.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        found = check(root)[0]
    wrong = sorted(set(found) ^ set(expected))
    print("\n".join(f"{'missed' if w in expected else 'not expected'}: {w}" for w in wrong)
          or f"{len(expected)} breaches found")
    return 1 if wrong else 0


def main(argument):
    if argument == "--self-test":
        return self_test()
    found, seen = check(pathlib.Path(argument))
    print("\n".join(found) or f"{seen} includes point downwards")
    return 1 if found or seen == 0 else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
