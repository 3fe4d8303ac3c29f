"""What is computed on a GPU is what is computed on the CPU: on a pretend GPU, which refuses what a GPU would."""

from functools import partial

import numpy as np
import pytest
import torch
from pretend_gpu import WrongDeviceError, pretend_gpu

from lessons_lib import data, models, training
from lessons_lib.augmentation import random_shift
from lessons_lib.ensemble import Ensemble
from lessons_lib.measures import curvature, information, introspection, landscape, memorization, sharpness, trajectory
from lessons_lib.optimizers import OPTIMIZERS, cosine
from lessons_lib.settings import settings
from lessons_lib.theory import dual_kernels

CPU = torch.device("cpu")


def digits():
    return data.load("digits", n_train=60, n_test=40)


def perceptron():
    return models.mlp(64, 12, 10, batch_norm=True)


def alexnet():
    return models.batch_norm_alexnet(shape=(1, 8, 8), width=0.05, dropout=0.5)


def networks(build=perceptron):
    """Two, trained a little, on the CPU."""
    torch.manual_seed(5)
    runs = training.fit(build, digits(), seeds=[3, 4], epochs=1, batch_size=20, lr=0.1, device=CPU)
    return [runs.model("all", seed) for seed in (3, 4)]


def on(device, build=perceptron):
    """The same networks, and samples and targets, on the device."""
    sets = digits()
    return [network.to(device) for network in networks(build)], sets.x_train.to(device), sets.y_train.to(device)


def trained(device, build=perceptron, **options):
    options = {"lr": 0.05, "seeds": [1, 2], "epochs": 2, "batch_size": 20, "checkpoints": [0, 1]} | options
    runs = training.fit(build, digits(), **options)
    weights = [torch.cat([w.flatten() for w in runs.model(c, 1).parameters()]) for c in runs.history.condition.values]
    return [*runs.history.to_dataarray().values, torch.stack(weights)]


def trained_under_all_conditions(device):
    start = networks()[0]
    changes = {
        "clipped": {"clip": 0.1},
        "noisy": {"gradient_noise": lambda step: 0.01},
        "adversarial": {"adversarial": 0.1},
        "one layer": {"trains": lambda name: name.startswith("1.")},
        "from there": {"start": start},
        "decaying": {"weight_decay": 0.01, "lr": 0.2},
    }
    return trained(device, conditions=changes, schedule=cosine(2), stop={"train_accuracy": 0.4})


def jumped(device):
    line = introspection.polynomial(1)
    jump = introspection.Jump([20], lambda past, seed, step: (past.double() @ line).float())
    history = introspection.History(perceptron, every=10)
    hooks = [introspection.Jumps(perceptron, {"all": jump}), history]
    return [*trained(device, batch_size=6, momentum=0.0, epochs=3, hooks=hooks), history.weights]


def sensitivities(device):
    found, x, y = on(device)
    batches = torch.arange(40).view(2, 1, 20).expand(2, 2, 20).to(device)
    result = memorization.loss_sensitivity(found, x, y, batches, lr=0.1, times=[0, 2], n_classes=10)
    return [result.total, result.by_class, memorization.gini(result.total)]


def signal_to_noise(device):
    hook = information.SignalToNoise(3)
    return [*trained(device, hooks=[hook]), hook.ratio]


def spectra(device):
    (network, _), x, y = on(device)
    whole = curvature.Hessian(network, x, y)
    in_pieces = curvature.Hessian(network, x, y, batch_size=25)
    density = curvature.spectral_density(whole, probes=2, steps=5)
    small = models.mlp(64, 2, 10)
    small.load_state_dict({name: torch.full_like(value, 0.1) for name, value in small.state_dict().items()})
    small = small.to(device)
    return [
        curvature.leading_eigenpairs(whole, k=2)[0],
        curvature.leading_eigenpairs(in_pieces, k=2, which="both ends")[0],
        density.nodes,
        density.weights,
        curvature.exact_hessian(small, x, y),
        curvature.exact_gauss_newton(small, x, y),
    ]


def maxima(device):
    found, x, y = on(device)
    directions = torch.randn(models.parameter_count(found[0]), 5, generator=torch.Generator().manual_seed(0))
    return [
        sharpness.box_sharpness(found, x, y),
        sharpness.box_sharpness(found, x, y, maximizer="l-bfgs-b"),
        sharpness.box_sharpness(found, x, y, directions=directions, maximizer="l-bfgs-b"),
        sharpness.box_sharpness(Ensemble(found), [x, x], [y, y], directions=directions),
        sharpness.ball_sharpness(found, x, y, radius=0.1),
    ]


def landscapes(device):
    (one, other), _, _ = on(device)
    directions = landscape.filter_normalized(one, 2, torch.Generator().manual_seed(0))
    results = [
        landscape.line(one, other, [0, 0.5, 1], digits()),
        landscape.line(one, other, [0, 0.5, 1], digits(), batch_norm="recompute", curved=True),
        landscape.along(one, directions[:1], [0, 0.1], digits()),
        landscape.plane(one, directions, [0, 0.1], [0, 0.1], digits()),
        landscape.mixture([one, other], [[0.5, 0.5]], digits()),
    ]
    return [values for result in results for values in result.to_dataarray().values]


def critical(device):
    found, x, _ = on(device)
    options = dict(radius=0.3, steps=3)
    return [memorization.critical_samples(found, x, generator=torch.Generator().manual_seed(0), **options)]


def lengths(device):
    net = Ensemble.from_seeds(lambda: models.mlp(64, 12, 10), [1, 2], device)
    x0, x1 = digits().x_train[:2].view(2, 1, 64).expand(2, 2, 64).to(device)
    return [trajectory.lengths(net, x0, x1, n=20)]


def kernels(device):
    skeleton = dual_kernels.fully_connected("relu", depth=2, inputs=4)
    x = torch.nn.functional.normalize(torch.randn(6, 4, 3, generator=torch.Generator().manual_seed(1)), dim=-1)
    x = x.double().to(device)
    features = dual_kernels.random_features(skeleton, x, 10, torch.Generator().manual_seed(2))
    return [dual_kernels.compositional_kernel(skeleton, x), features]


COMPUTATIONS = {
    "training": trained,
    "training one by one": partial(trained, how="one by one"),
    "convolutions, dropout": partial(trained, build=alexnet),
    "augmentation": partial(trained, build=alexnet, augment=random_shift(1, flip=True)),
    "small AlexNet": partial(trained, build=lambda: models.small_alexnet(shape=(1, 8, 8), width=0.05)),
    "every condition": trained_under_all_conditions,
    **{f"optimizer {name}": partial(trained, optimizer=name, lr=0.01) for name in OPTIMIZERS},
    "squared error": partial(trained, loss=training.squared_error),
    "jumps": jumped,
    "signal to noise": signal_to_noise,
    "sensitivity": sensitivities,
    "critical samples": critical,
    "curvature": spectra,
    "sharpness": maxima,
    "landscape": landscapes,
    "trajectories": lengths,
    "dual kernels": kernels,
}


def numbers(results):
    return [np.asarray(value.detach().cpu() if torch.is_tensor(value) else value, dtype=float) for value in results]


@pytest.mark.parametrize("name", COMPUTATIONS)
def test_a_gpu_computes_what_the_processor_does(name):
    expected = numbers(COMPUTATIONS[name](CPU))
    with pretend_gpu() as device:
        found = numbers(COMPUTATIONS[name](device))
    for value, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-3, atol=1e-5)


def test_the_pretend_gpu_refuses_what_a_gpu_would():
    generator = torch.Generator().manual_seed(0)
    here = torch.randn(3, 4, generator=generator)
    with pretend_gpu() as device:
        assert settings.device == device
        there = here.to(device)
        refused = {
            "both sides": lambda: there + here,
            "indices": lambda: here[there[:, 0].long()],
            "values": lambda: there.index_put_((torch.tensor([0]),), here[:1]),
            "generator": lambda: torch.randn(3, generator=generator, device=device),
            "generator in place": lambda: there.normal_(generator=generator),
            "matrices": lambda: there @ here.t(),
        }
        for name, operation in refused.items():
            with pytest.raises(WrongDeviceError):
                operation()
                pytest.fail(f"{name} was let through")
        with pytest.raises(RuntimeError, match="numpy"):
            there.numpy()
    assert settings.device == CPU


def test_the_pretend_gpu_takes_what_a_gpu_would():
    here = torch.arange(12.0).view(3, 4)
    with pretend_gpu() as device:
        there = here.to(device)
        assert (
            there.device == torch.tensor([1.0], device=device).device == torch.zeros(2, device=device).device == device
        )
        assert torch.equal((there[torch.tensor([2, 0])] * torch.tensor(2.0)).cpu(), 2 * here[[2, 0]])
        assert torch.equal(there[:, [3, 1]].cpu(), here[:, [3, 1]])
        assert there.tolist() == here.tolist() and float(there.sum()) == 66
        there[0] = torch.zeros(4)
        there[[1, 2], np.array([0, 3])] = 0.0
        assert float(there.sum()) == 45
        weight = there.clone().requires_grad_()
        weight.square().sum().backward()
        assert torch.equal(weight.grad.cpu(), 2 * there.cpu())
