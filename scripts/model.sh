#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# model.sh [run] | explore [OPTION]... | selftest | replay DIR...
#
# The state machine of the on-demand protocol, in tools/testing/selftests/cachefiles/model.
#
#	explore		visit every state within the bounds and check each; --reads 3,2
#			and --threads 3 are larger bounds, --plant plants a mistake
#	selftest	are planted mistakes found, and forbidden moves in logs?
#	replay		hold logs of tracepoints against the model, *.trace in DIR
#	run		all three, the last with logs of test programs that run in a
#			virtual machine; PROGRAMS="..." instead of those that suffice
set -euo pipefail
. "$(dirname "$0")/lib.sh"

cd "$top"
selftests=tools/testing/selftests/cachefiles
# Together they show what the model allows.
programs=${PROGRAMS:-transitions_test fault_test kill_test reopen_test restore_test}

model() {
	PYTHONDONTWRITEBYTECODE=1 python3 "$selftests/model/main.py" "$@"
}

# Runs the programs on the stock kernel and leaves their logs in build/model/out/trace.
record() {
	local dir=build/model program targets=()

	scripts/setup.sh build vm check
	rm -rf $dir/out
	mkdir -p $dir/selftests
	say "building"
	make -s -j "$jobs" KDIR=stock DEBUG=y ERROR_INJECTION=y TEST_MODULES=y BUILD=$dir/modules
	for program in $programs watcher; do
		targets+=("$top/$dir/selftests/$program")
	done
	make -s -j "$jobs" -C $selftests O="$top/$dir/selftests" \
		KSELFTEST_DIR="$cache/source/tools/testing/selftests" "${targets[@]}"
	cp $selftests/settings $dir/selftests/
	# shellcheck disable=SC2086 # a list
	scripts/vm.sh --kernel stock --build $dir/modules --timeout 900 --out $dir/out \
		--add $dir/selftests:/job/cachefiles -- \
		env CF_TRACE=/out/trace run-kselftests /job/cachefiles $programs
}

case ${1:-run} in
run)
	model explore
	model selftest
	record
	model replay build/model/out/trace
	;;
explore | selftest | replay) model "$@" ;;
*) die "usage: model.sh [run] | explore [OPTION]... | selftest | replay DIR..." ;;
esac
