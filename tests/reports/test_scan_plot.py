"""Scans in notebooks: a table that shows itself, and one call for a picture."""

import builtins

import numpy as np
import pytest

from eigenscope.errors import InputError
from eigenscope.scanning.curves import QUANTITIES, cumulative_variance, gram_histogram, grid, thinned
from eigenscope.scanning.result import MatrixRow
from eigenscope.scanning.scan import scan
from reports.scans import EVIL, matrix, odd_scan


@pytest.fixture(scope="module")
def odd():
    return odd_scan()


def test_a_notebook_shows_a_table_whose_names_are_escaped(odd):
    shown = odd._repr_html_()
    assert shown.count("<tr>") == len(odd.matrices) + 1
    assert EVIL not in shown
    assert "<script" not in shown


@pytest.mark.parametrize("quantity", QUANTITIES)
def test_the_map_takes_one_call(odd, quantity):
    assert odd.plot(quantity=quantity)._repr_png_().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["model.embed_tokens.weight", "low.weight", "zero.weight"])
def test_one_matrix_is_three_plots(odd, name):
    figure = odd.plot("matrix", name)
    titles = [axes.get_title() for axes in figure.axes]
    assert titles == ["Singular values", "Cumulative variance", "Eigenvalues of W Wᵀ"]
    assert figure._repr_png_()


def test_all_spectra_are_one_plot(odd):
    (axes,) = odd.plot("spectra").axes
    assert len(axes.lines) == sum(row.reading is not None and row.name != "zero.weight" for row in odd)


def test_what_can_not_be_plotted_is_told_in_a_line(odd):
    with pytest.raises(InputError, match="kind='pie' is not one of map, spectra, matrix"):
        odd.plot("pie")
    with pytest.raises(InputError, match="quantity='kappa'"):
        odd.plot(quantity="kappa")
    with pytest.raises(InputError, match=r"no matrix 'low\.weigh': did you mean 'low\.weight'"):
        odd.plot("matrix", "low.weigh")
    with pytest.raises(InputError, match="needs the name of one"):
        odd.plot("matrix")


def test_without_matplotlib_the_extra_is_named(odd, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match=r"pip install 'eigenscope\[plot\]'"):
        odd.plot()


# -- the numbers behind the pictures ----------------------------------------------------------------------------------


def test_the_histogram_holds_every_eigenvalue_or_counts_it_as_zero(odd):
    for row in odd:
        if row.reading is not None and row.reading.singular_values[0] > 0:
            bins = gram_histogram(row.reading)
            assert bins.counts.sum() + bins.below == len(row.reading.singular_values)


def test_the_law_of_noise_expects_as_many_eigenvalues_as_there_are_and_fits_them():
    reading = scan({"noise": matrix(300, 500)})["noise"].reading
    bins = gram_histogram(reading)
    assert bins.expected.sum() == pytest.approx(300, rel=0.03)
    assert np.abs(np.cumsum(bins.expected) - np.cumsum(bins.counts)).max() < 10


def test_thinning_keeps_both_ends_and_short_spectra_whole():
    np.testing.assert_array_equal(thinned(7, 100), np.arange(7))
    places = thinned(5000, 160)
    assert len(places) <= 160
    assert (places[:40] == np.arange(40)).all()
    assert places[-1] == 4999


def test_the_cumulative_variance_ends_at_one_even_for_zeros():
    assert cumulative_variance(np.array([3.0, 4.0][::-1])).tolist() == [0.64, 1.0]
    assert cumulative_variance(np.zeros(2)).tolist() == [1.0, 1.0]


def test_the_least_value_of_a_map_has_a_colour_and_what_has_none_is_hatched(odd):
    (axes, *_) = odd.plot().axes
    (image,) = axes.images
    assert max(image.cmap(0.0)[:3]) - min(image.cmap(0.0)[:3]) > 0.1
    assert [patch.get_hatch() for patch in axes.patches] == ["////"]  # broken.weight


def row(name, part=""):
    return MatrixRow(name, part, "float32", None)


def test_the_grid_has_kinds_down_and_layers_across():
    found = grid([row("embed.weight"), row("h.0.q.weight"), row("h.1.q.weight"), row("h.1.k.weight")])
    assert found.kinds == ("embed", "h.q", "h.k")
    assert found.layers == (None, 0, 1)
    assert found.cells == ((0, None, None), (None, 1, 2), (None, None, 3))


def test_encoder_and_decoder_do_not_hide_each_other():
    names = [f"{side}.layers.{layer}.q.weight" for side in ("encoder", "decoder") for layer in (0, 1)]
    found = grid([row(name) for name in names])
    assert sorted(index for cells in found.cells for index in cells if index is not None) == [0, 1, 2, 3]
    assert len(found.kinds) == 2


def test_a_stack_over_layers_is_spread_over_them():
    found = grid([row("wq", "0"), row("wq", "1"), row("wk", "0")])
    assert (found.kinds, found.layers) == (("wq", "wk"), (0, 1))
