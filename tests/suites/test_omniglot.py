"""Omniglot: labels match the drawings, the parts share no character, and the same seed gives the same episode."""

import io
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from mann_bench.data.errors import UsageError
from mann_bench.suites.tasks import find_task
from mann_bench.suites.tasks.omniglot import SIDE, Omniglot, distort, load
from tests.support.real_data import REAL_DATA, needs_real_data

PIXELS = SIDE * SIDE
CHARACTERS = 16


def png(shade):
    """A drawing of one shade, by which it can be recognised."""
    stream = io.BytesIO()
    Image.fromarray(np.full((105, 105), 255 - shade, np.uint8)).save(stream, "PNG")
    return stream.getvalue()


def write_archive(path, characters=CHARACTERS, drawings=20):
    with zipfile.ZipFile(path, "w") as archive:
        for c in range(characters):
            for d in range(drawings):
                archive.writestr(f"images_background/Made-up/character{c + 1:02}/{c + 1:04}_{d + 1:02}.png", png(10 * (c + 1) + d % 10))
    return path


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_archive(tmp_path_factory.mktemp("omniglot") / "images_background.zip")


def character_of(image):
    """The character of a drawing of one shade: the middle pixel is not touched by shifts and stretches."""
    return round(float(image.view(SIDE, SIDE)[8:12, 8:12].mean()) * 255) // 10 - 1


def test_a_label_always_means_the_same_character_and_comes_a_step_late(data):
    batch = Omniglot(data, labels=12).sample(3, 4, torch.Generator().manual_seed(1))
    assert batch.inputs.shape == (30, 4, PIXELS + 12)
    assert batch.targets.shape == batch.mask.shape == (30, 4)
    assert batch.group is not None
    assert batch.mask.eq(1).all()
    assert not batch.inputs[0, :, PIXELS:].any()
    assert torch.equal(batch.inputs[1:, :, PIXELS:].argmax(-1), batch.targets[:-1])
    assert batch.inputs[1:, :, PIXELS:].sum(-1).eq(1).all()
    for b in range(4):
        seen: dict[int, list[int]] = {}
        shades: dict[int, set[float]] = {}
        for t, label in enumerate(batch.targets[:, b].tolist()):
            image = batch.inputs[t, b, :PIXELS]
            seen.setdefault(label, []).append(character_of(image))
            shades.setdefault(label, set()).add(float(image.max()))
            assert int(batch.group[t, b]) == len(seen[label])
        assert [len(names) for names in seen.values()] == [10] * 3
        assert all(len(set(names)) == 1 for names in seen.values())
        assert all(len(values) >= 5 for values in shades.values())  # 10 different drawings, of 10 shades, each of two drawings


def test_labels_and_characters_are_drawn_anew(data):
    task = Omniglot(data, labels=12)
    batch = task.sample(5, 40, torch.Generator().manual_seed(0))
    assert len({tuple(sorted(set(batch.targets[:, b].tolist()))) for b in range(40)}) > 30
    assert set(batch.targets.flatten().tolist()) == set(range(12))
    again, other = (task.sample(5, 40, torch.Generator().manual_seed(seed)).inputs for seed in (0, 1))
    assert torch.equal(batch.inputs, again)
    assert not torch.equal(batch.inputs, other)


def test_parts_share_no_character(data):
    parts = {name: Omniglot(data, labels=2, part=name).images for name in ("train", "validation", "test")}
    shades = {name: {int(image) // 10 for image in images[:, :, 10, 10].flatten()} for name, images in parts.items()}
    assert [len(shades[name]) for name in parts] == [12, 2, 2]
    assert set.union(*shades.values()) == set(range(1, CHARACTERS + 1))
    held_out = Omniglot(data, labels=2).held_out()
    assert torch.equal(held_out.images, parts["test"])
    assert torch.equal(Omniglot(data, labels=2).validation().images, parts["validation"])
    assert held_out.last_level == 2
    assert Omniglot(data, labels=12).held_out().last_level == 8  # 2 characters, each at 4 rotations
    assert Omniglot(data, labels=12).held_out().input_size == PIXELS + 12


def test_rotations_are_classes_and_distortion_is_as_configured():
    image = torch.zeros(1, SIDE, SIDE)
    image[0, 2, 10] = 1.0
    still = torch.ones(1, 2), torch.zeros(1, 2)
    for quarters in range(4):
        turned = distort(image, torch.tensor([quarters * torch.pi / 2]), *still)
        assert torch.allclose(turned, image.rot90(-quarters, (1, 2)), atol=1e-4)
    moved = distort(image, torch.zeros(1), still[0], torch.tensor([[2 / SIDE, -4 / SIDE]]))  # a pixel right, two up
    assert torch.allclose(moved, image.roll((1, -2), (2, 1)), atol=1e-4)
    bar = torch.zeros(1, SIDE, SIDE)
    bar[0, :, 8:12] = 1
    assert float(distort(bar, torch.zeros(1), torch.tensor([[1.5, 1.0]]), still[1])[0, 10].sum()) == pytest.approx(6, abs=0.1)


def test_levels(data):
    task = find_task("omniglot", data, {"labels": 6})
    assert task.levels == (2, 6)
    assert task.steps(6) == 60
    assert task.chance(4) == 0.75
    assert task.fingerprint is not None
    assert "images_background.zip" in task.fingerprint
    with pytest.raises(ValueError, match="expected at least 2 and at most 6"):
        task.sample(7, 1, torch.Generator())


def test_unpacked_and_small_sets_beside_the_whole(data, tmp_path):
    with zipfile.ZipFile(data) as archive:
        archive.extractall(tmp_path)
    assert torch.equal(load(tmp_path), load(data))
    write_archive(tmp_path / "images_background_small1.zip", characters=5)
    assert torch.equal(Omniglot(tmp_path).images, Omniglot(data).images)  # the same characters, not more


def test_useless_data_is_refused(tmp_path):
    with pytest.raises(UsageError, match="expected 8 characters or more"):
        Omniglot(write_archive(tmp_path / "images_background_few.zip", characters=1), part="test")
    with pytest.raises(UsageError, match="expected equally many drawings of each of 1 characters, 10 or more, got 4 to 4"):
        Omniglot(write_archive(tmp_path / "images_background_thin.zip", characters=1, drawings=4))
    with zipfile.ZipFile(tmp_path / "images_background_odd.zip", "w") as archive:
        archive.writestr("images_background/Made-up/character01/0001_01.png", b"no image")
    with pytest.raises(UsageError, match=r"0001_01\.png: expected a PNG image"):
        Omniglot(tmp_path / "images_background_odd.zip")
    for number, (sides, message) in enumerate(
        {(2000, 10): "at most, got", (20_000, 20_000): "expected a PNG image, got something else"}.items()
    ):
        bomb = io.BytesIO()
        Image.new("1", sides).save(bomb, "PNG")
        with zipfile.ZipFile(tmp_path / f"images_background_bomb{number}.zip", "w") as archive:
            archive.writestr("images_background/Made-up/character01/0001_01.png", bomb.getvalue())
        with pytest.raises(UsageError, match=rf"0001_01\.png: .*{message}"):
            Omniglot(tmp_path / f"images_background_bomb{number}.zip")
    with pytest.raises(UsageError, match="labels >= 2"):
        Omniglot(write_archive(tmp_path / "images_background.zip"), labels=1)


@needs_real_data
def test_real_drawings():
    images = load(REAL_DATA)
    assert images.shape[1:] == (20, SIDE, SIDE)
    ink = images.float().mean((1, 2, 3)) / 255
    assert 0.01 < float(ink.min()) < float(ink.max()) < 0.3
