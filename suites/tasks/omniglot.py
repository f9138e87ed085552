"""Omniglot episodes: drawings of characters never seen before, each to be named by the label that its earlier drawings had.

The images are the user's own copy of Lake et al. 2015, https://github.com/brendenlake/omniglot: any of images_background.zip,
images_evaluation.zip, images_background_small1.zip and ..._small2.zip, or what they unpack to.
"""

import io
import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor
from torch.nn import functional

from mann_bench.data.errors import UsageError
from mann_bench.suites.tasks import files
from mann_bench.suites.tasks.task import Batch, Task

WHAT = "Omniglot (images_background.zip, images_evaluation.zip or their small versions)"
ARCHIVES = r"images_(background|evaluation)\w*\.zip"
DRAWING = re.compile(r"(?P<alphabet>[^/]+)/(?P<character>character\d+)/\d+_(?P<drawing>\d+)\.png$")
SIDE = 20  # pixels, as in Santoro et al. 2016
INSTANCES = 10  # times each character is shown
TURNS = 4  # by 0, 90, 180, 270 degrees: each makes a class of its own
STRETCH = 1.2  # largest, of a character in an episode, along each axis
TILT = math.pi / 16  # largest, of a drawing
SHIFT = 1 / SIDE  # largest, of a drawing, as a part of the image's side
SHARES = {"train": 0.75, "validation": 0.125, "test": 0.125}  # of the characters
SPLIT_SEED = 0

Part = Literal["train", "validation", "test"]


class Omniglot(Task):
    """Episodes of Rae et al. 2016, section 4.5, on the images of Santoro et al. 2016 (20 x 20 pixels).

    `level` characters, each shown 10 times (10 of its 20 drawings), in random order. A step shows a drawing and the label of the step
    before; due is its own label. Labels are `level` different ones of `labels`, drawn anew for each episode, so a network can know them
    only from the episode. A class is a character turned by 0, 90, 180 or 270 degrees; in an episode it is stretched by up to 1.2 along
    each axis, and each drawing is tilted by up to pi/16 and shifted by up to a pixel. An answer's group is its instance, 1 to 10.

    Characters are parted once, by a fixed seed: 75% train, 12.5% validation (to choose a run by), 12.5% test, so no drawing and no turn
    of a character trained on is ever in a test. `held_out` is the test part.
    """

    name = "omniglot"
    answer = "class"
    level_means = "characters"
    first_level = 2

    def __init__(self, data: Path, *, labels: int = 20, part: Part = "train") -> None:
        """`data`: a folder or archive; `labels`: the most characters of an episode. UsageError where data are missing, damaged, too few."""
        images = load(data)
        bounds = _bounds(part, len(images))
        shuffled = torch.randperm(len(images), generator=torch.Generator().manual_seed(SPLIT_SEED))
        self.data, self.part, self.labels = data, part, labels
        self.fingerprint = files.fingerprint(data, ARCHIVES, DRAWING, WHAT)
        self.images = images[shuffled[slice(*bounds)]]  # uint8 [characters, drawings, 20, 20]
        self.input_size, self.output_size = SIDE * SIDE + labels, labels
        self.last_level = min(labels, TURNS * len(self.images))
        self.levels = (2, self.last_level)
        if not len(self.images):
            raise UsageError(f"{data}: expected 8 characters or more to part in train, validation and test, got {len(images)}; add more")
        if labels < 2:
            raise UsageError(f"omniglot: expected labels >= 2, got {labels}; a single label leaves nothing to tell apart")

    def held_out(self) -> "Omniglot":
        """Episodes of characters that are never trained on."""
        return Omniglot(self.data, labels=self.labels, part="test")

    def validation(self) -> "Omniglot":
        """Episodes of characters that are neither trained on nor in a test."""
        return Omniglot(self.data, labels=self.labels, part="validation")

    def steps(self, level: int) -> int:
        """Each character ten times."""
        return INSTANCES * level

    def chance(self, level: int) -> float:
        """Share of wrong answers of a guess among the episode's own labels."""
        return 1 - 1 / level

    def sample(self, level: int, batch: int, generator: torch.Generator) -> Batch:
        """B episodes of `level` characters: T = 10 level."""
        self.check_level(level)
        characters, drawings = self.images.shape[:2]

        def draw(count: int, among: int, *shape: int) -> Tensor:
            """`count` different ones of `among`: [*shape, count]."""
            return torch.rand(*shape, among, generator=generator).argsort(-1)[..., :count]

        classes, labels = draw(level, TURNS * characters, batch), draw(level, self.labels, batch)  # [B, level]
        stretch = STRETCH ** (2 * torch.rand(batch, level, 2, generator=generator) - 1)
        chosen = draw(INSTANCES, drawings, batch, level)  # [B, level, 10]
        order = draw(self.steps(level), self.steps(level), batch)  # [B, T]

        of_step = torch.arange(level).repeat_interleave(INSTANCES)[order]  # [B, T], which of the episode's characters
        shown = classes.gather(1, of_step)
        images = self.images[shown // TURNS, chosen.flatten(1).gather(1, order)].float() / 255
        quarter = (shown % TURNS) * (math.pi / 2)
        tilt = quarter + TILT * (2 * torch.rand(quarter.shape, generator=generator) - 1)
        shift = 2 * SHIFT * (2 * torch.rand(*quarter.shape, 2, generator=generator) - 1)
        stretched = stretch.gather(1, of_step[..., None].expand(-1, -1, 2))
        moved = distort(images.flatten(0, 1), tilt.flatten(), stretched.flatten(0, 1), shift.flatten(0, 1)).view(batch, -1, SIDE * SIDE)

        targets = labels.gather(1, of_step).T  # [T, B]
        inputs = torch.zeros(len(targets), batch, self.input_size)
        inputs[..., : SIDE * SIDE] = moved.transpose(0, 1)
        inputs[1:, :, SIDE * SIDE :] = functional.one_hot(targets[:-1], self.labels)
        instances = functional.one_hot(of_step, level).cumsum(1).gather(2, of_step[..., None])[..., 0].T
        return Batch(inputs, targets, torch.ones(targets.shape), instances)


def distort(images: Tensor, angles: Tensor, stretch: Tensor, shift: Tensor) -> Tensor:
    """Images [n, side, side] turned by angles [n] (radians), stretched by factors [n, 2] along their own axes and shifted by [n, 2]
    (x and y, 2 is the side); bilinear, and empty where nothing was drawn.
    """
    axis = (2 * torch.arange(images.shape[1]) + 1) / images.shape[1] - 1  # centres of pixels
    cos, sin = angles.cos()[:, None, None], angles.sin()[:, None, None]
    x, y = axis - shift[:, 0, None, None], axis[:, None] - shift[:, 1, None, None]
    source = ((cos * x + sin * y) / stretch[:, 0, None, None], (cos * y - sin * x) / stretch[:, 1, None, None])
    return functional.grid_sample(images[:, None], torch.stack(source, -1), align_corners=False)[:, 0]


@lru_cache(maxsize=2)
def load(data: Path) -> Tensor:
    """All drawings, uint8 [characters, drawings, 20, 20], 255 where there is ink; characters in the order of alphabet and number."""
    found: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for path, content in files.members(data, ARCHIVES, DRAWING, WHAT):
        match = DRAWING.search(path)
        assert match is not None  # members gives nothing else
        drawings = found.setdefault((match["alphabet"], match["character"]), {})
        if match["drawing"] in drawings:
            continue  # the small sets are parts of the background set
        try:
            image = Image.open(io.BytesIO(content)).convert("L").resize((SIDE, SIDE), Image.Resampling.BOX)
        except (UnidentifiedImageError, OSError) as error:
            raise UsageError(f"{data}: {path}: expected a PNG image, got something else ({error}); fetch the images again") from error
        drawings[match["drawing"]] = 255 - np.asarray(image)
    counts = {len(drawings) for drawings in found.values()}
    if len(counts) != 1 or min(counts) < INSTANCES:
        least, most = min(counts, default=0), max(counts, default=0)
        raise UsageError(
            f"{data}: expected equally many drawings of each of {len(found)} characters, {INSTANCES} or more, got {least} to {most}; "
            "fetch the images again"
        )
    return torch.from_numpy(np.stack([np.stack([found[key][name] for name in sorted(found[key])]) for key in sorted(found)]))


def _bounds(part: Part, characters: int) -> tuple[int, int]:
    """First and one past the last of the shuffled characters."""
    ends = np.cumsum([0, *SHARES.values()]) * characters
    at = list(SHARES).index(part)
    return round(ends[at]), round(ends[at + 1])
