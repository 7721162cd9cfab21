"""Full-batch training, and parameters as one vector."""

import torch

from eigenscope.scenarios import cross_entropy


def train(model, optimizer, data, steps=1, loss_fn=cross_entropy, scheduler=None, after=None):
    """The losses of `steps` steps."""
    losses = []
    for _ in range(steps):
        loss = loss_fn(model, data)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if scheduler is not None:
            scheduler.step()
        if after is not None:
            after()
        losses.append(float(loss.detach()))
    return losses


def flat(model) -> torch.Tensor:
    """A copy of all parameters."""
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


def gradient_of(model, data, loss_fn=cross_entropy) -> torch.Tensor:
    """The gradient, leaving `.grad` alone."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss_fn(model, data), list(model.parameters()))])
