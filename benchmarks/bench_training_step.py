"""Benchmark of one training step: Trainer against a plain loop of stock SAM 2 calls, with equal weights and batch.

Loss and optimizer are equal, too.

python benchmarks/bench_training_step.py [--only nano-256 ...] [--repetitions N] [--quick]
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from plain_loop import (
    NUM_INSTANCES,
    SETTINGS,
    PlainLoop,
    Setting,
    make_batch,
    make_loss,
    make_model,
    make_trainer,
    stock_like,
)
from timing import Stopwatch, machine_line, product_line, say, throughput_line

from sam2ft.core.events import Observers, StepDone
from sam2ft.data.samples.batch import Batch
from sam2ft.training.state import TrainState

WARM_UP = 1


class Losses:
    """Observer that stores the losses of the Trainer's steps."""

    def __init__(self) -> None:
        self.of_steps: list[float] = []

    def on_step(self, event: StepDone, state: TrainState) -> None:
        self.of_steps.append(event.losses["loss"])

    def on_epoch(self, *_: Any) -> None: ...

    def on_samples(self, *_: Any) -> None: ...


def compare(setting: Setting, repetitions: int, *, bf16: bool) -> Iterator[str]:
    """Train the same weights on the same batch, alternating: plain steps run while the Trainer waits for data."""
    loss, batch = make_loss(), make_batch(setting.image_size, setting.num_slices)
    ours = make_model(setting, loss)
    names = ("plain fp32", "plain bf16") if bf16 else ("plain fp32",)
    peers = {name: PlainLoop(stock_like(setting, ours), bf16=name == "plain bf16") for name in names}
    spent: dict[str, list[Stopwatch]] = {name: [] for name in (*names, "sam2ft")}
    losses, our_losses = [], Losses()

    def batches(_epoch: int, _skip: int) -> Iterator[Batch]:
        for _ in range(WARM_UP + repetitions):
            for name, peer in peers.items():
                watch = Stopwatch.now()
                value = peer.step(batch)
                spent[name].append(watch.elapsed())
            losses.append(value)
            watch = Stopwatch.now()
            yield batch
            # The Trainer requests its next batch at this line: everything that it does around a step is counted.
            spent["sam2ft"].append(watch.elapsed())

    make_trainer(ours, loss, Observers((our_losses,)), bf16=bf16).fit(batches, lambda: [batch])
    apart = max(abs(a - b) for a, b in zip(losses, our_losses.of_steps, strict=True))
    yield from lines(setting, {name: found[WARM_UP:] for name, found in spent.items()}, apart)


def lines(setting: Setting, spent: Mapping[str, Sequence[Stopwatch]], apart: float) -> list[str]:
    """One line per peer, first the peer with the precision of sam2ft."""
    *others, same, _ = spent
    title = f"{setting.name} {same.removeprefix('plain ')}"

    def line(name: str, peer: str) -> str:
        return throughput_line(name, spent[peer], spent["sam2ft"], setting.num_slices)

    against_others = [line(f"{title} against {other}", other) for other in others]
    return [f"{line(title, same)}   losses at most {apart:.1e} apart", *against_others]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = [setting.name for setting in SETTINGS]
    parser.add_argument("--only", nargs="+", choices=known, default=known, help="settings to measure")
    parser.add_argument("--repetitions", type=int, default=None, help="measurements of each side, alternating")
    parser.add_argument("--quick", action="store_true", help="the nano once: a short trial")
    given = parser.parse_args()
    chosen = [setting for setting in SETTINGS if setting.name in given.only]
    if given.quick:
        chosen = [chosen[0]._replace(repetitions=1)]
    say(machine_line())
    say(product_line())
    say(f"training step, {NUM_INSTANCES} boxes per slice, image encoder and mask decoder trained, random weights")
    for setting in chosen:
        for bf16 in (False, True):
            for line in compare(setting, given.repetitions or setting.repetitions, bf16=bf16):
                say(line)
    say(machine_line())


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
