# make smoke: install, generate data, train control and MultiBalance side by side, report.
# make test:  lint, types and all tests.
# make coverage: lines and branches that no test runs; TESTS=tests/metrics: that no test of a folder runs.
# make test-gpu: the tests that need an NVIDIA GPU; some need two.
# make slurm: installs Slurm's packages (Debian, as root), without which the tests of Slurm are skipped.
# make faults: kills, full disks, damaged checkpoints and data at 120 random moments of real runs; every way to end.
# make fuzz: 10,000 changed inputs of each kind that a user hands over: each is right, or refused in one line.
# make statistics: how often intervals hold the truth and verdicts are wrong, on simulated arms; see docs/statistics.md.
# make bench-preparation: rows per second of data_prep.criteo beside pyarrow, pandas and torchrec; 10,000,000 rows.
# make bench: every claim about speed, measured on this machine; see docs/performance.md. Some 30 minutes if it is quiet.
# make bench-gpu: the layer, the methods' QPS, a profile and the loops on one NVIDIA GPU.

VENV := .venv
INSTALLED := $(VENV)/.installed
BENCH_DATA := runs/bench-data
BENCH_MODEL := runs/bench-model
GPU_DATA := runs/bench-gpu-data
QUIET_CPU := OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0
KEEP_MEMORY := MALLOC_MMAP_THRESHOLD_=4294967296 MALLOC_TRIM_THRESHOLD_=4294967296
BENCH := $(QUIET_CPU) $(KEEP_MEMORY) $(VENV)/bin/python -m dlrm_mtl.bench
MODES := --arms mean multibalance multibalance:reduction=delayed multibalance:reduction=local
BENCH_RANKS := $(QUIET_CPU) $(KEEP_MEMORY) $(VENV)/bin/torchrun --standalone --nproc_per_node 2 -m dlrm_mtl.bench

.PHONY: smoke test pytest coverage test-gpu slurm faults fuzz statistics bench bench-gpu bench-preparation install lint clean

smoke: install
	launch/smoke.sh

# Side by side: of two cores mypy uses one.
test: install
	$(MAKE) --jobs 2 lint pytest

pytest: install
	$(QUIET_CPU) CUDA_VISIBLE_DEVICES= $(VENV)/bin/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

TESTS := tests

coverage: install
	mkdir -p runs/coverage
	-$(QUIET_CPU) CUDA_VISIBLE_DEVICES= $(VENV)/bin/python -m coverage run -m pytest $(TESTS)
	$(VENV)/bin/python -m coverage combine --quiet
	$(VENV)/bin/python -m coverage report

test-gpu: install
	$(QUIET_CPU) $(VENV)/bin/python -m pytest -m gpu -rs

slurm:
	tests/slurm/install.sh

faults: install
	$(QUIET_CPU) $(VENV)/bin/python -m tests.faults

fuzz: install
	$(QUIET_CPU) $(VENV)/bin/python -m tests.fuzz

statistics: install
	$(QUIET_CPU) $(VENV)/bin/python -m tests.statistics --json docs/results/statistics/simulations.json

bench-preparation: install
	$(QUIET_CPU) $(VENV)/bin/python -m data_prep.bench --out runs/bench-preparation \
		--json runs/bench-preparation/results.json

bench: install $(BENCH_DATA)/schema.json $(BENCH_DATA)-8-tasks/schema.json $(BENCH_MODEL)/result.json
	$(BENCH) layer --json runs/bench-layer.json
	$(BENCH) peers --json runs/bench-peers.json
	$(BENCH) growth --json runs/bench-growth.json
	$(BENCH) methods --data $(BENCH_DATA) --windows 12 --json runs/bench-methods.json
	$(BENCH) methods --data $(BENCH_DATA) $(MODES) --windows 96 --json runs/bench-modes.json
	$(BENCH) methods --data $(BENCH_DATA)-8-tasks $(MODES) --windows 96 --json runs/bench-modes-8-tasks.json
	$(BENCH_RANKS) methods --data $(BENCH_DATA) $(MODES) --windows 288 --json runs/bench-modes-2-ranks.json
	$(BENCH) loop --data $(BENCH_DATA) --seconds 1 --json runs/bench-loop.json
	$(BENCH_RANKS) loop --data $(BENCH_DATA) --seconds 1 --json runs/bench-loop-2-ranks.json
	$(BENCH) profile --data $(BENCH_DATA) --json runs/bench-profile.json
	$(BENCH_RANKS) profile --data $(BENCH_DATA) --json runs/bench-profile-2-ranks.json
	$(BENCH) overhead --data $(BENCH_DATA) --windows 8 --seconds 1 --json runs/bench-overhead.json
	$(BENCH) reader --data $(BENCH_DATA) --json runs/bench-reader.json
	$(BENCH) watch --json runs/bench-watch.json
	$(BENCH) checkpoint --data $(BENCH_DATA) --directory runs --json runs/bench-checkpoint.json
	$(BENCH) serving --checkpoint $(BENCH_MODEL) --data $(BENCH_DATA) --json runs/bench-serving.json

bench-gpu: install $(GPU_DATA)/schema.json
	$(VENV)/bin/python -m dlrm_mtl.bench layer --max-elements 134217728 --json runs/bench-gpu-layer.json
	$(VENV)/bin/python -m dlrm_mtl.bench methods --data $(GPU_DATA) --windows 12 --json runs/bench-gpu-methods.json
	$(VENV)/bin/python -m dlrm_mtl.bench methods --data $(GPU_DATA) $(MODES) --windows 96 --json runs/bench-gpu-modes.json
	$(VENV)/bin/python -m dlrm_mtl.bench profile --data $(GPU_DATA) --json runs/bench-gpu-profile.json
	$(VENV)/bin/python -m dlrm_mtl.bench loop --data $(GPU_DATA) --seconds 1 --json runs/bench-gpu-loop.json

$(BENCH_DATA)/schema.json: | $(INSTALLED)
	$(VENV)/bin/python -m data_prep.synthetic --out $(BENCH_DATA) --rows 400000

$(BENCH_MODEL)/result.json: | $(BENCH_DATA)/schema.json
	$(QUIET_CPU) $(VENV)/bin/python -m dlrm_mtl.train --data $(BENCH_DATA) --out $(BENCH_MODEL) --max-steps 100

$(BENCH_DATA)-8-tasks/schema.json: | $(INSTALLED)
	$(VENV)/bin/python -m data_prep.synthetic --out $(BENCH_DATA)-8-tasks --rows 400000 \
		--rates 0.3 0.2 0.1 0.1 0.05 0.05 0.02 0.02 --conversion-rate 0

# Long enough that no epoch ends, and no reader process starts, within a window.
$(GPU_DATA)/schema.json: | $(INSTALLED)
	$(VENV)/bin/python -m data_prep.synthetic --out $(GPU_DATA) --rows 8000000

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

install: $(INSTALLED)

$(INSTALLED): pyproject.toml setup.py launch/install.sh $(wildcard dlrm_mtl/balancing/kernels/c/*.[ch])
	launch/install.sh $(VENV)
	touch $@

clean:
	rm -rf $(VENV) runs
