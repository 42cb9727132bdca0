"""Clusters side by side, started by workers of pytest."""

from itertools import combinations

from tests.slurm.cluster import JOBS, job_numbers


def test_clusters_at_the_same_time_have_other_jobs() -> None:
    with job_numbers() as first, job_numbers() as second, job_numbers() as third:
        for one, other in combinations((first, second, third), 2):
            assert abs(one - other) >= JOBS
