"""Many copies of one network as one network: parameters stacked along a member axis.

A small network leaves a processor waiting: a step of one 15,000-weight net is mostly the cost of calling
PyTorch. Stacking K copies turns K matrix products into one batched product, and K convolutions into one
grouped convolution. The arithmetic of each member is unchanged.

Activations have the shape [K, B, ...]: member, sample, then what the layer gives for one sample.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from lessons_lib.models import Branches

Samples = Tensor | Sequence[Tensor]  # shared by all networks, [n, ...], or of each its own

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d)
_BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
# Layers that treat every channel alike and on its own: members may lie side by side as channels.
_CHANNELWISE = (
    nn.ConstantPad1d,
    nn.ZeroPad2d,
    nn.MaxPool1d,
    nn.MaxPool2d,
    nn.AvgPool1d,
    nn.AvgPool2d,
    nn.AdaptiveAvgPool1d,
    nn.AdaptiveAvgPool2d,
)
_ELEMENTWISE = (
    nn.ReLU,
    nn.Tanh,
    nn.Hardtanh,
    nn.Sigmoid,
    nn.GELU,
    nn.ELU,
    nn.LeakyReLU,
    nn.Softplus,
    nn.SiLU,
    nn.Identity,
)


class Ensemble:
    """K members of one architecture.

    Attributes:
        flat: parameters, [K, P]: each member's P weights in the order of ``model.parameters()``.
        flat_grad: their gradients, [K, P], written by ``backward``.
        parameters: name -> view into ``flat``, [K, ...].
        buffers: name -> stacked buffers (batch norm's running statistics), [K, ...].
        generators: one random generator a member, for dropout.
    """

    def __init__(self, models: Sequence[nn.Module], generators: Sequence[torch.Generator] | None = None):
        """Stack ``models``, which share one architecture; their weights are copied."""
        if not models:
            raise ValueError("an ensemble needs at least one model")
        self.template = copy.deepcopy(models[0])
        # The template says which layers there are; its own weights are never used.
        for parameter in self.template.parameters():
            parameter.requires_grad_(False)
        self.generators = list(generators or [torch.Generator() for _ in models])
        flat = torch.stack([nn.utils.parameters_to_vector(model.parameters()).detach() for model in models])
        buffers = {
            name: torch.stack([dict(model.named_buffers())[name] for model in models])
            for name, _ in self.template.named_buffers()
        }
        self._install(flat, buffers)

    @classmethod
    def from_seeds(cls, build: Callable[[], nn.Module], seeds: Sequence[int], device="cpu") -> Ensemble:
        """Build one member a seed. The global random state is left as it was."""
        models, generators = [], []
        for seed in seeds:
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                models.append(build().to(device))
                # Dropout goes on with a stream of its own, split off here so that it differs from the weights'.
                generators.append(torch.Generator().manual_seed(int(torch.randint(2**62, ()))))
        return cls(models, generators)

    def _install(self, flat: Tensor, buffers: dict[str, Tensor]) -> None:
        self.flat, self.buffers = flat, buffers
        self.flat_grad = torch.zeros_like(flat)
        self.parameters: dict[str, Tensor] = {}
        self._gradients: list[Tensor] = []
        start = 0
        for name, parameter in self.template.named_parameters():
            shape, stop = (len(flat), *parameter.shape), start + parameter.numel()
            # Leaves that share memory with the flat vectors: the optimizer then works on two tensors,
            # however many layers there are.
            self.parameters[name] = flat[:, start:stop].view(shape).requires_grad_()
            self._gradients.append(self.flat_grad[:, start:stop].view(shape))
            start = stop

    def __len__(self) -> int:
        return len(self.flat)

    def __call__(self, x: Tensor, *, training: bool = False) -> Tensor:
        """Outputs [K, B, ...] for inputs [K, B, ...] (an expanded, shared input costs no memory)."""
        return _Pass(self, training).run(self.template, "", x)

    def of_each(self, samples: Samples) -> Tensor:
        """Samples [K, n, ...] on the device: each member's own, from K tensors [n, ...], or one that all share.

        What is shared is not copied. Raises ValueError for another number of tensors.
        """
        if isinstance(samples, Tensor):
            return samples.to(self.flat.device).expand(len(self), *samples.shape)
        if len(samples) != len(self):
            raise ValueError(f"{len(samples)} sets of samples for {len(self)} networks; give one, or one for each")
        return torch.stack([own.to(self.flat.device) for own in samples])

    def activations(self, x: Tensor, *, training: bool = False) -> list[Tensor]:
        """What each layer of a network that is an ``nn.Sequential`` gives, in order; the last are the outputs.

        Inputs [K, B, ...], each result [K, B, ...].
        """
        step, results = _Pass(self, training), []
        for name, child in self.template.named_children():
            results.append(step.run(child, f"{name}.", results[-1] if results else x))
        return results

    def backward(self, losses: Tensor) -> None:
        """Write the gradient of each member's loss, ``losses`` [K], to ``flat_grad``."""
        # A member's loss depends on its own row only, so the gradient of the sum holds them all.
        gradients = torch.autograd.grad(losses.sum(), list(self.parameters.values()))
        torch._foreach_copy_(self._gradients, gradients)

    def keep(self, members: Tensor) -> None:
        """Go on with the members at these positions only."""
        self.generators = [self.generators[k] for k in members.tolist()]
        members = members.to(self.flat.device)
        self._install(
            self.flat.detach()[members].clone(),
            {name: buffer[members].clone() for name, buffer in self.buffers.items()},
        )

    @torch.no_grad()
    def load(self, k: int, model: nn.Module) -> None:
        """Give member k the weights and buffers of ``model``. Raises ValueError for another architecture."""
        state = dict(model.named_parameters()) | dict(model.named_buffers())
        own = self.parameters | self.buffers
        if {n: v.shape for n, v in state.items()} != {n: v.shape[1:] for n, v in own.items()}:
            raise ValueError("the network to start from has other parameters or buffers than the one that is trained")
        for name, value in state.items():
            own[name][k].copy_(value)

    def state(self, k: int, device: torch.device | str | None = None) -> dict[str, Tensor]:
        """A copy of member k's weights and buffers by name, on ``device`` or where they are."""
        values = self.parameters | self.buffers
        return {name: value[k].detach().clone().to(device or value.device) for name, value in values.items()}

    def member(self, k: int) -> nn.Module:
        """Member k as an ordinary module in evaluation mode, with weights of its own."""
        model = copy.deepcopy(self.template)
        model.load_state_dict(self.state(k))
        for parameter in model.parameters():
            parameter.requires_grad_(True)
        return model.eval()


class _Pass:
    """One forward pass: walks the template and applies each layer to all members at once."""

    def __init__(self, ensemble: Ensemble, training: bool):
        self.ensemble = ensemble
        self.training = training

    def run(self, module: nn.Module, prefix: str, x: Tensor) -> Tensor:
        get = self.ensemble.parameters.get
        weight, bias = get(f"{prefix}weight"), get(f"{prefix}bias")
        if isinstance(module, nn.Sequential):
            for name, child in module.named_children():
                x = self.run(child, f"{prefix}{name}.", x)
            return x
        if isinstance(module, Branches):
            children = module.named_children()
            return _beside([self.run(child, f"{prefix}{name}.", x) for name, child in children])
        if type(module) is nn.Linear and x.dim() == 3:
            return self._linear(weight, bias, x)
        if type(module) in _CONVOLUTIONS and module.padding_mode == "zeros":
            return self._convolution(module, weight, bias, x)
        if type(module) in _BATCH_NORMS and self._has_rule(module):
            return self._batch_norm(module, prefix, weight, bias, x)
        if type(module) is nn.Dropout:
            return self._dropout(module, x) if self.training else x
        if type(module) is nn.Flatten and (module.start_dim, module.end_dim) == (1, -1):
            return _keeping_layout(x).flatten(2)
        if isinstance(module, _ELEMENTWISE):
            return module(x)
        if type(module) in _CHANNELWISE:
            return self._apart(module(_side_by_side(x)))
        if not any(True for _ in module.parameters()) and not any(True for _ in module.buffers()):
            return _split(module.train(self.training)(_merge(x)), x)
        return self._vmap(module, prefix, x)

    @staticmethod
    def _has_rule(module: nn.Module) -> bool:
        return module.track_running_stats and module.momentum is not None

    @staticmethod
    def _linear(weight, bias, x):
        # Weights times inputs, not inputs times weights: so the gradient of the weights comes out as they lie in
        # memory, a layer of few outputs has no narrow product, and batch norm finds its batches in rows.
        x = x.transpose(1, 2)
        out = torch.bmm(weight, x) if bias is None else torch.baddbmm(bias.unsqueeze(2), weight, x)
        return out.transpose(1, 2)

    def _convolution(self, module, weight, bias, x):
        images, weight = _side_by_side(x), weight.flatten(0, 1)
        stride, padding, dilation = module.stride, module.padding, module.dilation
        signals = images.dim() == 3
        if signals:  # as images of height 1, since only images can have their channels last
            images, weight = images.unsqueeze(2), weight.unsqueeze(2)
            stride, dilation = (1, *stride), (1, *dilation)
            padding = padding if isinstance(padding, str) else (0, *padding)
        if x.device.type == "cpu":
            # Grouped convolutions of few channels run two to four times faster with the channels last in memory.
            # One channel lies in memory either way: only a copy says that it is last, which its successors go by.
            last = Tensor.clone if images.shape[1] == 1 else Tensor.contiguous
            images = last(images, memory_format=torch.channels_last)
        bias = None if bias is None else bias.flatten()
        groups = len(self.ensemble) * module.groups
        out = F.conv2d(images, weight, bias, stride, padding, dilation, groups)
        return self._apart(out.squeeze(2) if signals else out)

    def _apart(self, x: Tensor) -> Tensor:
        """[B, K*C, ...] as [K, B, C, ...], a view."""
        return x.unflatten(1, (len(self.ensemble), -1)).transpose(0, 1)

    def _batch_norm(self, module, prefix, weight, bias, x):
        buffers = self.ensemble.buffers

        def normalized(channels):
            return F.batch_norm(
                channels,
                # Stacked buffers are contiguous, so these are views and the running statistics stay up to date.
                buffers[f"{prefix}running_mean"].view(-1), buffers[f"{prefix}running_var"].view(-1),
                None if weight is None else weight.flatten(), None if bias is None else bias.flatten(),
                self.training, module.momentum, module.eps,
            )  # fmt: skip

        if x.dim() == 3:  # [K, B, C]: the batch of a channel is a row in memory, like one long signal's
            signal = normalized(x.transpose(1, 2).flatten(0, 1).unsqueeze(0))
            return signal.view(len(self.ensemble), -1, x.shape[1]).transpose(1, 2)
        if x.dim() == 4:  # signals, as images of height 1, whose channels may stay last in memory
            return self._apart(normalized(_side_by_side(x).unsqueeze(2)).squeeze(2))
        return self._apart(normalized(_side_by_side(x)))

    def _dropout(self, module, x):
        # A mask a member from the member's own stream: it sees the same masks when trained alone.
        keep = 1 - module.p
        masks = torch.stack([torch.rand(x.shape[1:], generator=g) for g in self.ensemble.generators])
        return x * (masks < keep).to(x.device, x.dtype) / keep

    def _vmap(self, module, prefix, x):
        state = self.ensemble.parameters | self.ensemble.buffers
        own = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
        module.train(self.training)
        if len(x) == 1:
            single = {name: value[0] for name, value in own.items()}
            return functional_call(module, single, (x[0],)).unsqueeze(0)
        return torch.vmap(lambda s, v: functional_call(module, s, (v,)), randomness="different")(own, x)


def _keeping_layout(x: Tensor) -> Tensor:
    """``x``, whose gradient will be laid out in memory as ``x`` is: else the ReLU before it takes ten times as long."""
    if x.requires_grad and not x.is_contiguous():
        size, stride = x.size(), x.stride()
        x.register_hook(lambda gradient: gradient.new_empty_strided(size, stride).copy_(gradient))
    return x


def _beside(parts: list[Tensor]) -> Tensor:
    """Channels of ``parts``, each [K, B, C, ...], one after the other: on a CPU with the channels last in memory.

    That is how convolutions want them and give them there; between the two, nothing is laid out anew.
    """
    if parts[0].device.type != "cpu":
        return torch.cat(parts, dim=2)
    last = (1, *range(3, parts[0].dim()), 0, 2)
    joined = torch.cat([_keeping_layout(part).permute(last) for part in parts], dim=-1)
    return joined.permute([last.index(d) for d in range(len(last))])


def _side_by_side(x: Tensor) -> Tensor:
    """[K, B, C, ...] as [B, K*C, ...]: members as groups of channels. A view of what ``_apart`` gave."""
    return x.transpose(0, 1).flatten(1, 2)


def _merge(x: Tensor) -> Tensor:
    """[K, B, ...] as one long batch [B*K, ...]."""
    return x.transpose(0, 1).flatten(0, 1)


def _split(out: Tensor, like: Tensor) -> Tensor:
    """Undo ``_merge``."""
    return out.unflatten(0, (like.shape[1], like.shape[0])).transpose(0, 1)
