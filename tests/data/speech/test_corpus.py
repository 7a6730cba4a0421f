import shutil
from pathlib import Path

import pytest

from tinyrobust.data.speech.background import read_background
from tinyrobust.data.speech.corpus import PARTS, Corpus, find
from tinyrobust.data.speech.partition import sha1_part
from tinyrobust.errors import DataError
from tinyrobust.recipe.frontend import CLIP_SAMPLES
from tinyrobust.recipe.speech import Speech

REAL_WORDS = ("up", "down", "left", "right", "go", "one", "two", "three")
OWN = Speech(task="own-words", words=("low", "high"))


def corpus(folder: Path, speech: Speech = OWN, seed: int = 7) -> Corpus:
    return find(folder, speech, read_background(folder), seed)


def speakers(found: Corpus, part: str) -> set[str]:
    return {clip.path.name.partition("_nohash_")[0] for clip in found.parts[part] if clip.start is None}


@pytest.mark.parametrize(
    ("name", "part"),
    [
        # Of the archive's own lists: v0.02 puts these speakers there.
        ("0c540988_nohash_0.wav", "test"),
        ("6d818f6c_nohash_1.wav", "validation"),
        ("004ae714_nohash_0.wav", "train"),
        ("0c540988_nohash_3.flac", "test"),
    ],
)
def test_the_rule_gives_what_the_archive_lists(name: str, part: str) -> None:
    assert sha1_part(name) == part


def test_lists_and_rule_agree_on_every_real_clip(shared: Path) -> None:
    folder = shared / "data" / "speech_commands"
    listed = {
        line: part
        for part, name in (("test", "testing_list.txt"), ("validation", "validation_list.txt"))
        for line in (folder / name).read_text().split()
    }
    clips = sorted(path for path in folder.glob("*/*_nohash_*.flac"))
    assert len(clips) == 4682
    ruled = {path: sha1_part(path.name) for path in clips}
    assert ruled == {path: listed.get(f"{path.parent.name}/{path.name}", "train") for path in clips}


def test_the_real_task_has_the_counts_that_are_known(shared: Path) -> None:
    found = corpus(shared / "data" / "speech_commands", Speech(task="own-words", words=REAL_WORDS))
    assert found.classes == (*REAL_WORDS, "unknown", "silence")
    counts = {part: [sum(c.label == label for c in found.parts[part]) for label in range(10)] for part in PARTS}
    assert counts == {"train": [350] * 10, "validation": [40] * 10, "test": [130] * 9 + [80]}
    assert found.partition == "lists"
    assert found.notes == ("silence of the test part: the 80 clips in _silence_",)


@pytest.mark.parametrize("with_lists", [False, True], ids=["rule", "lists"])
def test_no_speaker_is_in_two_parts(tones: Path, tmp_path: Path, with_lists: bool) -> None:
    folder = tones
    if with_lists:
        folder = Path(shutil.copytree(tones, tmp_path / "tones"))
        # As .flac in the lists and .wav on disk: who repacks a corpus keeps its lists.
        for part, name in ((3, "testing_list.txt"), (4, "validation_list.txt")):
            names = [f"{p.parent.name}/{p.stem}.flac" for p in folder.glob("*/*_nohash_*") if int(p.name[:8], 16) % 5 == part]
            (folder / name).write_text("\n".join(names))
    found = corpus(folder)
    assert found.partition == ("lists" if with_lists else "SHA-1 rule")
    assert found.notes == ()
    parts = [speakers(found, part) for part in PARTS]
    assert sum(map(len, parts)) == len(set.union(*parts))
    assert all(parts)
    if with_lists:
        assert {int(name, 16) % 5 for name in parts[2]} == {3}


def test_validation_speakers_can_be_learned_from(shared: Path) -> None:
    """Whole speakers move, the same ones at every share; the test part stays."""
    asked = Speech(task="own-words", words=REAL_WORDS, unknown=0)
    shares = (1.0, 0.5, 0.2)
    found = [
        corpus(shared / "data" / "speech_commands", asked.model_copy(update={"validation_speakers": share})) for share in shares
    ]
    staying = [speakers(one, "validation") for one in found]
    assert staying[0] > staying[1] > staying[2]
    for one, stay, share in zip(found, staying, shares, strict=True):
        assert not stay & speakers(one, "train")
        assert stay | speakers(one, "train") == staying[0] | speakers(found[0], "train")
        assert one.parts["test"] == found[0].parts["test"]
        clips = [sum(clip.label < len(REAL_WORDS) for clip in one.parts[part]) for part in ("train", "validation")]
        assert sum(clips) == 8 * 390
        # Three standard deviations of so many independent speakers.
        assert abs(len(stay) / len(staying[0]) - share) <= 3 * (share * (1 - share) / len(staying[0])) ** 0.5
    assert "80% of the validation part's speakers are of the training part" in found[2].notes


def test_validation_speakers_are_named_where_they_are_the_cause(tones: Path) -> None:
    with pytest.raises(DataError, match=r"none of .*, with data\.speech\.validation_speakers = 1e-06") as caught:
        corpus(tones, OWN.model_copy(update={"validation_speakers": 1e-6}))
    assert "raise it" in str(caught.value.hint)


def test_unknown_and_silence_are_multiples_of_an_average_word(tones: Path) -> None:
    found = corpus(tones, OWN.model_copy(update={"unknown": 0.5, "silence": 2.0}))
    for part in PARTS:
        counts = [sum(clip.label == label for clip in found.parts[part]) for label in range(4)]
        average = (counts[0] + counts[1]) / 2
        assert counts[2:] == [round(0.5 * average), round(2 * average)]


def test_unknown_words_are_all_others_and_drawn_anew_by_seed_for_training_alone(tones: Path) -> None:
    few = OWN.model_copy(update={"unknown": 0.5})
    one, same, other = corpus(tones, few), corpus(tones, few), corpus(tones, few, seed=8)
    assert one == same
    assert one.parts["train"] != other.parts["train"]
    assert one.parts["validation"] == other.parts["validation"]
    assert one.parts["test"] == other.parts["test"]
    assert {clip.path.parent.name for clip in one.parts["train"] if clip.label == 2} == {"mid", "hum", "hiss"}


def test_silence_of_the_parts_is_cut_from_parts_of_the_recordings(tones: Path) -> None:
    found = corpus(tones, OWN.model_copy(update={"silence": 5.0}))
    length = 20 * CLIP_SAMPLES
    for part, (first, last) in {"train": (0, 0.8), "validation": (0.8, 0.9), "test": (0.9, 1)}.items():
        starts = [clip.start for clip in found.parts[part] if clip.start is not None]
        assert starts
        assert min(starts) >= first * length
        assert max(starts) + CLIP_SAMPLES <= last * length


def test_classes_can_be_left_out(tones: Path) -> None:
    assert corpus(tones, OWN.model_copy(update={"unknown": 0, "silence": 0})).classes == ("low", "high")
    assert corpus(tones, OWN.model_copy(update={"unknown": 0})).classes == ("low", "high", "silence")
    assert corpus(tones, Speech(task="all-words")).classes == ("high", "hiss", "hum", "low", "mid")


@pytest.mark.parametrize(
    ("speech", "message"),
    [
        pytest.param(Speech(), "yes, no, up.*Received: high, hiss, hum, low, mid.*own-words", id="12-class"),
        pytest.param(Speech(task="own-words", words=("low", "loud")), "low, loud. Received: high", id="word"),
    ],
)
def test_words_that_are_not_there_are_named(tones: Path, speech: Speech, message: str) -> None:
    with pytest.raises(DataError, match=message):
        corpus(tones, speech)


def test_a_class_without_clips_in_a_part_is_named(shared: Path) -> None:
    with pytest.raises(DataError, match=r"Expected train clips of every class\. Received: none of backward, bird"):
        corpus(shared / "data" / "speech_commands", Speech(task="all-words"))


def test_silence_needs_recordings(tones: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tones, tmp_path / "tones", ignore=shutil.ignore_patterns("_background*")))
    with pytest.raises(DataError, match=r"recordings of ten seconds.*silence = 0"):
        corpus(folder)


def test_clips_that_lists_name_and_are_not_there_are_counted(tones: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(tones, tmp_path / "tones"))
    (folder / "testing_list.txt").write_text("low/00000003_nohash_0.wav\nhigh/00000003_nohash_0.wav\nmid/00000003_nohash_0.wav")
    (folder / "validation_list.txt").write_text(
        "low/00000004_nohash_0.wav\nhigh/00000004_nohash_0.wav\nhum/00000004_nohash_0.wav\nlow/gone_nohash_0.wav\n"
    )
    assert corpus(folder).notes == ("1 of 7 clips that the lists name are not there",)


def test_words_played_backwards_are_further_unknown_training_clips(tones: Path) -> None:
    plain, made = corpus(tones), corpus(tones, OWN.model_copy(update={"backwards": 1.5}))
    assert {part: made.parts[part] for part in ("validation", "test")} == {p: plain.parts[p] for p in ("validation", "test")}
    added = made.parts["train"][len(plain.parts["train"]) :]
    assert made.parts["train"][: len(plain.parts["train"])] == plain.parts["train"]
    average = sum(clip.label < 2 for clip in plain.parts["train"]) / 2
    assert len(added) == round(1.5 * average)
    assert {clip.label for clip in added} == {made.classes.index("unknown")}
    assert all(clip.backwards and clip.name.startswith("backwards/") for clip in added)
    assert len({clip.path for clip in added}) == len(added)
    assert {clip.path for clip in added} <= {clip.path for clip in plain.parts["train"] if clip.start is None}
    assert {clip.path.parent.name for clip in added} >= {"low", "high"}
    assert corpus(tones, OWN.model_copy(update={"backwards": 1.5})) == made
    assert corpus(tones, OWN.model_copy(update={"backwards": 1.5}), seed=8).parts["train"] != made.parts["train"]


def test_quiet_silence_has_every_loudness_in_training_only(tones: Path) -> None:
    plain, quiet = corpus(tones), corpus(tones, OWN.model_copy(update={"quiet_silence": True}))
    silence = quiet.classes.index("silence")
    for part in PARTS:
        assert [clip.path for clip in quiet.parts[part]] == [clip.path for clip in plain.parts[part]]
        loudness = [clip.loudness for clip in quiet.parts[part] if clip.label == silence]
        assert all(0 <= one < 1 for one in loudness) if part == "train" else set(loudness) == {1.0}
        assert {clip.loudness for clip in quiet.parts[part] if clip.label != silence} == {1.0}
    assert len({clip.loudness for clip in quiet.parts["train"]}) > 2


def test_halves_of_different_words_are_joined_to_unknown_ones(tones: Path) -> None:
    plain, made = corpus(tones), corpus(tones, OWN.model_copy(update={"joined": 2.0}))
    assert {part: made.parts[part] for part in ("validation", "test")} == {p: plain.parts[p] for p in ("validation", "test")}
    added = made.parts["train"][len(plain.parts["train"]) :]
    assert len(added) == 2 * sum(clip.label < 2 for clip in plain.parts["train"]) / 2
    labels = {clip.path: clip.label for clip in plain.parts["train"] if clip.start is None}
    for clip in added:
        assert clip.then is not None
        assert clip.label == made.classes.index("unknown")
        assert labels[clip.path] != labels[clip.then.path]
    assert len({clip.name for clip in added}) > len(added) / 2
    assert corpus(tones, OWN.model_copy(update={"joined": 2.0})) == made
