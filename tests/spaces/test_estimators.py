"""A recipe's estimators: other gradients and annealed weights, the same final network."""

import copy
from dataclasses import replace

import pytest
import torch

from bitfront.spaces import Architecture, Builder, InvalidValue, Network, Recipe, Stage
from bitfront.spaces.blocks import BiReal, Classifier, StemThumbnail
from bitfront.spaces.ops import Conv2d, Input, Quantize
from bitfront.spaces.precision import precision_of
from bitfront.spaces.quantizers import (
    SIGN,
    SIGN_WEIGHT,
    ApproxSign,
    MagnitudeSign,
    MultiSign,
    ProgressiveSign,
    RSign,
    Sign,
    SwishSign,
    estimated_input,
    estimated_weight,
)


def network(quantizer=SIGN, weight=SIGN_WEIGHT, **recipe) -> Network:
    """Quantise, convolve."""
    b = Builder()
    x = b.add(Input(shape=(2, 4, 4)), name="input")
    x = b.add(Quantize(quantizer=quantizer), x, name="signs")
    b.add(Conv2d(out_channels=3, kernel_size=3, weight=weight), x, name="conv")
    return Network(b.graph(), t_clip=1.0, **recipe)


def images() -> torch.Tensor:
    return torch.randn(4, 2, 4, 4, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    ("estimator", "quantizer"), [("approx_sign", ApproxSign()), ("swish_sign", SwishSign())]
)
@pytest.mark.parametrize("given", [SIGN, RSign()])
def test_an_estimator_changes_the_gradient_and_nothing_else(estimator, quantizer, given):
    plain, other = network(given), network(given, estimator=estimator)
    x = images().requires_grad_()
    assert torch.equal(plain(x), other(x))
    assert plain.graph.parameters() == other.graph.parameters()
    assert plain.state_dict().keys() == other.state_dict().keys()
    (gradient,) = torch.autograd.grad(other.signs(x).sum(), x)
    torch.testing.assert_close(gradient, quantizer.dq(x, t_clip=1.0).detach())
    (gradient,) = torch.autograd.grad(plain.signs(x).sum(), x)
    assert torch.equal(gradient, (x.abs() <= 1).float())
    assert repr(plain.signs.op) == repr(other.signs.op)


def test_only_plain_signs_are_estimated():
    assert estimated_input(SIGN, "approx_sign") == ApproxSign()
    assert estimated_input(RSign(), "swish_sign") == RSign(estimator="swish_sign")
    for quantizer in (MultiSign(), SwishSign(), RSign(estimator="swish_sign")):
        assert estimated_input(quantizer, "approx_sign") is quantizer
    assert estimated_input(SIGN, "sign") is SIGN
    assert estimated_weight(SIGN_WEIGHT, "progressive") == ProgressiveSign(clipped=False)
    assert estimated_weight(Sign(), "progressive") == ProgressiveSign()
    for quantizer in (ApproxSign(), MagnitudeSign()):
        assert estimated_weight(quantizer, "progressive") is quantizer


@pytest.mark.parametrize(
    ("field", "options"),
    [("estimator", "sign, approx_sign, swish_sign"), ("weight_estimator", "sign, progressive")],
)
def test_unknown_estimators_list_the_known_ones(field, options):
    with pytest.raises(InvalidValue, match=f"^{field} must be one of {options}, but is 'sing'"):
        Recipe(**{field: "sing"})
    with pytest.raises(InvalidValue, match=f"^{field} must be one of {options}, but is 'sing'"):
        network(**{field: "sing"})


def test_a_recipe_without_estimators_keeps_its_text_and_digest():
    assert "estimator" not in Recipe().json()
    assert Recipe(estimator="sign", weight_estimator="sign").digest == Recipe().digest
    recipe = Recipe(estimator="approx_sign", weight_estimator="progressive")
    assert recipe.digest != Recipe().digest
    assert Recipe.from_json(recipe.json()) == recipe
    assert replace(recipe, estimator="sign", weight_estimator="sign") == Recipe()


# progressive weights


def test_the_temperature_follows_the_epoch():
    """bitorch: T = 4^(-10 s), s the share of epochs that are done."""
    quantizer = ProgressiveSign()
    assert quantizer.temperature(0, 120) == 1
    assert quantizer.temperature(60, 120) == pytest.approx(4**-5)
    assert quantizer.temperature(119, 120) == pytest.approx(4 ** (-10 * 119 / 120))
    assert ProgressiveSign(decay=0.965).temperature(3, 120) == pytest.approx(0.965**3)
    assert ProgressiveSign(decay=0.9).temperature(200, 512) < 1e-7


def test_weights_become_signs_epoch_by_epoch():
    net = network(weight_estimator="progressive")
    w = net.conv.weight.detach()
    x = images()
    final = network()(x)
    used = []
    for epoch in range(5):
        net.start_epoch(epoch, 4)
        t = 4.0 ** (-10 * epoch / 4)
        expected = torch.nn.functional.conv2d(SIGN.q(x), (w / t).clamp(-1, 1))
        y = net(x)
        torch.testing.assert_close(y, expected)
        used.append((y - final).abs().mean().item())
        # evaluation is that of the final network in any epoch
        assert torch.equal(net.eval()(x), final)
        net.train()
    assert used == sorted(used, reverse=True)
    assert used[0] > 10 * used[-1]


def test_a_narrow_enough_ramp_is_the_sign():
    net = network(weight=ProgressiveSign(decay=0.1))
    with torch.no_grad():
        net.conv.weight[0, 0, 0, 0] = 0.0
    net.start_epoch(7, 100)
    assert not torch.equal(net(images()), net.eval()(images()))
    net.train().start_epoch(8, 100)
    assert torch.equal(net(images()), net.eval()(images()))


def test_gradients_pass_at_every_temperature():
    net = network(weight_estimator="progressive")
    for epoch in (0, 3, 9):
        net.start_epoch(epoch, 10)
        net.conv.weight.grad = None
        net(images()).sum().backward()
        gradient = net.conv.weight.grad
        assert (gradient != 0).any()
        if epoch == 0:
            first = gradient
        assert torch.equal(gradient, first)


@pytest.mark.parametrize(
    "make",
    [
        lambda: network(weight_estimator="progressive"),
        lambda: network(weight=ProgressiveSign(decay=0.9)),
    ],
)
def test_the_temperature_is_no_parameter(make):
    net, plain = make(), network()
    assert net.graph.parameters() == plain.graph.parameters()
    assert net.state_dict().keys() == plain.state_dict().keys()
    assert net.conv.temperature.item() == 1
    assert net.double().conv.temperature.dtype == torch.float64
    net.start_epoch(5, 10)
    twin = copy.deepcopy(net)
    assert twin.conv.temperature == net.conv.temperature != 1


def test_torch_exports_the_final_signs():
    net, plain = network(weight_estimator="progressive").eval(), network().eval()
    program = torch.export.export(net, (images(),))
    assert program.state_dict.keys() == plain.state_dict().keys()
    assert torch.equal(program.module()(images()), plain(images()))


def test_codes_with_factors_are_annealed_too():
    """The layer of a scaled weight computes with plain signs."""
    precision = precision_of(weight=MagnitudeSign(), input=SIGN)
    architecture = Architecture(
        input=(1, 8, 8),
        stem=StemThumbnail(channels=8),
        stages=(Stage(blocks=(BiReal(channels=8, precision=precision),)),),
        head=Classifier(classes=10),
    )
    net = Network(architecture.lower(), weight_estimator="progressive")
    name = next(n for n, m in net.named_modules() if hasattr(m, "temperature"))
    assert name == "stages.0.blocks.0.conv"
