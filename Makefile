# make setup | demo | test | quick | check | bench | docs | clean: each installs what it needs, into .venv
# CPU build of PyTorch on a machine without one at hand: make setup UVFLAGS=--torch-backend=cpu

PYTHON ?= $(shell command -v python3.11 || command -v python3)
JOBS ?= 2
UVFLAGS ?=
BIN := .venv/bin
READY := .venv/.ready
RECIPE := recipes/recommend-ml-100k.yaml
BENCHES := bench-recommend bench-text bench-tune bench-loop bench-store bench-losses bench-objectives bench-any bench-pictures

.DELETE_ON_ERROR:
.PHONY: setup browser lists demo test quick check bench $(BENCHES) docs clean

setup: $(READY)

# pip is what the machine has, uv what is quick; wheels that pip finds in a folder, uv shall find too.
# Bytecode is compiled here because PYTHONDONTWRITEBYTECODE would make every start slow.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; assert sys.version_info >= (3, 11), "Python 3.11 or newer is needed: make setup PYTHON=..."'
	$(PYTHON) -m venv .venv
	if $(BIN)/pip install -q -c constraints.txt uv; then \
	  UV_FIND_LINKS="$${UV_FIND_LINKS-$$(echo $${PIP_FIND_LINKS:-} | tr ' ' ',')}" UV_COMPILE_BYTECODE=1 \
	    $(BIN)/uv pip install -q -p $(BIN)/python $(UVFLAGS) -c constraints.txt -e '.[dev]'; \
	else \
	  $(BIN)/pip install -q -c constraints.txt -e '.[dev]'; \
	fi
	$(BIN)/python -m compileall -q src
	touch $@

# Pages are tested in a real browser, Debian's.
browser:
	@if command -v chromium >/dev/null; then :; \
	elif ! command -v apt-get >/dev/null; then echo "install chromium and put it on the path: the page's tests need it"; \
	elif [ "$$(id -u)" = 0 ]; then apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get install -yqq --no-install-recommends chromium; \
	elif sudo -n true 2>/dev/null; then sudo -n apt-get -qq update && sudo -n DEBIAN_FRONTEND=noninteractive apt-get install -yqq --no-install-recommends chromium; \
	else echo "the page's tests need chromium: sudo apt-get install chromium"; fi

# One pack is a Debian package: apt must know where to find it.
lists:
	@if ! command -v apt-get >/dev/null || apt-cache show dataset-fashion-mnist >/dev/null 2>&1; then :; \
	elif [ "$$(id -u)" = 0 ]; then apt-get -qq update; \
	elif sudo -n true 2>/dev/null; then sudo -n apt-get -qq update; \
	else echo "the pack fashion-mnist needs apt's lists: sudo apt-get update"; fi

# The command prints the verdict, and where report and artifact lie.
demo: $(READY)
	@start=$$(date +%s); $(BIN)/limbeck run $(RECIPE) && echo "took $$(( $$(date +%s) - start )) s"

# One thread a process: tests run side by side, and sums keep their order.
test quick: export OMP_NUM_THREADS := 1
test quick: export MKL_NUM_THREADS := 1
test quick: export OPENBLAS_NUM_THREADS := 1
test quick: export TOKENIZERS_PARALLELISM := false

test: $(READY) browser lists
	$(BIN)/python -m pytest --verbosity=0 -n $(JOBS) --dist worksteal --durations=10

quick: $(READY)
	$(BIN)/python -m pytest --verbosity=0 -n $(JOBS) --dist worksteal -m 'not slow'

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python docs/generate.py --check

bench: $(BENCHES)

bench-recommend: $(READY)
	$(BIN)/python benchmarks/bars.py recommend

bench-text: $(READY)
	$(BIN)/python benchmarks/bars.py fine-foods
	$(BIN)/python benchmarks/bars.py shopping-reviews-zh

bench-tune: $(READY)
	$(BIN)/python benchmarks/bars.py tune

bench-loop bench-store bench-losses: bench-%: $(READY)
	$(BIN)/python benchmarks/$*.py

bench-objectives: $(READY) lists
	$(BIN)/python benchmarks/objectives.py --write
	$(BIN)/python docs/generate.py

bench-pictures: $(READY) lists
	$(BIN)/python benchmarks/bars.py pictures
	$(BIN)/python benchmarks/bars.py few-labels
	$(BIN)/python benchmarks/bars.py transfer

bench-any: $(READY)
	$(BIN)/python benchmarks/any_to_any.py

docs: $(READY)
	$(BIN)/python docs/generate.py

clean:
	rm -rf .venv build dist docs/site .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache src/*.egg-info
	find src tests benchmarks docs -name __pycache__ -type d -prune -exec rm -rf {} +
