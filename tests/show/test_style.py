"""What a picture is saved as: fewer colors where nobody sees it, all of them where somebody would."""

import io

import numpy as np
from PIL import Image

from kdlib.show import style


def read(png):
    picture = Image.open(io.BytesIO(png))
    return picture.mode, np.asarray(picture.convert("RGB"))


def test_areas_keep_their_color_and_rare_colors_take_the_nearest():
    pixels = np.full((100, 400, 3), 255, np.uint8)
    pixels[:50, :256, 0] = np.arange(256)  # 255 areas beside the white one, each of 50 pixels
    pixels[99, :9] = [7, 254, 255]
    mode, found = read(style.few_colors(pixels))
    assert mode == "P" and np.array_equal(found[:99], pixels[:99])
    assert (found[99, :9] == [7, 255, 255]).all()


def test_a_photograph_keeps_all_its_colors():
    pixels = np.random.default_rng(0).integers(0, 256, (60, 60, 3), dtype=np.uint8)
    mode, found = read(style.few_colors(pixels))
    assert mode == "RGB" and np.array_equal(found, pixels)
