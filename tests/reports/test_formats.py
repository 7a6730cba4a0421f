import pytest

from tinyrobust.reports import formats
from tinyrobust.robustness.statistics import wilson


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (formats.percent(0.835), "83.5 %"),
        (formats.percent(1.0), "100.0 %"),
        (formats.percent(0.9999), "99.99 %"),
        (formats.percent(0.0002), "0.02 %"),
        (formats.proportion(wilson(167, 200)), "83.5 % (n = 200, 77.7 to 88.0)"),
        (formats.size(812), "812 B"),
        (formats.size(15_042), "14.7 KiB"),
        (formats.size(256 * 1024), "256 KiB"),
        (formats.size(1_300_000), "1.2 MiB"),
        (formats.total(2_700_000), "2.7 M"),
        (formats.epsilon(8 / 255), "8/255"),
        (formats.epsilon(0.2), "0.2"),
        (formats.epsilon(0.05), "0.05"),
        (formats.small(3.1e-7), "3.1 \u00d7 10⁻⁷"),
        (formats.small(0.034), "0.034"),
        (formats.small(0.0), "0"),
        (formats.duration(0.04), "40 ms"),
        (formats.duration(59.96), "1 min 00 s"),
        (formats.duration(3840), "1 h 04 min"),
        (formats.shape([1, 8, 8, 16]), "1\u00d78\u00d78\u00d716"),
        (formats.layer("stqnet_1/block1-relu_1/Relu6"), "block1-relu"),
        (formats.layer("model/conv2d_3/Relu"), "conv2d_3"),
        (formats.layer("block2/depthwise"), "block2/depthwise"),
        (formats.layer("StatefulPartitionedCall_1:0"), "output"),
    ],
)
def test_numbers_have_units_and_sensible_precision_and_names_are_short(written: str, expected: str) -> None:
    assert written.replace("\u00a0", " ") == expected
