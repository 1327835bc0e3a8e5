"""Benchmark of the Tester against an encoder pass per box and against stock SAM2ImagePredictor, in one process.

python benchmarks/bench_evaluation.py             SAM 2.1 tiny at 1024 px (random weights), 1, 8 and 32 boxes per slice
python benchmarks/bench_evaluation.py --small     the nano at 256 px; stock's predictor takes 1024 px only
python benchmarks/bench_evaluation.py --precision-check   Dice of the nano on phantoms, bf16 against fp32
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from sam2.sam2_image_predictor import SAM2ImagePredictor
from timing import machine_line, product_line, ratio_line, say
from torch import Tensor

from sam2ft.config.schema.evaluation import Evaluation
from sam2ft.core.geometry import Geometry
from sam2ft.core.keys import VolumeKey
from sam2ft.core.labels import Label, LabelTable
from sam2ft.core.prompts import Prompts
from sam2ft.data.samples.batch import to_model_frame
from sam2ft.data.samples.evaluation_slices import SliceView
from sam2ft.data.samples.instances import instances_of
from sam2ft.evaluation.prediction.predictor import Segmenter
from sam2ft.evaluation.prediction.tester import Tester
from sam2ft.evaluation.protocols.box import BoxPrompts
from sam2ft.evaluation.protocols.protocol import Target
from sam2ft.metrics.factory import load_metrics
from sam2ft.metrics.measurement import ScoreSettings
from sam2ft.metrics.scoring import Scene
from sam2ft.model.segmenter import FinetunedSAM2, build_segmenter, build_untrained
from sam2ft.tools.nano_pictures import TrainingPicture, pictures_of
from sam2ft.tools.nano_quality import UNSEEN_SEED

Precision = Literal["fp32", "bf16", "fp16"]
TINY, SIDE = "configs/sam2.1/sam2.1_hiera_t.yaml", 384
WARM_UP = 1


@dataclass(frozen=True)
class Discs:
    """A volume of equal slices with `num_boxes` discs, of three labels in turn."""

    num_slices: int
    num_boxes: int

    key = VolumeKey("bench", "s", "v")
    labels = LabelTable(tuple(Label(number, f"disc {number}") for number in (1, 2, 3)))

    @property
    def scene(self) -> Scene:
        return Scene(Geometry.axis_aligned((self.num_slices, SIDE, SIDE), (3.0, 0.5, 0.5)), self.labels)

    @property
    def slice_yx(self) -> npt.NDArray[np.uint8]:
        y, x = np.indices((SIDE, SIDE))
        columns = int(np.ceil(np.sqrt(self.num_boxes)))
        step, mask = SIDE // columns, np.zeros((SIDE, SIDE), dtype=np.uint8)
        for number in range(self.num_boxes):
            row, column = divmod(number, columns)
            centre_y, centre_x = row * step + step // 2, column * step + step // 2
            mask[(y - centre_y) ** 2 + (x - centre_x) ** 2 < (0.4 * step) ** 2] = 1 + number % 3
        return mask

    @property
    def reference_zyx(self) -> npt.NDArray[np.uint8]:
        return np.repeat(self.slice_yx[None], self.num_slices, axis=0)

    @property
    def picture_yx(self) -> npt.NDArray[np.uint8]:
        noise = np.random.default_rng(0).integers(0, 128, size=(SIDE, SIDE))
        return (self.slice_yx * 40 + noise).astype(np.uint8)

    def views(self, image_size: int, slices: Sequence[int], prefetch: int) -> Iterator[SliceView]:
        picture, reference = self.picture_yx.astype(np.float32) / np.float32(255), self.slice_yx
        for index in slices:
            yield SliceView(self.key.slice(index), to_model_frame(picture, image_size), reference)


class EncoderPerBox:
    """The same model used box by box: every prompt encodes its slice again."""

    def __init__(self, model: FinetunedSAM2):
        self.model, self.image_size = model, model.image_size

    def eval(self) -> Any:
        return self.model.eval()

    def encode(self, images_bchw: Tensor) -> Tensor:
        return images_bchw

    def project(self, features: Tensor) -> Tensor:
        return features

    def decode(self, features: Tensor, prompts: Prompts) -> tuple[Tensor, Tensor]:
        alone = [prompts.map(lambda array, n=n: array[n : n + 1]) for n in range(len(prompts))]
        logits, iou = zip(*(self.model(features, prompt) for prompt in alone), strict=True)
        return torch.cat(logits), torch.cat(iou)


class Clocked:
    """The same model, which sums the seconds spent inside encoder and decoder."""

    def __init__(self, model: FinetunedSAM2):
        self.model, self.image_size, self.seconds = model, model.image_size, 0.0

    def eval(self) -> Any:
        return self.model.eval()

    def _timed(self, call: Callable[..., Any], *given: Any) -> Any:
        started = now()
        result = call(*given)
        self.seconds += now() - started
        return result

    def encode(self, images_bchw: Tensor) -> Any:
        return self._timed(self.model.encode, images_bchw)

    def project(self, features: Any) -> Any:
        return self._timed(self.model.project, features)

    def decode(self, features: Any, prompts: Prompts) -> Any:
        return self._timed(self.model.decode, features, prompts)


def now() -> float:
    """Time in seconds: on a GPU wall time after all queued work, without a GPU CPU time of all threads of this process.

    CPU time depends little on other processes of the machine. With one thread it is the wall time of an idle machine.
    """
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


@dataclass(frozen=True)
class Bench:
    """One model on one volume."""

    model: FinetunedSAM2
    volume: Discs
    encode_batch: int = 1

    @property
    def device(self) -> torch.device:
        return next(self.model.parameters()).device

    def evaluate(self, model: Segmenter, precision: Precision) -> float:
        """Seconds per slice of a complete evaluation, including scoring."""
        section = Evaluation(precision=precision, encode_batch=self.encode_batch)
        metrics = load_metrics({"dice": True, "iou": True})
        tester = Tester(model, BoxPrompts(section), metrics, ScoreSettings(), device=self.device)
        started = now()
        list(tester.evaluate([self.volume]))
        return (now() - started) / self.volume.num_slices

    @torch.inference_mode()
    def stock(self, precision: Precision, *, logits: bool = False) -> tuple[float, npt.NDArray[np.float32]]:
        """(seconds per slice of set_image and predict with all boxes, output of the last slice); nothing is scored."""
        predictor = SAM2ImagePredictor(self.model.sam2_model)
        rgb = np.repeat(self.volume.picture_yx[..., None], 3, axis=2)
        boxes = np.array([instance.box for instance in self.instances], dtype=np.float64)
        # Stock scales corners as points: this corner is mapped to the corner of the box of the resized mask.
        boxes[:, 2:] += 1 - SIDE / self.model.image_size
        started = now()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16"):
            for _ in range(self.volume.num_slices):
                predictor.set_image(rgb)
                found, _, _ = predictor.predict(box=boxes, multimask_output=False, return_logits=logits)
        return (now() - started) / self.volume.num_slices, found.reshape(len(boxes), SIDE, SIDE)

    @property
    def instances(self) -> Any:
        return instances_of(self.volume.slice_yx, self.volume.labels.ids)

    @torch.inference_mode()
    def logits(self, model: Any, precision: Precision = "fp32") -> npt.NDArray[np.float32]:
        """Logits on the slice's own grid, for all its boxes."""
        (view,) = self.volume.views(self.model.image_size, [0], 0)
        targets, shape = [Target(instance, instance.box) for instance in self.instances], (SIDE, SIDE)
        prompts = BoxPrompts(Evaluation()).prompts(targets, self.model.image_size)
        on_device = prompts.map(lambda array: torch.from_numpy(array).to(self.device))
        with torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16"):
            found, _ = model.decode(model.encode(view.image_1hw[None].to(self.device)), on_device)
        up = torch.nn.functional.interpolate(found.float(), size=shape, mode="bilinear", align_corners=False)[:, 0]
        return up.cpu().numpy()

    def say_apart(self, *, with_stock: bool) -> None:
        """Print the largest difference of the logits between sam2ft and each peer."""
        ours = self.logits(self.model)
        apart = {"an encoder pass per box": self.logits(EncoderPerBox(self.model))} if len(ours) <= 8 else {}
        if with_stock:
            apart["stock predictor"] = self.stock("fp32", logits=True)[1]
        apart["sam2ft in bf16"] = self.logits(self.model, "bf16")
        largest = {name: float(np.abs(ours - other).max()) for name, other in apart.items()}
        shown = ", ".join(f"{value:.1e} from {name}" for name, value in largest.items())
        say(f"  logits in fp32 (up to {np.abs(ours).max():.2f}) differ by at most: {shown}")

    def say_share(self, precision: Precision) -> None:
        clocked = Clocked(self.model)
        seconds = self.evaluate(clocked, precision) * self.volume.num_slices
        say(f"  {precision}: {100 * clocked.seconds / seconds:.1f} % of the time inside encoder and decoder")


def compare(bench: Bench, repetitions: int, per_box_at_most: int, *, with_stock: bool) -> None:
    sides: dict[str, Callable[[], float]] = {
        "sam2ft fp32": lambda: bench.evaluate(bench.model, "fp32"),
        "sam2ft bf16": lambda: bench.evaluate(bench.model, "bf16"),
    }
    if with_stock:
        sides["stock fp32"] = lambda: bench.stock("fp32")[0]
        sides["stock bf16"] = lambda: bench.stock("bf16")[0]
    if bench.volume.num_boxes <= per_box_at_most:
        sides["per box fp32"] = lambda: bench.evaluate(EncoderPerBox(bench.model), "fp32")
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(WARM_UP + repetitions):
        for name, run in sides.items():
            seconds[name].append(run())
    say(f"{bench.volume.num_boxes} boxes per slice")
    for ours, peer in (
        ("fp32", "per box fp32"),
        ("fp32", "stock fp32"),
        ("bf16", "stock fp32"),
        ("bf16", "stock bf16"),
    ):
        if peer in seconds:
            pair = seconds[peer][WARM_UP:], seconds[f"sam2ft {ours}"][WARM_UP:]
            say("  " + ratio_line(f"sam2ft {ours} / {peer}", *pair, "slice"))
    bench.say_apart(with_stock=with_stock)
    for precision in ("fp32", "bf16"):
        bench.say_share(precision)


@dataclass(frozen=True)
class Drawn:
    """The slices of one phantom subject as a volume."""

    pictures: Sequence[TrainingPicture]

    key = VolumeKey("phantom", "s", "v")

    @property
    def reference_zyx(self) -> npt.NDArray[Any]:
        return np.stack([picture.labels_yx for picture in self.pictures])

    @property
    def scene(self) -> Scene:
        geometry = Geometry.axis_aligned(self.reference_zyx.shape, (3.0, 0.5, 0.5))
        return Scene(geometry, LabelTable.unnamed(np.unique(self.reference_zyx)[1:]))

    def views(self, image_size: int, slices: Sequence[int], prefetch: int) -> Iterator[SliceView]:
        for index in slices:
            one = self.pictures[index]
            yield SliceView(self.key.slice(index), to_model_frame(one.image_yx, image_size), one.labels_yx)


def precision_check(device: torch.device) -> None:
    """Slice Dice of the nano on phantom subjects that were not in its training, in bf16 (and fp16) against fp32."""
    model = build_segmenter("sam2_nano", image_size=256, checkpoint=None, device=device)
    for source in ("knee", "spine"):
        subjects = [pictures_of(source, seed=UNSEEN_SEED, indices=[index]) for index in range(4)]
        means = {}
        for precision in ("fp32", "bf16", "fp16"):
            tester = Tester(model, BoxPrompts(Evaluation(precision=precision)), (), ScoreSettings(), device=device)
            results = tester.evaluate([Drawn(pictures) for pictures in subjects])
            means[precision] = float(np.nanmean([row["dice"] for one in results for row in one.rows["slice"]]))
        apart = ", ".join(f"{name} {value - means['fp32']:+.5f}" for name, value in means.items() if name != "fp32")
        say(
            f"nano on the {source} phantom, {sum(map(len, subjects))} slices: Dice {means['fp32']:.4f} in fp32, {apart}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--small", action="store_true", help="the nano at 256 px instead of SAM 2.1 tiny at 1024 px")
    parser.add_argument("--quick", action="store_true", help="the nano, 2 boxes, one pair: a short trial")
    parser.add_argument("--precision-check", action="store_true", help="only compare precisions")
    parser.add_argument("--boxes", type=int, nargs="+", default=[1, 8, 32], help="boxes per slice")
    parser.add_argument("--slices", type=int, default=None, help="per volume (default: 1, with --small or a GPU 8)")
    parser.add_argument("--repetitions", type=int, default=3, help="measurements of each side, alternating")
    parser.add_argument("--per-box-at-most", type=int, default=8, help="most boxes for an encoder pass per box")
    parser.add_argument("--encode-batch", type=int, default=1, help="eval.encode_batch of the Tester")
    given = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    say(f"{machine_line()}, {torch.cuda.get_device_name() if device.type == 'cuda' else product_line()}")
    if given.precision_check:
        precision_check(device)
        return
    small = given.small or given.quick
    config, size = ("sam2_nano", 256) if small else (TINY, 1024)
    model = build_untrained(config, image_size=size, seed=1).to(device).eval()
    slices = given.slices or (1 if given.quick else 8 if small or device.type == "cuda" else 1)
    say(f"{config} at {size} px, slices of {SIDE} x {SIDE}; the Tester's time includes reading, composing and scoring")
    for num_boxes in [2] if given.quick else given.boxes:
        bench = Bench(model, Discs(slices, num_boxes), given.encode_batch)
        compare(bench, 1 if given.quick else given.repetitions, given.per_box_at_most, with_stock=size == 1024)


if __name__ == "__main__":
    main()
