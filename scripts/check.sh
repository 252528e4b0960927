#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# check.sh all|static|vm|debug|kcsan|coverage|matrix [TEST...]
#
# static: what can be said without running anything. vm: all kselftests in a virtual
# machine, on the stock kernel, or on KERNEL=stock-6.1, base-7.3 and the like; debug: the
# same on the debug kernel; kcsan: those written in C on the kernel that finds data races;
# coverage: all on a kernel that counts lines (scripts/coverage.sh reads the counts).
# Kernels are built when they are not there. all: static, vm on the stock kernel, and on
# the debug kernel those tests that are about lifetime and locking. matrix: vm on every
# kernel that is supported, or on KERNELS="NAME...", with a table at the end that is also
# written to build/check/matrix.tap and matrix.json.
# MACHINES=N: N virtual machines at a time (default 1; more of them want ACCEL=tcg-single).
# They share the kernels of matrix, else the programs. RESUME=y, with N above 1, goes on with
# a run that was broken off: what had passed by then is not run again.
# TEST...: only these. RUNS=N: vm, debug, kcsan or coverage N times, in a new machine each
# time, until something has failed; CF_SLOW= leaves the slow tests out. How often all tests
# have passed in a row is kept in the cache folder, in "runs", for this code and kernel: so
# many runs may be made a few at a time, and two at a time in two checkouts.
#
# Prints one line for each check or test program, what failed in full, and at the end
# "N passed, N failed, N skipped". Logs are kept in build/check. With all and static,
# KERNEL=DIR also compiles against that kernel tree.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

cd "$top"
logs=build/check
tools=$cache/source
kselftests=tools/testing/selftests/cachefiles

# count NAME: what the caller has set NAME to, 1 if nothing
count() {
	[[ ${!1:-1} =~ ^[1-9][0-9]*$ ]] || die "$1: not a number: ${!1}"
	echo "${!1:-1}"
}

# files PATTERN...: what git tracks or would track
files() {
	git ls-files -co --exclude-standard -- "$@" | while read -r file; do
		[ ! -f "$file" ] || echo "$file"
	done
}

sources() {
	files 'fs/*.[ch]' 'include/*.h' 'compat/*.[ch]' "$kselftests/*.[ch]"
}

# --- static checks ---

# build DIR ARGUMENT...: compiler and sparse messages are what is wrong
build() {
	local dir=$1 status=0

	shift
	make -s -j "$jobs" KDIR=stock BUILD="build/$dir" "$@" >"$logs/make-$dir.log" 2>&1 || status=$?
	grep -E '(warning|error):|\*\*\*|WARNING' "$logs/make-$dir.log" || :
	return $status
}

check_build() {
	rm -rf build/check-all
	build check-all W=1 DEBUG=y ERROR_INJECTION=y TEST_MODULES=y
}

# netfs asks every cache to prepare_ondemand_read; that remains.
check_no_ondemand() {
	rm -rf build/check-no-ondemand
	build check-no-ondemand W=1 ONDEMAND=n
	nm build/check-no-ondemand/fs/cachefiles/cachefiles.ko | grep -iE 'ondemand|_od_|copen' |
		grep -v prepare_ondemand_read || :
}

# Against a tree of build-kernel.sh prepare nothing can be linked, but compiled.
check_other_kernel() {
	rm -rf build/check-other
	make -s -j "$jobs" KDIR="$KERNEL" BUILD=build/check-other W=1 DEBUG=y ERROR_INJECTION=y \
		>"$logs/make-other.log" 2>&1 || echo "make failed"
	grep -E '(warning|error):|\*\*\*' "$logs/make-other.log" || :
}

# answers: how many things the kernel of check_probes has, as far as the build knows
answers() {
	make -s KDIR="$1/kernel" BUILD="$1/build" "$1/build/generated/compat-config.h"
	grep -c '^#define COMPAT_HAVE' "$1/build/generated/compat-config.h" || :
}

# A kernel tree that has changed is asked again, as is another one that is older.
# shellcheck disable=SC2016 # make and its shell expand them
check_probes() {
	local dir=$logs/probes kernel all

	rm -rf "$dir"
	for kernel in one other; do
		mkdir -p "$dir/$kernel/include/generated"
		touch "$dir/$kernel/include/generated"/{autoconf,utsrelease}.h
		echo y >"$dir/$kernel/answer"
		# Kbuild does not ask for what is there, either.
		printf 'modules:\n\t@for c in $(M)/*.c; do %s; done\n' \
			'[ -e $${c%.c}.probe ] || cp answer $${c%.c}.probe' >"$dir/$kernel/Makefile"
	done
	touch -d '1 hour ago' "$dir/other/include/generated"/*
	all=$(files 'compat/probe/*.c' | wc -l)

	ln -s one "$dir/kernel"
	[ "$(answers "$dir")" = "$all" ] || echo "not all of the answers have arrived"
	echo n >"$dir/one/answer"
	[ "$(answers "$dir")" = "$all" ] || echo "a kernel that is as before has been asked again"
	touch "$dir/one/include/generated/utsrelease.h"
	[ "$(answers "$dir")" = 0 ] || echo "a kernel that has changed has not been asked again"
	ln -sfn other "$dir/kernel"
	[ "$(answers "$dir")" = "$all" ] || echo "another kernel of that name has not been asked"
}

check_install() {
	rm -rf "$logs/install"
	make -s KDIR=stock BUILD=build/check-all W=1 DEBUG=y ERROR_INJECTION=y modules_install \
		INSTALL_MOD_PATH="$top/$logs/install" >"$logs/make-install.log" 2>&1
	for module in cachefiles ondemandfs; do
		[ -n "$(find "$logs/install/lib/modules"/*/updates -name "$module.ko*")" ] ||
			echo "$module is not in updates/"
	done
}

# Sparse counts locks without seeing what guard() gives back at the end of a scope.
check_sparse() {
	build check-all W=1 C=2 "CHECK=sparse -Wno-context" DEBUG=y ERROR_INJECTION=y \
		TEST_MODULES=y
}

# checkpatch IGNORED-TYPES: of the files on standard input
checkpatch() {
	xargs -r -P "$jobs" -n 4 "$tools/scripts/checkpatch.pl" --no-tree --strict --terse \
		--show-types --no-summary --ignore "$1" -f || :
	rm -f .checkpatch-camelcase.*
}

# User space has neither BIT() nor __aligned(), but _Bool and _Static_assert. The harness's
# EXPECT_EQ() and its like are more than one statement and need the braces around them.
check_checkpatch() {
	sources | grep -v "^$kselftests" | checkpatch FILE_PATH_CHANGES
	sources | grep "^$kselftests" |
		checkpatch "FILE_PATH_CHANGES,BIT_MACRO,CAMELCASE,PREFER_DEFINED_ATTRIBUTE_MACRO,ENOSYS,BRACES"
}

check_coccinelle() {
	coccinelle "$tools/scripts/coccinelle" "$logs/cocci" --dir fs -I include -I include/uapi
}

check_kernel_doc() {
	files 'fs/*.[ch]' 'include/*.h' 'compat/*.[ch]' |
		xargs "$tools/scripts/kernel-doc" -none -Wall -Werror 2>&1 |
		grep -v ': no structured comments found' || :
}

check_docs() {
	local dir=$logs/docs

	rm -rf "$dir"
	mkdir -p "$dir"
	cp -r Documentation "$dir/src"
	printf 'Documents\n=========\n\n.. toctree::\n   :glob:\n\n   **\n' >"$dir/src/index.rst"
	sphinx "$dir" "$top"
}

check_shell() {
	files 'scripts/*' '.ci/run' "$kselftests/*.sh" | while read -r file; do
		case $(head -c 60 "$file") in
		'#!'*sh* | *shellcheck*) echo "$file" ;;
		esac
	done | xargs shellcheck -x -P SCRIPTDIR -f gcc
}

# Old kernels are made to look new in compat/, by probes.
check_versions() {
	files 'fs/*' 'include/*' |
		xargs grep -nE '\b(LINUX_VERSION_CODE|KERNEL_VERSION|HAVE_[A-Z]|COMPAT_[A-Z])' || :
	files 'compat/*' | xargs grep -nE '\b(LINUX_VERSION_CODE|KERNEL_VERSION)\b' || :
}

check_markers() {
	sources | xargs grep -nE '\b(TODO|FIXME|XXX|HACK)\b|\bBUG(_ON)?\(' || :
}

check_spdx() {
	files | grep -vE '^(COPYING|README\.md|MAINTAINERS)$|(^|/)(config|settings)$|help\.txt$|^scripts/series/[^.]*$' |
		xargs grep -L 'SPDX-License-Identifier: ' || :
}

check_budgets() {
	while read -r limit file; do
		[ -e "$file" ] || continue
		lines=$(wc -l <"$file")
		[ "$lines" -le "$limit" ] || echo "note: $file has $lines lines, $limit are planned"
	done < <(sed '/^#/d;/^$/d' scripts/budgets)
	lines=$(files 'compat/*' | xargs cat | wc -l)
	[ "$lines" -le 900 ] || echo "compat/ has $lines lines, of 900 that it may have"
}

# Code that changes must not leave the known defects behind.
check_mutants() {
	python3 -B scripts/mutants/unit_test.py && scripts/mutants.sh --check
}

# Every state of the on-demand protocol, within bounds.
check_model() {
	local status=0

	{ scripts/model.sh explore && scripts/model.sh selftest; } >"$logs/model" 2>&1 || status=$?
	[ $status -ne 0 ] || sed -i 's/^/note: /' "$logs/model"
	cat "$logs/model"
	return $status
}

# The table of known defects, their tests and mutants fit together.
check_defects() {
	scripts/check-defects
}

# Needs a copy of the newest kernel, prepared for building.
check_series() {
	local status=0

	# In "make check" that is what the kselftests run on.
	env -u KERNEL scripts/check-series.sh short >"$logs/series" 2>"$logs/series.err" || status=$?
	case $status in
	0) sed -n '$s/^/note: /p' "$logs/series" ;;
	4) cat "$logs/series" ;;
	*) grep -hvE '^(ok|skip) ' "$logs/series" "$logs/series.err" || return $status ;;
	esac
}

check_clean_tree() {
	git status --porcelain | diff "$logs/status-before" - | grep '^>' || :
}

static_checks() {
	git status --porcelain >"$logs/status-before"
	check "build, W=1" check_build
	check "build without on-demand mode" check_no_ondemand
	[ -z "${KERNEL:-}" ] || check "build against $KERNEL, W=1" check_other_kernel
	check "the kernel is asked again" check_probes
	check "modules_install" check_install
	check "sparse, C=2" check_sparse
	check "checkpatch --strict" check_checkpatch
	check "coccinelle" check_coccinelle
	check "kernel-doc" check_kernel_doc
	check "documentation" check_docs
	check "shellcheck" check_shell
	check "no version conditionals" check_versions
	check "no markers, no BUG()" check_markers
	check "licence identifiers" check_spdx
	check "file sizes" check_budgets
	check "defects can be planted" check_mutants
	check "state model" check_model
	check "known defects" check_defects
	check "patch series, in short" check_series
	check "the build leaves the tree clean" check_clean_tree
}

# --- kselftests ---

# Reads what run-kselftests prints, one line for each program, failures in full. Writes
# "PASSED FAILED SKIPPED", the programs that have ended and, for matrix.py, what came of each
# to files: "KERNEL PROGRAM PASSED FAILED SKIPPED SECONDS REASON...", separated by tabs.
summarise() {
	local options=()

	# mawk waits for 4 KiB of input else.
	! awk -W version 2>&1 </dev/null | grep -q ^mawk || options=(-W interactive)
	awk ${options[@]+"${options[@]}"} -v counts="$1" -v ended="$2" -v results="$3" -v kernel="$4" '
	/^### begin / {
		p = f = s = 0
		text = reason = reasons = ""
		delete known
		next
	}
	/^### end / {
		if (f == 0 && $4 == 4 && p == 0 && s == 0)
			s = 1
		else if (f == 0 && $4 == 124)
			{ f = 1; text = text "     timed out\n" }
		else if (f == 0 && ($4 != 0 && $4 != 4 || p + s == 0))
			{ f = 1; text = text "     exit status " $4 "\n" }
		printf "%s %s: %d passed, %d failed, %d skipped (%d s)%s\n",
			f ? "FAIL" : (p ? "ok  " : "skip"), $3, p, f, s, $5,
			(s && reason != "") ? ": " reason : ""
		if (f)
			printf "%s", text
		fflush()
		printf "%s\t%s\t%d\t%d\t%d\t%d%s\n", kernel, $3, p, f, s, $5, reasons >results
		fflush(results)
		passed += p; failed += f; skipped += s
		print $3 >ended
		fflush(ended)
		next
	}
	/^### unloaded / {
		if ($3 == 0) { passed++; print "ok   modules can be unloaded" }
		else {
			failed++
			print "FAIL modules cannot be unloaded"
			print kernel "\tunloading the modules\t0\t1\t0\t0" >results
		}
		print "unloaded" >ended
		next
	}
	/^###/ { next }
	/^#  RUN / || /^# +OK  / || /^TAP version/ || /^1\.\.[1-9]/ || /^# Starting/ { next }
	/^not ok / { f++ }
	/^ok .*# SKIP/ || /^1\.\.0 # SKIP/ {
		s++
		why = $0
		sub(/.*# SKIP */, "", why)
		if (reason == "") reason = why
		if (!known[why]++) reasons = reasons "\t" why
		next
	}
	/^ok / { p++; next }
	{ text = text "     " $0 "\n" }
	END { print passed + 0, failed + 0, skipped + 0 >counts }'
}

kselftest_programs() {
	local dir=build/selftests

	mkdir -p "$dir"
	# A test that is gone from the source does not stay there.
	rm -f "$dir"/*_test.sh
	make -s -j "$jobs" -C "$kselftests" O="$top/$dir" \
		KSELFTEST_DIR="$tools/tools/testing/selftests" >"$logs/make-selftests.log" 2>&1 || {
		tail -30 "$logs/make-selftests.log"
		return 1
	}
	cp "$kselftests/settings" "$dir/"
}

# result KERNEL WHAT FAILURES: what matrix.py is to know besides the programs
result() {
	printf '%s\t%s\t0\t%d\t0\t0\n' "$@" >>"$logs/results"
}

# kselftest_build KERNEL: the kernel, modules for it and the programs; false if one of
# them cannot be built
kselftest_build() {
	local name=$1 options=()

	[ "$name" != coverage ] || options=(GCOV=y)
	kernel_ready "$name" || {
		fail "building the $name kernel"
		result "$name" "building the kernel" 1
		return 1
	}
	make -s -j "$jobs" KDIR="$name" DEBUG=y ERROR_INJECTION=y TEST_MODULES=y \
		BUILD="build/kselftest-$name" ${options[@]+"${options[@]}"} \
		>"$logs/make-$name.log" 2>&1 || {
		result "$name" "building the modules" 1
		fail "modules for the $name kernel, $logs/make-$name.log:"
		tail -20 "$logs/make-$name.log"
		return 1
	}
	kselftest_programs || {
		result "$name" "building the kselftests" 1
		fail "building the kselftests"
		return 1
	}
}

# build_ahead KERNEL: if it is not there, with the processor time that nobody else wants.
# kselftest_build waits for its end, and is the one to say if it fails.
build_ahead() {
	[ ! -e "$cache/kernels/$1" ] || return 0
	# A process group of its own can be killed with all that it has started.
	set -m
	nice -n 19 scripts/build-kernel.sh "$1" >"$logs/build-$1.log" 2>&1 &
	set +m
	# shellcheck disable=SC2064 # this process, not one that comes later
	trap "kill -- -$! 2>/dev/null || :" EXIT
	trap 'exit 130' INT TERM
}

# programs_for KERNEL: all that run on it
programs_for() {
	local patterns=(-name '*_test')

	[ "$1" = kcsan ] || patterns+=(-o -name '*_test.sh')
	find build/selftests -maxdepth 1 \( "${patterns[@]}" \) -printf '%f\n' | sort
}

# kselftest_run KERNEL [PROGRAM...]: after kselftest_build
kselftest_run() {
	local name=$1 scale=${CF_TIME_SCALE:-1} slow=1 trace=''
	local programs=("${@:2}") left again='' why round=0 status p f s log wrapper=

	case $name in
	stock) trace=/out/trace ;;
	# Slow tests, lifecycle_test above all, are for fast kernels.
	debug) scale=10 && slow='' ;;
	kcsan) scale=4 && slow='' ;;
	coverage) scale=4 && slow='' && wrapper=with-coverage ;;
	esac
	[ ${#programs[@]} -gt 0 ] || mapfile -t programs < <(programs_for "$name")
	slow=${CF_SLOW-$slow}

	# A machine that dies takes its test along, not the ones behind it.
	left=("${programs[@]}")
	: >"$logs/ended"
	while [ ${#left[@]} -gt 0 ]; do
		round=$((round + 1))
		log=$logs/kselftest-$name-$round
		status=0
		# A machine that dies before its first program has ended writes neither.
		rm -f "$logs/ended.new" "$logs/results.new"
		scripts/vm.sh --kernel "$name" --build "build/kselftest-$name" --mem 3072 \
			--timeout $((3600 * scale)) --boot-timeout $((120 * scale)) --out "$log.out" \
			--add build/selftests:/job/cachefiles --program fio --share -- \
			env CF_TIME_SCALE="$scale" CF_TRACE=$trace ${slow:+CF_SLOW=1} \
			$wrapper run-kselftests \
			/job/cachefiles "${left[@]}" \
			2>"$log.err" | tee "$log.log" | summarise "$logs/counts" "$logs/ended.new" \
			"$logs/results.new" "$name" || status=$?
		touch "$logs/ended.new"
		cat "$logs/ended.new" >>"$logs/ended"
		cat "$logs/results.new" >>"$logs/results" 2>/dev/null || :
		read -r p f s <"$logs/counts"
		passed=$((passed + p))
		failed=$((failed + f))
		skipped=$((skipped + s))
		mapfile -t left < <(printf '%s\n' "${left[@]}" | grep -vxFf "$logs/ended.new")
		if [ $status != 0 ] && [ "${left[0]:-}" != "$again" ] && why=$(not_ours "$log"); then
			again=${left[0]}
			echo "     $again: $why; once more"
			continue
		fi
		if [ $status = 0 ]; then
			pass "nothing reported by the $name kernel"
		else
			result "$name" "the machine, status $status" 1
			fail "$name kernel, status $status, $log.*:"
			grep -v '^\[ *[0-9]* s\] ' "$log.err" | head -60 | sed 's/^/     /' || :
		fi
		! grep -qx unloaded "$logs/ended.new" || return 0
		if [ ${#left[@]} -gt 0 ]; then
			fail "${left[0]}: the machine has not survived it"
			result "$name" "${left[0]}" 1
			left=("${left[@]:1}")
		fi
	done
}

# code_id: of modules and tests, whatever their comments and documents say, without benchmarks
code_id() {
	local file

	while read -r file; do
		echo "$file"
		case $file in
		*.rst) ;;
		*.[ch]) gcc -fpreprocessed -dD -E -P -w -x c "$file" || cat "$file" ;;
		*) cat "$file" ;;
		esac
	done < <(files 'fs/*' 'include/*' 'compat/*' Kbuild "$kselftests/*" ":!$kselftests/bench") |
		sha256sum | cut -c1-12
}

# note_run ID KERNEL FAILED PASSED SKIPPED: of all tests; says how many such runs have passed
# in a row, and how many tests the least and the most of them were: what a run has skipped, or
# taken over from one that was broken off, it does not prove.
note_run() {
	printf '%s\t%s\t%s\t%d failed\t%d passed\t%d skipped\n' "$1" "$2" \
		"$(date -u +%FT%TZ)" "${@:3}" >>"$cache/runs"
	awk -F '\t' -v code="$1" -v kernel="$2" '
		$1 != code || $2 != kernel { next }
		$4 != "0 failed" { n = 0; next }
		{
			n++
			if (n == 1 || $5 + 0 < least)
				least = $5 + 0
			if (n == 1 || $5 + 0 > most)
				most = $5 + 0
		}
		END {
			printf "     %d in a row without a failure on the %s kernel", n, kernel
			if (n)
				printf ", of %d to %d tests each", least, most
			print ""
		}
		' "$cache/runs"
}

# turn NUMBER: waits until the one with this number may begin, of those that run beside others
turn() {
	[ "$1" -le "$machines" ] || wait -n || :
}

# beside NAME COMMAND...: with logs and sums of its own, as others run at the same time
beside() {
	logs=$logs/$1
	passed=0 failed=0 skipped=0
	rm -rf "$logs"
	mkdir -p "$logs"
	: >"$logs/results"
	{
		"${@:2}"
		echo "$passed $failed $skipped" >"$logs/sums"
	} 2>&1 | sed -u "s/^/$1: /"
}

# add_up NAME...: what came of those that ran beside each other
add_up() {
	local name p f s

	for name; do
		cat "$logs/$name/results" >>"$logs/results"
		if read -r p f s <"$logs/$name/sums"; then
			passed=$((passed + p))
			failed=$((failed + f))
			skipped=$((skipped + s))
		else
			result "$name" "the run, which has broken off" 1
			fail "$name: the run has broken off"
		fi
	done
}

# one_share ID COMMAND...: remembers that it has passed, for ID
one_share() {
	"${@:2}"
	[ $failed != 0 ] || echo "$*" >"$logs/passed"
}

# kselftest_shared ID KERNEL [PROGRAM...]: what kselftest_run and fuzz_debug do, MACHINES at
# a time, with code ID
kselftest_shared() {
	# What passed with other settings is no part of this run.
	local id="$1${CF_SLOW+ CF_SLOW=$CF_SLOW}${FUZZ_OPS:+ FUZZ_OPS=$FUZZ_OPS}"
	local programs=("${@:3}") scripts others shares=() share names=() started=0 i

	shift
	# In quarters, so that RESUME need not begin it anew.
	[ "$*" != debug ] || shares+=("fuzz_debug 4 1" "fuzz_debug 4 2" "fuzz_debug 4 3" "fuzz_debug 4 4")
	[ ${#programs[@]} -gt 0 ] || mapfile -t programs < <(programs_for "$1")
	# Scripts take longest: they come first, each in a machine of its own.
	mapfile -t scripts < <(printf '%s\n' "${programs[@]}" | grep '\.sh$')
	mapfile -t others < <(printf '%s\n' "${programs[@]}" | grep -v '\.sh$')
	shares+=("${scripts[@]/#/kselftest_run $1 }")
	for ((i = 0; i < ${#others[@]}; i += 12)); do
		shares+=("kselftest_run $1 ${others[*]:i:12}")
	done
	for share in "${shares[@]}"; do
		names+=("$1.$((${#names[@]} + 1))")
		if [ "$(cat "$logs/${names[-1]}/passed" 2>/dev/null)" = "$id $share" ]; then
			echo "${names[-1]}: has passed before: ${share#* "$1" }"
			continue
		fi
		started=$((started + 1))
		turn $started
		# shellcheck disable=SC2086 # a command and its arguments
		beside "${names[-1]}" one_share "$id" $share &
	done
	wait
	# Nothing of a run that has come to its end counts for another one.
	rm -f "$logs/$1".*/passed
	add_up "${names[@]}"
}

# kselftest KERNEL [PROGRAM...]: RUNS times, or until something has failed, which the
# logs are about then. Without PROGRAM, fuzzing is part of it on the debug kernel.
kselftest() {
	local run before=$failed id p s

	kselftest_build "$1" || return 0
	id=$(code_id)
	for ((run = 1; run <= runs && failed == before; run++)); do
		p=$passed
		s=$skipped
		[ "$runs" = 1 ] || echo "--- run $run of $runs ($SECONDS s)"
		rm -rf "$logs/kselftest-$1-"*
		[ -n "${RESUME:-}" ] || rm -rf "$logs/$1".*
		if [ "$machines" != 1 ]; then
			kselftest_shared "$id" "$@"
		else
			kselftest_run "$@"
			[ "$*" != debug ] || fuzz_debug 1 1
		fi
		[ $# -gt 1 ] || [ -z "${CF_SLOW-y}" ] || [ -n "${FUZZ_OPS:-}" ] ||
			note_run "$id" "$1" $((failed - before)) $((passed - p)) $((skipped - s))
	done
}

check_newest() {
	grep -Lx y "build/kselftest-${kernels[-1]}"/probe/*.probe
}

# matrix PROGRAM...: the kselftests on every kernel that we support. Nothing is supported
# that does not stand here.
kernels=(stock-6.1 stock base-6.1 base base-7.3)
matrix() {
	local kernel list program series title number=0 ready=()

	read -ra list <<<"${KERNELS:-${kernels[*]}}"
	for kernel in "${list[@]}"; do
		[[ " ${kernels[*]} " == *" $kernel "* ]] || [ -e "$cache/kernels/$kernel" ] ||
			die "KERNELS: $kernel is none of ${kernels[*]}, nor in $cache/kernels"
	done
	for program in "$@"; do
		[ -e "$kselftests/$program.c" ] || [ -x "$kselftests/$program" ] ||
			die "TESTS: there is no $program in $kselftests"
	done
	for kernel in "${list[@]}"; do
		series=6.12
		[ "$kernel" = "${kernel#*-}" ] || series=${kernel#*-}
		case $kernel in
		stock*) title="Debian $series" ;;
		base | base-6.1) title="$series, EROFS on-demand" ;;
		base-*) title="mainline $series" ;;
		*) title=$kernel ;;
		esac
		printf '#\t%s\t%s\n' "$kernel" "$title" >>"$logs/results"
		say "building for $kernel"
		! kselftest_build "$kernel" || ready+=("$kernel")
	done
	for kernel in ${ready[@]+"${ready[@]}"}; do
		number=$((number + 1))
		turn $number
		say "$kernel, $number of ${#ready[@]}"
		beside "$kernel" kselftest_run "$kernel" "$@" &
	done
	wait
	add_up ${ready[@]+"${ready[@]}"}
	# That is what try-kernel compares a newer one with.
	[ ! -d "build/kselftest-${kernels[-1]}/probe" ] ||
		check "the newest kernel says yes to all probes" check_newest
	scripts/matrix.py "$logs/results" "$logs/matrix" || failed=$((failed + 1))
}

# Every move that the tests have made, held against the model; together they show it all.
check_moves() {
	local traces

	mapfile -t traces < <(ls -d "$logs"/{,stock.*/}kselftest-stock-*.out/trace 2>/dev/null)
	scripts/model.sh replay "${traces[@]}"
}

# fuzz_debug PARTS NUMBER: the operations of one part, if there are so many
# What it has to say is in the log: the table, or what has failed and how to repeat it. The
# operations are the measure, and no slow machine is to end before them.
fuzz_debug() {
	local log=$logs/fuzz.log start=$SECONDS seed=${SEED:-$(date +%s)}

	if KERNEL=debug OPS=$(((${FUZZ_OPS:-1000000} + $1 - 1) / $1)) \
		SEED=$((seed + $2 - 1)) MINUTES=${MINUTES:-300} \
		scripts/fuzz.sh --out "$logs/fuzz.out" >"$log" 2>&1; then
		pass "fuzz: $(sed -n 's/^# \([0-9]* operations\) in.*/\1/p' "$log") ($((SECONDS - start)) s)"
	else
		fail "fuzz, $log:"
		grep -vE '^(  [a-z]|# +[0-9]+ s:)' "$log" | head -60 | sed 's/^/     /'
	fi
}

# On the debug kernel: what waits, ends, dies and starts again, and every failed allocation.
lifetime_and_locking=(close_test death_test failnth_original_test failnth_test kill_test
	original_stress_test poll_test reopen_test restore_test shutdown_test stress_test umount_test)

case ${1:-all} in
all | static | vm | debug | kcsan | coverage | matrix) ;;
*) die "usage: check.sh all|static|vm|debug|kcsan|coverage|matrix [TEST...]" ;;
esac
runs=$(count RUNS)
machines=$(count MACHINES)
scripts/setup.sh build vm check
mkdir -p "$logs"
: >"$logs/results"
case ${1:-all} in
all)
	build_ahead debug
	static_checks
	kselftest stock
	check "moves of the on-demand protocol" check_moves
	echo "--- lifetime and locking, on the debug kernel:"
	kselftest debug "${lifetime_and_locking[@]}"
	;;
static) static_checks ;;
matrix) matrix "${@:2}" ;;
vm)
	kselftest "${KERNEL:-stock}" "${@:2}"
	[ $# -gt 1 ] || [ -n "${KERNEL:-}" ] || check "moves of the on-demand protocol" check_moves
	;;
debug | kcsan | coverage) kselftest "$@" ;;
esac
checked
