"""What a scan and a comparison are in Python: short where they are shown, a mapping of names, tables of pandas."""

import builtins

import numpy as np
import pytest
import torch

import eigenscope as es
from eigenscope.errors import InputError
from reports.scans import matrix, odd_scan

BASE = {f"h.{i}.proj.weight": matrix(12, 20, i) for i in range(3)} | {
    "same.weight": matrix(4, 4),
    "bias": torch.ones(3),
}
TUNED = BASE | {f"h.{i}.proj.weight": BASE[f"h.{i}.proj.weight"] + 0.1 * (i + 1) for i in range(3)}


@pytest.fixture(scope="module")
def found():
    return es.scan(BASE)


@pytest.fixture(scope="module")
def compared():
    return es.compare(BASE, TUNED)


def test_printed_they_are_a_table_of_one_line_a_matrix(found, compared):
    for result, head in ((found, "eff. rank"), (compared, "ΔW/W")):
        lines = str(result).splitlines()
        assert len(lines) == 2 + len(result)
        assert head in lines[1]
        assert [line.split()[0] for line in lines[2:]] == [row.title for row in result]
        assert max(map(len, lines)) < 100
    assert "κ" in str(found).splitlines()[1]


def test_a_long_scan_is_printed_in_part():
    many = es.scan({f"h.{i}.weight": matrix(2, 2, i) for i in range(70)})
    assert str(many).splitlines()[-1] == "and 10 more"


def test_their_repr_is_one_short_line(found, compared):
    shown = [repr(item) for item in (found, compared, found["h.0.proj.weight"], compared["h.0.proj.weight"])]
    assert all("\n" not in line and len(line) < 160 for line in shown)
    assert shown[0] == "<Scan of state dict: 4 matrices, 1 tensor not analysed>"
    assert shown[1] == "<Comparison state dict → state dict: 3 changed, 1 unchanged, 1 not compared>"


def test_a_name_gives_its_row_and_a_misspelt_one_the_near_name(found, compared):
    for result in (found, compared):
        assert result["h.1.proj.weight"].name == "h.1.proj.weight"
        with pytest.raises(InputError, match=r"no matrix 'h.1.proj': did you mean 'h.1.proj.weight'"):
            result["h.1.proj"]
    assert (len(found), len(compared)) == (4, 3)


def test_a_comparison_shows_itself_in_a_notebook_and_is_plotted(compared):
    assert compared._repr_html_().count("<tr>") == 4
    for quantity in ("relative_size", "rank_at_99", "overlap", "intruders"):
        assert compared.plot(quantity=quantity)._repr_png_().startswith(b"\x89PNG")
    assert compared.plot("matrix", "h.0.proj.weight").axes[0].get_title() == "Singular values"
    with pytest.raises(InputError, match="quantity='kappa'"):
        compared.plot(quantity="kappa")


def test_pandas_has_a_row_a_matrix_with_every_number():
    pytest.importorskip("pandas")
    odd = odd_scan()
    table = odd.to_pandas()
    assert list(table.index) == [row.title for row in odd]
    row = odd["low.weight"].reading
    assert table.loc["low.weight", "effective_rank"] == row.effective_rank
    assert table.loc["broken.weight", "reason"] == odd["broken.weight"].problem
    changes = es.compare(BASE, TUNED).to_pandas()
    assert list(changes["relative_size"]) == sorted(changes["relative_size"])
    assert list(changes["rank"]) == [1, 1, 1]


def test_without_pandas_the_extra_is_named(found, compared, monkeypatch):
    real = builtins.__import__

    def without(name, *rest):
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    for result in (found, compared):
        with pytest.raises(InputError, match=r"pip install 'eigenscope\[pandas\]'"):
            result.to_pandas()


@pytest.mark.parametrize(("options", "said"), [
    ({"input_size": "x"}, r"input_size='x' is no size: give a length each axis, such as \(32, 32\)"),
    ({"input_size": 3}, "input_size=3 is no size"),
    ({"input_size": (0, 2)}, "is no size"),
    ({"input_size": (2.5, 2)}, "is no size"),
    ({"match": 3}, r"match=3 is no name: give a glob such as '\*attn\*'"),
    ({"exclude": [3]}, "exclude=.3. is no name"),
])  # fmt: skip
def test_an_option_of_the_wrong_kind_is_one_clear_line(options, said):
    with pytest.raises(InputError, match=said):
        es.scan(BASE, **options)
    if "match" in options:
        with pytest.raises(InputError, match=said):
            es.compare(BASE, TUNED, **options)


def test_arrays_of_numpy_are_scanned_and_a_size_may_be_of_numpy_too():
    arrays = {"conv.weight": np.ones((2, 3, 3, 3), np.float32), "w": matrix(5, 6).numpy()}
    found = es.scan(arrays, input_size=np.array([4, 4]).tolist())
    assert [row.name for row in found] == ["conv.weight", "w"]
    assert (
        es.scan(arrays, input_size=(np.int64(4), 4))["conv.weight"].operator_norm == found["conv.weight"].operator_norm
    )


def test_a_comparison_of_some_leaves_out_the_others(compared):
    some = es.compare(BASE, TUNED, match="h.1.*")
    assert [change.name for change in some] == ["h.1.proj.weight"]
    assert some["h.1.proj.weight"].relative_size == compared["h.1.proj.weight"].relative_size
