import numpy as np
import pytest

from tinyrobust.data.images import prepare


def pixels(*colors: tuple[int, int, int]) -> np.ndarray:
    return np.array(colors, np.uint8).reshape(len(colors), 1, 1, 3)


@pytest.mark.parametrize(
    ("color", "luma"),
    [
        ((0, 0, 0), 0),
        ((255, 255, 255), 255),
        ((255, 0, 0), 76),  # 76.245
        ((0, 255, 0), 150),  # 149.685
        ((0, 0, 255), 29),  # 29.07
        ((5, 5, 0), 4),  # 4.43
        ((128, 128, 128), 128),
        ((0, 0, 250), 29),  # 28.5, half up
    ],
)
def test_gray_is_the_rounded_luma_of_bt_601(color: tuple[int, int, int], luma: int) -> None:
    assert prepare(pixels(color), "gray", None).item() == luma


def test_gray_equals_the_formula_on_random_pixels() -> None:
    x = np.random.default_rng(0).integers(0, 256, (7000, 2, 3, 3), dtype=np.uint8)
    expected = np.floor(x.astype(np.float64) @ [0.299, 0.587, 0.114] + 0.5 + 1e-9)
    np.testing.assert_array_equal(prepare(x, "gray", None)[..., 0], expected)


def test_gray_images_in_rgb_repeat_their_channel_and_come_back() -> None:
    x = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 1), dtype=np.uint8)
    rgb = prepare(x, "rgb", None)
    assert rgb.shape == (5, 4, 4, 3)
    np.testing.assert_array_equal(rgb, np.concatenate([x, x, x], axis=3))
    np.testing.assert_array_equal(prepare(rgb, "gray", None), x)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [4, 8, 12])
def test_resizing_gives_uint8_of_that_size_and_keeps_flat_images(channels: int, size: int) -> None:
    x = np.full((3, 8, 6, channels), 77, np.uint8)
    out = prepare(x, "gray" if channels == 1 else "rgb", size)
    assert out.shape == (3, size, size, channels)
    assert out.dtype == np.uint8
    assert (out == 77).all()


def test_reducing_is_antialiased() -> None:
    # Columns of black and white, finer than the result can show: without a wider filter they would alias to black or white.
    x = np.zeros((1, 32, 32, 1), np.uint8)
    x[:, :, ::2] = 255
    inner = prepare(x, "gray", 8)[0, 2:-2, 2:-2, 0]
    assert 100 < inner.min() <= inner.max() < 155


def test_each_image_is_resized_by_itself() -> None:
    x = np.random.default_rng(0).integers(0, 256, (4, 9, 9, 3), dtype=np.uint8)
    together = prepare(x, "rgb", 5)
    for index in range(4):
        np.testing.assert_array_equal(together[index : index + 1], prepare(x[index : index + 1], "rgb", 5))


def test_progress_ends_with_all_images() -> None:
    calls: list[tuple[str, int, int]] = []
    prepare(np.zeros((6000, 2, 2, 3), np.uint8), "gray", None, lambda *call: calls.append(call))
    assert calls == [("preparing images", 5000, 6000), ("preparing images", 6000, 6000)]
