"""Error rates of intervals under repeated looks."""

import pytest

from dlrm_mtl.statistics.looks import error_of_looks


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_one_look_errs_in_5_percent(seeds: int) -> None:
    assert error_of_looks([seeds]) == pytest.approx(0.05, abs=0.003)
    assert error_of_looks([seeds, seeds]) == error_of_looks([1, seeds]) == error_of_looks([seeds])


def test_many_values_err_as_the_literature_has_it() -> None:
    """Armitage, McPherson and Rowe (1969), table 2: two, three and five equal looks at the 5 % level."""
    for looks, expected in ((2, 0.0831), (3, 0.1072), (5, 0.1417)):
        assert error_of_looks([200 * look for look in range(1, looks + 1)]) == pytest.approx(expected, abs=0.008)


def test_nothing_is_shown_by_one_seed() -> None:
    assert error_of_looks([1]) == error_of_looks([]) == 0
