import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tinyrobust.errors import RunFolderError
from tinyrobust.files import sha256
from tinyrobust.footprint.footprint_record import FootprintRecord
from tinyrobust.recipe.precision import Precision
from tinyrobust.recipe.start import FloatNetwork
from tinyrobust.reports import formats
from tinyrobust.reports.advice import ADVICE
from tinyrobust.reports.facts import RunFacts
from tinyrobust.reports.report import render
from tinyrobust.robustness.robustness_record import RobustnessRecord
from tinyrobust.training.teacher_record import TEACHER, TeacherRecord, TeacherRobustness

HOSTILE = "<script>alert('x')</script>"
SECTIONS = ("robustness", "checks", "examples", "training", "footprint", "device", "boards", "parity", "settings")
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Checks that every element is closed in order; gathers what the tests ask about."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += data

    @property
    def words(self) -> str:
        """The visible text, white space (also the kind that does not break) as single spaces."""
        return " ".join(self.text.split())

    def values(self, *attributes: str) -> list[str]:
        return [attrs[name] or "" for _, attrs in self.tags for name in attributes if name in attrs]


def rendered(folder: Path, facts: RunFacts) -> Page:
    return Page(render(folder, facts).read_text(encoding="utf-8"))


def plain(text: str) -> str:
    return " ".join(text.split())


def test_the_page_is_well_formed_and_has_every_section(folder: Path, facts: RunFacts) -> None:
    page = rendered(folder, facts)
    sections = {attrs["id"]: attrs.get("class") for tag, attrs in page.tags if tag == "section"}
    assert sections == dict.fromkeys(SECTIONS)
    links = {attrs["href"] for tag, attrs in page.tags if tag == "a"}
    assert links == {f"#{name}" for name in SECTIONS}


def test_ids_are_unique_and_every_reference_inside_of_the_page_is_met(folder: Path, facts: RunFacts) -> None:
    (folder / "teacher_history.jsonl").write_bytes((folder / "history.jsonl").read_bytes())
    text = render(folder, facts).read_text(encoding="utf-8")
    page = Page(text)
    ids = page.values("id")
    assert len(ids) == len(set(ids))
    wanted = set(re.findall(r"url\(#([^)]+)\)", text)) | {href[1:] for href in page.values("href")}
    assert wanted <= set(ids)
    assert {"teacher-loss-axes_1", "training-loss-axes_1"} <= set(ids)


def test_a_teacher_that_is_not_robust_is_warned_of(folder: Path, facts: RunFacts) -> None:
    (folder / "teacher_history.jsonl").write_bytes((folder / "history.jsonl").read_bytes())
    found = {}
    for accuracy in (0.6, 0.1):
        robust = (TeacherRobustness(epsilon=0.1, accuracy=accuracy),)
        TeacherRecord(images=512, accuracy=0.9, chance=0.1, steps=20, robust=robust).save(folder / TEACHER)
        found[accuracy] = rendered(folder, facts).words
    assert "90.0% of 512 validation images right, 60.0% under PGD-20 at 0.1" in found[0.6]
    assert "The teacher is not robust" not in found[0.6]
    assert "The teacher is not robust" in found[0.1]


def test_a_teacher_from_a_file_has_no_curves_and_is_shown_all_the_same(folder: Path, facts: RunFacts) -> None:
    (folder / "teacher_history.jsonl").write_text(json.dumps({"epoch": 0, "val_accuracy": 0.9, "seconds": 1.0}) + "\n")
    robust = (TeacherRobustness(epsilon=0.1, accuracy=0.6),)
    TeacherRecord(images=512, accuracy=0.9, chance=0.1, steps=20, robust=robust).save(folder / TEACHER)
    assert "90.0% of 512 validation images right, 60.0% under PGD-20 at 0.1" in rendered(folder, facts).words


def test_the_float_network_that_training_starts_from_is_shown(folder: Path, facts: RunFacts) -> None:
    (folder / "float_history.jsonl").write_bytes((folder / "history.jsonl").read_bytes())
    assert "The float network before" not in rendered(folder, facts).words
    start = facts.recipe.train.model_copy(update={"start": FloatNetwork(kind="float-network", epochs=2)})
    facts = facts.model_copy(update={"recipe": facts.recipe.model_copy(update={"train": start})})
    assert "The float network before" in rendered(folder, facts).words


def test_the_page_loads_nothing(folder: Path, facts: RunFacts) -> None:
    text = render(folder, facts).read_text(encoding="utf-8")
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object", "embed", "base", "form"}
    assert all(value.startswith("data:image/png;base64,") for value in page.values("src"))
    assert all(value.startswith("#") for value in page.values("href", "xlink:href"))
    assert not re.search(r"https?://|@import|url\((?!#)", text)


def test_weights_that_the_file_cannot_hold_are_said(folder: Path, facts: RunFacts) -> None:
    said = "The weights of stem are the farthest from the network's: by 0.42 % of their norm."
    assert said in rendered(folder, facts).words
    parity = folder / "parity.json"
    parity.write_text(parity.read_text().replace("0.0042", "0.0"))
    assert "farthest from the network's" not in rendered(folder, facts).words


def test_every_figure_is_the_record_s(folder: Path, facts: RunFacts) -> None:
    words = rendered(folder, facts).words
    attacked = RobustnessRecord.load(folder / "robustness.json")
    sized = FootprintRecord.load(folder / "footprint.json")
    shares = [attacked.headline, *(row.robust for row in attacked.attacks)]
    shares += [share for row in attacked.clean for share in (row.test, row.attacked)]
    for share in shares:
        assert plain(formats.proportion(share)) in words
    for row in attacked.worst:
        assert f"{plain(formats.percent(row.robust.value))}{formats.interval(row.robust)}" in words
    for quantity in (
        sized.file,
        sized.weights_stored,
        sized.weights_packed,
        sized.bias,
        sized.structure,
        sized.arena,
        sized.macs,
    ):
        assert f"{quantity.value:,} {quantity.unit}" in words
        assert f"{quantity.provenance}: {quantity.how}" in words
    for layer in sized.layers:
        numbers = (layer.macs, layer.weight_count, layer.weight_bytes, layer.weight_bytes_packed, layer.bias_bytes)
        assert f"{layer.index} {layer.name}" in words
        assert all(f"{number:,}" in words for number in (*numbers, layer.quantization_bytes, layer.arena_bytes))
    for board in sized.boards:
        assert f"{board.title}{'✓' if board.fits else '✗'} {formats.verdict(board)}" in words


def test_the_c_is_shown_with_all_its_figures(folder: Path, facts: RunFacts) -> None:
    words = rendered(folder, facts).words
    device = FootprintRecord.load(folder / "footprint.json").device
    assert device
    for quantity in (device.flash, device.ram, device.instructions, device.times[0].time):
        assert f"{quantity.provenance}: {quantity.how}" in words
    assert "11,324 B" in words
    assert "outputs equal those of tflite-micro 0 on 3 of 3 inputs" in words
    assert "19.3" in words
    for layer in device.emulation.layers:
        assert f"{layer.kernel}" in words
        assert f"{layer.instructions:,}" in words


def test_where_the_c_was_not_measured_the_reason_is_shown(folder: Path, facts: RunFacts) -> None:
    record = FootprintRecord.load(folder / "footprint.json")
    record.model_copy(update={"device": None, "device_missing": "no make <here>"}).save(folder / "footprint.json")
    assert "The generated C was not measured: no make <here>" in rendered(folder, facts).words


def test_the_headline_says_n_interval_and_meaning(folder: Path, facts: RunFacts) -> None:
    words = rendered(folder, facts).words
    assert "97.8 % n = 360, 95 % interval 95.7 to 98.9 %" in words
    assert "at L∞ epsilon 0.1, 78.5 % (n = 200, 72.3 to 83.6) of the attacked test samples" in words
    assert "upper bound" in words
    assert "raised no warning" in words


def test_warnings_come_first(folder: Path, facts: RunFacts, doubted: str) -> None:
    words = rendered(folder, facts).words
    assert words.index(doubted) < words.index("worst-case robust accuracy")
    assert "raised no warning" not in words


def test_what_the_curves_of_a_watched_training_say_is_a_warning(folder: Path, facts: RunFacts) -> None:
    rows = [json.loads(line) for line in (folder / "history.jsonl").read_text(encoding="utf-8").splitlines()]
    for number, row in enumerate(rows):
        robust = 0.5 if number == 1 else 0.4
        row |= {"val_robust_accuracy": robust, "val_attack_gain": 1.0, "val_zero_gradients": 0.0}
        row |= {"best_epoch": min(number + 1, 2), "rollbacks": 0}
    (folder / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    page = rendered(folder, facts)
    assert "Read with care: 1 warning" in page.words
    assert "validation images was 50.0 % after epoch 2, and 40.0 % after the last" in page.words
    assert "Robust accuracy on validation images was highest after epoch 2." in page.words
    assert any(one.startswith("val_robust_accuracy over") for one in page.values("aria-label"))
    assert not any(one.startswith("rollbacks over") for one in page.values("aria-label"))


@pytest.mark.usefixtures("doubted")
def test_an_unreliable_figure_says_so_wherever_it_stands(folder: Path, facts: RunFacts) -> None:
    page = rendered(folder, facts)
    for words in (
        "Unreliable: 1 warning",
        "Unreliable: worst-case robust accuracy",
        "it is not to be trusted",
        "Robustness unreliable",
    ):
        assert words in page.words
    assert "#check-softmax" in page.values("href")
    assert "check-softmax" in page.values("id")


@pytest.mark.usefixtures("doubted")
def test_a_raised_check_says_what_to_do(folder: Path, facts: RunFacts) -> None:
    assert rendered(folder, facts).words.count(ADVICE["softmax"]) == 1


def test_other_evaluations_of_the_same_file_are_shown(folder: Path, facts: RunFacts, doubted: str) -> None:
    (folder / "model.tflite").write_bytes(b"the file")
    record = RobustnessRecord.load(folder / "robustness.json")
    same = {"model_sha256": sha256(folder / "model.tflite"), "protocol": "paper"}
    for name, changes in (("paper", same), ("older", {"protocol": "of another file"})):
        (folder / f"attack-{name}").mkdir()
        record.model_copy(update=changes).save(folder / f"attack-{name}" / "robustness.json")
    page = rendered(folder, facts)
    assert "The same file under the protocol paper unreliable Evaluated apart" in page.words
    assert "of another file" not in page.words
    assert page.words.count(doubted) == 3  # above, among the checks, and at the other evaluation
    assert page.words.count("Robust accuracy in L∞") == 2
    assert len(page.values("id")) == len(set(page.values("id")))


def test_a_cascade_says_so(folder: Path, facts: RunFacts) -> None:
    said = "a row says what stands after it"
    assert said not in rendered(folder, facts).words
    record = RobustnessRecord.load(folder / "robustness.json")
    record.model_copy(update={"cascade": True}).save(folder / "robustness.json")
    assert said in rendered(folder, facts).words


def test_checks_distances_and_passes_are_shown(folder: Path, facts: RunFacts) -> None:
    words = rendered(folder, facts).words
    record = RobustnessRecord.load(folder / "robustness.json")
    assert all(plain(f"{check.title}{check.name} ✓ {check.explanation}") in words for check in record.checks)
    assert "3 of 2,600 differ" in words
    assert "there is no surrogate" in words
    assert "0.41 not reached 46.2 % (n = 195" in words
    assert "9,000 9,000 89.5 % (n = 19" in words
    assert "samples, fewer where an attack is slow" in words


def test_a_broken_parity_is_a_warning(folder: Path, facts: RunFacts) -> None:
    path = folder / "parity.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"accuracy_drop_points": 0.43', '"accuracy_drop_points": 3.5'))
    words = rendered(folder, facts).words
    assert "Parity does not hold: Accuracy lost from QKeras to int8" in words
    assert "✗ broken" in words


@pytest.mark.parametrize(
    ("missing", "absent"),
    [
        (("robustness.json", "per_sample.npz"), {"robustness"}),
        (("per_sample.npz",), {"examples"}),
        (("history.jsonl",), {"training"}),
        (("footprint.json",), {"footprint"}),
        (("parity.json",), {"parity"}),
        (
            ("robustness.json", "per_sample.npz", "history.jsonl", "footprint.json", "parity.json"),
            {"robustness", "training", "footprint", "parity"},
        ),
    ],
    ids=["not attacked", "no pictures", "no history", "no footprint", "not exported", "nothing"],
)
def test_what_is_missing_is_said_in_a_sentence(
    folder: Path, facts: RunFacts, missing: tuple[str, ...], absent: set[str]
) -> None:
    for name in missing:
        (folder / name).unlink()
    page = rendered(folder, facts)
    assert {attrs["id"] for tag, attrs in page.tags if tag == "section" and attrs.get("class") == "absent"} == absent
    assert ("not measured" in page.words) == bool(absent & {"robustness", "footprint"})


def test_hostile_names_stay_text(folder: Path, facts: RunFacts) -> None:
    path = folder / "footprint.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"stem"', f'"{HOSTILE}$x_^$"').replace("Arduino Zero", HOSTILE))
    for name in ("robustness.json", "parity.json"):
        path = folder / name
        path.write_text(path.read_text(encoding="utf-8").replace('"pgd"', f'"{HOSTILE}"').replace('"logits"', f'"{HOSTILE}"'))
    assert facts.data is not None
    data = facts.data.model_copy(update={"classes": (HOSTILE, *facts.data.classes[1:]), "title": HOSTILE})
    page = rendered(
        folder, facts.model_copy(update={"name": HOSTILE, "data": data, "versions": {HOSTILE: HOSTILE}, "command": HOSTILE})
    )
    assert page.text.count(HOSTILE) >= 8
    assert "script" not in {tag for tag, _ in page.tags}


def test_the_same_records_give_the_same_bytes(folder: Path, facts: RunFacts) -> None:
    first = render(folder, facts).read_bytes()
    assert render(folder, facts).read_bytes() == first


def test_phases_are_shown_only_where_channels_are_drawn(folder: Path, facts: RunFacts) -> None:
    assert "phases are those of the stochastic schedule" in rendered(folder, facts).words
    plain = Precision.model_validate({"rule": [{"layers": ".*", "weights": "ternary"}]})
    page = rendered(folder, facts.model_copy(update={"recipe": facts.recipe.model_copy(update={"precision": plain})}))
    assert "stochastic schedule" not in page.words
    assert "Quantized channels" not in page.words


def test_further_curves_and_gaps_are_drawn(folder: Path, facts: RunFacts) -> None:
    (folder / "history.jsonl").write_text(
        '{"epoch": 1, "loss": 2.0, "cross_entropy": 2.0, "jacobian": 0.5}\n'
        '{"epoch": 2, "loss": null, "cross_entropy": null, "jacobian": 0.25}\n'
    )
    page = rendered(folder, facts)
    assert "2 epochs" in page.words
    assert "jacobian" in page.words
    assert "cross_entropy" not in page.words  # it is the loss


@pytest.mark.parametrize(
    ("name", "content"), [("history.jsonl", "[1]\n"), ("per_sample.npz", "no zip"), ("robustness.json", "{}")]
)
def test_a_broken_record_is_named(folder: Path, facts: RunFacts, name: str, content: str) -> None:
    (folder / name).write_text(content)
    with pytest.raises(RunFolderError, match=re.escape(name)):
        render(folder, facts)
    assert not (folder / "report.html").exists()
