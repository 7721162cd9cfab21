"""What can't be decomposed is refused in one line."""

import numpy as np
import pytest
import torch

import eigenscope as es

NAN, INF = np.ones((4, 3)), np.ones((4, 3))
NAN[1, 2], INF[0, 0] = np.nan, -np.inf
BAD = {
    "NaN": ((NAN, 1), {}, "X is not finite: 1 of 12 entries"),
    "infinite": ((INF, 1), {}, "X is not finite: 1 of 12 entries"),
    "NaN tensor": ((torch.from_numpy(NAN).bfloat16(), 1), {}, "X is not finite: 1 of 12"),
    "rank too large": ((np.ones((4, 3)), 4), {}, "rank=4 is not possible: a 4 × 3 matrix takes a whole number, 1 to 3"),
    "rank 0": ((np.ones((4, 3)), 0), {}, "rank=0 is not possible"),
    "half a rank": ((np.ones((4, 3)), 1.5), {}, "rank=1.5 is not possible"),
    "rank True": ((np.ones((4, 3)), True), {}, "rank=True is not possible"),
    "energy 0": ((np.ones((4, 3)),), {"energy": 0}, r"energy=0 must lie in \(0, 1\]"),
    "energy 95": ((np.ones((4, 3)),), {"energy": 95}, r"energy=95 must lie in \(0, 1\]"),
    "energy NaN": ((np.ones((4, 3)),), {"energy": float("nan")}, "energy=nan must lie"),
    "both": ((np.ones((4, 3)), 1), {"energy": 0.5}, "give exactly one of the two"),
    "none": ((np.ones((4, 3)),), {}, "rank=None and energy=None: give exactly one"),
    "1-D": ((np.ones(4), 1), {}, r"X has the shape \(4,\): reshape it to two dimensions"),
    "3-D": ((torch.ones(2, 2, 2), 1), {}, r"X has the shape \(2, 2, 2\)"),
    "empty": ((np.ones((0, 3)), 1), {}, r"X has the shape \(0, 3\): give at least one row"),
    "words": ((np.full((4, 3), "a"), 1), {}, "X holds <U1, not real numbers"),
    "complex": ((np.ones((4, 3), complex), 1), {}, "X holds complex128, not real numbers"),
    "complex tensor": ((torch.ones(4, 3, dtype=torch.cfloat), 1), {}, "X holds torch.complex64, not real numbers"),
    "list": (([[1.0]], 1), {}, "X is a list: give a NumPy array or a tensor"),
    "sparse": ((torch.ones(4, 3).to_sparse(), 1), {}, "use X.to_dense"),
    "method": ((np.ones((4, 3)), 1), {"method": "fast"}, "method='fast' is unknown: use one of auto, exact, gram"),
    "tolerance": ((np.ones((4, 3)), 1), {"tolerance": 0}, "tolerance=0 must lie between 0 and 1"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_refused_in_one_line_that_names_the_remedy(name):
    arguments, settings, message = BAD[name]
    with pytest.raises(es.InputError, match=message) as error:
        es.truncated_svd(*arguments, **settings)
    assert "\n" not in str(error.value)
