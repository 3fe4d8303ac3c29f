"""Parameter counts against the papers' tables and against sums by hand; shapes; the one container."""

import copy
import math
import pickle

import pytest
import torch
from torch import nn

from lessons_lib.models import (
    Branches,
    batch_norm_alexnet,
    digits_cnn,
    gaussian_mlp,
    mlp,
    mnist1d_cnn,
    parameter_count,
    small_alexnet,
    small_inception,
)


def layers(model, kind):
    return [layer for layer in model.modules() if isinstance(layer, kind)]


def image_batch(n=2, side=28):
    return torch.randn(n, 3, side, side, generator=torch.Generator().manual_seed(0))


# Zhang et al. 2017, Table 1.
@pytest.mark.parametrize(
    ("build", "count"),
    [
        (lambda: small_inception(), 1_649_402),
        (lambda: small_inception(batch_norm=False), 1_649_402),
        (lambda: small_alexnet(), 1_387_786),
        (lambda: mlp(3 * 28 * 28, 512, 512, 512, 10), 1_735_178),
        (lambda: mlp(3 * 28 * 28, 512, 10), 1_209_866),
    ],
    ids=["inception", "inception without batch norm", "alexnet", "mlp 3x512", "mlp 1x512"],
)
def test_parameter_counts_of_the_papers_table(build, count):
    model = build()
    assert parameter_count(model) == count
    assert model(image_batch()).shape == (2, 10)


# Sums by hand; layers and sizes of Keskar et al. 2017 (appendix B, and the authors' code).
def test_networks_of_the_large_batch_paper():
    f1 = mlp(784, 512, 512, 512, 512, 512, 10, batch_norm=True)
    assert parameter_count(f1) == (784 + 1 + 2) * 512 + 4 * (512 + 1 + 2) * 512 + 513 * 10 == 1_462_794
    c1 = batch_norm_alexnet()
    kept = [parameter_count(layer) for layer in c1 if parameter_count(layer)]
    assert kept == [4_864, 128, 102_464, 128, 1_573_248, 768, 73_920, 384, 1_930]
    assert parameter_count(c1) == 1_757_834
    assert [layer.p for layer in layers(c1, nn.Dropout)] == [0.5, 0.5]
    assert c1(image_batch(side=32)).shape == (2, 10)


def test_batch_norm_alexnet_on_signals():
    model = batch_norm_alexnet(shape=(1, 40), width=0.25, dropout=0.0)
    kept = [parameter_count(layer) for layer in model if parameter_count(layer)]
    assert kept == [16 * 6, 32, 16 * 81, 32, 96 * 161, 192, 48 * 97, 96, 490]
    assert model(torch.randn(3, 1, 40)).shape == (3, 10)
    with pytest.raises(ValueError, match="signals .* or images"):
        batch_norm_alexnet(shape=(40,))


def test_mlp_normalizes_before_it_activates():
    assert [type(layer) for layer in mlp(4, 3, 2, batch_norm=True)][1:4] == [nn.Linear, nn.BatchNorm1d, nn.ReLU]


def test_small_alexnet_layer_by_layer():
    counts = [parameter_count(layer) for layer in layers(small_alexnet(), (nn.Conv2d, nn.Linear))]
    assert counts == [4_864, 102_464, 1_204_608, 73_920, 1_930]


def test_small_inception_layer_by_layer():
    def conv(n_in, n_out, size):
        return n_in * n_out * size**2 + n_out

    expected = [conv(3, 96, 3)]
    channels = 96
    modules = [(32, 32), (32, 48), 80, (112, 48), (96, 64), (80, 80), (48, 96), 96, (176, 160), (176, 160)]
    for module in modules:
        if isinstance(module, int):  # downsampling: the pooling branch carries its input's channels along
            expected.append(conv(channels, module, 3))
            channels += module
        else:
            expected.append(conv(channels, module[0], 1) + conv(channels, module[1], 3))
            channels = sum(module)
    expected.append(channels * 10 + 10)
    model = small_inception()
    assert [parameter_count(layer) for layer in model if parameter_count(layer)] == expected
    assert channels == 336
    # One normalization a convolution, none of them with weights.
    assert len(layers(model, nn.BatchNorm2d)) == len(layers(model, nn.Conv2d)) == 19
    assert not layers(small_inception(batch_norm=False), nn.BatchNorm2d)


def test_small_inception_halves_the_image_twice():
    model = small_inception(width=0.1).eval()
    sides, x = [], image_batch()
    for layer in model:
        x = layer(x)
        if x.dim() == 4:
            sides.append(x.shape[-1])
    assert sides == [28] * 3 + [14] * 5 + [7] * 3 + [1]


def test_response_normalization_has_tensorflows_constants():
    norm = layers(small_alexnet(width=0.2), nn.LocalResponseNorm)[0]
    x = torch.rand(1, 13, 2, 2, generator=torch.Generator().manual_seed(0)) * 30
    for channel in (0, 6, 12):  # at both ends the window is cut off
        window = x[:, max(0, channel - 4) : channel + 5]
        expected = x[:, channel] / (1 + 0.001 / 9 * window.square().sum(1)) ** 0.75
        torch.testing.assert_close(norm(x)[:, channel], expected)


@pytest.mark.parametrize(
    ("model", "shape", "count"),
    [
        (mnist1d_cnn(), (1, 40), (5 + 1) * 25 + 2 * (75 + 1) * 25 + (125 + 1) * 10),
        (digits_cnn(), (1, 8, 8), (9 + 1) * 12 + (108 + 1) * 24 + (384 + 1) * 64 + (64 + 1) * 10),
        (mlp(40, 100, 100, 10), (1, 40), 41 * 100 + 101 * 100 + 101 * 10),
    ],
    ids=["mnist1d_cnn", "digits_cnn", "mlp"],
)
def test_small_networks(model, shape, count):
    assert parameter_count(model) == count
    assert model(torch.zeros(3, *shape)).shape == (3, 10)


@pytest.mark.parametrize("build", [small_inception, small_alexnet])
def test_width_scales_the_network_and_keeps_its_interface(build):
    assert parameter_count(build(width=0.1)) < parameter_count(build()) / 50
    assert build(4, width=0.1)(image_batch()).shape == (2, 4)
    assert build(shape=(1, 32, 32), width=0.1)(torch.zeros(2, 1, 32, 32)).shape == (2, 10)
    with pytest.raises(ValueError, match="width"):
        build(width=0)


def test_branches_join_channels_as_torch_cat_does():
    a, b = nn.Conv2d(3, 4, 1), nn.Sequential(nn.Conv2d(3, 2, 3, padding=1), nn.ReLU())
    x = image_batch(side=5)
    assert torch.equal(Branches(a, b)(x), torch.cat([a(x), b(x)], dim=1))
    with pytest.raises(ValueError, match="at least one"):
        Branches()


def test_mlp_is_the_formula():
    model = mlp(6, 5, 4, activation=nn.Tanh)
    w1, b1, w2, b2 = model.parameters()
    x = torch.randn(7, 2, 3, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(model(x), (x.reshape(7, 6) @ w1.T + b1).tanh() @ w2.T + b2)


def test_dropout_acts_in_training_only():
    counts = {mlp: 1, mnist1d_cnn: 1, digits_cnn: 1, small_alexnet: 2, small_inception: 1}
    for build, count in counts.items():
        sizes = (6, 50, 4) if build is mlp else ()
        found = layers(build(*sizes, dropout=0.5), nn.Dropout)
        assert [layer.p for layer in found] == [0.5] * count, build.__name__
        assert not layers(build(*sizes), nn.Dropout)
    model, x = mlp(6, 50, 4, dropout=0.5), torch.ones(1, 6)
    assert not torch.equal(model(x), model(x))
    assert torch.equal(model.eval()(x), model(x))


@pytest.mark.parametrize("build", [lambda: mlp(64, 10), mnist1d_cnn, digits_cnn, lambda: small_alexnet(width=0.1)])
def test_an_input_of_another_size_is_refused_in_plain_words(build):
    for model in (build(), copy.deepcopy(build()), pickle.loads(pickle.dumps(build()))):
        with pytest.raises(ValueError, match=r"takes inputs \[n, .*\]; got \[n, 3, 9, 9\]"):
            model(torch.zeros(2, 3, 9, 9))


def test_an_mlp_needs_two_sizes():
    with pytest.raises(ValueError, match="input and an output"):
        mlp(10)
    with pytest.raises(ValueError, match="positive"):
        mlp(10, 0, 2)


def test_weights_start_uniform_with_the_fan_in():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        first = mlp(100, 200, 10)[1]
    bound = 1 / math.sqrt(100)
    assert 0.99 * bound < first.weight.abs().max() <= bound
    assert first.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.02)


def test_gaussian_mlp_draws_the_papers_weights():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = gaussian_mlp(300, 500, 200, 10, sigma_w=1.5, sigma_b=0.7, activation=nn.Hardtanh)
        still = gaussian_mlp(3, 5, 2, sigma_w=1.5)
    for layer in layers(model, nn.Linear)[:2]:
        assert float(layer.weight.detach().std()) * math.sqrt(layer.in_features) == pytest.approx(1.5, rel=0.02)
        assert float(layer.bias.detach().std()) == pytest.approx(0.7, rel=0.2)
    assert len(layers(model, nn.Hardtanh)) == 2
    assert all((layer.bias == 0).all() for layer in layers(still, nn.Linear))
    with pytest.raises(ValueError, match="standard deviations"):
        gaussian_mlp(3, 2, sigma_w=-1)
