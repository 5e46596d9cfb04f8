#!/bin/sh
# The compiler, with counters in what it compiles: cargo calls it for the workspace's own packages (see coverage.rs).
exec "$@" -C instrument-coverage
