#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# bench.sh [--strict] [--quick] [--out DIR] [fetch|fuse|seq|warm|pending]...
#
# Measures on the stock kernel in a virtual machine, prints a table and writes the same
# to DIR/bench.json (build/bench):
#
#	fetch    a read of 4 KiB, 128 KiB and 1 MiB that nobody has asked for before
#	fuse     the same from a FUSE file system
#	seq      one reader front to back, with a source that takes 10 ms a request
#	warm     an EROFS image that has been filled, against a plain file
#	pending  steps of the protocol with 1, 100 and 10,000 requests pending
#
# All is measured with one instruction a nanosecond (QEMU's -icount), where costs are
# exact and times those of a processor of 1,000 MIPS on which nothing else runs. seq and
# warm are repeated in the host's own time, "real", where the emulation's speed and what
# else the host does take part.
#
# Status 0 unless something could not be measured; with --strict, also 1 if a target was
# not reached. --quick measures each thing only a few times.
#
#	KERNEL=NAME     stock (default), base, debug, or a kernel directory
#	BUILD=DIR       where the modules are built (default build/RELEASE)
set -euo pipefail
. "$(dirname "$0")/lib.sh"

usage() {
	sed -n '4,/^set/s/^# \{0,1\}//p' "$0"
}

kernel=${KERNEL:-stock}
out=$top/build/bench
strict=
quick=
tests=()

while [ $# -gt 0 ]; do
	case $1 in
	--strict) strict=y ;;
	--quick) quick=y ;;
	--out) out=${2:?} && shift ;;
	--help)
		usage
		exit
		;;
	fetch | fuse | seq | warm | pending) tests+=("$1") ;;
	*)
		usage >&2
		exit 2
		;;
	esac
	shift
done
[ ${#tests[@]} -gt 0 ] || tests=(fetch fuse seq warm pending)

"$top/scripts/setup.sh" build vm bench
kernel_path=$(kernel_dir "$kernel")
release=$(kernel_release "$kernel_path")
build=${BUILD:-$top/build/$release}

work=$(mktemp -d "${TMPDIR:-/tmp}/bench.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM

say "building the modules for $release, and the benchmark"
make -s -C "$top" -j "$jobs" KDIR="$kernel_path/build" BUILD="$build" modules \
	>"$work/make.log" 2>&1 ||
	{ cat "$work/make.log" >&2; die "the modules do not build"; }
make -s -C "$top/tools/testing/selftests/cachefiles/bench" O="$work" >"$work/make.log" 2>&1 ||
	{ cat "$work/make.log" >&2; die "the benchmark does not build"; }

# A large file and many small ones, the same each time, and nothing to compress.
make_image() {
	mkdir "$work/tree"
	python3 - "$work/tree" <<-'END'
		import os, random, sys

		rng = random.Random(1)
		os.chdir(sys.argv[1])
		with open("large", "wb") as f:
		    f.write(rng.randbytes(24 << 20))
		for d in range(20):
		    os.mkdir(str(d))
		    for i in range(50):
		        with open(f"{d}/{i}", "wb") as f:
		            f.write(rng.randbytes(rng.randrange(100, 32768)))
	END
	mkfs.erofs --quiet -T0 "$work/image" "$work/tree" >"$work/mkfs.log" 2>&1 ||
		{ cat "$work/mkfs.log" >&2; die "mkfs.erofs failed"; }
}

failed=()
# run MODE TEST ARGUMENT...: MODE is icount or real
run() {
	local mode=$1 test=$2 options=(--mem 3000)

	shift 2
	case $mode in
	icount) options+=(--icount) ;;
	# Without work for a moment, an emulated processor sleeps, and takes 1 ms to wake up.
	real) options+=(--append idle=poll) ;;
	esac
	# Some of the 10,000 requests are of a thread each.
	[ "$test" != pending ] || options=(--icount --mem 5000)
	[ "$test" != warm ] || options+=(--add "$work/image:/job/image")

	say "$test ($mode)"
	rm -rf "$work/out"
	if "$top/scripts/vm.sh" --kernel "$kernel_path" --build "$build" --quiet --timeout 1800 \
		--out "$work/out" "${options[@]}" --add "$work/bench_$test:/job/bench_$test" -- \
		bench-guest "/job/bench_$test" "$@"; then
		sed "s/^{/{\"mode\": \"$mode\", /" "$work/out/results" >>"$work/results"
	else
		failed+=("$test ($mode)")
	fi
}

# times MANY FEW
times() {
	if [ -n "$quick" ]; then echo "$2"; else echo "$1"; fi
}

: >"$work/results"
for test in "${tests[@]}"; do
	case $test in
	fetch) run icount fetch /mnt/store "$(times 100 10)" ;;
	fuse) run icount fuse "$(times 100 10)" ;;
	seq)
		run icount seq /mnt/store "$(times 9 3)"
		run real seq /mnt/store "$(times 5 3)"
		;;
	warm)
		[ -e "$work/image" ] || make_image
		run icount warm /mnt/store /job/image "$(times 8 2)"
		run real warm /mnt/store /job/image "$(times 8 2)"
		;;
	pending) run icount pending /mnt/store ;;
	esac
done

mkdir -p "$out"
status=0
"$top/scripts/bench-report" "$work/results" "$out/bench.json" "$release" || status=$?
say "written to $out/bench.json"
for test in ${failed[@]+"${failed[@]}"}; do
	say "FAILED: $test could not be measured"
done
[ ${#failed[@]} -eq 0 ] || exit 1
# 3: a target was not reached.
case $status in
0) ;;
3) [ -z "$strict" ] || exit 1 ;;
*) exit "$status" ;;
esac
