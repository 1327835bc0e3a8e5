"""Training images of the nano model: seeded slices of phantoms and drawings of shapes, with random augmentation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import numpy.typing as npt

from sam2ft.core.keys import SliceKey
from sam2ft.core.parallel import parallel_map
from sam2ft.core.prompts import box_around
from sam2ft.data.samples.batch import Batch, Sample, collate
from sam2ft.data.samples.dataset import boxed_sample
from sam2ft.data.samples.instances import instances_of
from sam2ft.phantom.phantom import PhantomVolume, knee_subject, spine_subject
from sam2ft.phantom.random_shapes import shapes_slice

Image = npt.NDArray[np.float32]
Labels = npt.NDArray[np.uint8]

# Smaller components are fragments of a label at the border of a volume, too small for masks at 1/4 resolution.
_SMALLEST_INSTANCE_PX = 24
LABELS = range(1, 256)


@dataclass(frozen=True)
class TrainingPicture:
    """One slice: intensities in [0, 1] and its label map on the same grid."""

    key: SliceKey
    image_yx: Image
    labels_yx: Labels


@dataclass(frozen=True)
class Mixture:
    """Sources of the slices of a batch, and their prompts."""

    shares: Mapping[str, float]
    """Source (a key of SOURCES) -> probability; they sum to 1."""
    subjects: int
    """Phantom subjects per source; the number of shape images is that of the slices of one source."""
    max_instances: int
    """Prompts per slice."""
    bbox_shift_px: int
    """In half of the slices, each side of a box moves outward by 0..bbox_shift_px."""


def _window(volume_zyx: Image) -> Image:
    """Map the [0.5, 99.5] percentiles of the volume to [0, 1], as `prepare` does."""
    low, high = (float(value) for value in np.percentile(volume_zyx, [0.5, 99.5]))
    unit = (volume_zyx - low) / max(high - low, 1e-6)
    return np.asarray(np.clip(unit, 0, 1), dtype=np.float32)


def _phantom_slices(
    kind: str, make: Callable[[int, int], PhantomVolume], seed: int, index: int
) -> list[TrainingPicture]:
    subject = make(seed, index)
    image_zyx, labels_zyx = _window(subject.image_zyx), subject.mask_zyx.astype(np.uint8)
    return [
        TrainingPicture(SliceKey("nano", f"{kind}{index}", "anatomy", z), image_zyx[z], labels_zyx[z])
        for z in range(len(image_zyx))
        if labels_zyx[z].any()
    ]


def shape_pictures(seed: int, index: int) -> list[TrainingPicture]:
    """Twenty drawings, the number of slices of a phantom."""
    rng = np.random.default_rng([seed, index])
    drawn = (shapes_slice(rng) for _ in range(20))
    return [TrainingPicture(SliceKey("nano", f"shapes{index}", "drawn", z), *pair) for z, pair in enumerate(drawn)]


SOURCES: dict[str, Callable[[int, int], list[TrainingPicture]]] = {
    "shapes": shape_pictures,
    "knee": partial(_phantom_slices, "knee", knee_subject),
    "spine": partial(_phantom_slices, "spine", spine_subject),
}


def pictures_of(source: str, *, seed: int, indices: Sequence[int], processes: int = 1) -> list[TrainingPicture]:
    """The slices of the subjects in `indices` of a source; independent of the number of processes."""
    return list(chain.from_iterable(parallel_map(partial(SOURCES[source], seed), indices, processes)))


def batches(
    pool: Mapping[str, Sequence[TrainingPicture]],
    mixture: Mixture,
    *,
    batch_size: int,
    image_size: int,
    seed: int,
    first: int,
) -> Iterator[Batch]:
    """Endless batches, starting with number `first`; the n-th depends only on the seed and n."""
    names, shares = list(mixture.shares), list(mixture.shares.values())
    step = first
    while True:
        rng = np.random.default_rng([seed, step])
        samples: list[Sample] = []
        while len(samples) < batch_size:
            source = pool[names[rng.choice(len(names), p=shares)]]
            sample = _sample(source[int(rng.integers(len(source)))], mixture, image_size, rng)
            if sample is not None:
                samples.append(sample)
        yield collate(samples)
        step += 1


def _sample(picture: TrainingPicture, mixture: Mixture, image_size: int, rng: np.random.Generator) -> Sample | None:
    """One augmented image with some of its instances; None when no instance is large enough."""
    image, labels = _placed(picture.image_yx, picture.labels_yx, rng)
    found = [each for each in instances_of(labels, LABELS) if each.mask_yx.sum() >= _SMALLEST_INSTANCE_PX]
    if not found:
        return None
    chosen = [found[i] for i in sorted(rng.permutation(len(found))[: mixture.max_instances])]
    shift = mixture.bbox_shift_px if rng.random() < 0.5 else 0
    changed = recoloured(image, rng)
    boxes = [box_around(each.mask_yx, shift_px=shift, rng=rng) for each in chosen]
    return boxed_sample(picture.key, changed, chosen, boxes, image_size)


def boxed(picture: TrainingPicture, image_size: int) -> Sample:
    """The whole image without augmentation, with an exact box around every instance."""
    instances = instances_of(picture.labels_yx, LABELS)
    return boxed_sample(picture.key, picture.image_yx, instances, [each.box for each in instances], image_size)


def _placed(image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
    """A random crop of 65 to 100 % of the image; half are flipped, some are rotated by multiples of 90 degrees."""
    height, width = image.shape
    share = rng.uniform(0.65, 1.0) if rng.random() < 0.5 else 1.0
    rows, columns = int(height * share), int(width * share)
    top, left = rng.integers(height - rows + 1), rng.integers(width - columns + 1)
    window = np.s_[top : top + rows, left : left + columns]
    turns, flip = int(rng.integers(4)) if rng.random() < 0.25 else 0, bool(rng.integers(2))

    def placed(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        turned = np.rot90(array[window], turns)
        return np.ascontiguousarray(turned[:, ::-1] if flip else turned)

    return placed(image).astype(np.float32), placed(labels).astype(np.uint8)


def recoloured(image: Image, rng: np.random.Generator) -> Image:
    """Random gamma, contrast, brightness and noise; one image in five is inverted. The result is in [0, 1]."""
    changed = image ** np.float32(np.exp(rng.uniform(-0.5, 0.5)))
    if rng.random() < 0.2:
        changed = 1 - changed
    contrast, brightness = rng.uniform(0.6, 1.2), rng.uniform(-0.15, 0.15)
    changed = (changed - 0.5) * contrast + 0.5 + brightness
    sigma = rng.uniform(0, 0.06)
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(sigma)
    return np.clip(changed + noise, 0, 1).astype(np.float32)
