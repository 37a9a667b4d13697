"""Every op, quantizer and block computes the same in ONNX as in torch."""

import numpy as np
import onnxruntime
import pytest
import torch
from onnx import helper

from bitfront.evaluators.binary_layers import binary_layers, unequal_layers
from bitfront.export import TrainedOn
from bitfront.export.comparison import traced_nodes
from bitfront.export.flips import trace_flips
from bitfront.export.onnx import build_model
from bitfront.export.onnx_forms import forms, quantizer_forms
from bitfront.export.onnx_graph import PIXELS, Emitter
from bitfront.spaces import BINARY, Builder, Network, Precision
from bitfront.spaces import blocks as b
from bitfront.spaces import ops as o
from bitfront.spaces import quantizers as q
from bitfront.spaces.graph import Role
from bitfront.spaces.ops import ops
from bitfront.spaces.precision import precision_of
from bitfront.spaces.quantizers import quantizers

SHAPE = (6, 9, 7)
BATCH = 3


def build(steps, shape=SHAPE):
    """A network of a function from a builder and its input node; random in every parameter."""
    builder = Builder()
    x = builder.add(o.Input(shape=shape), name="input")
    steps(builder, x)
    network = Network(builder.graph(), seed=1).eval()
    generator = torch.Generator().manual_seed(2)
    for row in network.graph.parameters():
        value = network.state_dict()[row.name]
        if row.role is Role.STATISTIC:
            value.uniform_(0.5, 1.5, generator=generator)
        elif row.role is not Role.BUFFER:
            value.normal_(generator=generator)
    return network


def data(channels):
    return TrainedOn(name="x", digest="0", mean=(0.45,) * channels, std=(0.22,) * channels)


def run(network, nodes=()):
    """Pixels through torch and ONNX: values by node index."""
    channels, rows, columns = network.graph.input.shape
    pixels = np.random.default_rng(3).integers(0, 256, (BATCH, channels, rows, columns), np.uint8)
    model = build_model(network, data(channels), "test")
    emitter = Emitter(network, data(channels))
    names = {node.index: emitter.name(node) for node in network.graph.nodes}
    if nodes:
        names = {index: names[index] for index in nodes}
    for name in list(names.values()):
        if name != "logits":
            model.graph.output.append(helper.make_empty_tensor_value_info(name))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    theirs = session.run(list(names.values()), {PIXELS: pixels})
    factor, offset = map(torch.from_numpy, data(channels).affine())
    with torch.inference_mode():
        mine = network.trace(torch.tensor(pixels) * factor + offset)
    return mine, {i: torch.from_numpy(v) for i, v in zip(names, theirs, strict=True)}


def sliced(builder, x, k=2):
    return builder.add(o.Quantize(quantizer=q.MultiSign(k=k)), x, name="slices")


def signs(builder, x, name="signs"):
    return builder.add(o.Quantize(quantizer=q.SIGN), x, name=name)


def two(op, prepare=None):
    """An op of two different inputs."""

    def steps(builder, x):
        y = builder.add(o.Shift(initial=0.5), x, name="other")
        if prepare:
            x, y = prepare(builder, x, "first"), prepare(builder, y, "second")
        builder.add(op, x, y, name="op")

    return steps


def three(op):
    """An op of three flat inputs."""

    def steps(builder, x):
        x = builder.add(o.Flatten(), x, name="flat")
        others = [builder.add(o.Shift(initial=i), x, name=f"other{i}") for i in (0.5, 1.5)]
        builder.add(op, x, *others, name="op")

    return steps


def after(op, *prepare):
    """An op of one input."""

    def steps(builder, x):
        for step in prepare:
            x = step(builder, x)
        builder.add(op, x, name="op")

    return steps


def slices(builder, x, name="slices"):
    return builder.add(o.Quantize(quantizer=q.MultiSign(k=2)), x, name=name)


def flat(builder, x):
    return builder.add(o.Flatten(), x, name="flat")


def gate(builder, x):
    pooled = builder.add(o.GlobalAvgPool(), x, name="pool")
    builder.add(o.Mul(), x, pooled, name="op")


def box(builder, x):
    pixels = builder.add(o.ChannelMean(), x, name="mean")
    pixels = builder.add(o.AvgPool(kernel_size=3, stride=1, padding=1), pixels, name="box")
    builder.add(o.Mul(), x, pixels, name="op")


def filter_scale(quantizer):
    """The factors behind a layer that computes with the codes."""

    def steps(builder, x):
        layer = conv(weight=quantizer.codes)
        x = builder.add(layer, signs(builder, x), name="conv")
        builder.add(o.FilterScale(quantizer=quantizer), x, name="op", latent=x)

    return steps


WEIGHTS = (
    q.Ternary(threshold=0.3),
    q.XnorSign(),
    q.Heaviside(),
    q.ProgressiveSign(),
    *(q.Lsq(width=k) for k in (2, 3, 8)),
    *(q.LqNet(width=k) for k in (1, 2, 3)),
    q.Ttq(),
    q.Syq(),
    q.Syq(width=1),
)


def bases(builder, x):
    x = signs(builder, x)
    weights = [
        o.Conv2d(out_channels=5, kernel_size=3, padding=1, weight=q.ShiftedSign(u=u))
        for u in (-1.0, 0.0, 1.0)
    ]
    first = builder.add(weights[0], x, name="op0")
    for i, op in enumerate(weights[1:], start=1):
        builder.add(op, x, name=f"op{i}", latent=first)


def conv(**changes):
    fields = {"out_channels": 4, "kernel_size": 3}
    return o.Conv2d(**{**fields, **changes})


CASES = {
    "input": [lambda builder, x: builder.add(o.Relu(), x, name="op")],
    "conv2d": [
        after(conv()),
        after(conv(stride=2, padding=1, bias=True)),
        after(conv(dilation=2, padding=2, groups=2)),
        after(conv(padding=1, replicate=True)),
        after(conv(padding=1, padding_value=-1.0, weight=q.SIGN_WEIGHT), signs),
        after(conv(padding=1, padding_value=1.0, weight=q.SIGN_WEIGHT), signs),
        after(conv(padding=1, weight=q.SIGN_WEIGHT, stride=2), signs),
        after(conv(padding=1, replicate=True, weight=q.SIGN_WEIGHT, groups=2), signs),
        after(conv(padding=2, dilation=2, padding_value=-1.0, weight=q.SIGN_WEIGHT), signs),
        after(conv(weight=q.SIGN_WEIGHT), slices),
        after(conv(weight=q.SIGN_WEIGHT, across_slices=True), slices),
        after(conv(weight=q.SIGN_WEIGHT, bias=True), signs),
        after(conv(weight=q.SIGN_WEIGHT)),
        *(after(conv(weight=q.DoReFaWeight(width=k))) for k in range(2, 9)),
        after(conv(weight=q.Half())),
        bases,
        *(after(conv(weight=weight), signs) for weight in WEIGHTS),
        after(conv(weight=q.LqNet(width=4), groups=2, kernel_size=1)),
    ],
    "linear": [
        *(after(o.Linear(out_features=4, weight=weight), signs, flat) for weight in WEIGHTS),
        after(o.Linear(out_features=4), flat),
        after(o.Linear(out_features=4, bias=False), flat),
        after(o.Linear(out_features=4, weight=q.SIGN_WEIGHT), signs, flat),
        after(o.Linear(out_features=4, weight=q.SIGN_WEIGHT, bias=False), signs, flat),
        after(o.Linear(out_features=4, weight=q.DoReFaWeight(width=3)), flat),
    ],
    "batch_norm": [
        after(o.BatchNorm()),
        after(o.BatchNorm(scale=False)),
        after(o.BatchNorm(shift=False)),
        after(o.BatchNorm(), slices),
        after(o.BatchNorm(), flat),
    ],
    "quantize": [
        after(o.Quantize(quantizer=quantizer))
        for quantizer in (
            q.Identity(),
            q.Half(),
            q.Sign(),
            q.MultiSign(k=1),
            q.MultiSign(k=6),
            *(q.DoReFa(width=k) for k in range(1, 9)),
            *(q.Symmetric(width=k, limit=limit) for k in range(2, 9) for limit in (2.5, 4.0)),
            q.ApproxSign(),
            q.SwishSign(),
            q.ProgressiveSign(),
            q.Heaviside(),
            q.Ternary(threshold=0.3),
            q.Ternary(threshold=0.7, relative=True),
            *(q.HalfWave(width=k) for k in range(1, 5)),
            q.RSign(),
            *(q.Pact(width=k) for k in (1, 2, 4, 8)),
            *(q.Lsq(width=k) for k in (1, 2, 8)),
            *(q.Lsq(width=k, signed=True) for k in (2, 4)),
            *(q.LqNet(width=k) for k in range(1, 5)),
        )
    ]
    + [
        after(o.Quantize(quantizer=q.RSign()), flat),
        after(o.Quantize(quantizer=q.RSign()), slices),
    ],
    "relu": [after(o.Relu())],
    "prelu": [after(o.Prelu()), after(o.Prelu(), slices)],
    "sigmoid": [after(o.Sigmoid())],
    "add": [two(o.Add())],
    "mul": [two(o.Mul()), gate, box],
    "channel_mean": [after(o.ChannelMean()), after(o.ChannelMean(), slices)],
    "outer_scale": [after(o.OuterScale()), after(o.OuterScale(), slices)],
    "filter_scale": [
        filter_scale(q.MagnitudeSign()),
        filter_scale(q.XnorSign()),
        filter_scale(q.TernaryScaled()),
    ],
    "blend": [
        two(o.Blend()),
        two(o.Blend(), lambda b, x, name: b.add(o.Flatten(), x, name=name)),
        two(o.Blend(per_channel=False)),
    ],
    "mean": [two(o.Mean()), three(o.Mean())],
    "xnor": [two(o.Xnor(), signs), two(o.Xnor(), slices)],
    "or": [two(o.Or(), signs), two(o.Or(), slices)],
    "scale": [after(o.Scale()), after(o.Scale(per_channel=False)), after(o.Scale(), flat)],
    "shift": [after(o.Shift(initial=0.5)), after(o.Shift(), flat)],
    "concat": [two(o.Concat()), two(o.Concat(), slices)],
    "slice": [after(o.Slice(start=1, end=4)), after(o.Slice(start=1, end=4), slices)],
    "interleave": [after(o.Interleave(groups=3)), after(o.Interleave(groups=2), slices)],
    "slice_mean": [after(o.SliceMean(), slices), after(o.SliceMean())],
    "max_pool": [
        after(o.MaxPool(kernel_size=k, stride=s, padding=p, ceil=ceil))
        for k, s, p in ((2, 2, 0), (3, 2, 1), (2, 1, 0), (3, 3, 1), (2, 2, 1))
        for ceil in (False, True)
    ],
    "avg_pool": [
        after(o.AvgPool(kernel_size=k, stride=s, padding=p, ceil=ceil))
        for k, s, p in ((2, 2, 0), (3, 2, 1), (2, 1, 0), (3, 3, 1), (2, 2, 1))
        for ceil in (False, True)
    ],
    "global_avg_pool": [after(o.GlobalAvgPool()), after(o.GlobalAvgPool(), slices)],
    "blur": [after(o.Blur()), after(o.Blur(stride=1)), after(o.Blur(), slices)],
    "flatten": [after(o.Flatten()), after(o.Flatten(), slices)],
    "dropout": [after(o.Dropout()), after(o.Dropout(), flat)],
}


EXACT = ("quantize", "xnor", "or", "max_pool", "slice", "concat", "interleave", "flatten")


def test_every_op_has_a_form_and_a_case():
    assert set(forms) == set(ops) == set(CASES)


def test_every_activation_quantizer_has_a_form():
    assert set(quantizer_forms) == {n for n, cls in quantizers.items() if cls.for_activations}


@pytest.mark.parametrize(
    ("kind", "steps"),
    [pytest.param(k, s, id=f"{k}{i}") for k, cases in CASES.items() for i, s in enumerate(cases)],
)
def test_an_op_computes_as_in_torch(kind, steps):
    network = build(steps)
    assert kind in {node.op.kind for node in network.graph.nodes}
    mine, theirs = run(network)
    assert torch.equal(mine[0], theirs[0])
    for node in network.graph.nodes:
        assert mine[node.index].shape == theirs[node.index].shape
        tolerance = 0.0 if node.op.kind in EXACT else 1e-5
        torch.testing.assert_close(
            theirs[node.index], mine[node.index], rtol=tolerance, atol=tolerance
        )
    assert unequal_layers(binary_layers(network), theirs) == ()


def test_the_sign_of_zero_is_plus_one():
    """ONNX's own Sign gives 0 there."""
    network = build(after(o.Quantize(quantizer=q.SIGN), lambda b, x: b.add(o.Scale(), x, name="s")))
    with torch.no_grad():
        network.get_parameter("s.weight").copy_(torch.tensor([0.0, -0.0, 0, 0, 1e-30, -1e-30]))
    mine, theirs = run(network)
    assert (theirs[1][:, :4] == 0).all()
    assert (theirs[2][:, :4] == 1).all()
    assert torch.equal(mine[2], theirs[2])


@pytest.mark.parametrize(
    ("factor", "quantizer", "pixels", "levels"),
    [
        (0.5, q.DoReFa(width=1), (0, 1, 2), (0, 0, 1)),
        (0.25, q.DoReFa(width=1), (1, 2, 3), (0, 0, 1)),
        (0.5, q.Symmetric(width=3, limit=3.0), (1, 3, 5), (0, 2, 2)),
        (683.0, q.Half(), (3, 9, 15), (2048, 6148, 10248)),
    ],
)
def test_the_middle_of_two_levels_goes_to_the_even_one(factor, quantizer, pixels, levels):
    network = build(after(o.Quantize(quantizer=quantizer)), shape=(1, 1, 3))
    scaled = TrainedOn(name="x", digest="0", mean=(0.0,), std=(1 / (255 * factor),))
    model = build_model(network, scaled, "test")
    session = onnxruntime.InferenceSession(model.SerializeToString())
    images = np.array(pixels, np.uint8).reshape(1, 1, 1, 3)
    (values,) = session.run(["logits"], {PIXELS: images})
    assert values.flatten().tolist() == list(levels)
    x = torch.tensor(images) * torch.from_numpy(scaled.affine()[0])
    assert x.flatten().tolist() == [factor * pixel for pixel in pixels]
    assert quantizer.q(x).flatten().tolist() == list(levels)


BLOCKS = {
    "stem_conv7x7": [
        b.StemConv7x7(channels=8, activation="prelu", input_norm=True, final_norm=True, out_bits=4)
    ],
    "stem_grouped": [b.StemGrouped(channels=16, input_norm=True, out_bits=16)],
    "stem_thumbnail": [b.StemThumbnail(channels=8, out_bits=8)],
    "stem_boolnet": [
        b.StemBoolNet(channels=8, slices=4),
        b.StemBoolNet(channels=8, slices=1, local_shift=False),
    ],
    "stem_quicknet": [b.StemQuickNet(channels=16)],
    "dense": [
        b.Dense(growth=8, precision=Precision(weights=w, activations=a), shortcut_bits=bits)
        for w, a, bits in ((1, 1, 32), (1, 1, 16), (2, 4, 8), (4, 1, 4), (16, 16, 32))
    ],
    "improvement": [
        *(b.Improvement(growth=4, kernel_size=5, shortcut_bits=bits) for bits in (4, 8, 16, 32)),
        b.Improvement(whole=True),
    ],
    "transition": [
        b.Transition(channels=12, out_bits=4),
        b.Transition(channels=12, groups=4, shuffle=4, pool=False),
    ],
    "quicknet": [b.QuickNet(channels=8)],
    "quicknet_transition": [b.QuickNetTransition(channels=12)],
    "bireal": [
        b.BiReal(channels=12, stride=2),
        b.BiReal(channels=8, padding_value=-1.0, shortcut_bits=8),
    ],
    "gated": [
        b.Gated(channels=12, stride=2),
        b.Gated(channels=8),
        b.Gated(channels=12, stride=2, scaling="outer"),
    ],
    "multi_base": [
        b.MultiBase(channels=12, stride=2, weight_bases=3, activation_bases=2),
        b.MultiBase(channels=8, weight_bases=1, activation_bases=1),
    ],
    "resnet": [
        b.ResNet(channels=12, stride=2),
        b.ResNet(channels=12, stride=2, precision=precision_of(weight=q.XnorSign())),
        b.ResNet(channels=8, precision=Precision(weights=2, activations=2)),
    ],
    "group_net": [
        b.GroupNet(channels=12, stride=2, bases=3),
        b.GroupNet(channels=4, bases=2, split=True, merge=False),
    ],
    "circulant": [b.Circulant(channels=12, stride=2), b.Circulant(channels=8, rotations=8)],
    "xnor": [
        b.Xnor(channels=12, stride=2),
        b.Xnor(channels=8, scaling="outer"),
        b.Xnor(
            channels=8, scaling="none", relu=False, precision=Precision(weights=1, activations=1)
        ),
    ],
    "boolean": [
        b.Boolean(channels=8),
        b.Boolean(channels=8, concat=False),
        b.Boolean(channels=16, stride=2),
        b.Boolean(channels=8, last=True),
        b.Boolean(channels=8, projected=True),
        b.Boolean(channels=8, dilation=2),
    ],
    "stem_conv3x3": [b.StemConv3x3(channels=8)],
    "react_residual": [b.ReactResidual(channels=8), b.ReactResidual(channels=12, stride=2)],
    "react_mobile": [b.ReactMobile(channels=8), b.ReactMobile(channels=16, stride=2)],
    "bnext": [b.BNext(channels=8, multiply=True), b.BNext(channels=16, stride=2)],
    "classifier": [
        b.Classifier(classes=5),
        b.Classifier(classes=5, norm=False, relu=False, prelu=True),
    ],
    "stem_conv": [
        b.StemConv(channels=8, kernel_size=11, stride=4, padding=2, norm="none", pool=3),
        b.StemConv(channels=8, kernel_size=7, stride=2, pool=3, pool_padding=1),
    ],
    "conv_layer": [
        b.ConvLayer(channels=8, groups=2, norm="none"),
        b.ConvLayer(channels=8, norm="before", padding_value=-1.0, precision=BINARY),
        b.ConvLayer(channels=8, norm="none", activation="prelu", precision=BINARY),
        b.ConvLayer(channels=8, precision=Precision(weights=2, activations=4)),
    ],
    "separable": [
        b.Separable(channels=12, stride=2),
        b.Separable(channels=8, activation="prelu", precision=BINARY),
    ],
    "pool": [b.PoolTransition(), b.PoolTransition(method="avg", kernel_size=3, padding=1)],
    "dense_transition": [b.DenseTransition(channels=12)],
    "inception": [
        b.Inception(one=2, three_reduce=3, three=4, five_reduce=5, five=6, pool=7),
        b.Inception(
            one=2,
            three_reduce=3,
            three=4,
            five_reduce=5,
            five=6,
            pool=7,
            norm="after",
            precision=Precision(weights=1, activations=4),
        ),
    ],
    "bottleneck": [
        b.Bottleneck(channels=12, stride=2),
        b.Bottleneck(channels=8, precision=Precision(weights=2, activations=2)),
    ],
    "mlp_classifier": [
        b.MlpClassifier(classes=5, hidden=(12, 8)),
        b.MlpClassifier(classes=5, hidden=(12, 8), norm="before", precision=BINARY),
        b.MlpClassifier(classes=5, hidden=(), pool=True),
    ],
    "sliced_residual": [
        b.SlicedResidual(channels=12, stride=2, input_scale=True),
        b.SlicedResidual(channels=8, slices=4, write_on=2),
        b.SlicedResidual(channels=8, slices=2, norm="after", write_on=1),
    ],
    "binary_basic": [b.BinaryBasic(channels=12, stride=2), b.BinaryBasic(channels=8)],
}


def test_every_block_has_a_case():
    assert set(BLOCKS) == set(b.blocks)


@pytest.mark.parametrize(
    "block",
    [pytest.param(x, id=f"{k}{i}") for k, cases in BLOCKS.items() for i, x in enumerate(cases)],
)
def test_a_block_computes_as_in_torch(block):
    """Twice in a row, where it may stand in the body, as a runtime optimises it for its users."""

    def steps(builder, x):
        builder.enter("stem", "stem")
        if block.place != "stem":
            boolean = block.kind == "boolean"
            stem = b.StemBoolNet(channels=8) if boolean else b.StemThumbnail(channels=8)
            x = stem.build(builder, x)
            builder.leave()
            builder.enter("first", block.kind)
        x = block.build(builder, x)
        builder.leave()
        if block.place == "body" and not getattr(block, "last", False):
            builder.enter("second", block.kind)
            x = block.build(builder, x)
            builder.leave()

    network = build(steps, shape=(2, 32, 32))
    graph = network.graph
    mine, theirs = run(network, traced_nodes(graph))
    assert unequal_layers(binary_layers(network), theirs) == ()
    assert torch.isfinite(mine[-1]).all()
    for image in range(BATCH):
        one = slice(image, image + 1)
        _, wrong = trace_flips(
            network,
            {i: mine[i][one] for i in theirs},
            {i: v[one] for i, v in theirs.items()},
            image,
        )
        assert not wrong
