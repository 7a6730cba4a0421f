"""Residual sums that their convolutions write: when, where they lie, and that every output stays what it was."""

import dataclasses
import itertools
import shutil
import subprocess

import numpy as np
import pytest

from tinyrobust import assets
from tinyrobust.deploy import firmware
from tinyrobust.deploy.artefact import read
from tinyrobust.deploy.cgen import fusion, memory
from tinyrobust.deploy.cgen.generate import _calls, generate
from tinyrobust.deploy.cgen.layout import arrange, demand, layout
from tinyrobust.deploy.cgen.lower import lower
from tinyrobust.deploy.emulator import emulate
from tinyrobust.errors import MissingToolError

TERNARY, INT8 = (-127, 0, 127), tuple(range(-127, 128))
WINDOW = {"dilationHFactor": 1, "dilationWFactor": 1}


class Residual:
    """Networks of residual blocks: a stem, blocks, a mean. Scales fill the range, so that sums do not saturate everywhere."""

    def __init__(self, graph, seed: int, weights=INT8) -> None:
        self.graph, self.random, self.weights = graph, np.random.default_rng(seed), weights

    def conv(self, x: int, kernel: int, channels: int, stride: int = 1, *, depthwise: bool = False, coarse: float = 0) -> int:
        """A convolution; a coarse one has so much larger steps, from zero up: its requantization takes a simple form."""
        _, height, width, depth = self.graph.shapes[x]
        shape = (1, kernel, kernel, channels) if depthwise else (channels, kernel, kernel, depth)
        step = self.graph.grids[x][0]
        scales = self.random.uniform(0.6, 1, 1 if self.weights is TERNARY else channels) * 0.01
        weights = self.graph.tensor(shape, scales, 0, self.random.choice(self.weights, shape), axis=3 if depthwise else 0)
        bias = self.random.integers(-900, 900, channels)
        bias = self.graph.tensor((channels,), step * np.broadcast_to(scales, channels), 0, bias, dtype="int32")
        taps = kernel * kernel * (1 if depthwise else depth)
        out = (1, -(-height // stride), -(-width // stride), channels)
        zero = -128 if coarse else int(self.random.integers(-128, 128))
        output = self.graph.tensor(out, step * 0.01 * 90 * np.sqrt(taps) * (coarse or 1), zero)
        activation = 0 if coarse else int(self.random.choice([0, 1, 3]))
        options = WINDOW | {"strideH": stride, "strideW": stride, "fusedActivationFunction": activation}
        if depthwise:
            options["depthMultiplier"] = 1
        return self.graph.op("DEPTHWISE_CONV_2D" if depthwise else "CONV_2D", [x, weights, bias], output, **options)

    def add(self, a: int, b: int) -> int:
        scale = 1.5 * max(self.graph.grids[a][0], self.graph.grids[b][0])
        output = self.graph.tensor(self.graph.shapes[a], scale, int(self.random.integers(-128, 128)))
        pair = [a, b] if self.random.random() < 0.5 else [b, a]
        return self.graph.op("ADD", pair, output, fusedActivationFunction=int(self.random.choice([0, 1])))

    def plain(self, x: int) -> int:
        """Two convolutions beside nothing, as in a ResNet."""
        return self.add(x, self.conv(self.conv(x, 3, self.graph.shapes[x][3]), 3, self.graph.shapes[x][3]))

    def projected(self, x: int) -> int:
        """The same with a pointwise convolution beside it."""
        channels = self.graph.shapes[x][3] + 3
        beside = self.conv(self.conv(x, 3, channels, 2), 3, channels)
        return self.add(beside, self.conv(x, 1, channels, 2))

    def inverted(self, x: int) -> int:
        """A wide depthwise convolution between two pointwise ones, as in MobileNetV2."""
        channels = self.graph.shapes[x][3]
        wide = self.conv(self.conv(x, 1, 3 * channels), 3, 3 * channels, depthwise=True)
        return self.add(x, self.conv(wide, 1, channels))

    def own(self, x: int) -> int:
        """A pointwise or depthwise convolution of what it is added to."""
        channels = self.graph.shapes[x][3]
        return self.add(
            x, self.conv(x, 1, channels) if self.random.random() < 0.5 else self.conv(x, 3, channels, depthwise=True)
        )

    def network(self, size: int, channels: int, blocks: int):
        """A random one: source and result."""
        source = self.graph.tensor((1, size, size, 3), 0.05, -5)
        x = self.conv(source, 3, channels)
        for _ in range(blocks):
            x = self.random.choice([self.plain, self.projected, self.inverted, self.own])(x)
        axes = self.graph.tensor((2,), data=(1, 2), dtype="int32")
        output = self.graph.tensor((1, self.graph.shapes[x][3]), self.graph.grids[x][0] / 4, 3)
        return source, self.graph.op("MEAN", [x, axes], output)

    def save(self, path, size: int, channels: int, blocks: int):
        return self.graph.save(path, *self.network(size, channels, blocks))


@pytest.fixture
def free_sums(monkeypatch) -> None:
    """Sums cost nothing: all that can be are fused."""
    monkeypatch.setattr(fusion, "SUM_BYTES", -(10**6))


def _lowered(path):
    network = lower(read(path))
    return network, _calls(network)[0]


def _sums(graph, tmp_path, build):
    """The sums that can be fused in what `build` makes of an image behind a stem."""
    made = Residual(graph(), 0)
    source = made.graph.tensor((1, 6, 6, 3), 0.05, 0)
    result = build(made, made.conv(source, 3, 4))
    if len(made.graph.shapes[result]) == 4:
        result = made.graph.op("MAX_POOL_2D", [result], made.graph.tensor(made.graph.shapes[result], *made.graph.grids[result]),
                               filterHeight=2, filterWidth=2, strideH=1, strideW=1)  # fmt: skip
    network, calls = _lowered(made.graph.save(tmp_path / "built.tflite", source, result))
    return [(network.nodes[one.conv].op, network.nodes[one.add].op) for one in fusion.sums(network, calls)]


FUSED = {
    "two convolutions": lambda r, x: r.plain(x),
    "a projection": lambda r, x: r.projected(x),
    "an inverted block": lambda r, x: r.inverted(x),
    "a pointwise convolution of what is kept": lambda r, x: r.add(x, r.conv(x, 1, 4)),
    "a depthwise convolution of what is kept": lambda r, x: r.add(x, r.conv(x, 3, 4, depthwise=True)),
}
APART = {
    "a window that still reads what the sum takes": lambda r, x: r.add(x, r.conv(x, 3, 4)),
    "twice the same": lambda r, x: r.add(y := r.conv(r.conv(x, 3, 4), 3, 4), y),
    "two poolings": lambda r, x: r.add(_pooled(r, x), _pooled(r, r.conv(x, 3, 4))),
    "a convolution that others read": lambda r, x: r.add(r.add(x, y := r.conv(r.conv(x, 3, 4), 3, 4)), y),
}


def _pooled(residual, x):
    graph = residual.graph
    return graph.op("MAX_POOL_2D", [x], graph.tensor(graph.shapes[x], *graph.grids[x]),
                    filterHeight=2, filterWidth=2, strideH=1, strideW=1)  # fmt: skip


@pytest.mark.parametrize("build", FUSED.values(), ids=FUSED)
def test_sums_that_their_convolution_can_do(build, graph, tmp_path):
    assert len(_sums(graph, tmp_path, build)) == 1


@pytest.mark.parametrize("build", APART.values(), ids=APART)
def test_sums_that_stay_apart(build, graph, tmp_path):
    assert _sums(graph, tmp_path, build) == []


def test_what_is_read_later_is_kept(graph, tmp_path):
    """The first sum's operand is read again by the second: only the second is fused."""
    found = _sums(graph, tmp_path, lambda r, x: r.add(x, r.conv(r.add(x, r.conv(r.conv(x, 3, 4), 3, 4)), 3, 4)))
    assert len(found) == 1


def test_the_caller_s_buffers_are_not_added_to(graph, tmp_path):
    """What is kept is the input, or the sum is the output: both lie with the caller."""
    made = Residual(graph(), 1)
    source = made.graph.tensor((1, 6, 6, 3), 0.05, 0)
    first = made.add(source, made.conv(made.conv(source, 3, 3), 3, 3))
    network, calls = _lowered(made.graph.save(tmp_path / "edges.tflite", source, made.plain(first)))
    assert fusion.sums(network, calls) == ()


@pytest.mark.usefixtures("free_sums")
def test_random_residual_networks(graph, assert_exact, inputs_for, tmp_path):
    """Equal to TensorFlow Lite Micro on every output, with every sum fused that can be."""
    models, count = [], 0
    for seed in range(10):
        random = np.random.default_rng(seed)
        made = Residual(graph(), seed, (TERNARY, INT8)[seed % 2])
        size, channels, blocks = int(random.integers(2, 8)), int(random.integers(3, 14)), int(random.integers(1, 3))
        models.append(made.save(tmp_path / f"r{seed}.tflite", size, channels, blocks))
        count += len(fusion.sums(*_lowered(models[-1])))
    assert count >= 10
    assert_exact(models, [inputs_for(model, 8, i) for i, model in enumerate(models)])


def _all_fused(path):
    network, calls = _lowered(path)
    return fusion.fused(network, calls, fusion.sums(network, calls))


def _small(graph, tmp_path, seed: int):
    return Residual(graph(), seed).save(tmp_path / f"s{seed}.tflite", 3, 2, 1 + seed % 2)


def test_nothing_alive_is_overwritten_by_a_fused_plan(graph, conflicts, tmp_path):
    """Lifetimes counted here anew, from the order of the fused layers: only a sum and what it is added to share bytes."""
    for seed in range(6):
        network, calls = _all_fused(_small(graph, tmp_path, seed))
        planned = layout(network, calls)
        wanted = demand(network, calls)
        found = memory.plan(wanted.buffers, wanted.overlaps)
        assert conflicts(wanted.buffers, wanted.overlaps, found.offsets) == []
        for step, (node, call) in enumerate(zip(network.nodes, calls, strict=True)):
            behind = {value for later in network.nodes[step + 1 :] for value in later.inputs} & set(planned.offsets)
            before = {*network.sources, *(earlier.output for earlier in network.nodes[:step])}
            alive = ((behind & before) | ({node.output} & set(planned.offsets))) - {*network.results}
            if call.into is not None:
                assert planned.offsets[node.output] == planned.offsets[node.inputs[call.into]]
                assert not {node.inputs[call.into]} & behind
            spans = [(planned.offsets[value], network.values[value].size) for value in alive]
            scratch = planned.scratch[step]
            spans += [] if scratch is None else [(scratch, call.scratch)]
            assert not any(a < b + m and b < a + n for (a, n), (b, m) in itertools.combinations(spans, 2))
            assert all(offset + size <= planned.arena_bytes for offset, size in spans)


@pytest.mark.parametrize("block", ["plain", "projected", "own"])
def test_fused_plans_are_within_five_percent_of_the_smallest(block, graph, tmp_path, smallest_plan):
    """Values alone, at a few units each: every place of every buffer is tried."""
    for seed in range(3):
        made = Residual(graph(), seed)
        source = made.graph.tensor((1, 4, 4, 3), 0.05, -5)
        x = getattr(made, block)(made.conv(source, 3, 2 + seed))
        result = made.conv(x, 3, 1, 2)
        wanted = demand(*_all_fused(made.graph.save(tmp_path / "one.tflite", source, result)))
        count = len(set(wanted.places.values()))
        buffers = [dataclasses.replace(b, size=_units(b.size)) for b in wanted.buffers[:count]]
        overlaps = [o if o.distance is None else dataclasses.replace(o, distance=_units(o.distance)) for o in wanted.overlaps]
        assert memory.plan(buffers, overlaps).size <= 1.05 * smallest_plan(buffers, overlaps)


def _units(size: int) -> int:
    return -(-size // 16) * 4


def test_the_chosen_sums_are_about_the_best_ones(graph, tmp_path):
    """Against every subset of them, code and stack counted."""
    chosen = 0
    for seed, blocks in enumerate((("plain", "projected"), ("projected", "inverted"), ("own", "plain"))):
        made = Residual(graph(), seed)
        source = made.graph.tensor((1, 12, 12, 3), 0.05, -5)
        x = made.conv(source, 3, 24)
        for block in blocks:
            x = getattr(made, block)(x)
        network, calls = _lowered(made.graph.save(tmp_path / f"c{seed}.tflite", source, made.conv(x, 1, 2)))
        possible = fusion.sums(network, calls)
        subsets = itertools.chain.from_iterable(itertools.combinations(possible, n) for n in range(len(possible) + 1))
        costs = [layout(*fusion.fused(network, calls, some)).arena_bytes + fusion.price(calls, some) for some in subsets]
        found = arrange(network, calls)
        done = {node.output for node in found.network.nodes if "+" in node.op}
        kept = [one for one in possible if network.nodes[one.add].output in done]
        chosen += len(kept)
        assert found.layout.arena_bytes + fusion.price(calls, kept) <= 1.05 * min(costs)
    assert chosen > 0


def test_a_wide_ternary_block_needs_a_quarter_less(graph, tmp_path):
    """Its weights are decoded in parts, each of which reads the whole input: without fusion three tensors are alive."""
    made = Residual(graph(), 3, TERNARY)
    source = made.graph.tensor((1, 16, 16, 3), 0.05, -5)
    x = made.plain(made.conv(source, 3, 80))
    axes = made.graph.tensor((2,), data=(1, 2), dtype="int32")
    result = made.graph.op("MEAN", [x, axes], made.graph.tensor((1, 80), made.graph.grids[x][0] / 4, 3))
    network, calls = _lowered(made.graph.save(tmp_path / "wide.tflite", source, result))
    before, after = layout(network, calls).arena_bytes, arrange(network, calls).layout.arena_bytes
    assert after < 0.75 * before
    assert before - after == 16 * 16 * 80


@pytest.mark.usefixtures("free_sums")
@pytest.mark.parametrize(
    ("weights", "board", "optimisation"),
    [(TERNARY, "mps2-an385", "-Os"), (TERNARY, "mps2-an386", "-O2"), (INT8, "mps2-an386", "-Os"), (INT8, "mps3-an547", "-O2")],
    ids=["ternary M3", "ternary M4", "int8 M4", "int8 M55"],
)
def test_equal_on_the_core(weights, board, optimisation, graph, golden_outputs, inputs_for, tmp_path):
    if shutil.which("arm-none-eabi-gcc") is None or shutil.which("qemu-system-arm") is None:
        pytest.skip("the Arm compiler or QEMU is not installed")
    made = Residual(graph(), 5, weights)
    source = made.graph.tensor((1, 7, 7, 3), 0.05, -5)
    result = made.conv(made.inverted(made.own(made.projected(made.plain(made.conv(source, 3, 17))))), 1, 3)
    model = made.graph.save(tmp_path / "core.tflite", source, result)
    inputs = inputs_for(model, 6, 0)
    written = generate(read(model), "core", tmp_path / "c")
    assert sum("+" in note.op for note in written.layers) == 4
    emulated = emulate(tmp_path / "c", written.name, inputs, board=board, optimisation=optimisation)
    np.testing.assert_array_equal(emulated.outputs, golden_outputs(model, inputs))


@pytest.mark.usefixtures("free_sums")
def test_kernels_that_requantize_by_themselves_do_not(graph, golden_outputs, inputs_for, tmp_path):
    """They would forget the sum."""
    if shutil.which("arm-none-eabi-gcc") is None or shutil.which("qemu-system-arm") is None:
        pytest.skip("the Arm compiler or QEMU is not installed")
    made = Residual(graph(), 5, TERNARY)
    source = x = made.graph.tensor((1, 8, 8, 3), 0.05, 0)
    x = made.conv(x, 3, 16)
    for _ in range(3):
        x = made.add(x, made.conv(x, 1, 16, coarse=6))
        x = made.add(x, made.conv(x, 3, 16, depthwise=True))
    model = made.graph.save(tmp_path / "pairs.tflite", source, made.conv(x, 1, 3))
    network, calls = _lowered(model)
    summed = [calls[one.conv] for one in fusion.sums(network, calls)]
    assert sum(call.fields["requant"]["pairs"] for call in summed) > 0
    written = generate(read(model), "pairs", tmp_path / "c")
    assert sum("+" in note.op for note in written.layers) == len(summed)
    inputs = inputs_for(model, 6, 0)
    emulated = emulate(tmp_path / "c", written.name, inputs)
    np.testing.assert_array_equal(emulated.outputs, golden_outputs(model, inputs))


def test_a_kernel_that_always_requantizes_by_itself_is_replaced(graph, tmp_path):
    made = Residual(graph(), 0)
    source = made.graph.tensor((1, 6, 6, 3), 0.05, 0)
    x = made.conv(source, 3, 4)
    network, calls = _lowered(
        made.graph.save(
            tmp_path / "one.tflite", source, made.conv(FUSED["a depthwise convolution of what is kept"](made, x), 1, 2)
        )
    )
    (one,) = fusion.sums(network, calls)
    calls[one.conv] = dataclasses.replace(calls[one.conv], kernel="tr_fast_depthwise_ternary_pairs")
    changed = fusion.fused(network, calls, [one])[1][one.conv]
    assert changed.kernel == "tr_fast_depthwise_ternary_3x3"
    assert changed.statements == ("tr_fast_depthwise_ternary_3x3(&{layer}.conv, {0}, {out}, {scratch});",)
    assert changed.fields["conv"]["requant"]["pairs"] == 0


def test_a_sum_takes_the_bytes_that_are_counted(tmp_path):
    try:
        firmware.require()
    except MissingToolError as error:
        pytest.skip(str(error))
    runtime = assets.folder("export") / "runtime"
    sizes = {}
    for source in ("tr_sum.c", "tr_elementwise.c"):
        flags = ["-mcpu=cortex-m4", "-mthumb", "-Os", "-std=c99", "-c", "-o", tmp_path / "one.o"]
        subprocess.run(["arm-none-eabi-gcc", *flags, runtime / source], check=True)
        listing = subprocess.run(["arm-none-eabi-nm", "-S", tmp_path / "one.o"], check=True, capture_output=True, text=True)
        sizes |= {line.split()[3]: int(line.split()[1], 16) for line in listing.stdout.splitlines() if len(line.split()) == 4}
    assert sizes["tr_requant_sum"] == pytest.approx(fusion.SUM_BYTES, abs=12)
    assert sizes["tr_add_plain"] == pytest.approx(fusion.ADD_BYTES, abs=12)
