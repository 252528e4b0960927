#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# coverage.sh [--again] [TEST...]
#
# Runs all kselftests, or only TEST..., with modules that count what is executed, on a
# kernel where the failnth tests let every allocation fail, so that error paths are
# reached. Prints for each source file how many lines and branches were reached, and lists
# the lines that were not and that no line of scripts/coverage-justified speaks for. Fails
# if there are such lines, if a file is below its threshold (scripts/coverage-report says
# which), or if a test fails. --again: reads what the last run has counted. What lcov made
# of it stays in build/check/coverage.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

cd "$top"
logs=build/check
dir=$logs/coverage
status=0

scripts/setup.sh build vm check coverage
if [ "${1:-}" = --again ]; then
	shift
else
	rm -rf "$logs"/{coverage.*,kselftest-coverage-*}
	# Each run would take the place of the counts of the one before.
	RUNS=1 scripts/check.sh coverage "$@" || status=1
fi

rm -rf "$dir"
mkdir -p "$dir"
lcov=(lcov --quiet --rc lcov_branch_coverage=1)
# The machine is started again when it dies; each has counted on its own.
sums=()
for counts in "$logs"/{,coverage.*/}kselftest-coverage-*.out/gcov; do
	[ -d "$counts/$top" ] || continue
	# Beside its counts lcov expects what the compiler has written.
	(cd "$counts$top" && find . -name '*.gcda') | while read -r file; do
		cp "${file%.gcda}.gcno" "$counts$top/${file%/*}/"
	done
	n=$dir/${#sums[@]}
	"${lcov[@]}" --capture --directory "$counts" --output-file "$n.all" 2>"$n.err" ||
		die "lcov failed, see $n.err"
	"${lcov[@]}" --extract "$n.all" '*/fs/cachefiles/*' '*/fs/ondemandfs/*' '*/compat/*' \
		--output-file "$n.info" 2>"$n.err" || die "lcov failed, see $n.err"
	sums+=(--add-tracefile "$n.info")
done
[ ${#sums[@]} -gt 0 ] || die "nothing has been counted"
"${lcov[@]}" "${sums[@]}" --output-file "$dir/coverage.info"
scripts/coverage-report "$dir/coverage.info" scripts/coverage-justified || status=1
exit $status
