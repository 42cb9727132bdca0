"""Control and treatments side by side: ``python -m dlrm_mtl.compare --data DIR --out RUN --arms mean multibalance``.

Writes ``RUN/comparison.json``, ``RUN/report.html`` and ``RUN/report.md``. An interrupted comparison goes on from the
newest checkpoint of its first unfinished seed when it is started again with the same options.
"""

from dlrm_mtl import cli
from dlrm_mtl.config import CompareConfig
from dlrm_mtl.distributed.versions import check_versions
from dlrm_mtl.files import read_json, write_json


def main() -> None:
    config = cli.parse(CompareConfig, "dlrm_mtl.compare")
    check_versions()
    # torchrec takes seconds to import, which --help and a wrong option need not wait for; and it is imported only now,
    # since packages that do not go together fail in obscure ways.
    from dlrm_mtl.reporting.comparison import compare_seeds
    from dlrm_mtl.reporting.html import write_report
    from dlrm_mtl.reporting.report_data import ReportData, read_run
    from dlrm_mtl.reporting.seed_summary import summarize_seed
    from dlrm_mtl.training.checkpoints import remove_checkpoints
    from dlrm_mtl.training.loop import train_arms
    from dlrm_mtl.training.session import open_session

    with open_session(config, config.arms) as session:
        first, schema = session.ranks.is_first, session.source.dataset.schema
        seeds = range(config.first_seed, config.first_seed + config.seeds)
        files = [config.out / f"seed-{seed}.json" for seed in seeds]
        for seed, file in zip(seeds, files, strict=True):
            if session.ranks.share(file.is_file()):
                if first:
                    print(f"seed {seed}: finished before, taken from {file}", flush=True)
                continue
            results = train_arms(session, config.arms, seed, config.out / f"seed-{seed}")
            if first:
                write_json(file, summarize_seed(seed, schema.task_names, results))
                remove_checkpoints(config.out / f"seed-{seed}")
        if first:
            comparison = compare_seeds(
                schema.task_names,
                [read_json(file) for file in files],
                bayes_ne={task.name: task.bayes_ne for task in schema.tasks},
            )
            write_json(config.out / "comparison.json", {"data_set": schema.name, **comparison})
    if first:
        # Drawn when the other ranks need no longer wait for it.
        run = read_run(config.out)
        print(f"\n{write_report(ReportData.of([run], run.comparison), config.out)}", flush=True)


if __name__ == "__main__":
    cli.run("compare", main)
