#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Random operations of daemons, readers and network file systems, legal and illegal ones,
# get nothing stuck and show nobody a wrong byte, and what is illegal is refused.
#
# CF_SEED is what the operations follow from, CF_OPS their number. "make fuzz" does more.
#
# shellcheck disable=SC2317 # functions that others call

. "$(dirname "$0")/lib/test.sh"

seed=${CF_SEED:-1}
# Slow kernels are for "make fuzz".
ops=${CF_OPS:-$((CF_SCALE > 1 ? 5000 : 30000))}

# fuzz ARGUMENT...
fuzz() {
	local status=0

	"$cf_here/fuzz" --seed "$seed" --minutes $((2 * CF_SCALE)) "$@" >"$CF_DIR/output" 2>&1 || status=$?
	if [ $status = 4 ]; then
		cf_skip "$(head -1 "$CF_DIR/output")"
	elif [ $status != 0 ]; then
		cat "$CF_DIR/output"
		cf_fail "status $status"
	fi
}

test_all_at_once() {
	fuzz --ops "$ops"
}

test_faults_and_damage() {
	fuzz --ops $((ops / 2)) --faults --backing
}

# What is tried follows from the seed, so this finds nothing else the next time.
test_one_thread_is_repeatable() {
	local i

	for i in 1 2; do
		fuzz --ops 500 --processes 1 --threads 1 --trace
		# What became of an operation is another matter.
		sed -n 's/^\(0 [0-9]* [a-z_]*\).*/\1/p' "$CF_DIR/output" >"$CF_DIR/$i"
	done
	expect_eq 500 "$(wc -l <"$CF_DIR/1")" "operations"
	expect cmp "$CF_DIR/1" "$CF_DIR/2"
}

[ -x "$cf_here/fuzz" ] || cf_skip_all "fuzz has not been built"
cf_tests test_all_at_once test_faults_and_damage test_one_thread_is_repeatable
