"""Which faces are found in crowds, what is taken for a face where there is none, and what looking costs.

    .venv/bin/python -m benchmarks.crowds [--section recall|textures|cost] [--detector NAME] [--photos FOLDER] [--quick]

Crowds are made of portraits, with faces of 20 to 120 pixels, at edges too, with and without a large face in front;
textures show no face. Compared are `auto` and `full`, one fixed size, and the ladder of Mien 0.1: the first of
640, 320 and 1280 pixels at which there is any face. Costs are CPU time of one thread, interleaved, as ratios.
"""

import argparse
import itertools
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from mien.engine.cancellation import CancelScope
from mien.engine.models import LoadedModels, Model
from mien.engine.plan import Plan
from mien.faces.detection import FaceDetection
from mien.faces.loading import detection_shape
from mien.settings import Settings
from mien.vision.detectors import Detector, build_detector
from mien.vision.types import EMPTY, Detections, Image
from mien.zoo.zoo import Zoo
from testing.crowds import Crowd, Portrait, crowd, false_alarms, hits, textures, with_large_face

PHOTOS = Path(__file__).parent.parent / "packages/mien/tests/photos"
THRESHOLD, STRICT = 0.6, 0.7
MAX_FACES = 4096
SIZES = (20, 24, 32, 48, 80, 121)
Find = Callable[[Image], Detections]


@dataclass(frozen=True)
class Case:
    """A crowd to be made: sizes are widths of faces' boxes in pixels."""

    width: int
    height: int
    faces: int
    sizes: tuple[float, float]
    large: float = 0.0
    """Width of the face in front as a share of the shorter side; 0: none."""


CASES = (
    Case(640, 480, 60, (20, 60)),
    Case(640, 480, 60, (20, 60), large=0.4),
    Case(1152, 864, 60, (20, 120)),
    Case(1152, 864, 300, (20, 60)),
    Case(1152, 864, 300, (20, 60), large=0.5),
    Case(1600, 1200, 60, (20, 120), large=0.6),
    Case(1600, 1200, 300, (20, 120)),
    Case(2400, 1800, 300, (20, 120), large=0.3),
    Case(2400, 1800, 900, (20, 80)),
    Case(4000, 3000, 60, (20, 120)),
    Case(4000, 3000, 900, (20, 120)),
    Case(4000, 3000, 900, (20, 120), large=0.5),
    Case(12000, 900, 60, (100, 160)),
    Case(12000, 900, 300, (20, 120)),
    Case(12000, 3000, 900, (20, 120), large=0.4),
)


class Looks:
    """One detector, by every way of looking."""

    def __init__(self, name: str) -> None:
        zoo = Zoo.from_settings(Settings())
        manifest = zoo.manifest(name)
        overlap = 0.4 if manifest.nms_threshold is None else manifest.nms_threshold
        plan = Plan(lanes=1, lane_threads=1, max_batch=1)
        model = LoadedModels(threads=1).load(name, zoo.ensure(name), plan, warm_up=detection_shape("auto"))
        self._ladder = Ladder(build_detector(manifest), model, overlap)
        self._detection = FaceDetection(build_detector(manifest), model, nms=overlap, max_faces=MAX_FACES)

    def ways(self, threshold: float) -> dict[str, Find]:
        return {
            "ladder": lambda image: self._ladder.find(image, threshold),
            "640": lambda image: self._ladder.at(image, 640, threshold),
            "1280": lambda image: self._ladder.at(image, 1280, threshold),
            "auto": lambda image: self._detection.find(image, "auto", threshold, None, CancelScope()),
            "full": lambda image: self._detection.find(image, "full", threshold, None, CancelScope()),
        }


@dataclass(frozen=True)
class Ladder:
    """How Mien 0.1 looked: one size after the other until there is a face."""

    detector: Detector
    model: Model
    overlap: float

    def find(self, image: Image, threshold: float) -> Detections:
        longest, found = max(image.shape[:2]), EMPTY
        for side in {min(side, longest): side for side in (640, 320, 1280)}:
            found = self.at(image, side, threshold)
            if len(found):
                break
        return found

    def at(self, image: Image, side: int, threshold: float) -> Detections:
        """The faces at one size."""
        prepared = self.detector.prepare(image, side)
        (outputs,) = self.model.run([prepared.tensor], CancelScope())
        return self.detector.decode(outputs, prepared, threshold, self.overlap, MAX_FACES)


# --- recall


def recall(looks: Looks, people: Sequence[Portrait], cases: Sequence[Case]) -> None:
    ways = looks.ways(THRESHOLD)
    for number, case in enumerate(cases):
        made = _made(case, people, number)
        widths = made.widths()
        needed = widths >= max(20, max(case.width, case.height) / 110)
        front = f", one of {widths[0]:.0f} px in front" if case.large else ""
        print(f"\n{case.width}x{case.height}, {len(widths)} faces of {case.sizes[0]} to {case.sizes[1]} px{front}")
        print(f"{'':>8}{'all':>7}{'needed':>8}" + "".join(f"{f'{a}-{b - 1}':>9}" for a, b in _bins()) + "   extra")
        for name, find in ways.items():
            found = find(made.image)
            matched = hits(made.boxes, found.boxes)
            hit = matched >= 0
            extra = len(false_alarms(made, found.boxes))
            rates = [_rate(hit[(widths >= a) & (widths < b)]) for a, b in _bins()]
            print(
                f"{name:>8}{_rate(hit):>7}{_rate(hit[needed]):>8}" + "".join(f"{r:>9}" for r in rates) + f"{extra:>8}"
            )


def _made(case: Case, people: Sequence[Portrait], seed: int) -> Crowd:
    made = crowd(people, case.width, case.height, case.faces, case.sizes, seed=seed)
    return with_large_face(people, made, case.large, seed=seed) if case.large else made


def _bins() -> Iterator[tuple[int, int]]:
    yield from itertools.pairwise(SIZES)


def _rate(hit: np.ndarray) -> str:
    return f"{hit.mean():.3f}" if len(hit) else "-"


# --- false alarms


def texture_alarms(looks: Looks, count: int) -> None:
    print(f"\nfaces in {count} textures, above {THRESHOLD} and above {STRICT}")
    ways = looks.ways(THRESHOLD)
    seen: dict[str, list[tuple[float, str]]] = {name: [] for name in ways}
    for kind, image in textures(count):
        for name, find in ways.items():
            seen[name] += [(float(score), kind) for score in find(image).scores]
    for name, alarms in seen.items():
        strict = sum(score > STRICT for score, _ in alarms)
        print(f"{name:>8}{len(alarms):>5}{strict:>5}   " + ", ".join(f"{s:.2f} {k}" for s, k in sorted(alarms)[-6:]))


# --- cost


def cost(looks: Looks, people: Sequence[Portrait], rounds: int) -> None:
    """Of detection alone, and of photos in which the first size shows a face."""
    ways = looks.ways(THRESHOLD)
    print("\nCPU ms of one thread, median; ratio to the ladder")
    for width, height in ((204, 244), (716, 900), (1152, 864), (1600, 1200), (4000, 3000), (12000, 900)):
        image = with_large_face(people, crowd(people, width, height, 1, (40, 40)), 0.4).image
        times: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(rounds):
            for name, find in ways.items():
                started = time.thread_time()
                find(image)
                times[name].append((time.thread_time() - started) * 1e3)
        middle = {name: statistics.median(taken) for name, taken in times.items()}
        print(
            f"{width:>6}x{height:<5}"
            + "".join(f"  {n} {t:.1f} ({t / middle['ladder']:.2f})" for n, t in middle.items())
        )


def portraits(looks: Looks, folder: Path) -> list[Portrait]:
    """The photos of a folder that show one face."""
    find = looks.ways(0.8)["auto"]
    images = [cv2.imread(str(path)) for path in sorted(folder.iterdir()) if path.suffix.lower() in (".jpg", ".png")]
    found = [(image, find(image)) for image in images if image is not None]  # type: ignore[arg-type]
    return [Portrait(image, faces.boxes[0]) for image, faces in found if len(faces) == 1]  # type: ignore[arg-type]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--section", choices=("recall", "textures", "cost"), action="append")
    parser.add_argument("--detector", default="yunet")
    parser.add_argument("--photos", type=Path, default=PHOTOS)
    parser.add_argument("--quick", action="store_true", help="images of at most 3 megapixels, fewer textures")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    looks = Looks(options.detector)
    people = portraits(looks, options.photos)
    sections = options.section or ["recall", "textures", "cost"]
    print(f"{options.detector}; {len(people)} portraits")
    if "recall" in sections:
        recall(looks, people, [c for c in CASES if not options.quick or c.width * c.height <= 3_000_000])
    if "textures" in sections:
        texture_alarms(looks, 44 if options.quick else 200)
    if "cost" in sections:
        cost(looks, people, 5 if options.quick else 15)


if __name__ == "__main__":
    main()
