"""Imports modules once, then forks a child for each command that it reads: shim.Nursery is its other end."""

import importlib
import os
import sys
import traceback


def main(modules: list[str]) -> None:
    """One line per command: working directory, files for its output, `module:function`, arguments; answers its code."""
    for name in modules:
        importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        cwd, out, err, function, *arguments = line.rstrip("\n").split("\t")
        child = os.fork()
        if child == 0:
            os._exit(run(cwd, out, err, function, arguments))
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


def run(cwd: str, out: str, err: str, function: str, arguments: list[str]) -> int:
    """Exit code of the command, run as `python -m` would."""
    os.chdir(cwd)
    for number, path in ((1, out), (2, err)):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND, 0o644)
        os.dup2(descriptor, number)
        os.close(descriptor)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    module, name = function.split(":")
    sys.argv = [module, *arguments]
    try:
        getattr(importlib.import_module(module), name)()
    except SystemExit as ended:
        code = 0 if ended.code is None else ended.code
        if not isinstance(code, int):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:  # noqa: BLE001 (as the interpreter does)
        traceback.print_exc()
        code = 1
    else:
        code = 0
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            code = code or 120
    return code


if __name__ == "__main__":
    main(sys.argv[1:])
