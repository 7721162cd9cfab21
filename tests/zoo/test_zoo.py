"""The zoo is what it says: trained models give their published answers, the hard cases are hard."""

import pytest
import torch
from torch import Tensor, nn

import zoo
from zoo import gpt_nano_sort, hugging_face, mnist_mlp, resnet20, stories260k

# The greedy text that llama2.c and its ports test against for this checkpoint (temperature 0, 200 steps).
GREEDY_STORY = """\
Once upon a time, there was a little girl named Lily. She loved to play outside in the park. \
One day, she saw a big, red ball. She wanted to play with it, but it was too high.
Lily's mom said, "Lily, let's go to the park." Lily was sad and didn't know what to do. \
She said, "I want to play with your ball, but I can't find it."
Lily was sad and didn't know what to do. She said, "I'm sorry, Lily. I didn't know what to do."
Lily didn't want to help her mom, so she"""


@torch.no_grad()
def _right_answers(model: nn.Module, inputs: Tensor, labels: Tensor) -> int:
    answers = torch.cat([model(part).argmax(1) for part in torch.split(inputs, 250)])
    return int((answers == labels).sum())


def test_gpt_nano_sorts_500_of_500() -> None:
    model, _, _ = gpt_nano_sort.gpt_nano_sort()
    letters = gpt_nano_sort.random_letters(500, seed=2)
    with torch.no_grad():
        assert torch.equal(gpt_nano_sort.sort_with(model, letters), letters.sort(1).values)


def test_stories260k_writes_the_story_that_llama2c_writes() -> None:
    model, tokenizer = stories260k.load()
    assert tokenizer.decode(stories260k.greedy(model, 200)[0].tolist()) == GREEDY_STORY


def test_stories260k_expects_a_story_and_not_a_play() -> None:
    model, loss_fn, stories = stories260k.stories260k()
    _, tokenizer = stories260k.load()
    play = zoo.shared_data("datasets/tinyshakespeare.txt").read_text()[:500]
    with torch.no_grad():
        assert max(float(loss_fn(model, story)) for story in stories) < 1.5  # nats a token
        assert float(loss_fn(model, stories260k.story_batch(tokenizer, play))) > 3


def test_the_tokenizer_gives_back_what_it_was_given() -> None:
    _, tokenizer = stories260k.load()
    for text in (*stories260k.STORIES, "a née Zoë"):
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_resnet20_knows_81_percent_of_the_jpeg_images() -> None:
    """1,621 of 2,000 when this was written; ImageNet's mean and deviation give 1,617."""
    model, _, _ = resnet20.resnet20()
    assert _right_answers(model, *resnet20.images()) == pytest.approx(1621, abs=2)


def test_mnist_mlp_knows_91_percent() -> None:
    """9,088 of 10,000 when this was written."""
    model, _, _ = mnist_mlp.mnist_mlp()
    assert _right_answers(model, *mnist_mlp.digits()) == pytest.approx(9088, abs=2)


@pytest.mark.parametrize("name", zoo.CASES)
def test_a_case_has_the_size_it_states(name: str) -> None:
    model, _, _ = zoo.CASES[name].build()
    assert zoo.parameter_count(model) == zoo.CASES[name].num_parameters
    assert name in zoo.REAL or zoo.CASES[name].num_parameters <= 3000


@pytest.mark.parametrize("name", zoo.CASES)
def test_two_builds_are_the_same_and_draw_no_random_number(name: str) -> None:
    state = torch.get_rng_state()
    (first, loss_fn, batches), (second, _, again) = (zoo.CASES[name].build() for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    for left, right in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(left, right)
    for batch, twin in zip(batches, again, strict=True):
        assert torch.equal(loss_fn(first, batch), loss_fn(second, twin))


@pytest.mark.parametrize("name", zoo.CASES)
def test_a_case_comes_in_evaluation_mode_without_gradients(name: str) -> None:
    model, loss_fn, batches = zoo.CASES[name].build()
    assert not any(module.training for module in model.modules())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert all(loss_fn(model, batch).shape == () for batch in batches)


def _double_backward(name: str) -> None:
    model, loss_fn, batches = zoo.CASES[name].build()
    points = [parameter for parameter in model.parameters() if parameter.requires_grad]
    first = torch.autograd.grad(loss_fn(model, batches[0]), points, create_graph=True)
    torch.autograd.grad(sum((part.sum() for part in first), torch.zeros(())), points)


@pytest.mark.parametrize("name", zoo.named("fused_attention"))
def test_fused_attention_has_no_double_backward(name: str) -> None:
    with pytest.raises(RuntimeError, match=r"derivative for .*attention.* is not implemented"):
        _double_backward(name)


@pytest.mark.parametrize("name", zoo.named("compiled"))
def test_a_compiled_module_has_no_double_backward(name: str) -> None:
    with pytest.raises(RuntimeError, match="does not currently support double backward"):
        _double_backward(name)


@pytest.mark.parametrize("name", zoo.named("dropout"))
def test_dropout_makes_the_loss_random_in_train_mode_only(name: str) -> None:
    model, loss_fn, batches = zoo.CASES[name].build()
    assert torch.equal(loss_fn(model, batches[0]), loss_fn(model, batches[0]))
    with zoo.seeded(0):
        model.train()
        assert not torch.equal(loss_fn(model, batches[0]), loss_fn(model, batches[0]))


@pytest.mark.parametrize("name", zoo.named("batch_norm"))
def test_batch_norm_changes_its_buffers_in_train_mode_only(name: str) -> None:
    model, loss_fn, batches = zoo.CASES[name].build()

    def changed() -> bool:
        before = [buffer.clone() for buffer in model.buffers()]
        with torch.no_grad(), zoo.seeded(0):
            loss_fn(model, batches[0])
        return any(not torch.equal(old, new) for old, new in zip(before, model.buffers(), strict=True))

    assert not changed()
    model.train()
    assert changed()


@pytest.mark.parametrize("name", zoo.named("tied"))
def test_a_tied_weight_has_two_names_and_is_counted_once(name: str) -> None:
    model, _, _ = zoo.CASES[name].build()
    names = [key for key, _ in model.named_parameters(remove_duplicate=False)]
    shared = set(names) - {key for key, _ in model.named_parameters()}
    assert any(key.endswith("weight") for key in shared)


@pytest.mark.parametrize("name", zoo.named("hugging_face"))
def test_hugging_face_models_attend_as_they_do_by_default(name: str) -> None:
    model, _, _ = zoo.CASES[name].build()
    assert getattr(model.config, "_attn_implementation", None) == "sdpa"


@pytest.mark.parametrize("name", zoo.named("hugging_face"))
def test_the_library_s_loss_is_the_mean_over_unmasked_tokens(name: str) -> None:
    case = zoo.CASES[name]
    model, loss_fn, batches = case.build()
    assert case.split is not None
    assert case.batch_weight is not None
    for batch in batches:
        torch.testing.assert_close(loss_fn(model, batch), case.split(model, batch))
    assert len({case.batch_weight(batch) for batch in batches}) > 1
    assert any((batch["labels"] == hugging_face.IGNORED).any() for batch in batches)
