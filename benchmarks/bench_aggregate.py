"""Benchmark of the aggregation of many runs against a plain pandas script: seconds, peak memory, growth, second call.

Runs with generated scores are written into a temporary folder: 25 subjects x 100 slices x 4 labels each. The plain
script reads all slice.csv with pandas, concatenates and groups them to volumes; it checks nothing and writes nothing
(with --write also the CSV). sam2ft checks every file and writes the tables, Parquet, comparison and page.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

EVAL = "0123456789ab"
SUBJECTS, SLICES = 25, 100
LABELS = ("femoral cartilage", "medial tibial cartilage", "lateral tibial cartilage", "patellar cartilage")
PIXELS, PIXEL_MM2 = 384 * 384, 0.36458**2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=1000, help="10,000 slice rows each")
    parser.add_argument("--quick", action="store_true", help="8 runs: a short trial")
    parser.add_argument("--write", action="store_true", help="the plain script also writes its table (minutes)")
    parser.add_argument("--folder", type=Path, help="folder of the runs, created if missing (default: temporary)")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.child:
        child(*given.child)
        return
    runs = 8 if given.quick else given.runs
    with tempfile.TemporaryDirectory() as temporary:
        measure(given.folder or Path(temporary), runs, write=given.write)


def measure(folder: Path, runs: int, *, write: bool) -> None:
    say(f"{len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.1f}")
    started = time.perf_counter()
    generate(folder, runs + 1)
    size = sum(path.stat().st_size for path in folder.glob("runs/made/*/eval/*/slice.csv")) / 1e9
    say(f"{runs + 1} runs made in {time.perf_counter() - started:.0f} s, {size:.2f} GB of slice rows")
    for count in (runs // 4, runs // 2, runs):
        for side in ("plain-write", "plain", "sam2ft") if write and count == runs else ("plain", "sam2ft"):
            line(side, count, in_child(side, folder, count))
    line("sam2ft, nothing new", runs, in_child("again", folder, runs))
    line("sam2ft, one new run", runs + 1, in_child("again", folder, runs + 1))


def line(side: str, count: int, found: dict[str, Any]) -> None:
    parts = ", ".join(f"{name} {seconds:.1f}" for name, seconds in found["parts"].items())
    say(
        f"{side:20} {count:5} runs {count / 100:6.2f} M rows  {found['wall_s']:6.1f} s  CPU {found['cpu_s']:6.1f} s"
        f"  peak {found['peak_gb']:5.2f} GB"
        f"  (load {os.getloadavg()[0]:.1f}{'; ' + parts if parts else ''})"
    )


def in_child(side: str, folder: Path, count: int) -> dict[str, Any]:
    """Seconds of a new process, and the peak resident memory of the process and its children, sampled every 50 ms."""
    command = [sys.executable, __file__, "--child", side, str(folder), str(count)]
    started = time.perf_counter()
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        peak = 0
        while process.poll() is None:
            peak = max(peak, resident(process.pid))
            time.sleep(0.05)
        wall_s = time.perf_counter() - started
        output, errors = process.communicate()
    if process.returncode:
        raise SystemExit(errors)
    found = json.loads(output.splitlines()[-1])
    return found | {"wall_s": wall_s, "peak_gb": max(peak, 1024 * found["max_rss_kb"]) / 1e9}


def resident(pid: int) -> int:
    """Resident bytes of a process and its descendants; shared pages are counted for each process."""
    pages = 0
    try:
        pages += int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return pages * resource.getpagesize() + sum(resident(int(one)) for one in children)


def child(side: str, folder: str, count: str) -> None:
    os.chdir(folder)
    parts = plain(int(count), write=side.endswith("write")) if side.startswith("plain") else ours(int(count), side)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    cpu_s = sum(one.ru_utime + one.ru_stime for one in used)
    print(json.dumps({"parts": parts, "max_rss_kb": used[0].ru_maxrss, "cpu_s": cpu_s}), flush=True)


def plain(count: int, *, write: bool) -> dict[str, float]:
    import pandas as pd

    paths = [Path("runs/made") / run_id(number) / "eval" / EVAL / "slice.csv" for number in range(count)]
    table = pd.concat([pd.read_csv(path) for path in paths])
    key = ["run", "eval", "dataset", "subject", "volume", "split", "protocol", "label", "label_name"]
    volumes = table.groupby(key, as_index=False)[["tp", "fp", "fn", "tn"]].sum()
    volumes["dice"] = 2 * volumes.tp / (2 * volumes.tp + volumes.fp + volumes.fn)
    means = volumes.groupby(["run", "label"])["dice"].agg(["mean", "std", "count"])
    assert len(means) == count * len(LABELS)
    if not write:
        return {}
    started = time.perf_counter()
    table.sort_values(key).to_csv("plain.csv", index=False)
    return {"of which sorting and to_csv": time.perf_counter() - started}


def ours(count: int, side: str) -> dict[str, float]:
    import shutil

    from sam2ft.report.layout import ReportLayout
    from sam2ft.report.report import report
    from sam2ft.report.request import ReportRequest

    layout = ReportLayout(Path("runs/made/report"))
    if side != "again":
        shutil.rmtree(layout.folder, ignore_errors=True)
        shutil.rmtree(layout.work, ignore_errors=True)
    outcome = report(ReportRequest("made", layout, tuple(state_of(number) for number in range(count))))
    assert not outcome.problems, outcome.problems[:3]
    assert outcome.coverage.complete
    return dict(outcome.seconds)


def state_of(number: int) -> Any:
    from sam2ft.report.request import RunState
    from sam2ft.runs.attempt.claim import Attempt
    from sam2ft.runs.attempt.status import RunStatus
    from sam2ft.runs.layout import RunLayout
    from sam2ft.runs.plan_file import PlannedPoint, PlannedRun, Resources
    from sam2ft.runs.states import State

    resources = Resources(1, 1, 1, 8, 64.0, 12.0)
    overrides = (("module.optimizer.lr", 10.0 ** -(2 + number % 5)), ("experiment.seed", number // 5))
    points = (PlannedPoint(f"point {number}", overrides, EVAL),)
    planned = PlannedRun(number, run_id(number), "train_eval", False, points, resources, resources)
    attempt = Attempt("local", 0, "made", 1, "2026-01-01T00:00:00+00:00")
    loss = 0.2 + (number * 7919 % 1000) / 1000
    status = RunStatus(
        State.DONE, attempt, attempt.started, best_sha256="0" * 64, best_value=loss, monitor="val_loss", mode="min"
    )
    return RunState(planned, RunLayout(Path("runs/made") / run_id(number)), State.DONE, "", status)


def run_id(number: int) -> str:
    return f"made-{number * 0x9E3779B97F4A7C15 % 2**64:016x}"


def generate(folder: Path, runs: int) -> None:
    """Generate the runs that do not exist yet."""
    from sam2ft.core.files import sha256_file
    from sam2ft.core.tables.rows import TABLES, write_csv
    from sam2ft.report.tables.frames import csv_body, csv_header, frame_of_rows
    from sam2ft.statistics.cohort import global_rows

    for number in range(runs):
        run = run_id(number)
        place = folder / "runs" / "made" / run / "eval" / EVAL
        if (place / "_SUCCESS").is_file():
            continue
        place.mkdir(parents=True, exist_ok=True)
        slices = slice_frame(run, np.random.default_rng(number))
        volumes = volume_rows(slices)
        for name, frame in (("slice", slices), ("instance", frame_of_rows(TABLES["instance"], []))):
            (place / f"{name}.csv").write_bytes(b"".join((csv_header(frame.column_names), *csv_body(frame))))
        write_csv(place / "volume.csv", TABLES["volume"], volumes)
        write_csv(place / "global.csv", TABLES["global"], global_rows(volumes, resamples=200))
        digests = {name: sha256_file(place / f"{name}.csv") for name in ("slice", "instance", "volume", "global")}
        end = {"run": run, "eval": EVAL, "checkpoint_sha256": "0" * 64, "tables": digests}
        (place / "_SUCCESS").write_text(json.dumps(end))


def slice_frame(run: str, rng: np.random.Generator) -> Any:
    """Slice rows: SUBJECTS x SLICES x LABELS; in 30 % of the rows the label is absent."""
    import pyarrow as pa

    from sam2ft.core.tables.rows import TABLES
    from sam2ft.report.tables.frames import frame_of_rows

    num = SUBJECTS * SLICES * len(LABELS)
    absent = rng.random(num) < 0.3
    tp, fp, fn = (np.where(absent, 0, rng.integers(1, most, num)) for most in (2000, 300, 300))
    with np.errstate(invalid="ignore"):
        ratios = {"dice": 2 * tp / (2 * tp + fp + fn), "iou": tp / (tp + fp + fn)}
        ratios |= {"precision": tp / (tp + fp), "recall": tp / (tp + fn)}
    label = np.tile(np.arange(1, len(LABELS) + 1), SUBJECTS * SLICES)
    columns: dict[str, Any] = {
        "subject": np.repeat([f"OAI_{9000000 + one}" for one in range(SUBJECTS)], SLICES * len(LABELS)),
        "slice": np.tile(np.repeat(np.arange(SLICES), len(LABELS)), SUBJECTS),
        "label": label,
        "label_name": np.array(LABELS)[label - 1],
        "num_instances": np.where(absent, 0, 1),
        **{"tp": tp, "fp": fp, "fn": fn, "tn": PIXELS - tp - fp - fn},
        "area_reference_mm2": (tp + fn) * PIXEL_MM2,
        "area_prediction_mm2": (tp + fp) * PIXEL_MM2,
        **{name: pa.array(values, from_pandas=True) for name, values in ratios.items()},
        "status": np.where(absent, "absent", "ok"),
    }
    stamp = {"run": run, "eval": EVAL, "dataset": "oai_knee", "volume": "V00", "split": "test", "protocol": "box"}
    columns |= {name: [value] * num for name, value in stamp.items()}
    schema = frame_of_rows(TABLES["slice"], []).schema
    arrays = [pa.array(columns[one.name]) if one.name in columns else pa.nulls(num) for one in schema]
    return pa.table(arrays, names=schema.names).cast(schema)


def volume_rows(slices: Any) -> list[dict[str, Any]]:
    from sam2ft.core.tables.rows import TABLES
    from sam2ft.report.tables.consistency import COUNTS, VOLUME_KEY

    sums = [(name, "sum") for name in COUNTS] + [("slice", "count"), ("dice", "mean"), ("iou", "mean")]
    rows = []
    for found in slices.group_by([*VOLUME_KEY, "label_name"]).aggregate(sums).to_pylist():
        tp, fp, fn, tn = (found[f"{name}_sum"] for name in COUNTS)
        row = dict.fromkeys(TABLES["volume"].column_names()) | {
            name: found[name] for name in (*VOLUME_KEY, "label_name")
        }
        row |= {"tp": tp, "fp": fp, "fn": fn, "tn": tn, "num_slices": found["slice_count"], "status": "ok"}
        row |= {"dice": 2 * tp / (2 * tp + fp + fn), "iou": tp / (tp + fp + fn)}
        rows.append(row | {"dice_slice_mean": found["dice_mean"], "iou_slice_mean": found["iou_mean"]})
    return rows


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
