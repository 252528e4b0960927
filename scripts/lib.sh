# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash disable=SC2034
#
# What the scripts share; sourced after "set -euo pipefail".

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/cachefiles
jobs=${JOBS:-$(nproc)}

# say TEXT...: progress, on standard error with the seconds since the start
say() {
	printf '[%4d s] %s: %s\n' "$SECONDS" "${0##*/}" "$*" >&2
}

# die TEXT...
die() {
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# kernel_dir NAME|DIR: the directory of a kernel: stock, stock-6.1, base, debug, kcsan, coverage,
# base-7.3, tree-VERSION and the like in the cache folder, or any that has
# boot/vmlinuz-RELEASE, lib/modules/RELEASE and, to build modules for it, build.
kernel_dir() {
	case $1 in
	stock | stock-* | base | base-* | debug | debug-* | kcsan | kcsan-* | coverage | coverage-* | \
		tree-*)
		[ -e "$cache/kernels/$1" ] || die "no $1 kernel; run $(kernel_hint "$1")"
		readlink -f "$cache/kernels/$1"
		;;
	*)
		[ -d "$1/boot" ] || die "$1: not a kernel directory"
		readlink -f "$1"
		;;
	esac
}

kernel_hint() {
	case $1 in
	stock) echo scripts/setup.sh ;;
	stock-*) echo "scripts/setup.sh ${1#*-}" ;;
	tree-*) echo "scripts/build-kernel.sh tree SOURCE" ;;
	*) echo "scripts/build-kernel.sh $1" ;;
	esac
}

# kernel_ready NAME|DIR: fetch or build it if it has a name that says how
kernel_ready() {
	case $1 in
	stock-*) "$top/scripts/setup.sh" "${1#*-}" ;;
	base | base-* | debug | debug-* | kcsan | kcsan-* | coverage | coverage-*)
		"$top/scripts/build-kernel.sh" "$1"
		;;
	*) kernel_dir "$1" >/dev/null ;;
	esac
}

# only_one FILE [WHAT]: until this process ends, with what it has started, others wait here
# for FILE, and say for what. Status 1 at once, without WHAT, if another has it.
only_one() {
	exec {lock}>"$1"
	flock -n "$lock" || {
		[ $# -gt 1 ] || return 1
		say "waiting for another one that $2"
		flock "$lock"
	}
}

# kernel_release DIR
kernel_release() {
	local images=("$1"/boot/vmlinuz-*)

	[ -e "${images[0]}" ] || die "$1: no boot/vmlinuz-*"
	echo "${images[0]##*/vmlinuz-}"
}

# --- for scripts that build kernels ---

# kconfig DIR FRAGMENT...: tinyconfig and fragments in the build directory DIR
kconfig() {
	local dir=$1 output

	make -s -C "$dir" tinyconfig >/dev/null || return
	cat "${@:2}" >>"$dir/.config" || return
	output=$(make -s -C "$dir" olddefconfig 2>&1) || {
		echo "$output" >&2
		return 1
	}
}

# unfulfilled DIR CONFIG_NAME=VALUE...: those that are not so there. A wish that cannot be,
# or contradicts another, is dropped by kconfig without a word.
unfulfilled() {
	local config=$1/.config wish

	for wish in "${@:2}"; do
		case $wish in
		*=n) ! grep -q "^${wish%n}" "$config" || echo "$wish" ;;
		*) grep -qxF "$wish" "$config" || echo "$wish" ;;
		esac
	done
}

# run_make LOG ARGUMENT...: progress is the number of objects, which the -s of a make that
# has started us would have kept quiet
run_make() {
	local log=$1 pid next=$((SECONDS + 20))

	shift
	env -u MAKEFLAGS make -j "$jobs" "$@" >"$log" 2>&1 &
	pid=$!
	while kill -0 "$pid" 2>/dev/null; do
		sleep 1
		if [ "$SECONDS" -ge $next ]; then
			next=$((SECONDS + 20))
			say "$(wc -l <"$log") steps"
		fi
	done
	wait "$pid"
}

# install_kernel BUILD DIR LOG: what kernel_dir wants but for vmlinux and build; boot comes
# last, so that who finds it finds all
install_kernel() {
	local release

	make -s -C "$1" modules_install INSTALL_MOD_PATH="$2" >>"$3" 2>&1 &&
		release=$(cat "$1/include/config/kernel.release") &&
		mkdir -p "$2/boot.new" &&
		cp "$1/arch/x86/boot/bzImage" "$2/boot.new/vmlinuz-$release" &&
		rm -rf "${2:?}/boot" &&
		mv "$2/boot.new" "$2/boot"
}

# --- for scripts that run something in a virtual machine ---

# runner_options ARGUMENT...: sets timeout and out, or says what the script is about
runner_options() {
	while [ $# -gt 0 ]; do
		case $1 in
		--timeout) timeout=${2:?} && shift ;;
		--out) out=${2:?} && shift ;;
		--help)
			sed -n '4,/^set/s/^# \{0,1\}//p' "$0"
			exit
			;;
		*) die "usage: ${0##*/} [--timeout SECONDS] [--out DIR]" ;;
		esac
		shift
	done
}

# runner_begin KERNEL: what that needs is fetched and built. Sets kernel_path, release,
# work (a directory, for as long as the script runs), and out if it is empty.
runner_begin() {
	"$top/scripts/setup.sh" build vm
	kernel_ready "$1"
	kernel_path=$(kernel_dir "$1")
	release=$(kernel_release "$kernel_path")
	work=$(mktemp -d "${TMPDIR:-/tmp}/cachefiles.XXXXXX")
	trap 'rm -rf "$work"' EXIT
	trap 'exit 130' INT TERM
	[ -n "$out" ] || out=$work/out
}

# What the kernel only says if something is wrong.
splats='BUG:|WARNING:|Oops|KASAN:|KCSAN:|UBSAN:|possible circular|inconsistent lock state'
splats+='|suspicious RCU|possible recursive|lock held when returning|held lock freed|bad unlock'
splats+='|sleeping function called|scheduling while atomic|INFO: task .* blocked|rcu.*stall'
splats+='|refcount_t:|[Ss]oft lockup|[Hh]ard LOCKUP|kernel stack overflow|list_(add|del) corruption'
splats+='|kmemleak reports|Kernel panic|general protection|ODEBUG:|Objects remaining|cut here'
splats+='|unable to handle|slab.*still has objects|workqueue lockup'

# stale_int3 CONSOLE: the machine has died of a breakpoint that its memory does not have; in
# which line.
# The kernel changes its code (tracepoints, static keys) under an int3, which it takes away
# again. TCG before QEMU 8.1 translates a page before it watches it for changes, so a
# processor that translates at that moment keeps the int3, and nobody answers for it any
# more. That the code line shows another byte before <RIP> tells it from one that was meant.
stale_int3() {
	awk '!oops && /int3: 0000 \[#/ { oops = NR }
		oops && / Code: / {
			for (i = 2; i <= NF; i++)
				if ($i ~ /^</)
					stale = $(i - 1) != "cc"
			exit
		}
		END { if (stale) print oops }' "$1" 2>/dev/null
}

# lost_flags CONSOLE: the machine has died of flags that no processor has; in which line.
# TCG computes the flags when they are asked for, from the operands of what has set them last.
# If it has lost what that was, the flags are an operand: a register, and the bit that is
# always set. Bit 17 of it is the mode of the 8086, which a processor does not enter from
# 64-bit code, whatever it finds on the stack.
lost_flags() {
	awk 'function low(hex) {
			hex = substr(hex, length(hex) - 7)
			return substr(hex, 1, 7) \
				substr("23236767ababefef", index(digits, substr(hex, 8)), 1)
		}
		BEGIN { digits = "0123456789abcdef" }
		{ sub(/\r$/, "") }
		!oops && /Oops: double fault/ { oops = NR }
		oops && /Call Trace/ { exit }
		oops && / EFLAGS: / { flags = $NF }
		oops && flags {
			for (i = 1; i < NF; i++)
				if ($i ~ /^R[A-Z0-9]+:$/ && low($(i + 1)) == flags)
					found = 1
		}
		END {
			# Bit 17
			if (found && index("2367abef", substr(flags, 4, 1)))
				print oops
		}' "$1" 2>/dev/null
}

# not_ours LOG: says what has killed the machine, if neither our code nor the tests can.
# netfs of 6.12 needs no cache for its fault, only a file whose last page it does not fill:
# the second of three slices ends while the first one is done and leaves the list, what it
# hands over to that one is lost, and the third finds nobody.
not_ours() {
	local console=$1.out/console.log line why first

	line=$(grep -nm1 "netfs: Can't donate prior to front" "$console" 2>/dev/null | cut -d: -f1) || :
	why="netfs of this kernel has lost a donation, and BUG() is its answer"
	if [ -z "$line" ]; then
		line=$(stale_int3 "$console")
		why="QEMU has executed an int3 that was no longer there"
	fi
	if [ -z "$line" ]; then
		line=$(lost_flags "$console")
		why="QEMU has taken a register for the flags"
	fi
	[ -n "$line" ] || return 1
	# What was said before that is something else, which does not go with the machine.
	first=$(grep -nEm1 "$splats" "$console" | cut -d: -f1) || :
	[ "${first:-$line}" -ge "$line" ] || return 1
	echo "$why"
}

# --- for scripts that check something, and keep logs in $logs ---

logs=
passed=0
failed=0
skipped=0

pass() {
	passed=$((passed + 1))
	printf 'ok   %s\n' "$*"
}

fail() {
	failed=$((failed + 1))
	printf 'FAIL %s\n' "$*"
}

skip() {
	skipped=$((skipped + 1))
	printf 'skip %s\n' "$*"
}

# check NAME FUNCTION [ARGUMENT]: FUNCTION says what is wrong on its standard output; it
# passes with status 0 and no output. A first line "skip: REASON" skips it, lines
# "note: ..." are shown and change nothing.
check() {
	local name=$1 log=$logs/$2${3:+-$3}.log start=$SECONDS status=0

	"${@:2}" >"$log" 2>&1 || status=$?
	if grep -q '^skip: ' "$log"; then
		skip "$name: $(sed -n 's/^skip: //p' "$log" | head -1)"
	elif [ $status -ne 0 ] || grep -qv '^note: ' "$log"; then
		fail "$name ($((SECONDS - start)) s), status $status, $log:"
		head -60 "$log" | sed 's/^/     /'
	else
		pass "$name ($((SECONDS - start)) s)"
		sed -n 's/^note: /     /p' "$log"
	fi
}

# coccinelle SCRIPTS OUT ARGUMENT...: what they report of the sources that the arguments for
# spatch name; each script with the options it asks for
coccinelle() {
	local found=$2

	rm -rf "$found"
	mkdir -p "$found"
	# shellcheck disable=SC2016 # the inner shell expands it
	find "$1" -name '*.cocci' | sort | xargs -P "$jobs" -I{} bash -c '
		script=$1 found=$2
		shift 2
		options=$(sed -n "s,^// *Options:,,p" "$script" | head -1)
		grep -q "^virtual report" "$script" || exit 0
		if grep -q "script:ocaml" "$script" && ! command -v ocamlopt >/dev/null; then
			echo "note: not run, needs OCaml: ${script##*/}"
			exit 0
		fi
		spatch -D report --no-show-diff --very-quiet --cocci-file "$script" $options "$@" \
			>"$found/${script##*/}.out" 2>"$found/${script##*/}.err" ||
			echo "spatch failed: $script: $(tail -1 "$found/${script##*/}.err")"' \
		sh {} "$found" --macro-file "$top/scripts/coccinelle.h" "${@:3}"
	cat "$found"/*.out
}

# sphinx DIR TREE: what it has to say of the pages in DIR/src. As "make htmldocs" in a kernel
# tree does it, with its extensions; what the pages refer to is in TREE.
sphinx() {
	local tools=$cache/source

	cat >"$1/conf.py" <<-END
		import sys
		sys.path.insert(0, "$tools/Documentation/sphinx")
		extensions = ["kerneldoc", "rstFlatTable", "kernel_include", "kfigure", "automarkup"]
		kerneldoc_bin = "$tools/scripts/kernel-doc"
		kerneldoc_srctree = "$2"
		highlight_language = "none"
	END
	srctree=$2 sphinx-build -q -n -c "$1" -b html "$1/src" "$1/html" 2>&1 |
		grep -v "dot(1) not found" || :
}

# checked: what came of it all; status 0 if nothing failed
checked() {
	echo "$passed passed, $failed failed, $skipped skipped"
	[ $failed = 0 ]
}
