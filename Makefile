# make smoke: install, generate data, train control and MultiBalance side by side, report.
# make test:  lint, types and all tests.

VENV := .venv
INSTALLED := $(VENV)/.installed

.PHONY: smoke test install lint clean

smoke: install
	launch/smoke.sh

test: install lint
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=passive GOMP_SPINCOUNT=0 $(VENV)/bin/python -m pytest

lint: install
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

install: $(INSTALLED)

$(INSTALLED): pyproject.toml launch/install.sh
	launch/install.sh $(VENV)
	touch $@

clean:
	rm -rf $(VENV) runs
