"""Small files in CelebA's official format, for tests: images 1 .. 12, 8 of them for training."""

from pathlib import Path

import numpy as np

NAMES = ["Eyeglasses", "Male", "Smiling", "Young", "Wearing_Hat"]
# image: Eyeglasses, Male, Smiling, Young, Wearing_Hat; 3 of the 8 training images smile, 2 have eyeglasses
ATTRIBUTES = {
    1: (0, 0, 1, 1, 0),
    2: (0, 1, 0, 1, 0),
    3: (1, 1, 0, 0, 0),
    4: (0, 0, 1, 1, 0),
    5: (0, 1, 0, 1, 0),
    6: (0, 0, 0, 1, 0),
    7: (1, 0, 0, 0, 1),
    8: (0, 1, 1, 1, 0),
    9: (0, 0, 1, 0, 0),
    10: (0, 1, 0, 1, 0),
    11: (1, 0, 1, 1, 0),
    12: (0, 1, 1, 0, 0),
}
PARTS = dict(zip(ATTRIBUTES, [0] * 8 + [1] * 2 + [2] * 2, strict=True))


def attribute_text(*, names=NAMES, attributes=None, announced=True) -> str:
    rows = ATTRIBUTES if attributes is None else attributes
    lines = [f"{i:06d}.jpg " + " ".join(f"{2 * v - 1:2d}" for v in row) for i, row in rows.items()]
    return "\n".join([*[str(len(rows))] * announced, " ".join(names) + " ", *lines, ""])


def part_text(parts=PARTS) -> str:
    return "".join(f"{i:06d}.jpg {part}\n" for i, part in parts.items())


def write_lists(root: Path) -> Path:
    """The two lists; returns the folder that they are in."""
    folder = root / "celeba"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "list_attr_celeba.txt").write_text(attribute_text(), encoding="utf-8")
    (folder / "list_eval_partition.txt").write_text(part_text(), encoding="utf-8")
    return folder


def faces(numbers: np.ndarray, *, size: int = 64) -> np.ndarray:
    """(N, size, size, 3) uint8: the red of an image is its number, the green varies by pixel."""
    x = np.zeros((len(numbers), size, size, 3), np.uint8)
    x[..., 0] = np.asarray(numbers)[:, None, None]
    x[..., 1] = np.arange(size * size).reshape(size, size) % 251
    return x
