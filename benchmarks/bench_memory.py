"""Benchmark of the peak memory of training steps: plain loop of stock calls, Trainer, Trainer with checkpointing.

python benchmarks/bench_memory.py [--only nano-256 ...] [--quick]

Every value comes from a process of its own: its largest resident set during three steps, minus the resident set before
the first step (imports, weights), so gradients and optimizer state are counted and the libraries are not. The last side
uses activation checkpointing.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Collection, Iterator
from pathlib import Path

from plain_loop import SETTINGS, PlainLoop, Setting, make_batch, make_loss, make_model, make_trainer, stock_model
from timing import Stopwatch, machine_line, say

from sam2ft.core.events import Observers
from sam2ft.data.samples.batch import Batch
from sam2ft.model.segmenter import build_untrained
from sam2ft.training.activation_checkpointing import checkpoint_activations

WAYS = ("plain", "sam2ft", "checkpointing")
NUM_STEPS = 3


def status_mib(field: str) -> float:
    """VmRSS: resident memory now; VmHWM: its peak. Unlike getrusage's value, it excludes the parent's peak."""
    (line,) = (row for row in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if field in row)
    return int(line.split()[1]) / 1024


def measure(setting: Setting, way: str, trained: Collection[str], *, bf16: bool) -> dict[str, float]:
    """Peak MiB above the start and CPU seconds of the fastest step after the first, measured in this new process."""
    loss, batch = make_loss(), make_batch(setting.image_size, setting.num_slices)
    ours = None if way == "plain" else build_untrained(setting.config, image_size=setting.image_size, seed=1)
    sam2 = stock_model(setting) if ours is None else ours.sam2_model
    for name, tensor in sam2.named_parameters():
        tensor.requires_grad_(name in trained)
    spent: list[Stopwatch] = []

    def batches(_epoch: int, _skip: int) -> Iterator[Batch]:
        for _ in range(NUM_STEPS):
            watch = Stopwatch.now()
            yield batch
            spent.append(watch.elapsed())

    if ours is None:
        peer = PlainLoop(sam2, bf16=bf16)
        before = status_mib("VmRSS")
        for each in batches(0, 0):
            peer.step(each)
    else:
        if way == "checkpointing":
            checkpoint_activations(ours)
        trainer = make_trainer(ours, loss, Observers(()), bf16=bf16)
        before = status_mib("VmRSS")
        # Validation keeps no activations: it does not reach the peak of a step.
        trainer.fit(batches, lambda: [batch])
    return {"peak_mib": status_mib("VmHWM") - before, "cpu_s": min(each.cpu_s for each in spent[1:])}


def trained_names(setting: Setting) -> list[str]:
    """Names of trained tensors, found outside the measured processes: the step that finds them needs memory too."""
    sam2 = make_model(setting, make_loss()).sam2_model
    return [name for name, tensor in sam2.named_parameters() if tensor.requires_grad]


def in_a_process(setting: Setting, way: str, trained: Collection[str], *, bf16: bool) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", setting.name, way, "bf16" if bf16 else "fp32"]
    done = subprocess.run(command, input=json.dumps(list(trained)), capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}:\n{done.stderr}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = {setting.name: setting for setting in SETTINGS}
    parser.add_argument("--only", nargs="+", choices=known, default=list(known), help="settings to measure")
    parser.add_argument("--quick", action="store_true", help="the nano in fp32: a short trial")
    parser.add_argument("--measure", nargs=3, metavar=("SETTING", "WAY", "PRECISION"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        name, way, precision = given.measure
        print(json.dumps(measure(known[name], way, set(json.load(sys.stdin)), bf16=precision == "bf16")))
        return
    say(machine_line())
    say(f"MiB above the start and CPU seconds per step (fastest of {NUM_STEPS - 1})")
    for name in given.only[:1] if given.quick else given.only:
        trained = trained_names(known[name])
        for bf16 in (False,) if given.quick else (False, True):
            rows = {way: in_a_process(known[name], way, trained, bf16=bf16) for way in WAYS}
            cells = [f"{way} {row['peak_mib']:6.0f} MiB {row['cpu_s']:6.2f} s" for way, row in rows.items()]
            ours, saved = rows["sam2ft"], rows["checkpointing"]
            cost = (
                f"saves {1 - saved['peak_mib'] / ours['peak_mib']:.0%}, costs {saved['cpu_s'] / ours['cpu_s'] - 1:.0%}"
            )
            say(f"{name:9} {'bf16' if bf16 else 'fp32'}   {'   '.join(cells)}   {cost}")


if __name__ == "__main__":
    main()
