"""Omniglot: one-shot classification of drawings of characters. Due is the label that earlier drawings of the character had.

The images are the user's own copy of Lake et al. 2015, https://github.com/brendenlake/omniglot: any of images_background.zip,
images_evaluation.zip, images_background_small1.zip and ..._small2.zip, or the files unpacked from them.
"""

import io
import math
import re
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from mann_bench.data.errors import UsageError
from mann_bench.suites.tasks import files
from mann_bench.suites.tasks.task import Batch, Task, uniform, zeros

WHAT = "Omniglot (images_background.zip, images_evaluation.zip or their small versions)"
ARCHIVES = r"images_(background|evaluation)\w*\.zip"
DRAWING = re.compile(r"(?P<alphabet>[^/]+)/(?P<character>character\d+)/\d+_(?P<drawing>\d+)\.png$")
SIDE = 20  # pixels, as in Santoro et al. 2016
INSTANCES = 10  # drawings shown of each character
TURNS = 4  # by 0, 90, 180, 270 degrees: each is a class of its own
STRETCH = 1.2  # largest factor along each axis, one for all drawings of a character in an episode
TILT = math.pi / 16  # largest angle of a drawing
SHIFT = 1 / SIDE  # largest shift of a drawing, in sides of the image: one pixel
SHARES = {"train": 0.75, "validation": 0.125, "test": 0.125}  # shares of the characters
SPLIT_SEED = 0
MOST_SIDE = 1024  # pixels of a drawing's side; a small file may hold an image that fills the memory
NO_IMAGE = (OSError, SyntaxError, ValueError, Image.DecompressionBombError)  # what PIL raises for other and for damaged files

Part = Literal["train", "validation", "test"]


class Omniglot(Task):
    """Episodes of Rae et al. 2016, section 4.5, on the images of Santoro et al. 2016 (20 x 20 pixels).

    An episode has `level` characters. Each is shown 10 times (10 of its 20 drawings), in random order. A step shows a drawing and the
    label of the step before; due is the drawing's own label. The labels are `level` different ones of `labels`, drawn for each episode,
    so that a network can learn them only from the episode. A class is a character turned by 0, 90, 180 or 270 degrees. In an episode a
    character is stretched by up to 1.2 along each axis; each drawing is tilted by up to pi/16 and shifted by up to a pixel. The group of
    an answer is its instance number, 1 to 10.

    A fixed seed splits the characters: 75% training, 12.5% validation (to choose a run), 12.5% test (`held_out`). No drawing and no turn
    of a training character is in the test.
    """

    name = "omniglot"
    answer = "class"
    level_means = "characters"
    first_level = 2

    def __init__(self, data: Path, *, labels: int = 20, part: Part = "train") -> None:
        """Load one part of the characters.

        Args:
            data: folder or archive.
            labels: highest number of characters in an episode.

        Raises:
            UsageError: data missing, damaged or too few.
        """
        images = load(data)
        bounds = _bounds(part, len(images))
        shuffled = torch.randperm(len(images), generator=torch.Generator().manual_seed(SPLIT_SEED), device="cpu")
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
        """Episodes of test characters."""
        return Omniglot(self.data, labels=self.labels, part="test")

    def validation(self) -> "Omniglot":
        """Episodes of validation characters."""
        return Omniglot(self.data, labels=self.labels, part="validation")

    def steps(self, level: int) -> int:
        return INSTANCES * level

    def chance(self, level: int) -> float:
        """Share of wrong answers when guessing among the episode's own labels."""
        return 1 - 1 / level

    def sample(self, level: int, batch: int, generator: torch.Generator) -> Batch:
        """Draw B episodes: inputs [10 level, B, 400 + labels], targets, mask and group [10 level, B]."""
        self.check_level(level)
        characters, drawings = self.images.shape[:2]

        def sample_distinct(count: int, among: int, *shape: int) -> Tensor:
            """`count` distinct numbers below `among`: [*shape, count]."""
            return uniform(*shape, among, generator=generator).argsort(-1)[..., :count]

        classes, labels = sample_distinct(level, TURNS * characters, batch), sample_distinct(level, self.labels, batch)  # [B, level]
        stretch = STRETCH ** (2 * uniform(batch, level, 2, generator=generator) - 1)
        drawing = sample_distinct(INSTANCES, drawings, batch, level)  # [B, level, 10]
        order = sample_distinct(self.steps(level), self.steps(level), batch)  # [B, T]

        place = torch.arange(level, device="cpu").repeat_interleave(INSTANCES)[order]  # [B, T], of the step's character in the episode
        shown = classes.gather(1, place)
        images = self.images[shown // TURNS, drawing.flatten(1).gather(1, order)].float() / 255  # [B, T, 20, 20]
        turn = (shown % TURNS).float() * (math.pi / 2)
        angle = turn + TILT * (2 * uniform(*turn.shape, generator=generator) - 1)
        shift = 2 * SHIFT * (2 * uniform(*turn.shape, 2, generator=generator) - 1)
        stretch = stretch.gather(1, place[..., None].expand(-1, -1, 2))  # [B, T, 2]
        distorted = distort(images.flatten(0, 1), angle.flatten(), stretch.flatten(0, 1), shift.flatten(0, 1))

        targets = labels.gather(1, place).T  # [T, B]
        inputs = zeros(len(targets), batch, self.input_size)
        inputs[..., : SIDE * SIDE] = distorted.view(batch, -1, SIDE * SIDE).transpose(0, 1)
        inputs[1:, :, SIDE * SIDE :] = functional.one_hot(targets[:-1], self.labels)
        instance = functional.one_hot(place, level).cumsum(1).gather(2, place[..., None])[..., 0].T  # [T, B], from 1
        return Batch(inputs, targets, torch.ones_like(targets, dtype=torch.float32), instance)


def distort(images: Tensor, angles: Tensor, stretch: Tensor, shift: Tensor) -> Tensor:
    """Turn, stretch and shift images, with bilinear interpolation and zeros outside.

    Args:
        images: [n, side, side].
        angles: [n], radians.
        stretch: [n, 2], factors along the image's own axes.
        shift: [n, 2], x and y; 2 is the side of the image.

    Returns:
        Images [n, side, side].
    """
    side = images.shape[1]
    axis = (2 * torch.arange(side, dtype=images.dtype, device=images.device) + 1) / side - 1  # centres of the pixels, from -1 to 1
    cos, sin = angles.cos()[:, None, None], angles.sin()[:, None, None]
    x, y = axis - shift[:, 0, None, None], axis[:, None] - shift[:, 1, None, None]
    source = ((cos * x + sin * y) / stretch[:, 0, None, None], (cos * y - sin * x) / stretch[:, 1, None, None])
    return functional.grid_sample(images[:, None], torch.stack(source, -1), align_corners=False)[:, 0]


@lru_cache(maxsize=2)
def load(data: Path) -> Tensor:
    """Load all drawings: uint8 [characters, drawings, 20, 20], 255 where there is ink, sorted by alphabet and character number."""
    images: dict[tuple[str, str], dict[str, np.ndarray]] = {}
    for path, content in files.members(data, ARCHIVES, DRAWING, WHAT):
        match = DRAWING.search(path)
        assert match is not None  # `members` yields only paths that match
        drawings = images.setdefault((match["alphabet"], match["character"]), {})
        if match["drawing"] in drawings:
            continue  # the small sets are parts of the background set: count a drawing once
        drawings[match["drawing"]] = 255 - _shrunk(content, f"{data}: {path}")
    counts = {len(drawings) for drawings in images.values()}
    if len(counts) != 1 or min(counts) < INSTANCES:
        least, most = min(counts, default=0), max(counts, default=0)
        raise UsageError(
            f"{data}: expected equally many drawings of each of {len(images)} characters, {INSTANCES} or more, got {least} to {most}; "
            "fetch the images again"
        )
    return torch.from_numpy(np.stack([np.stack([images[key][name] for name in sorted(images[key])]) for key in sorted(images)]))


def _shrunk(content: bytes, where: str) -> np.ndarray:
    """The image in a file, 20 x 20 pixels; UsageError naming the file if it holds none, or one far larger than a drawing."""
    try:
        image = Image.open(io.BytesIO(content))  # reads no more than its size
        size = image.size
        small = image.convert("L").resize((SIDE, SIDE), Image.Resampling.BOX) if max(size) <= MOST_SIDE else None
    except NO_IMAGE as error:
        raise UsageError(f"{where}: expected a PNG image, got something else ({error}); fetch the images again") from error
    if small is None:
        raise UsageError(f"{where}: expected a drawing of 105 x 105 pixels, {MOST_SIDE} a side at most, got {size}; fetch the images again")
    return np.asarray(small)


def _bounds(part: Part, characters: int) -> tuple[int, int]:
    """Range of a part in the shuffled characters: its first, and one past its last."""
    ends = np.cumsum([0, *SHARES.values()]) * characters
    position = list(SHARES).index(part)
    return round(ends[position]), round(ends[position + 1])
