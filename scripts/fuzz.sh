#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# fuzz.sh [--timeout SECONDS] [--out DIR]
#
# Random messages, commands, ids and file operations, legal and illegal, of several
# threads and processes in a virtual machine, with failing allocations, lack of space and
# I/O errors. Prints a table of what was tried and what came of it, and fails if anything
# was wrong: a byte, an errno, something stuck, a report of the kernel.
#
# What the virtual machine has said goes to DIR.
#
#	KERNEL=NAME     stock (default), base, debug, or a kernel directory
#	SEED=N          what is tried follows from it (default: from the clock)
#	OPS=N           operations (default 1000000, or with MINUTES as many as there is time for)
#	MINUTES=N       end after so many in any case (default 60), which fails if OPS wants more
#	THREADS=N       in each process (default 2)
#	PROCESSES=N     default 6; 1 with THREADS=1 does the same thing each time
#	SCALE=N         multiplies time limits, for a busy machine (default 1; debug 10)
#	MEMORY=MIB      memory of all workers together (default 96; 0: no limit)
#	ARGS=TEXT       more arguments for the fuzzer, such as --trace
set -euo pipefail
. "$(dirname "$0")/lib.sh"

kernel=${KERNEL:-stock}
scale=1
[ "$kernel" != debug ] || scale=10
scale=${SCALE:-$scale}
seed=${SEED:-$(date +%s)}
ops=${OPS:-}
[ -n "$ops" ] || [ -n "${MINUTES:-}" ] || ops=1000000
minutes=${MINUTES:-60}
memory=${MEMORY:-96}
# Killing, unmounting and unloading may take a while, too.
timeout=$((minutes * 60 + 120 + 60 * scale))
out=

runner_options "$@"

runner_begin "$kernel"
build=${BUILD:-$top/build/fuzz-$release}

say "building the modules for $release, and the fuzzer"
mkdir -p "${build%/*}"
# Others may be about to do the same.
flock "$build.lock" make -s -C "$top" -j "$jobs" KDIR="$kernel_path/build" BUILD="$build" DEBUG=y \
	ERROR_INJECTION=y TEST_MODULES=y >"$work/make.log" 2>&1 ||
	{ cat "$work/make.log" >&2; die "the modules do not build"; }
make -s -C "$top/tools/testing/selftests/cachefiles" O="$work" "$work/fuzz" \
	>"$work/make.log" 2>&1 || { cat "$work/make.log" >&2; die "the fuzzer does not build"; }

args=(--seed "$seed" --minutes "$minutes" --unload --faults --backing)
[ -z "$ops" ] || args+=(--ops "$ops")
[ -z "${THREADS:-}" ] || args+=(--threads "$THREADS")
[ -z "${PROCESSES:-}" ] || args+=(--processes "$PROCESSES")
[ "$memory" = 0 ] || args+=(--memory "$memory")
read -r -a more <<<"${ARGS:-}"
say "SEED=$seed${ops:+ OPS=$ops} on the $kernel kernel"
status=0
"$top/scripts/vm.sh" --kernel "$kernel" --build "$build" --mem 3072 --timeout "$timeout" \
	--out "$out" --add "$work/fuzz:/job/fuzz" -- \
	env CF_TIME_SCALE="$scale" /job/fuzz "${args[@]}" ${more[@]+"${more[@]}"} || status=$?
[ $status = 0 ] || say "FAILED with status $status: SEED=$seed${ops:+ OPS=$ops} KERNEL=$kernel"
exit $status
