"""`[data.speech]`: the task, the front end, the augmentation."""

from typing import Literal, Self

from pydantic import Field, model_validator

from tinyrobust.recipe.frontend import Frontend, Mfcc
from tinyrobust.recipe.table import Table

Range = tuple[float, float]
UNKNOWN, SILENCE = "unknown", "silence"
"""Classes that are no words: clips of other words, and clips without speech."""


class Masks(Table):
    """SpecAugment (Park et al. 2019): blocks of the features of a copy are set to the middle of their range."""

    time: int = Field(0, ge=0, description="How many blocks of frames.")
    time_width: int = Field(10, ge=1, description="At most so many frames each.")
    channels: int = Field(0, ge=0, description="How many blocks of channels (of mfcc: of coefficients).")
    channels_width: int = Field(2, ge=1, description="At most so many channels each.")


class SpeechAugment(Table):
    """Random changes to training clips, drawn anew for every copy; never to validation or test clips.

    All clips are copied `copies` times, once, and the copies' features stored; epoch e learns from copy e modulo `copies`.
    """

    copies: int = Field(0, ge=0, le=1000, description="0: the clips as they are.")
    shift_ms: int = Field(0, ge=0, le=500, description="Moved in time by up to this, either way.")
    noise: float = Field(0.0, ge=0, le=1, description="Probability that background noise is mixed in.")
    snr_db: Range = Field((0.0, 20.0), description="Of the clip to that noise.")
    colored: float = Field(0.0, ge=0, le=1, description="Share of that noise that is drawn, with a random spectrum.")
    room: float = Field(0.0, ge=0, le=1, description="Probability of a room's reflections.")
    room_ms: Range = Field((50.0, 500.0), description="Until they are softer by 60 dB.")
    room_db: Range = Field((-5.0, 15.0), description="Of the direct sound to all reflections.")
    gain_db: Range = Field((0.0, 0.0), description="Change of loudness.")
    speed: Range = Field((1.0, 1.0), description="Played so many times as fast; the pitch goes with it.")
    pitch: Range = Field((0.0, 0.0), description="Semitones; the speed stays. Slow: some 4 ms a clip, fifty times the rest.")
    response_db: float = Field(
        0.0, ge=0, le=30, description="Another microphone: at every octave louder or softer by up to this, either way."
    )
    masks: Masks = Masks()

    @model_validator(mode="after")
    def _ranges_rise(self) -> Self:
        for key in ("snr_db", "gain_db", "speed", "pitch", "room_ms", "room_db"):
            low, high = getattr(self, key)
            if low > high:
                raise ValueError(f"Expected {key} from low to high. Received: {low}, {high}")
        if not 0.5 <= self.speed[0] <= self.speed[1] <= 2:
            raise ValueError(f"Expected speeds from 0.5 to 2. Received: {self.speed}")
        if not 1 <= self.room_ms[0] <= self.room_ms[1] <= 1000:
            raise ValueError(f"Expected room_ms from 1 to 1000. Received: {self.room_ms}")
        return self


class Synthetic(Table):
    """Training clips that synthesizers speak, for recordings of few words and few accents; never validation or test clips.

    Other words alone would teach that what is synthetic is unknown: let them speak the task's words too.
    """

    unknown: float = Field(2.0, ge=0, le=100, description="Clips of other words, as a multiple of those of an average word.")
    keywords: float = Field(0.1, ge=0, le=100, description="Clips of each of the task's words, likewise.")
    words: tuple[str, ...] = Field((), description="The other words; when absent, several hundred common English ones.")
    engines: tuple[Literal["espeak-ng", "flite"], ...] = Field(
        ("espeak-ng", "flite"), min_length=1, description="What speaks. flite speaks English only, and more like a person."
    )
    accents: tuple[str, ...] = Field(
        ("en-us", "en-gb", "en-gb-scotland", "en-gb-x-rp", "en-gb-x-gbclan", "en-gb-x-gbcwmd", "en-029"),
        min_length=1,
        description="Languages and dialects of espeak-ng, as `espeak-ng --voices` names them.",
    )


class Speech(Table):
    """What is spotted, and the features that the network gets of it."""

    task: Literal["12-class", "all-words", "own-words"] = Field(
        "12-class",
        description="The benchmark (ten words, unknown, silence), a class for every folder, or `words`, unknown, silence.",
    )
    words: tuple[str, ...] = Field((), description="Of the task own-words.")
    unknown: float = Field(
        1.0, ge=0, le=100, description="Clips of other words, as a multiple of those of an average word; 0: no such class."
    )
    silence: float = Field(1.0, ge=0, le=100, description="Clips without speech, likewise.")
    backwards: float = Field(
        0.0,
        ge=0,
        le=10,
        description="Training clips played backwards, likewise: further unknown words, made of all spoken ones.",
    )
    joined: float = Field(
        0.0, ge=0, le=10, description="Likewise: clips made of the first half of one training clip and the second of another."
    )
    quiet_silence: bool = Field(
        False,
        description="Training silence is cut at a loudness from none to that of its recording, as TensorFlow's example does.",
    )
    validation_speakers: float = Field(
        1.0,
        gt=0,
        le=1,
        description="Share of the validation part's speakers who stay there; what the others say is learned from, too.",
    )
    synthetic: Synthetic | None = None
    frontend: Frontend = Mfcc(kind="mfcc")
    augment: SpeechAugment = SpeechAugment()

    @model_validator(mode="after")
    def _words_fit_the_task(self) -> Self:
        if (self.task == "own-words") != bool(self.words):
            raise ValueError(f'Expected words where task = "own-words", and only there. Received: {self.task}, {self.words}')
        made = self.backwards or self.joined or (self.synthetic and self.synthetic.unknown)
        if made and (self.task == "all-words" or not self.unknown):
            raise ValueError(
                f"Expected a class of unknown words for those that are made. Received: {self.task}, {self.unknown}"
            )
        if len(set(self.words)) != len(self.words):
            raise ValueError(f"Expected every word once. Received: {self.words}")
        if {UNKNOWN, SILENCE} & set(self.words):
            raise ValueError(f"Expected words that are spoken: unknown and silence are classes already. Received: {self.words}")
        return self
