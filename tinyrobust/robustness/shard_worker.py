"""What a process that makes pieces does: it makes the same runner as the evaluation; pieces of another one would be refused."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, ClassVar

import keras
import numpy as np
from pydantic import TypeAdapter

from tinyrobust.attacks.specs import Attack, AttackSpec
from tinyrobust.data.speech.frontend_record import FrontendRecord
from tinyrobust.errors import TinyRobustError
from tinyrobust.execution.executor import Channel
from tinyrobust.quantizers import layers  # noqa: F401 - so that Keras knows them when it loads a network
from tinyrobust.recipe.robustness import Robustness
from tinyrobust.records import Record
from tinyrobust.robustness.lineup import Lineup
from tinyrobust.robustness.outcomes import Subset, inputs
from tinyrobust.robustness.prepare import FEW, fit_to_few, prepared
from tinyrobust.robustness.protocol import Protocol
from tinyrobust.robustness.runner import Runner
from tinyrobust.robustness.scope import scope
from tinyrobust.robustness.shards import Piece
from tinyrobust.robustness.targets import Hearing, InputRange
from tinyrobust.training.fit import seed_everything


class Task(Record):
    """What a worker must know of the evaluation; beside it lie the networks and the attacked samples.

    Attributes:
        tflite: The file that is attacked.
        output: The evaluation's folder.
        networks: How many there are.
        surrogate: Whether there is one.
        settings: Of the evaluation.
        protocol: Of the evaluation.
        seed: Of all draws.
        fingerprint: Of the data.
        temperature: As the evaluation found it.
        input_range: As the evaluation found it.
        frontend: Where sound is attacked.
        learns: Whether there are samples to learn on.
    """

    SCHEMA: ClassVar[str] = "tinyrobust.shard/1"
    tflite: Path
    output: Path
    networks: int
    surrogate: bool
    settings: dict[str, Any]
    protocol: dict[str, Any]
    seed: int
    fingerprint: str
    temperature: float | None
    input_range: InputRange
    frontend: FrontendRecord | None = None
    learns: bool = False


def write(
    folder: Path,
    runner: Runner,
    settings: Robustness,
    protocol: Protocol,
    fingerprint: str,
    surrogate: Any,
    output: Path,
    frontend: FrontendRecord | None = None,
) -> None:
    """Writes what the workers of an evaluation need into `folder`.

    Raises:
        TinyRobustError: A network cannot be saved.
    """
    lineup, subset = runner.lineup, runner.subset
    for name, network in _named(lineup.given, surrogate):
        try:
            network.save(folder / f"{name}.keras")
        except Exception as error:  # whatever the layers of a stranger's network raise
            raise TinyRobustError(
                f"Expected a network that Keras can save, for several processes. Received: {error}", hint="Leave --jobs out."
            ) from error
    np.savez(folder / "subset.npz", allow_pickle=False, index=subset.index, image=subset.image, label=subset.label)
    if runner.lesson:
        np.savez(folder / "lesson.npz", allow_pickle=False, x=runner.lesson[0], y=runner.lesson[1])
    Task(
        tflite=lineup.flashed.model_file.path.absolute(),
        output=output.absolute(),
        networks=len(lineup.given),
        surrogate=surrogate is not None,
        settings=settings.model_dump(mode="json"),
        protocol=protocol.model_dump(mode="json", by_alias=True),
        seed=runner.seed,
        fingerprint=fingerprint,
        temperature=lineup.temperature,
        input_range=lineup.flashed.input_range,
        frontend=frontend,
        learns=runner.lesson is not None,
    ).save(folder / "task.json")


def _named(networks: Sequence[keras.Model], surrogate: keras.Model | None) -> list[tuple[str, keras.Model]]:
    named = [(f"network{place}", network) for place, network in enumerate(networks)]
    return named if surrogate is None else [*named, ("surrogate", surrogate)]


def make(piece: Piece, channel: Channel) -> None:
    """Makes a piece."""
    del channel
    specs: TypeAdapter[AttackSpec] = TypeAdapter(Attack)
    attack = specs.validate_python(piece.attack)
    _runner(piece.folder).make(attack, piece.epsilon, piece.number, np.asarray(piece.rows))


@lru_cache(maxsize=1)  # networks are loaded once in a process
def _runner(folder: Path) -> Runner:
    task = Task.load(folder / "task.json")
    seed_everything(task.seed)
    networks = [keras.models.load_model(folder / f"network{place}.keras", compile=False) for place in range(task.networks)]
    surrogate = keras.models.load_model(folder / "surrogate.keras", compile=False) if task.surrogate else None
    settings, protocol = Robustness.model_validate(task.settings), Protocol.model_validate(task.protocol)
    asked = scope(settings, sound=task.frontend is not None)
    with np.load(folder / "subset.npz", allow_pickle=False) as found:
        # What the targets say without attack is the evaluation's affair.
        subset = Subset(found["index"], found["image"], found["label"], {})
    lesson = None
    if task.learns:
        with np.load(folder / "lesson.npz", allow_pickle=False) as found:
            lesson = (found["x"], found["y"])
    lineup = Lineup(
        task.tflite,
        networks,
        surrogate=surrogate,
        input_range=task.input_range,
        temperature=task.temperature,
        seed=task.seed,
        hearing=Hearing(task.frontend) if task.frontend else None,
    )
    fit_to_few(lineup, inputs(subset.image[:FEW]), subset.label[:FEW], asked, protocol)
    return prepared(
        lineup,
        subset,
        asked,
        protocol,
        task.seed,
        task.fingerprint,
        surrogate,
        task.output,
        frontend=task.frontend,
        lesson=lesson,
    )
