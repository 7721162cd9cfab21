"""A Hugging Face model, whose batches count by their unmasked tokens. Nothing is downloaded.

python examples/hugging_face.py --steps 200
"""

import argparse
import inspect

import torch
from transformers import GPT2Config, GPT2LMHeadModel

import eigenscope as es

LENGTH = 48
IGNORED = -100  # labels that the loss leaves out: here the padding


def batches_of(lines, size):
    """Lines of text as bytes, padded; the padding is masked in the attention and in the labels."""
    for start in range(0, len(lines), size):
        texts = [line.encode()[:LENGTH] for line in lines[start : start + size]]
        inputs = torch.tensor([[*text, *bytes(LENGTH - len(text))] for text in texts])
        mask = (torch.arange(LENGTH) < torch.tensor([[len(text)] for text in texts])).long()
        yield {"input_ids": inputs, "attention_mask": mask, "labels": inputs.masked_fill(mask == 0, IGNORED)}


def loss_fn(model, batch):
    """The mean loss over the batch's unmasked tokens, as the model itself computes it."""
    return model(**batch).loss


def tokens(batch):
    """What a batch counts for: the tokens that its mean is taken over. The first token of a line has no prediction."""
    return int((batch["labels"][:, 1:] != IGNORED).sum())


def main():
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=200)
    options.add_argument("--run", default="runs/gpt2-tiny")
    given = options.parse_args()

    source = inspect.getsource(torch.nn.functional)  # some text of uneven lines that is always at hand
    lines = [line.strip() for line in source.splitlines() if len(line.strip()) > 8]
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=256, n_positions=LENGTH, n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=0
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    probe = list(batches_of(lines[:32], 8))
    train = list(batches_of(lines[32:], 8))

    monitor = es.Monitor(model, loss_fn, probe, optimizer=optimizer, batch_weight=tokens, run=given.run)
    with monitor:
        model.train()
        for step in range(given.steps):
            loss = loss_fn(model, train[step % len(train)])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            monitor.step(loss)
        monitor.measure()

    print(monitor.reading)
    print(f"{monitor.run_path}: measuring took {monitor.measuring_share:.1%} of the time")


if __name__ == "__main__":
    main()
