"""The batched pass against one model at a time, and both against plain torch.optim."""

import dataclasses
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from lessons_lib import optimizers, training
from lessons_lib.data import Dataset
from lessons_lib.ensemble import Ensemble
from lessons_lib.models import Branches
from lessons_lib.settings import settings
from lessons_lib.training import fit

SEEDS = [11, 12, 13]


def toy(shape, n=40, n_classes=4, seed=0) -> Dataset:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(2 * n, *shape, generator=generator)
    y = torch.randint(n_classes, (2 * n,), generator=generator)
    return Dataset("toy", x[:n], y[:n], x[n:], y[n:], n_classes)


def conv_1d():
    return nn.Sequential(
        nn.Conv1d(1, 5, 3, padding=1, stride=2), nn.BatchNorm1d(5), nn.ReLU(), nn.MaxPool1d(2),
        Branches(nn.Conv1d(5, 4, 3), nn.Sequential(nn.Conv1d(5, 2, 3), nn.ReLU())), nn.Tanh(),
        nn.Flatten(), nn.Linear(6 * 2, 4),
    )  # fmt: skip


def conv_2d():
    return nn.Sequential(
        nn.Conv2d(1, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.LocalResponseNorm(3),
        Branches(nn.Conv2d(6, 3, 1), nn.Sequential(nn.Conv2d(6, 4, 3, padding=1, groups=2), nn.ReLU())),
        nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(28, 4, bias=False),
    )  # fmt: skip


def padded_1d():
    return nn.Sequential(
        nn.ConstantPad1d((0, 1), 0.0), nn.Conv1d(1, 5, 2), nn.ReLU(), nn.MaxPool1d(2),
        nn.ConstantPad1d((1, 0), 0.5), nn.Conv1d(5, 6, 2), nn.Flatten(), nn.Linear(6 * 9, 4),
    )  # fmt: skip


def padded_2d():
    return nn.Sequential(
        nn.ZeroPad2d((0, 1, 0, 1)), nn.Conv2d(1, 3, 2), nn.ReLU(), nn.MaxPool2d(2),
        nn.ZeroPad2d((0, 1, 1, 0)), nn.Conv2d(3, 4, 2), nn.Flatten(), nn.Linear(4 * 16, 4),
    )  # fmt: skip


class Custom(nn.Module):
    """A forward pass that no layer rule covers."""

    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.randn(8, 4))

    def forward(self, x):
        return (x.flatten(1) @ self.a).square()


NETS = {
    "mlp": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 4)), (1, 8)),
    "mlp with batch norm": (
        lambda: nn.Sequential(nn.Flatten(), nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 4)),
        (1, 8),
    ),
    "1-D conv": (conv_1d, (1, 18)),
    "2-D conv": (conv_2d, (1, 8, 8)),
    "padded 1-D": (padded_1d, (1, 18)),
    "padded 2-D": (padded_2d, (1, 8, 8)),
    "own forward": (lambda: nn.Sequential(Custom()), (1, 8)),
}
common = dict(epochs=3, batch_size=16, lr=0.05, momentum=0.9)


@pytest.mark.parametrize("name", NETS)
def test_together_equals_one_by_one(name):
    build, shape = NETS[name]
    data = toy(shape)
    conditions = {
        "plain": {},
        "decayed": {"weight_decay": 0.1, "lr": 0.02},
        "own labels": lambda seed: {"data": dataclasses.replace(data, y_train=data.y_train.flip(0).roll(seed))},
        "noisy": {"augment": lambda x, g: x + 0.1 * torch.randn(x.shape, generator=g)},
    }
    together, alone = (
        fit(build, data, seeds=SEEDS, conditions=conditions, how=how, **common) for how in ("together", "one by one")
    )
    for variable in together.history:
        np.testing.assert_allclose(together.history[variable], alone.history[variable], atol=1e-5)
    for condition in conditions:
        for seed in SEEDS:
            one, other = (r.model(condition, seed).state_dict() for r in (together, alone))
            for key in one:
                torch.testing.assert_close(one[key], other[key], atol=2e-5, rtol=1e-4)
    # The conditions do change something: equality above is not that of four equal runs.
    final = together.final["train_loss"]
    assert all(not np.allclose(final.sel(condition="plain"), final.sel(condition=c)) for c in list(conditions)[1:])


@pytest.mark.parametrize("how", ["together", "one by one"])
def test_a_seed_can_bring_its_own_data(how):
    build, shape = NETS["mlp"]
    conditions = {"plain": {}, "slow": {"lr": 0.01}, "other": {"data": toy(shape, seed=99)}}
    made = []

    def own(seed):
        made.append(seed)
        return toy(shape, seed=seed)

    runs = fit(build, own, seeds=SEEDS, conditions=conditions, how=how, **common)
    for seed in SEEDS:
        alone = fit(build, toy(shape, seed=seed), seeds=[seed], conditions=conditions, **common)
        for name, values in alone.history.items():
            np.testing.assert_allclose(runs.history[name].sel(seed=[seed]), values, atol=1e-5)
    if how == "together":
        assert made == [SEEDS[0], *SEEDS]  # once for all conditions that use it, after one look at the sizes


TORCH = {
    "sgd": lambda weights: torch.optim.SGD(weights, lr=0.05, momentum=0.9, weight_decay=0.01),
    "adam": lambda weights: torch.optim.Adam(weights, lr=0.05, betas=(0.9, 0.999), weight_decay=0.01),
    "rmsprop": lambda weights: torch.optim.RMSprop(weights, lr=0.05, momentum=0.9, weight_decay=0.01),
    "adagrad": lambda weights: torch.optim.Adagrad(weights, lr=0.05, weight_decay=0.01),
    "adadelta": lambda weights: torch.optim.Adadelta(weights, lr=0.05, weight_decay=0.01),
}


@pytest.mark.parametrize("name", ["mlp", "mlp with batch norm", "1-D conv"])
@pytest.mark.parametrize("optimizer", TORCH)
def test_equals_a_plain_torch_loop(name, optimizer):
    build, shape = NETS[name]
    data = toy(shape)
    batches = []
    runs = fit(
        build, data, seeds=SEEDS, how="together", optimizer=optimizer, weight_decay=0.01,
        schedule=optimizers.exponential(0.5), hooks=[lambda step: batches.append(step.losses.clone())], **common,
    )  # fmt: skip
    seed = SEEDS[1]
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build()
    opt = TORCH[optimizer](model.parameters())
    order = torch.Generator().manual_seed(training.seed_for("batches", seed))
    losses = []
    for epoch in range(3):
        opt.param_groups[0]["lr"] = 0.05 * 0.5**epoch
        for index in torch.randperm(40, generator=order).split(16):
            loss = F.cross_entropy(model(data.x_train[index]), data.y_train[index])
            opt.zero_grad()
            loss.backward()
            opt.step()
            losses.append(loss.item())
    np.testing.assert_allclose([b[1].item() for b in batches], losses, atol=1e-5)
    model.eval()
    expected = (model(data.x_test).argmax(1) == data.y_test).float().mean().item()
    assert runs.history["test_accuracy"].sel(condition="all", seed=seed, epoch=3).item() == pytest.approx(expected)
    # RMSprop's first steps are nearly signs of the gradient, so where that is nearly 0, rounding is seen.
    off = 1e-2 if optimizer == "rmsprop" else 1e-4
    torch.testing.assert_close(runs.model("all", seed)(data.x_test), model(data.x_test), atol=off, rtol=off)


def test_global_random_state_is_left_alone_and_does_not_matter():
    build, shape = NETS["2-D conv"]
    data = toy(shape)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    one = fit(build, data, seeds=SEEDS, **common)
    assert torch.equal(before, torch.get_rng_state())
    torch.manual_seed(2)
    other = fit(build, data, seeds=SEEDS, **common)
    assert one.history.equals(other.history)


def test_members_that_reach_the_target_stop_and_the_others_go_on():
    # Separable labels against random ones: the first stop early, and stopping them changes nothing for the second.
    data = toy((6,), n=64)
    easy = dataclasses.replace(data, y_train=(data.x_train[:, 0] > 0).long())
    conditions = {"easy": {"data": easy}, "random": {}}
    build = lambda: nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 4))  # noqa: E731
    settings = dict(seeds=SEEDS, conditions=conditions, epochs=40, batch_size=16, lr=0.1)
    stopping = fit(build, data, stop={"train_accuracy": 1.0}, **settings)
    full = fit(build, data, **settings)
    assert stopping.reached.sel(condition="easy").all()
    assert (stopping.stopped.sel(condition="easy") < 40).all()
    for condition in conditions:
        for seed in SEEDS:
            at = int(stopping.stopped.sel(condition=condition, seed=seed))
            one, other = (r.history["train_loss"].sel(condition=condition, seed=seed).values for r in (stopping, full))
            np.testing.assert_allclose(one[: at + 1], other[: at + 1], rtol=1e-3, atol=1e-5)
            assert np.isnan(one[at + 1 :]).all()
    final = stopping.final["train_accuracy"].sel(condition="easy")
    assert (final == 1.0).all()
    assert (stopping.filled["train_accuracy"].sel(condition="easy").isel(epoch=-1) == 1.0).all()
    # The model handed out is the one that was evaluated.
    model = stopping.model("easy", SEEDS[0])
    assert (model(easy.x_train).argmax(1) == easy.y_train).all()


@pytest.mark.parametrize("at_once", [4, 3])
def test_divergence_names_member_and_step_and_keeps_the_history(monkeypatch, at_once):
    monkeypatch.setattr(training, "_members_at_once", lambda recipe, plans, sizes: at_once)
    data = toy((8,))
    build = lambda: nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 4))  # noqa: E731
    with pytest.raises(training.DivergenceError, match=r"condition 'wild', seed 12 .* step \d+") as raised:
        fit(
            build, data, seeds=[12, 13], conditions={"tame": {}, "wild": {"lr": 1e6}}, loss=training.squared_error,
            epochs=30, batch_size=8, lr=0.01,
        )  # fmt: skip
    assert raised.value.history.sizes["epoch"] >= 1
    assert raised.value.history["train_loss"].sel(condition="tame", seed=12, epoch=0) > 0


def test_custom_measure_is_recorded_at_each_evaluation():
    build, shape = NETS["mlp"]
    norms = {"norm": lambda ensemble, members: ensemble.flat.norm(dim=1)}
    runs = fit(build, toy(shape), seeds=SEEDS, measures=norms, evaluate_every=2, **common)
    assert runs.history["epoch"].values.tolist() == [0, 2, 3]
    for seed in SEEDS:
        weights = nn.utils.parameters_to_vector(runs.model("all", seed).parameters())
        assert runs.history["norm"].sel(seed=seed, epoch=3).item() == pytest.approx(weights.norm().item(), rel=1e-5)


def test_clipping_and_gradient_noise_equal_a_plain_torch_loop():
    build, shape = NETS["mlp"]
    data, seed, clip = toy(shape), SEEDS[1], 0.5
    noisy = {"clip": clip, "gradient_noise": lambda step: 0.3 / (1 + step)}
    runs = fit(build, data, seeds=SEEDS, how="together", conditions={"plain": {}, "noisy": noisy}, **common)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build()
    opt, step = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9), 0
    order = torch.Generator().manual_seed(training.seed_for("batches", seed))
    noise = torch.Generator().manual_seed(training.seed_for("gradient noise", seed))
    clipped = 0
    for _ in range(3):
        for index in torch.randperm(40, generator=order).split(16):
            opt.zero_grad()
            F.cross_entropy(model(data.x_train[index]), data.y_train[index]).backward()
            clipped += nn.utils.clip_grad_norm_(model.parameters(), clip) > clip
            drawn = torch.randn(sum(part.numel() for part in model.parameters()), generator=noise)
            for part, own in zip(model.parameters(), drawn.split([p.numel() for p in model.parameters()]), strict=True):
                part.grad += 0.3 / (1 + step) * own.view_as(part)
            opt.step()
            step += 1
    assert clipped
    torch.testing.assert_close(runs.model("noisy", seed)(data.x_test), model(data.x_test), atol=1e-4, rtol=1e-4)


def test_noise_that_conditions_share_is_what_each_has_alone():
    build, shape = NETS["mlp"]
    sizes = {
        "always": lambda step: 0.1,
        "stopped": lambda step: 0.3 * (step < 4),
        "late": lambda step: 0.3 * (step > 3),
        "gaps": lambda step: 0.2 * (step % 3 > 0),
        "other gaps": lambda step: 0.4 * (step % 2),
    }
    conditions = {"none": {}} | {name: {"gradient_noise": size} for name, size in sizes.items()}
    options = common | dict(epochs=12, evaluate_every=2, stop={"train_loss": 1.1})
    together, alone = (
        fit(build, toy(shape), seeds=SEEDS, conditions=conditions, how=how, **options)
        for how in ("together", "one by one")
    )
    np.testing.assert_allclose(together.history.train_loss, alone.history.train_loss, atol=1e-5)
    assert together.stopped.min() < together.stopped.max()
    assert len(np.unique(together.history.train_loss.isel(epoch=2).values.round(4))) == len(conditions) * len(SEEDS)


def test_adversarial_training_equals_a_plain_torch_loop():
    build, shape = NETS["mlp"]
    data, seed, epsilon = toy(shape), SEEDS[1], 0.2
    conditions = {"plain": {}, "adversarial": {"adversarial": epsilon}}
    runs = fit(build, data, seeds=SEEDS, how="together", conditions=conditions, **common)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build()
    opt = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    order = torch.Generator().manual_seed(training.seed_for("batches", seed))
    for _ in range(3):
        for index in torch.randperm(40, generator=order).split(16):
            x, y = data.x_train[index].requires_grad_(), data.y_train[index]
            (slope,) = torch.autograd.grad(F.cross_entropy(model(x), y), x)
            moved = x.detach() + epsilon * slope.sign()
            loss = 0.5 * (F.cross_entropy(model(x), y) + F.cross_entropy(model(moved), y))
            opt.zero_grad()
            loss.backward()
            opt.step()
    outputs = model(data.x_test)
    torch.testing.assert_close(runs.model("adversarial", seed)(data.x_test), outputs, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(runs.model("plain", seed)(data.x_test), outputs, atol=1e-2)


def test_only_the_chosen_parameters_are_trained():
    build, shape = NETS["mlp"]
    data, seed = toy(shape), SEEDS[1]
    conditions = {"all": {}, "last": {"trains": lambda name: name.startswith("3."), "weight_decay": 0.1}}
    runs = fit(build, data, seeds=SEEDS, conditions=conditions, checkpoints=[0], **common)
    start, end = runs.model("last", seed, epoch=0), runs.model("last", seed)
    assert torch.equal(start[1].weight, end[1].weight) and torch.equal(start[1].bias, end[1].bias)
    assert not torch.equal(start[3].weight, end[3].weight)
    assert not torch.equal(runs.model("all", seed)[1].weight, start[1].weight)
    # Training the readout alone is training a linear model on fixed features.
    features = lambda x: start[:3](x).detach()  # noqa: E731
    fixed = Dataset("features", features(data.x_train), data.y_train, features(data.x_test), data.y_test, 4)
    readout = nn.Sequential(start[3])
    alone = fit(lambda: readout, fixed, seeds=[seed], weight_decay=0.1, **common)
    torch.testing.assert_close(alone.model("all", seed)[0].weight, end[3].weight, atol=1e-5, rtol=1e-4)
    with pytest.raises(ValueError, match="condition 'none', seed 11 trains no parameter; its network has: 1.weight"):
        fit(build, data, seeds=SEEDS, conditions={"none": {"trains": lambda name: False}}, **common)


@pytest.mark.parametrize("how", ["together", "one by one"])
def test_training_goes_on_from_a_checkpoint(how):
    build, shape = NETS["mlp with batch norm"]
    data, seed = toy(shape), SEEDS[1]
    # Whole batches without momentum: what comes next depends on the weights alone.
    plain = dict(seeds=SEEDS, batch_size=40, lr=0.05, momentum=0.0, how=how)
    whole = fit(build, data, epochs=3, checkpoints=[0, 1, 3], **plain)
    rest = {"rest": lambda seed: {"start": whole.model("all", seed, epoch=1)}, "new": {}}
    gone_on = fit(build, data, epochs=2, conditions=rest, **plain)
    for name in ("train_loss", "test_accuracy"):
        expected = whole.history[name].sel(epoch=[1, 2, 3]).values[0]
        np.testing.assert_allclose(gone_on.history[name].sel(condition="rest"), expected, atol=1e-6)
    torch.testing.assert_close(gone_on.model("rest", seed)(data.x_test), whole.model("all", seed)(data.x_test))
    # The other condition of the same call starts anew, and a checkpoint is not the end.
    losses = [runs.history["train_loss"].sel(epoch=0).values[-1] for runs in (gone_on, whole)]
    np.testing.assert_allclose(*losses)
    with pytest.raises(KeyError, match=r"no checkpoint at epoch 2; kept are those at .0, 1, 3."):
        whole.model("all", seed, epoch=2)


def test_a_member_that_stopped_has_its_last_weights_at_later_checkpoints():
    build, shape = NETS["mlp"]
    runs = fit(build, toy(shape), seeds=SEEDS, stop={"train_accuracy": 0.0}, checkpoints=[0, 3], **common)
    assert (runs.stopped == 1).all()
    assert torch.equal(runs.model("all", 11, epoch=3)[1].weight, runs.model("all", 11)[1].weight)


def test_start_of_another_architecture_is_refused():
    build, shape = NETS["mlp"]
    other = nn.Sequential(nn.Flatten(), nn.Linear(8, 15), nn.ReLU(), nn.Linear(15, 4))
    with pytest.raises(ValueError, match="the network to start from has other parameters"):
        fit(build, toy(shape), seeds=SEEDS, conditions={"other": {"start": other}}, **common)


def test_choice_of_how():
    build, shape = NETS["2-D conv"]
    small = toy(shape)
    assert fit(build, small, seeds=SEEDS, **common).how == "together"
    wide = lambda: nn.Sequential(nn.Conv2d(1, 256, 5), nn.Conv2d(256, 64, 3), nn.Flatten(), nn.Linear(256, 4))  # noqa: E731
    assert fit(wide, small, seeds=SEEDS[:2], epochs=1, batch_size=16, lr=0.01).how == "one by one"
    assert fit(wide, small, seeds=SEEDS[:2], epochs=1, batch_size=16, lr=0.01, how="together").how == "together"


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(how="both"), "how is 'both'; it must be one of: auto, together, one by one"),
        (dict(optimizer="sdg"), "optimizer is 'sdg'"),
        (dict(seeds=[1, 1]), "distinct"),
        (dict(conditions={"a": {"learning_rate": 1}}), "changes .'learning_rate'.; it can change"),
        (dict(stop={"acc": 1.0}), "cannot stop at 'acc'; recorded are: train_loss"),
        (dict(epochs=0), "epochs=0"),
        (dict(checkpoints=[4]), "checkpoints at .4. lie outside the training's epochs 0 to 3"),
    ],
)
def test_bad_input(change, message):
    build, shape = NETS["mlp"]
    with pytest.raises(ValueError, match=message):
        fit(build, toy(shape), **(dict(seeds=SEEDS, **common) | change))


def test_sets_of_different_sizes_are_refused_together_and_train_one_by_one():
    build, shape = NETS["mlp"]
    big, small = toy(shape, n=40), toy(shape, n=20)
    settings = dict(seeds=SEEDS, conditions={"big": {}, "small": {"data": small}}, **common)
    with pytest.raises(ValueError, match=r"sets of \[20, 40\] samples"):
        fit(build, big, how="together", **settings)
    assert fit(build, big, how="one by one", **settings).final["train_loss"].notnull().all()


def test_unknown_member_lists_the_choices():
    build, shape = NETS["mlp"]
    runs = fit(build, toy(shape), seeds=SEEDS, **common)
    with pytest.raises(KeyError, match="conditions: .'all'.; seeds: .11, 12, 13."):
        runs.model("none", 11)


def test_squared_error_of_classes_and_of_values():
    outputs, classes = torch.randn(2, 5, 3), torch.randint(3, (2, 5))
    expected = [
        0.5 * F.mse_loss(o, F.one_hot(c, 3).float(), reduction="sum") / 5 for o, c in zip(outputs, classes, strict=True)
    ]
    torch.testing.assert_close(training.squared_error(outputs, classes), torch.stack(expected) / 3)
    values = torch.randn(2, 5)
    expected = torch.stack([0.5 * F.mse_loss(o[:, 0], v) for o, v in zip(outputs, values, strict=True)])
    torch.testing.assert_close(training.squared_error(outputs[..., :1], values), expected)


def test_schedules():
    assert [optimizers.exponential(0.5)(e) for e in (0, 0.9, 1.0, 2.5)] == [1, 1, 0.5, 0.25]
    assert [optimizers.step_decay(2, 4)(e) for e in (0, 2, 5)] == pytest.approx([1, 0.1, 0.01])
    assert [optimizers.cosine(10)(e) for e in (0, 5, 10, 11)] == pytest.approx([1, 0.5, 0, 0])
    risen = optimizers.warm_up(4, optimizers.cosine(10))
    assert [risen(e) for e in (0, 2, 5)] == pytest.approx([0.01, 0.505 * optimizers.cosine(10)(2), 0.5])
    assert optimizers.constant(3) == 1 and math.isfinite(optimizers.cosine(1)(0.3))


def test_ensemble_member_and_keep():
    build, shape = NETS["2-D conv"]
    x = toy(shape).x_train
    ensemble = Ensemble.from_seeds(build, SEEDS)
    with torch.no_grad():
        ensemble(x.expand(3, *x.shape), training=True)  # moves the running statistics
        before = ensemble(x.expand(3, *x.shape))
        for k in range(3):
            torch.testing.assert_close(ensemble.member(k)(x), before[k], atol=1e-5, rtol=1e-5)
        ensemble.keep(torch.tensor([2, 0]))
        torch.testing.assert_close(ensemble(x.expand(2, *x.shape)), before[[2, 0]], atol=1e-5, rtol=1e-5)


def test_activations_are_what_each_layer_gives():
    def build():
        return nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.Hardtanh(), nn.Dropout(), nn.Linear(6, 2))

    ensemble, x = Ensemble.from_seeds(build, [0, 1]), torch.randn(2, 5, 4)
    found = ensemble.activations(x)
    assert len(found) == 5
    torch.testing.assert_close(found[-1], ensemble(x))
    for k in range(2):
        z = x[k]
        for layer, given in zip(ensemble.member(k), found, strict=True):
            z = layer(z)
            torch.testing.assert_close(given[k], z)


def test_a_lone_network_on_one_channel_has_its_channels_last_too():
    # A pooling over channels that are not last in memory takes five times as long.
    net = lambda: nn.Sequential(nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2))  # noqa: E731
    lone, x = Ensemble.from_seeds(net, [0]), torch.randn(1, 5, 1, 8, 8)
    for out in lone.activations(x):
        assert out[0].is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(out[0], lone.member(0)(x[0]))


def test_what_does_not_fit_into_memory_is_trained_pass_by_pass(monkeypatch):
    def final():
        passes.clear()
        return fit(conv_1d, data, seeds=[1, 2, 3], epochs=2, batch_size=8, lr=0.05, how="together")

    def counted(recipe, ensemble, *rest):
        passes.append(len(ensemble))
        return evaluate(recipe, ensemble, *rest)

    data, passes, evaluate = toy((1, 16)), [], training._evaluate
    monkeypatch.setattr(training, "_evaluate", counted)
    assert training._free_memory(torch.device("cpu")) > 1e8
    whole = final()
    assert set(passes) == {3}
    net = training._sizes(conv_1d, data.x_train[:1])
    assert net.weights == sum(parameter.numel() for parameter in conv_1d().parameters())
    need = 4 * (4 * net.weights + 3 * net.outputs * 64)
    for room, sizes in ((0, {1}), (1, {1}), (2, {2, 1})):
        monkeypatch.setattr(training, "_free_memory", lambda device, room=room: int(2.1 * room * need))
        split = final()
        assert set(passes) == sizes
        for name in whole.history:
            np.testing.assert_allclose(split.history[name], whole.history[name], rtol=1e-4, atol=1e-5)


def test_mixed_precision_trains_float32_weights_nearly_as_full_precision_does(monkeypatch):
    def final():
        net = lambda: nn.Sequential(nn.Linear(6, 32), nn.ReLU(), nn.Linear(32, 4))  # noqa: E731
        return fit(net, toy((6,), n=200), seeds=[1, 2], epochs=5, batch_size=20, lr=0.1)

    full = final()
    monkeypatch.setitem(vars(settings), "precision", "mixed")
    mixed = final()
    assert {p.dtype for p in mixed.model("all", 1).parameters()} == {torch.float32}
    gap = abs(full.final["train_loss"] - mixed.final["train_loss"])
    assert (gap > 1e-6).all()  # it is another computation
    assert (gap < 0.03).all()  # of the same thing: bfloat16 has three digits
    assert (mixed.final["train_loss"] < full.history["train_loss"].sel(epoch=0) - 0.1).all()
