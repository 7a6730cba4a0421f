"""A run folder written by code. The numbers are made up, the digits are real: this room only renders."""

import json
from pathlib import Path

import numpy as np
import pytest
from sklearn.datasets import load_digits

from tinyrobust.deploy.deploy_records import (
    DeviceLayer,
    DeviceObject,
    DeviceRecord,
    KernelParity,
    LayerParity,
    ParityRecord,
    TernaryKernel,
)
from tinyrobust.footprint.footprint_record import (
    BoardFit,
    BoardTime,
    DeviceFootprint,
    FootprintRecord,
    LayerFootprint,
    Quantity,
    TensorLifetime,
)
from tinyrobust.footprint.planner import Buffer, place
from tinyrobust.recipe import Recipe
from tinyrobust.reports.facts import DataFacts, RunFacts, StageTime
from tinyrobust.robustness.robustness_record import (
    AttackResult,
    Check,
    CleanAccuracy,
    Golden,
    MinimalDistance,
    RobustnessRecord,
    WorstCase,
)
from tinyrobust.robustness.statistics import wilson

EPSILONS = (0.05, 0.1, 0.2, 0.3)
EPOCHS = 40
SAMPLES = 200
# Survivors of 200 at each epsilon: (attack, crafted on, target) -> counts.
SURVIVORS = {
    ("fgsm", "keras", "keras"): (188, 171, 120, 77),
    ("fgsm", "keras", "int8"): (188, 172, 122, 80),
    ("pgd", "keras", "keras"): (185, 160, 67, 9),
    ("pgd", "keras", "int8"): (186, 161, 70, 13),
    ("square", "keras", "keras"): (187, 166, 88, 22),
    ("square", "keras", "int8"): (188, 167, 90, 24),
    ("square-int8", "int8", "int8"): (187, 165, 86, 20),
}
WORST = {"keras": (185, 159, 65, 8), "int8": (185, 160, 66, 9), "all": (184, 157, 61, 6)}
# name, operator, output, MACs, weights, kind, bits
LAYERS = [
    ("stem", "CONV_2D", [1, 8, 8, 16], 9216, 144, "int8", 8),
    ("block1", "CONV_2D", [1, 8, 8, 16], 147456, 2304, "ternary", 2),
    ("block2/depthwise", "DEPTHWISE_CONV_2D", [1, 4, 4, 16], 2304, 144, "ternary", 2),
    ("block2/pointwise", "CONV_2D", [1, 4, 4, 32], 8192, 512, "ternary", 2),
    ("block2/add", "ADD", [1, 4, 4, 32], 0, 0, "none", 0),
    ("block3", "CONV_2D", [1, 4, 4, 32], 147456, 9216, "ternary", 2),
    ("pool", "MEAN", [1, 32], 0, 0, "none", 0),
    ("dense1", "FULLY_CONNECTED", [1, 64], 2048, 2048, "ternary", 2),
    ("logits", "FULLY_CONNECTED", [1, 10], 640, 640, "int8", 8),
]


def history(epochs: int = EPOCHS) -> str:
    rows = []
    for epoch in range(1, epochs + 1):
        done = epoch / epochs
        wobble = 0.04 * np.sin(7.0 * epoch) * (1 - done)
        loss = 0.55 + 1.9 * np.exp(-6 * done) + wobble
        rows.append(
            {
                "epoch": epoch,
                "loss": loss,
                "accuracy": 1 - 0.8 * np.exp(-6 * done) - abs(wobble) / 3,
                "val_loss": loss + 0.05 + abs(wobble),
                "val_accuracy": 0.985 - 0.75 * np.exp(-5 * done) - abs(wobble) / 2,
                "learning_rate": 6e-3 * float(np.sin(np.pi * min(1, 0.02 + done) ** 0.6)),
                "quantized_fraction": [0.5, 0.75, 0.875, 1.0][min(3, int(4 * (epoch - 1) / epochs))],
                "seconds": 0.61,
            }
        )
    return "".join(json.dumps(row) + "\n" for row in rows)


def parity() -> ParityRecord:
    return ParityRecord(
        n=229,
        images="validation images first, then training images; none from the test set",
        twin_relative_error=3.1e-7,
        twin_tolerance=1e-4,
        accuracy_qkeras=0.98253,
        accuracy_int8=0.97817,
        accuracy_drop_points=0.43,
        accuracy_drop_tolerance=0.5,
        top1_agreement=0.99563,
        top1_tolerance=0.985,
        kernel_error_steps=0.31,
        kernel_error_tolerance=0.505,
        worst_kernel="stem",
        kernels=[
            KernelParity(layer="stem", largest_steps=0.31, mean_steps=0.1, relative_error=0.0042),
            KernelParity(layer="logits", largest_steps=0, mean_steps=0, relative_error=0),
        ],
        ternary_kernels=[TernaryKernel(tensor=layer[0], channels=16, most_values_per_channel=3) for layer in LAYERS[1:4]],
        layers=[LayerParity(layer=layer[0], relative_error=0.004 + 0.0031 * i) for i, layer in enumerate(LAYERS)],
        worst_layer="logits",
        operators=["ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MEAN"],
        arena_bytes=7440,
    )


CHECKS = (
    Check(name="zero-gradients", title="Zero gradients", raised=False, explanation="1 % are zero.", figures={"keras": 0.01}),
    Check(name="more-steps", title="More steps", raised=False, explanation="Five times the steps break 0 more."),
)


def robustness() -> RobustnessRecord:
    return RobustnessRecord(
        model="model.tflite",
        model_sha256="5e" * 32,
        dataset="digits",
        dataset_fingerprint="ab" * 32,
        protocol="quick",
        seed=7,
        epsilons={"linf": list(EPSILONS), "l2": [0.5]},
        headline_epsilon=0.1,
        samples=SAMPLES,
        clean=[
            CleanAccuracy(target="keras", test=wilson(353, 360), attacked=wilson(196, SAMPLES)),
            CleanAccuracy(target="int8", test=wilson(352, 360), attacked=wilson(195, SAMPLES)),
        ],
        attacks=[
            AttackResult(
                target=target,
                attack=attack,
                crafted_on=crafted_on,
                norm="linf",
                epsilon=epsilon,
                parameters={"kind": attack.split("-")[0], "steps": 20, "relative_step": 0.125},
                robust=wilson(count, SAMPLES),
                given=SAMPLES,
                largest_distance=epsilon,
                seconds=0.41 + 3 * epsilon,
                queries=21_000,
                forward=21_500,
                backward=20_000,
            )
            for (attack, crafted_on, target), counts in SURVIVORS.items()
            for epsilon, count in zip(EPSILONS, counts, strict=True)
        ]
        + [
            AttackResult(
                target="keras",
                attack="cw-l2",
                crafted_on="keras/T",
                norm="l2",
                epsilon=0.5,
                parameters={"kind": "cw"},
                robust=wilson(31, 50),
                given=48,
                largest_distance=0.49,
                seconds=3.5,
                queries=0,
                forward=9_000,
                backward=9_000,
                on_grid=wilson(17, 19),
            )
        ],
        worst=[
            WorstCase(target=target, norm="linf", epsilon=epsilon, robust=wilson(count, SAMPLES))
            for target, counts in WORST.items()
            for epsilon, count in zip(EPSILONS, counts, strict=True)
        ]
        + [WorstCase(target=target, norm="l2", epsilon=0.5, robust=wilson(30, SAMPLES)) for target in WORST],
        minimal=[
            MinimalDistance(target="keras", norm="linf", within=wilson(190, 196), quartile=0.13, median=0.21),
            MinimalDistance(target="int8", norm="l2", within=wilson(90, 195), quartile=0.41, median=None),
        ],
        headline=wilson(WORST["all"][1], SAMPLES),
        golden=Golden(checked=2600, differing=3),
        checks=list(CHECKS),
        reliable=True,
        notes=["Left out: transfer, because there is no surrogate."],
        seconds=48.3,
    )


def generated() -> DeviceFootprint:
    """The C of the model, on an emulated board and on two real ones."""
    emulation = DeviceRecord(
        model="model.tflite",
        sha256="5e" * 32,
        board="mps2-an386",
        core="Arm MPS2 with image AN386: Cortex-M4F, DSP instructions",
        compiler="arm-none-eabi-gcc 12.2.1",
        optimisation="-Os",
        code=2204,
        rodata=9120,
        data=0,
        bss=1536,
        output_bytes=10,
        stack=228,
        objects=[DeviceObject(name="model.o", code=2204, rodata=9120, data=0, bss=1536)],
        instructions=1_234_560,
        layers=[
            DeviceLayer(
                index=index,
                name=layer[0],
                op=layer[1],
                kernel="tr_conv2d" if layer[4] else "tr_add",
                weights="trit" if layer[4] else "",
                requantization="narrow" if layer[4] else "",
                macs=layer[3],
                weight_bytes=layer[4] // 5,
                table_bytes=16,
                scratch_bytes=64,
                instructions=100_000 + 7 * index,
            )
            for index, layer in enumerate(LAYERS)
        ],
        inputs="all 127, all -128, then random bytes",
        n=3,
        golden="tflite-micro 0",
        equal=3,
        right=None,
    )

    def quantity(value: int, unit: str, provenance: str, how: str) -> Quantity:
        return Quantity.model_validate({"value": value, "unit": unit, "provenance": provenance, "how": how})

    fits = {"flash": 2**20, "ram": 2**18, "flash_needed": 11_324, "ram_needed": 1774, "fits": True, "binds": "nothing"}
    return DeviceFootprint(
        flash=quantity(11_324, "B", "measured", "code 2204, tables and weights 9120"),
        ram=quantity(1774, "B", "emulated", "arena, outputs and stack"),
        instructions=quantity(1_234_560, "instructions", "emulated", "not cycles"),
        bits_per_weight=1.61,
        boards=[BoardFit.model_validate({"board": "nrf52840", "title": "Nordic nRF52840 DK", **fits})],
        times=[
            BoardTime(
                board="nrf52840",
                title="Nordic nRF52840 DK",
                time=quantity(19_290, "us", "modelled", "at least: 1234560 cycles at 64 MHz with flash as fast as the core"),
                at_most=quantity(38_580, "us", "modelled", "at most: 2469120 cycles at 64 MHz without a cache"),
            )
        ],
        emulation=emulation,
    )


def footprint() -> FootprintRecord:
    sizes = [64, 1024, 1024, 1024, 512, 512, 512, 512, 32, 64, 16]
    layers = []
    for index, (name, op, output, macs, weights, kind, bits) in enumerate(LAYERS):
        layers.append(
            LayerFootprint(
                index=index,
                name=name,
                op=op,
                input_shapes=[[1, 8, 8, 1]],
                output_shape=output,
                macs=macs,
                weight_count=weights,
                weight_bytes=weights,
                weight_kind=kind,
                weight_bits_needed=bits,
                weight_bytes_packed=-(-weights * bits // 8),
                bias_bytes=4 * output[-1] if weights else 0,
                quantization_bytes=16 * output[-1] if weights else 16,
                activation_bytes=sizes[index] + sizes[index + 1],
                arena_bytes=sizes[index] + sizes[index + 1],
            )
        )
    names = ["input", *(layer[0] for layer in LAYERS)]
    buffers = [Buffer(names[i], sizes[i], first=i - 1, last=min(i, len(LAYERS) - 1)) for i in range(len(names))]
    lifetimes = [
        TensorLifetime(name=buffer.name, bytes=buffer.size, first=buffer.first, last=buffer.last, offset=offset)
        for buffer, offset in zip(buffers, place(buffers), strict=True)
    ]
    weights = sum(layer.weight_bytes for layer in layers)
    packed = sum(layer.weight_bytes_packed for layer in layers)

    def computed(value: int, how: str, unit: str = "B") -> Quantity:
        return Quantity.model_validate({"value": value, "unit": unit, "provenance": "computed", "how": how})

    def measured(value: int, how: str) -> Quantity:
        return Quantity(value=value, unit="B", provenance="measured", how=how)

    size, arena = 24_408, 2048
    boards = [
        ("stm32f030", "STM32F030F4 (Cortex-M0)", 16 * 1024, 4096),
        ("samd21", "Arduino Zero (SAMD21)", 256 * 1024, 32 * 1024),
        ("rp2040", "Raspberry Pi Pico (RP2040)", 2048 * 1024, 264 * 1024),
        ("nrf52840", "Nordic nRF52840 DK", 1024 * 1024, 256 * 1024),
        ("attiny", "ATtiny1614", 16 * 1024, 1536),
    ]
    return FootprintRecord(
        model="model.tflite",
        sha256="5e" * 32,
        operators=["ADD", "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MEAN"],
        input_shape=[1, 8, 8, 1],
        output_shape=[1, 10],
        file=measured(size, "size of the file"),
        weights_stored=measured(weights, "weight buffers in the file"),
        weights_packed=computed(packed, "the same weights at the bits that their values need"),
        bias=measured(880, "bias buffers in the file"),
        quantization=measured(3600, "scales, zero points and ranges in the file"),
        structure=computed(size - weights - 880 - 3600, "the rest of the file: graph, names, options, shapes"),
        macs=computed(sum(layer.macs for layer in layers), "from shapes", "MAC"),
        arena=computed(arena, "greedy plan, 16-byte aligned"),
        tflm_flash=computed(size + 40_448, "the file and code"),
        tflm_arena=measured(arena + 2000, "the smallest that runs"),
        layers=layers,
        lifetimes=lifetimes,
        boards=[
            BoardFit.model_validate(
                {
                    "board": name,
                    "title": title,
                    "flash": flash,
                    "ram": ram,
                    "flash_needed": size,
                    "ram_needed": arena,
                    "fits": size <= flash and arena <= ram,
                    "binds": " and ".join([w for w, b in (("flash", size > flash), ("ram", arena > ram)) if b]) or "nothing",
                }
            )
            for name, title, flash, ram in boards
        ],
        fit_counts="Counted: flash = the bytes of the .tflite file, RAM = the planned arena. Not counted: runtime, stack.",
        device=generated(),
        device_missing="",
    )


def write_examples(path: Path, count: int = 6) -> None:
    digits = load_digits()
    image = (digits.images[:SAMPLES, :, :, None] * 255 / 16).astype(np.uint8)
    label = digits.target[:SAMPLES].astype(np.int64)
    change = 0.1 * np.sign(np.random.default_rng(1).normal(size=image[:count].shape)).astype(np.float32)
    adversarial = np.clip(image[:count].astype(np.float32) / 255 + change, 0, 1)
    arrays = {
        "index": np.arange(SAMPLES),
        "label": label,
        "clean/int8": label,
        "example/index": np.arange(count),
        "example/label": label[:count],
        "example/image": image[:count],
        "example/adversarial": adversarial,
        "example/predicted": (label[:count] + 5) % 10,
        "example/attack": np.asarray("pgd"),
        "example/target": np.asarray("int8"),
        "example/epsilon": np.asarray(0.1),
    }
    np.savez_compressed(path, allow_pickle=False, **arrays)


@pytest.fixture
def facts() -> RunFacts:
    digits = Recipe.model_validate(
        {
            "name": "digits-stq",
            "description": "Handwritten digits: a stochastic-ternary network.",
            "data": {"name": "digits"},
            "network": {"kind": "stqnet", "width": 0.25},
            "precision": {
                "rule": [
                    {"layers": "stem|logits", "weights": "fixed-point"},
                    {"layers": ".*", "weights": "stochastic-ternary"},
                ]
            },
            "train": {"epochs": EPOCHS},
            "robustness": {"epsilons": EPSILONS, "headline": 0.1},
        }
    )
    return RunFacts(
        name=digits.run_name,
        recipe=digits,
        versions={"tinyrobust": "0.1.0", "tensorflow": "2.21.0", "keras": "3.15.0", "qkeras-v3": "1.2.1"},
        seeds={"recipe": 7, "attacks": 7},
        data=DataFacts(
            name="digits",
            title="Optical recognition of handwritten digits",
            licence="CC BY 4.0",
            classes=tuple("0123456789"),
            input_shape=(8, 8, 1),
            train=1208,
            validation=229,
            test=360,
            fingerprint="ab" * 32,
        ),
        stages=(
            StageTime(name="train", seconds=31.2),
            StageTime(name="export", seconds=9.8),
            StageTime(name="attack", seconds=48.3),
        ),
        command="tinyrobust run digits-stq",
    )


@pytest.fixture
def folder(tmp_path: Path, facts: RunFacts) -> Path:
    """A complete run folder."""
    (tmp_path / "recipe.toml").write_text(facts.recipe.to_toml(), encoding="utf-8")
    (tmp_path / "history.jsonl").write_text(history(), encoding="utf-8")
    parity().save(tmp_path / "parity.json")
    robustness().save(tmp_path / "robustness.json")
    footprint().save(tmp_path / "footprint.json")
    write_examples(tmp_path / "per_sample.npz")
    return tmp_path


@pytest.fixture
def doubted(folder: Path) -> str:
    """The run folder's record with a raised check; its explanation."""
    explanation = "Gradient masking: 66% are zero."
    check = Check(name="softmax", title="Softmax", raised=True, explanation=explanation)
    robustness().model_copy(update={"checks": [*CHECKS, check], "reliable": False}).save(folder / "robustness.json")
    return explanation
