"""What every front end promises, over all that a recipe can name: one that is entered in `Frontend` is tested from then on.

Its C header is compiled in `tests/deploy/test_frontend_header.py`, for all of them too.
"""

from pathlib import Path

import keras
import numpy as np
import pytest
from pydantic import TypeAdapter, ValidationError

from tinyrobust.choices import members
from tinyrobust.data.speech.frontend import FrontEnd, Grid, Stream, front_end
from tinyrobust.data.speech.frontend_record import FrontendRecord
from tinyrobust.data.speech.sound import one_second, read_sound
from tinyrobust.data.speech.units import amplitudes
from tinyrobust.errors import RecipeError
from tinyrobust.gradients import value_and_gradient
from tinyrobust.recipe.frontend import Frontend, FrontendTable, Mfcc, Micro

# Beside the defaults of each: rows of another length and number, other coefficients.
_FURTHER = (Mfcc(kind="mfcc", window_ms=40, hop_ms=25, coefficients=12, top_db=30), Micro(kind="micro", stride=1))
_TABLES = (*(table(kind=kind) for kind, table in members(Frontend).items()), *_FURTHER)


def _id(settings: FrontendTable) -> str:
    return ",".join(map(str, settings.model_dump(exclude_defaults=True).values()))


@pytest.fixture(scope="module", params=_TABLES, ids=_id)
def front(request: pytest.FixtureRequest) -> FrontEnd:
    return front_end(request.param)


@pytest.fixture(scope="module")
def real(shared: Path) -> np.ndarray:
    paths = sorted((shared / "data" / "speech_commands").glob("*/*.flac"))[::200]
    return np.stack([one_second(read_sound(path, seconds=1)) for path in paths])


@pytest.fixture(scope="module")
def record(front: FrontEnd, real: np.ndarray) -> FrontendRecord:
    values = front.features(real)
    grid = front.grid(values)
    return FrontendRecord(
        settings=front.settings,
        shape=front.shape,
        low=tuple(grid.low.tolist()),
        high=tuple(grid.high.tolist()),
        clipped=grid.clipped(values),
        classes=("a", "b"),
        partition="none",
        padded={},
        skipped=(),
    )


def _sound(seconds: float) -> np.ndarray:
    """Noise whose loudness and colour change all the time."""
    random = np.random.default_rng(3)
    time = np.arange(int(16_000 * seconds)) / 16_000
    loud = 10 ** (1 + 1.5 * np.sin(2 * np.pi * time / 0.7))
    sound = loud * random.normal(size=len(time)) + 3000 * np.sin(2 * np.pi * (300 + 200 * np.sin(5 * time)) * time) * (
        time % 1 < 0.4
    )
    return np.clip(sound, -32768, 32767).astype(np.int16)


def _in_chunks(stream: Stream, sound: np.ndarray, size: int) -> np.ndarray:
    return np.concatenate([stream.feed(sound[start : start + size]) for start in range(0, len(sound), size)])


def _hop(front: FrontEnd) -> int:
    """A tenth of a second, or what is next above it."""
    return front.row_ms * -(-100 // front.row_ms)


def test_a_table_names_its_front_end_and_is_read_back(front: FrontEnd) -> None:
    assert isinstance(front, FrontEnd)
    again = TypeAdapter(Frontend).validate_python(front.settings.model_dump(mode="json"))
    assert (type(again), again) == (type(front.settings), front.settings)
    with pytest.raises(ValidationError, match="kind"):
        TypeAdapter(Frontend).validate_python(front.settings.model_dump(mode="json", exclude={"kind"}))


def test_features_have_their_shape_and_every_clip_its_own(front: FrontEnd, real: np.ndarray) -> None:
    values = front.features(real)
    assert (values.dtype, values.shape) == (np.float32, (len(real), *front.shape))
    assert np.isfinite(values).all()
    np.testing.assert_array_equal(values[3:4], front.features(real[3:4]))
    assert front.features(real[:0]).shape == (0, *front.shape)


def test_rows_cover_a_second(front: FrontEnd) -> None:
    """But for the end, which the last window needs."""
    assert 950 <= front.shape[0] * front.row_ms <= 1000


def test_the_grid_gives_features_back_to_half_a_step(front: FrontEnd, real: np.ndarray) -> None:
    values = front.features(real)
    grid = front.grid(values)
    assert grid.low.shape == grid.high.shape == front.shape[1:]
    assert (grid.low < grid.high).all()
    x = grid.quantized(values)
    assert (x.dtype, x.shape) == (np.uint8, (*values.shape, 1))
    step = (grid.high - grid.low) / 255
    inside = (values >= grid.low) & (values <= grid.high)
    assert inside.mean() == pytest.approx(1 - grid.clipped(values))
    assert inside.mean() > 0.98
    off = np.abs(grid.low + x[..., 0] * step - values)
    assert (off <= step / 2 + 1e-9 * np.abs(values))[inside].all()


def test_the_record_makes_the_same_features_again(
    front: FrontEnd, record: FrontendRecord, real: np.ndarray, tmp_path: Path
) -> None:
    record.save(tmp_path / "frontend.json")
    again = FrontendRecord.load(tmp_path / "frontend.json")
    assert again == record
    values = front.features(real)
    np.testing.assert_array_equal(front_end(again.settings).features(real), values)
    np.testing.assert_array_equal(Grid.of(again).quantized(values), front.grid(values).quantized(values))


def test_the_layer_agrees_with_the_features_and_has_gradients(front: FrontEnd, real: np.ndarray) -> None:
    layer = front.layer()
    assert (layer is not None) == front.settings.differentiable
    if layer is None:
        return
    sound, values = amplitudes(real), front.features(real)
    np.testing.assert_allclose(keras.ops.convert_to_numpy(layer(sound))[..., 0], values, rtol=0, atol=1e-3)
    grid = front.grid(values)
    weights = np.random.default_rng(0).normal(size=(*values.shape, 1)).astype(np.float32)
    for options in ({}, {"rounded": True}, {"rounded": True, "open_floor": True}):
        layer = front.layer(grid, **options)
        out = keras.ops.convert_to_numpy(layer(sound))
        steps = np.abs(255 * np.clip(out, 0, 1) - grid.quantized(values))
        assert steps.max() <= (1.001 if options else 0.501)
        assert not options or (steps > 0.5).mean() < 0.005
        _, gradient = value_and_gradient(lambda x, layer=layer: keras.ops.sum(layer(x) * weights), sound)
        gradient = keras.ops.convert_to_numpy(gradient)
        assert np.isfinite(gradient).all()
        assert (gradient != 0).any(axis=1).all()


@pytest.mark.parametrize("state", ["carried", "reset"])
def test_the_first_second_of_a_stream_is_the_clip_bit_for_bit(front: FrontEnd, state: str) -> None:
    sound = _sound(1)
    np.testing.assert_array_equal(front.stream(_hop(front), state).feed(sound), front.features(sound[np.newaxis]))


def test_every_window_of_a_stream_that_is_reset_is_a_clip(front: FrontEnd) -> None:
    sound, hop = _sound(1.9), 16 * _hop(front)
    clips = np.stack([sound[start : start + 16_000] for start in range(0, len(sound) - 15_999, hop)])
    np.testing.assert_array_equal(front.stream(_hop(front), "reset").feed(sound), front.features(clips))


@pytest.mark.parametrize("state", ["carried", "reset"])
@pytest.mark.parametrize("size", [37, 160, 512, 16_001])
def test_chunks_make_no_difference(front: FrontEnd, state: str, size: int) -> None:
    sound = _sound(2.33)
    whole = front.stream(_hop(front), state).feed(sound)
    assert whole.shape == (1 + 1330 // _hop(front), *front.shape)
    np.testing.assert_array_equal(_in_chunks(front.stream(_hop(front), state), sound, size), whole)


def test_silence_between_chunks_is_no_sound(front: FrontEnd) -> None:
    stream = front.stream(_hop(front))
    assert len(stream.feed(np.empty(0, np.int16))) == 0
    assert len(stream.feed(_sound(1))) == 1
    assert len(stream.feed(np.empty(0, np.int16))) == 0


@pytest.mark.parametrize("rows", [0, 1.5, 1001, -1])
def test_a_hop_that_does_not_fit_is_refused(front: FrontEnd, rows: float) -> None:
    with pytest.raises(RecipeError, match=f"{front.row_ms} ms or a multiple of it"):
        front.stream(int(rows * front.row_ms))
