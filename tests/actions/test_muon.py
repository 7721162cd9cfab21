"""Muon for hidden matrices and AdamW for the rest, as one optimizer."""

import copy

import torch
from torch import nn

from actions.training import flat, train
from eigenscope.actions import SwitchOptimizer
from eigenscope.actions.muon import MuonWithAdamW, muon_groups
from eigenscope.scenarios import cross_entropy, network


def test_muon_takes_hidden_matrices_and_adamw_the_rest(data):
    model = network(2)
    twin = copy.deepcopy(model)
    old = torch.optim.SGD(model.parameters(), lr=0.1)
    new = SwitchOptimizer("muon", lr=0.01).switch(old, model=model)
    assert isinstance(new, MuonWithAdamW)
    assert [id(p) for g in new.param_groups if g["muon"] for p in g["params"]] == [
        id(model[0].weight), id(model[2].weight),
    ]  # fmt: skip
    train(model, old, data, 4)
    hidden = [twin[0].weight, twin[2].weight]
    others = [p for p in twin.parameters() if all(p is not q for q in hidden)]
    muon = torch.optim.Muon(hidden, lr=0.01, weight_decay=0.0, adjust_lr_fn="match_rms_adamw")
    adamw = torch.optim.AdamW(others, lr=0.01, weight_decay=0.0)
    for _ in range(4):
        twin.zero_grad()
        cross_entropy(twin, data).backward()
        muon.step()
        adamw.step()
    assert torch.equal(flat(model), flat(twin))


def test_muon_takes_the_last_hidden_matrix_where_the_head_is_the_embedding():
    class Tied(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding, self.first, self.second = nn.Embedding(20, 16), nn.Linear(16, 16), nn.Linear(16, 16)
            self.head = nn.Linear(16, 20, bias=False)
            self.head.weight = self.embedding.weight

    model = Tied()
    muon, adamw = muon_groups([{"params": list(model.parameters())}], model)
    assert [id(p) for p in muon["params"]] == [id(model.first.weight), id(model.second.weight)]
    assert [id(p) for p in adamw["params"]] == [
        id(model.embedding.weight), id(model.first.bias), id(model.second.bias),
    ]  # fmt: skip


def test_muons_state_is_saved_and_loaded(data):
    model = network(2)
    one = SwitchOptimizer("muon").switch(torch.optim.SGD(model.parameters(), lr=0.1), model=model)
    train(model, one, data, 3)
    saved, weights = copy.deepcopy(one.state_dict()), copy.deepcopy(model.state_dict())
    train(model, one, data, 3)
    then = flat(model)
    model.load_state_dict(weights)
    one.load_state_dict(saved)
    train(model, one, data, 3)
    assert torch.equal(flat(model), then)
