# SPDX-License-Identifier: BSD-3-Clause
# Copyright the abdkit authors

# A front door; meson does the work.  `make deps` installs what is missing from
# Debian's packages, and the other targets do so first.

BUILD = build
PREFIX = /usr/local

.PHONY: all deps build demo test bench install clean

all: build

deps:
	scripts/deps build

build: deps
	scripts/build $(BUILD)

demo: build
	scripts/deps demo
	scripts/demo $(BUILD)

test: build
	scripts/deps test
	tests/run $(BUILD) $(TESTFLAGS)

bench: build
	scripts/deps bench
	tests/bench/run --build=$(BUILD) $(BENCHFLAGS)
	tests/bench/object --build=$(BUILD)

install: deps
	scripts/build $(BUILD)-install --prefix=$(abspath $(PREFIX)) --libdir=lib --mandir=share/man --buildtype=release
	meson install -C $(BUILD)-install

clean:
	rm -rf $(BUILD) $(BUILD)-install
