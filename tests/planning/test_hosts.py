"""The search for the smallest number of hosts."""

import math

from hypothesis import given
from hypothesis import strategies as st

from dlrm_mtl.planning.hosts import host_counts, smallest_hosts


def test_host_counts_divide_the_batch() -> None:
    assert host_counts(lambda hosts: 64 % (hosts * 8) == 0, 8, 2) == [1, 2, 4, 8]
    assert host_counts(lambda hosts: True, 512, 1) == [1, 2]
    assert host_counts(lambda hosts: True, 512, 5) == [1, 2, 3, 4, 5]


@given(st.sets(st.integers(1, 300), min_size=1), st.data(), st.integers(1, 301))
def test_the_smallest_that_fits_is_found_in_few_trials(counts: set[int], data: st.DataObject, least: int) -> None:
    ordered = sorted(counts)
    hosts = data.draw(st.sampled_from(ordered))
    tried: list[int] = []

    def fits_on(count: int) -> bool:
        tried.append(count)
        return count >= least

    found = smallest_hosts(ordered, hosts, hosts >= least, fits_on)
    assert found == next((count for count in ordered if count >= least), None)
    assert hosts not in tried
    assert len(tried) == len(set(tried)) <= 2 * math.log2(len(ordered) + 1) + 1
