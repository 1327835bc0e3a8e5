"""Benchmark of `launch/status.py` on an experiment of many finished runs: what verifying their files costs.

python benchmarks/bench_status.py [--runs 1000] [--repeat 9] [--peer CHECKOUT] [--quick]

Both sides show the same runs, in a new interpreter each, alternately. The peer is this version on files without
digests, as an earlier version wrote them, or with --peer another checkout on the same. The aim: slower by at most 10 %.
CPU seconds count, because other work of the machine can only add to the wall time.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from sam2ft.core.digests.verified_files import write_sealed_json  # noqa: E402  (of this checkout)
from sam2ft.core.files import read_json, write_json  # noqa: E402
from sam2ft.runs.attempt.claim import Attempt  # noqa: E402
from sam2ft.runs.attempt.status import RunStatus  # noqa: E402
from sam2ft.runs.layout import ExperimentLayout  # noqa: E402
from sam2ft.runs.plan_file import Plan, PlannedPoint, PlannedRun, Resources, save_plan  # noqa: E402
from sam2ft.runs.provenance import provenance  # noqa: E402
from sam2ft.runs.states import State  # noqa: E402

ASKED = Resources(1, 1, 1, 8, 64.0, 12.0)


def write_runs(folder: Path, count: int, write: Callable[[Path, Any], None]) -> None:
    """Write a plan of `count` runs and what each leaves when it is done; `write` writes a JSON file."""
    layout = ExperimentLayout(folder)
    attempt = Attempt("17_3", 0, "node1", 4242, "2026-01-01T00:00:00+00:00")
    made = provenance(attempt)
    runs = tuple(
        PlannedRun(
            index,
            f"bench-{index:016x}",
            "train_eval",
            False,
            (PlannedPoint(f"p{index}", (), f"{index:012x}"),),
            ASKED,
            ASKED,
        )
        for index in range(count)
    )
    plan = Plan("bench", "bench.yaml", False, runs)
    path = save_plan(layout, plan)
    if write is write_json:
        write_json(path, read_json(path))
    status = RunStatus(State.DONE, attempt, "2026-01-01T00:00:00+00:00", trained=True, best_sha256="b" * 64, epoch=11)
    for run in runs:
        place = layout.run(run.run_id)
        write(place.status, status.to_json())
        write(place.provenance, {"attempts": [made]})
        write(place.evaluation(run.eval_ids[0]).success, {"checkpoint_sha256": "b" * 64, "tables": {}})


def shown(checkout: Path, folder: Path) -> float:
    """CPU seconds of `launch/status.py`, from the start of its process to its end."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, str(checkout / "launch" / "status.py"), str(folder)]
    environment = os.environ | {"PYTHONPATH": str(checkout), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if " done" not in done.stdout.splitlines()[-1]:
        raise SystemExit(f"not all runs are done: {done.stdout.splitlines()[-1]}")
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    from timing import machine_line, ratio_line, say

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--peer", type=Path, default=ROOT, help="another checkout of sam2ft")
    parser.add_argument("--quick", action="store_true", help="20 runs twice: a short trial")
    given = parser.parse_args()
    count, repeat = (20, 2) if given.quick else (given.runs, given.repeat)
    say(machine_line())
    with tempfile.TemporaryDirectory() as name:
        plain, sealed = Path(name, "plain"), Path(name, "sealed")
        write_runs(plain, count, write_json)
        write_runs(sealed, count, write_sealed_json)
        pairs = [(shown(given.peer.resolve(), plain), shown(ROOT, sealed)) for _ in range(repeat + 1)][1:]
    peer_s, ours_s = zip(*pairs, strict=True)
    say(ratio_line(f"status of {count} runs", peer_s, ours_s, "call"))


if __name__ == "__main__":
    main()
