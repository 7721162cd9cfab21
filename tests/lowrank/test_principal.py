"""Principal components against scikit-learn's."""

import numpy as np
import pytest
import sklearn.decomposition
import torch
from sklearn.datasets import load_digits

import eigenscope as es

NAMES = ("components_", "explained_variance_", "explained_variance_ratio_", "singular_values_", "mean_")
NUMBERS = ("noise_variance_", "n_components_", "n_features_in_", "n_samples_")


def data(name):
    generator = np.random.default_rng(0)
    if name == "digits":  # three of its 64 pixels never change: the matrix is rank-deficient
        return load_digits().data
    if name == "wide":
        return generator.standard_normal((30, 80)) + 5
    return generator.standard_normal((200, 20)) * np.arange(1, 21) ** -1.0 - 3


def reference(x, components):
    return sklearn.decomposition.PCA(components, svd_solver="full").fit(x)


@pytest.mark.parametrize("components", [1, 7, None, 0.5, 0.9])
@pytest.mark.parametrize("name", ["digits", "wide", "tall"])
def test_every_attribute_is_scikit_learn_s_to_the_rounding_of_fp64(name, components):
    x = data(name)
    ours, theirs = es.PCA(components).fit(x), reference(x, components)
    known = 1e-9 * theirs.singular_values_[0] < theirs.singular_values_  # a direction without variance is arbitrary
    for attribute in NAMES:
        mine, other = getattr(ours, attribute), getattr(theirs, attribute)
        if attribute == "components_":
            mine, other = mine[known], other[known]
        np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-11, err_msg=attribute)
    for attribute in NUMBERS:
        assert getattr(ours, attribute) == pytest.approx(getattr(theirs, attribute), rel=1e-9, abs=1e-18), attribute


@pytest.mark.parametrize("name", ["wide", "tall"])
def test_transforms_are_scikit_learn_s_and_undo_each_other(name):
    x = data(name)
    ours, theirs = es.PCA(5).fit(x), reference(x, 5)
    np.testing.assert_allclose(ours.transform(x), theirs.transform(x), atol=1e-11)
    np.testing.assert_allclose(es.PCA(5).fit_transform(x), theirs.transform(x), atol=1e-11)
    back = ours.inverse_transform(ours.transform(x))
    np.testing.assert_allclose(back, theirs.inverse_transform(theirs.transform(x)), atol=1e-11)
    np.testing.assert_allclose(es.PCA().fit(x).inverse_transform(es.PCA().fit_transform(x)), x, atol=1e-11)


@pytest.mark.parametrize("method", ["gram", "randomized", "auto"])
def test_the_cheaper_ways_keep_to_the_tolerance(method):
    x = data("digits")
    ours, theirs = es.PCA(6, method=method, tolerance=1e-6, seed=3).fit(x), reference(x, 6)
    np.testing.assert_allclose(ours.singular_values_, theirs.singular_values_, rtol=1e-6)
    np.testing.assert_allclose(ours.explained_variance_ratio_, theirs.explained_variance_ratio_, rtol=2e-6)
    np.testing.assert_allclose(ours.components_, theirs.components_, atol=1e-2)
    assert ours.noise_variance_ == pytest.approx(theirs.noise_variance_, rel=1e-5)


def test_single_precision_is_summed_in_double():
    """Rows a million standard deviations from the origin: the variance is there, if the mean is taken in fp64."""
    x = (np.random.default_rng(1).standard_normal((500, 6)) + 1e6).astype(np.float32)
    ours = es.PCA(3).fit(x)
    np.testing.assert_allclose(ours.singular_values_, reference(x.astype(np.float64), 3).singular_values_, rtol=1e-6)
    assert ours.components_.dtype == np.float32


def test_tensors_give_tensors():
    x = torch.from_numpy(data("tall"))
    ours, theirs = es.PCA(3), reference(data("tall"), 3)
    coordinates = ours.fit_transform(x)
    assert all(isinstance(item, torch.Tensor) for item in (coordinates, ours.components_, ours.mean_))
    np.testing.assert_allclose(coordinates.numpy(), theirs.transform(data("tall")), atol=1e-11)
    np.testing.assert_allclose(ours.transform(x.numpy()), theirs.transform(data("tall")), atol=1e-11)


def test_constant_rows_have_no_variance_and_no_nan():
    ours = es.PCA(2).fit(np.full((5, 3), 7.0))
    assert not ours.explained_variance_.any()
    assert not ours.explained_variance_ratio_.any()


@pytest.mark.parametrize(("components", "x", "message"), [
    (0, data("tall"), "n_components=0 is not possible for 200 × 20: give a whole number from 1 to 20"),
    (21, data("tall"), "n_components=21 is not possible"),
    (1.0, data("tall"), "n_components=1.0 is not possible"),
    (True, data("tall"), "n_components=True is not possible"),
    ("mle", data("tall"), "n_components='mle' is not possible"),
    (1, data("tall")[:1], "X has 1 row: a variance takes two or more"),
    (1, data("tall") * np.nan, "X is not finite: 4,000 of 4,000"),
    (1, np.ones((3, 3), complex), "X holds complex128, not real numbers"),
])  # fmt: skip
def test_bad_input_is_refused_in_one_line(components, x, message):
    with pytest.raises(es.InputError, match=message):
        es.PCA(components).fit(x)


def test_rows_of_another_width_and_an_early_transform_are_refused():
    x = data("tall")
    with pytest.raises(es.InputError, match="n_features_in_ is not there yet: call fit first"):
        es.PCA(2).transform(x)
    with pytest.raises(es.InputError, match="X has 19 columns, and there are 20 features"):
        es.PCA(2).fit(x).transform(x[:, 1:])
    with pytest.raises(es.InputError, match="X has 3 columns, and there are 2 components"):
        es.PCA(2).fit(x).inverse_transform(x[:, :3])


def test_what_is_not_fitted_yet_is_not_there():
    pca = es.PCA(2)
    assert not hasattr(pca, "components_")
    assert getattr(pca, "mean_", None) is None
    assert not hasattr(pca, "component")
    assert hasattr(pca.fit(data("tall")), "components_")
