#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# mutants.sh [--list | --show ID | --check | --build]
#
# Do the tests notice a defect? Plants one at a time in a copy of the sources, builds the
# modules, and runs the tests in a virtual machine until the first of them fails. A mutant
# is caught if a test fails or does not end, if the kernel reports something, or if the
# machine dies; else it has survived. Two kinds:
#
#	historical	known defects of other implementations, written down in
#			scripts/mutants/historical; all of them have to be caught, each by
#			the tests that its row of the table of known defects names
#	systematic	made by rules from fs/, a sample of all that are possible; 85 %
#			have to be caught, but for those that change nothing, which
#			scripts/mutants/equivalent lists
#
# The tests of its row are the first that a historical mutant meets. What only others
# notice, later, is not caught but "elsewhere". What does not compile is "stillborn". A
# machine that dies of what is known not to be ours is started again; if that goes on, the
# mutant is "undecided", as is all about which nothing has been found out.
#
# Before the first one the tests have to pass without any. Results are added to
# build/mutants/results.jsonl, survivors are shown at the end. The status is 0 only if every
# historical mutant that was asked for was caught, and enough of the systematic ones, of
# which an undecided one counts as if it had survived. That is so with ONLY, QUICK and
# KERNEL, too: those that QUICK leaves undecided make the status 1.
#
#	--list		the mutants, and no more
#	--show ID	one of them as a patch; any that a rule can make
#	--check		can all be planted?
#	--build		do the historical ones compile (or those of ONLY), for the stock kernel
#			or KERNEL? A few seconds each, and no machine
#
#	ONLY=GLOBS	only those whose id matches; if none of the sample does, all that
#			the rules can make
#	HISTORICAL=y	only the historical ones
#	SAMPLE=N	so many systematic ones
#	SEED=N		another sample (default 1)
#	KERNEL=NAME	one of the kernels below; by default what the mutant says. Without that
#			kernel it stays undecided
#	QUICK=y		only the tests of its row, or else those that are most likely to
#			notice; what they do not notice stays undecided, for RESUME=y without it
#	RESUME=y	go on: what is decided stays, unless its code has changed;
#			RESUME=tests: or the tests have
#	JOBS=N		so many machines at a time (default 1)
#	CONFIRM=y	what has noticed a mutant is run again, for a busy machine: if it does
#			not notice it twice, that is undecided
#	WITHOUT=TESTS	leave these out, such as those that want an idle machine
#	CF_TIME_SCALE=N	how much longer than usual things may take (at least 2 on the coverage
#			kernel, 8 on kcsan and 10 on debug)
#	ALL=y		all tests on these three kernels, too, not only the
#			likely ones
#
# A historical mutant is a file ID.mutant, in which each old text must be found once. Of its
# row, the tests in the programs that it names come first; it may name no others:
#
#	# D21: what the defect looks like here
#	# tests: reopen_test kill_test
#	# kernel: stock			(or debug or kcsan, if only a sanitizer shows it; or base, if
#					 only EROFS does; or coverage, if only a failed
#					 allocation does)
#	file fs/cachefiles/failover.c
#	<<<<
#	old lines
#	====
#	new lines
#	>>>>
set -euo pipefail
. "$(dirname "$0")/lib.sh"

case ${1:-} in
--help)
	sed -n '4,/^set/s/^# \{0,1\}//p' "$0"
	exit
	;;
--list | --show | --check | --build | '') ;;
*) die "unknown argument $1; see --help" ;;
esac
case ${1:-} in
--build) "$top/scripts/setup.sh" build ;;
'') "$top/scripts/setup.sh" build vm check ;;
esac
CACHE=$cache PYTHONDONTWRITEBYTECODE=1 exec python3 "$top/scripts/mutants/main.py" "$@"
