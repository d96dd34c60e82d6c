# make demo [SCAN=scan.nii.gz]  segment a scan with the default model in the lean runtime (no torch)
# make wheel                    build dist/verdiff-VERSION-py3-none-any.whl, the default model in it
# make test                     install what the tests need and run them
# make lint                     ruff and mypy
# make architecture             draw docs/architecture.svg anew from the import graph
# make reference              write docs/reference/, docs/configuration.md and docs/exit-codes.md anew from the code
# make picture                segment the sample anew for the picture in README.md
# make peers                    install what some tests talk to (apt-get as root or with sudo; npm; .venv-webgpu)
# make web [MODEL=m.verdiff]    build dist/web, a static page that runs the model in the browser (wants Node's npm)
# make viewer                   build what makes the pages of --report more than a still picture (wants Node's npm)
# make sbom                     write bills of materials (CycloneDX) of the lean installation and of the model to dist/
# make clean                    remove the environments, the wheel and the demo's output
#
# PYTHON=python3.12 chooses the interpreter that the environments are made with (3.11 or newer).

PYTHON ?= python3
SAMPLE := examples/mr_t2_sample.nii.gz
EXPERT := examples/mr_t2_sample_expert.nii.gz
SCAN ?= $(SAMPLE)
MODEL ?= verdiff/models/spine-mr.verdiff
DEMO_OUT ?= demo-out
# The expert mask belongs to the sample alone.
REFERENCE = $(if $(filter $(SAMPLE),$(SCAN)),--reference $(EXPERT))
PIP_FLAGS := --disable-pip-version-check --quiet

# Programs that nobody here wrote and that tests talk to: tests/peers.py skips by name what is missing.
PEERS := chromium cmake dcmtk dicom3tools g++ libnifti-dev libopenigtlink-dev libssl-dev libvulkan1 \
  nlohmann-json3-dev nodejs openigtlink-examples orthanc orthanc-dicomweb
# Debian's npm conflicts with Node's own package, which brings one.
PEERS += $(if $(shell command -v npm),,npm)

# The viewer in pages of --report: NiiVue, bundled. A wheel made without npm has none, and its pages a still picture.
VIEWER := verdiff/page/assets/viewer.js
VIEWER_HERE := $(if $(shell command -v npm),$(VIEWER))

SOURCES := $(shell find verdiff -type f -not -name '*.pyc')

.PHONY: demo wheel test lint architecture reference picture sbom peers debian web viewer clean python
.DELETE_ON_ERROR:

demo: .venv-demo/installed
	@mkdir -p '$(DEMO_OUT)'
	.venv-demo/bin/verdiff infer '$(SCAN)' --output '$(DEMO_OUT)' --uncertainty --preview $(REFERENCE)

# pip alone needs to be there: it fetches what builds the wheel, and leaves it behind.
wheel: .venv-demo/made $(VIEWER_HERE)
	@$(if $(VIEWER_HERE),,echo "no npm: this wheel's pages of --report show a still picture (docs/report.md)")
	.venv-demo/bin/pip wheel $(PIP_FLAGS) --no-deps --wheel-dir dist .
	@ls dist/*.whl

# A worker a core, whole files each: what a file's tests share is made once.
test: .venv-test/ready
	.venv-test/bin/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

lint: .venv-test/ready
	.venv-test/bin/ruff check .
	.venv-test/bin/ruff format --check .
	.venv-test/bin/mypy

# Of what `make demo` installed; the tools that read it and check the bill are the tests'.
sbom: .venv-demo/installed .venv-test/ready
	.venv-test/bin/python -m tools.sbom .venv-demo dist

# `apt-get update` only where something is missing: a machine that has all of them needs no mirror.
peers: debian
	@$(MAKE) --no-print-directory native/js/node_modules web/node_modules viewer .venv-webgpu/ready
	@[ -e /usr/include/onnxruntime ] || $(MAKE) --no-print-directory .peers/onnxruntime/usr/include/onnxruntime

# ONNX Runtime's C++ headers: Debian 13's package, on an older Debian taken apart. Without them a test is skipped by name.
.peers/onnxruntime/usr/include/onnxruntime:
	@sh tools/newer_headers.sh libonnxruntime-dev trixie .peers/onnxruntime || \
	  echo "no C++ headers of ONNX Runtime, so its host is not tested: install libonnxruntime-dev of Debian 13 or newer"

debian:
	@dpkg-query --show $(PEERS) >/dev/null 2>&1 || { \
	  as_root=`[ "$$(id -u)" = 0 ] || echo sudo`; \
	  $$as_root apt-get -qq -o Acquire::Retries=3 update && \
	  $$as_root apt-get -qq -o Acquire::Retries=3 install --yes --no-install-recommends $(PEERS); }

# A page that runs the model in the reader's browser: static files for any server.
web: web/node_modules
	node web/build.mjs '$(MODEL)' dist/web
	@echo 'dist/web is the page; to look at it here: node web/serve.mjs dist/web'

viewer: $(VIEWER)

$(VIEWER): web/node_modules $(wildcard web/report/*.mjs)
	node web/report/build.mjs $@

# Their own install scripts would fetch what only a GPU has use for.
%/node_modules: %/package.json %/package-lock.json
	npm ci --prefix $* --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

architecture: | python
	@$(PYTHON) -m tools.architecture

# From the docstrings, signatures and settings of the package; tests compare the pages with the code.
reference: .venv-test/ready
	.venv-test/bin/python -m tools.reference

# After a new model has been put into verdiff/models.
picture: .venv-test/ready
	.venv-test/bin/python -m tools.picture

clean:
	rm -rf .venv-demo .venv-test .venv-webgpu dist '$(DEMO_OUT)'

python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "found: $(PYTHON) is `$(PYTHON) --version 2>&1 || true`" >&2; \
	  echo 'expected: Python 3.11 or newer' >&2; \
	  echo 'to do: name one, for example make $(MAKECMDGOALS) PYTHON=python3.12' >&2; \
	  exit 1; }

# Made anew only when the dependencies change.
.venv-demo/made: pyproject.toml constraints.txt | python
	@echo 'making .venv-demo for the lean runtime, without torch'
	rm -rf .venv-demo
	$(PYTHON) -m venv .venv-demo
	touch $@

# Installed as a wheel, not in place: the demo shows that the wheel carries its model.
.venv-demo/installed: .venv-demo/made $(SOURCES)
	.venv-demo/bin/pip install $(PIP_FLAGS) --constraint constraints.txt '.[cpu]'
	touch $@

# torch comes first and alone, so that nothing that depends on it can choose another build. The stubs of TensorRT come
# without what they require, TensorRT itself, whose libraries are not on PyPI; Triton's client, of which tests want the
# protocol's definitions alone, without the older protobuf that it asks for.
.venv-test/ready: pyproject.toml constraints.txt | python
	@echo 'making .venv-test: torch, the inference engines and the test tools'
	rm -rf .venv-test
	$(PYTHON) -m venv .venv-test
	.venv-test/bin/pip install $(PIP_FLAGS) --constraint constraints.txt torch
	.venv-test/bin/pip install $(PIP_FLAGS) --constraint constraints.txt \
	  --editable '.[cpu,openvino,tensorrt-rtx,train,dev]'
	.venv-test/bin/pip install $(PIP_FLAGS) --constraint constraints.txt --no-deps tensorrt-stubs tritonclient
	.venv-test/bin/python -m tests.tensorrt_stubs
	touch $@

# ONNX Runtime for WebGPU, which cannot lie beside the one of .venv-test; SwiftShader of chromium is its device in tests.
.venv-webgpu/ready: pyproject.toml constraints.txt | python
	@echo 'making .venv-webgpu: ONNX Runtime for WebGPU'
	rm -rf .venv-webgpu
	$(PYTHON) -m venv .venv-webgpu
	.venv-webgpu/bin/pip install $(PIP_FLAGS) --constraint constraints.txt --editable '.[webgpu]'
	touch $@
