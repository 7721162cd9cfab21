"""Full-batch training, and parameters as one vector."""

import torch

import eigenscope as es
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


def closure_of(model, optimizer, data, loss_fn=cross_entropy):
    """What `optimizer.step` takes where it is to compute the gradient itself."""

    def closure():
        optimizer.zero_grad()
        loss = loss_fn(model, data)
        loss.backward()
        return loss

    return closure


def train_scaled(model, optimizer, data, steps=1, loss_fn=cross_entropy, scale=65536.0):
    """Training under a `GradScaler`."""
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    for _ in range(steps):
        optimizer.zero_grad()
        scaler.scale(loss_fn(model, data)).backward()
        scaler.step(optimizer)
        scaler.update()


class WithEmbedding(torch.nn.Module):
    """A classifier of token sequences, whose embedding may have sparse gradients."""

    def __init__(self, sparse):
        super().__init__()
        self.embedding, self.head = torch.nn.Embedding(20, 4, sparse=sparse), torch.nn.Linear(4, 3)

    def forward(self, tokens):
        return self.head(self.embedding(tokens).mean(1))


def tokens(seed=0):
    """A batch for it."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 20, (32, 5), generator=generator), torch.randint(0, 3, (32,), generator=generator)


def flat(model) -> torch.Tensor:
    """A copy of all parameters."""
    return torch.cat([p.detach().flatten() for p in model.parameters()]).clone()


def gradient_of(model, data, loss_fn=cross_entropy) -> torch.Tensor:
    """The gradient, leaving `.grad` alone."""
    return torch.cat([g.flatten() for g in torch.autograd.grad(loss_fn(model, data), list(model.parameters()))])


def plain_ratio(model, loss_fn, data, optimizer) -> float:
    """The ratio from all of a long Krylov run."""
    reading = es.curvature(model, loss_fn, data, optimizer=optimizer, max_matvecs=40)
    return reading.stability_ratio.value
