# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# What tests that are shell scripts start from. A script sources it first:
#
#	. "$(dirname "$0")/lib/test.sh"
#
# which takes the script into a mount namespace of its own and makes the empty directory
# $CF_DIR, a tmpfs. When the script ends, whatever it has started by cf_background is
# killed, whatever is mounted below $CF_DIR is unmounted and every cache is let go.
# Then, in this order: what is needed (cf_need...), or it is skipped; what the tests start
# from, or cf_bail_out; cf_tests with the test functions. A test function has failed when one
# of its expectations has, or when it returns another status than 0; "expect ... || return"
# ends it there.
#
# Environment: CF_TIME_SCALE multiplies time limits, CF_FSTYPE is the backing file system
# (default ext4), CF_ONLY a pattern of test functions to run.

cf_here=$(cd "$(dirname "$0")" && pwd)
if [ -z "${CF_NAMESPACE:-}" ] && [ "$(id -u)" = 0 ]; then
	CF_NAMESPACE=y exec unshare -m --propagation private -- "$0" "$@"
fi
unset CF_NAMESPACE

cf_ktap=$cf_here/../kselftest/ktap_helpers.sh
[ -e "$cf_ktap" ] || cf_ktap=$cf_here/lib/ktap_helpers.sh
# shellcheck disable=SC1090 # of the kernel's kselftest
. "$cf_ktap"

CF_SCALE=${CF_TIME_SCALE:-1}
CF_FSTYPE=${CF_FSTYPE:-ext4}
CF_DIR=/tmp/cachefiles-selftest.$$
CF_NAME=$(basename "$0" .sh)
cf_pids=()
cf_fds=()
cf_failed=
ktap_print_header

# --- results ---

# cf_skip_all REASON...: ends the program
cf_skip_all() {
	ktap_skip_all "$*"
	exit "$KSFT_SKIP"
}

# cf_bail_out REASON...: ends the program, which has failed: what is needed is there, and
# what all tests start from cannot be made of it
cf_bail_out() {
	echo "Bail out! $*"
	exit "$KSFT_FAIL"
}

# cf_skip REASON...: this test can't be run; use as "cf_skip REASON; return"
cf_skip() {
	cf_skipped="$*"
}

# cf_note TEXT...: shown when the program fails
cf_note() {
	printf '# %s\n' "$*"
}

# cf_fail TEXT...: the test has failed; it goes on unless it returns. Status 1.
cf_fail() {
	local i

	for ((i = 1; i < ${#FUNCNAME[@]}; i++)); do
		case ${FUNCNAME[i]} in
		cf_fail | expect | expect_*) ;;
		*) break ;;
		esac
	done
	cf_failed=y
	printf '# %s:%s: %s: %s\n' "${BASH_SOURCE[i]##*/}" "${BASH_LINENO[i - 1]}" \
		"${FUNCNAME[i]}" "$*"
	return 1
}

# expect COMMAND...: succeeds
expect() {
	local status=0

	"$@" || status=$?
	[ $status = 0 ] || cf_fail "status $status: $*"
}

# expect_not COMMAND...: does not succeed; "expect !" would not parse
expect_not() {
	! "$@" || cf_fail "succeeds: $*"
}

# cf_not COMMAND...: for cf_wait
cf_not() {
	! "$@"
}

# expect_eq WANTED FOUND [WHAT...]
expect_eq() {
	[ "$1" = "$2" ] || cf_fail "${*:3}: wanted '$1', found '$2'"
}

# expect_ge LEAST FOUND [WHAT...]: numbers
expect_ge() {
	[ "$2" -ge "$1" ] || cf_fail "${*:3}: wanted at least $1, found '$2'"
}

# expect_le MOST FOUND [WHAT...]: numbers
expect_le() {
	[ "$2" -le "$1" ] || cf_fail "${*:3}: wanted at most $1, found '$2'"
}

# cf_tests FUNCTION...: runs them in this shell, one after the other, and exits. A test
# named in CF_ONLY's pattern alone runs alone.
cf_tests() {
	local test tests=() start

	for test in "$@"; do
		# shellcheck disable=SC2053 # a pattern
		[[ $test != ${CF_ONLY:-*} ]] || tests+=("$test")
	done
	ktap_set_plan ${#tests[@]}
	for test in "${tests[@]}"; do
		cf_failed=
		cf_skipped=
		start=$SECONDS
		echo "cachefiles selftest: $CF_NAME $test" >/dev/kmsg
		"$test" || [ -n "$cf_failed" ] || cf_fail "$test returns $?"
		if [ -n "$cf_failed" ]; then
			ktap_test_fail "$test"
		elif [ -n "$cf_skipped" ]; then
			echo "ok $KTAP_TESTNO $test # SKIP $cf_skipped"
			KTAP_TESTNO=$((KTAP_TESTNO + 1))
			KTAP_CNT_SKIP=$((KTAP_CNT_SKIP + 1))
		else
			ktap_test_pass "$test"
		fi
		[ -z "${CF_VERBOSE:-}" ] || cf_note "$test: $((SECONDS - start)) s"
	done
	ktap_finished
}

# --- what is needed ---

# cf_need PROGRAM...: or the program is skipped
cf_need() {
	local program

	for program in "$@"; do
		command -v "$program" >/dev/null || [ -x "$cf_here/$program" ] ||
			cf_skip_all "no $program"
	done
}

# cf_need_module NAME...: modules, or built in
cf_need_module() {
	local module

	for module in "$@"; do
		modprobe -q "$module" || [ -e "/sys/module/$module" ] ||
			cf_skip_all "no module $module"
	done
}

# cf_unloads: nobody uses cachefiles any more; it is there again afterwards
cf_unloads() {
	local module

	grep -q "^cachefiles " /proc/modules || return 0
	for module in ondemandfs cachefiles; do
		[ ! -e /sys/module/$module ] || cf_wait 30 rmmod "$module" 2>/dev/null || return
	done
	# Ours may be one that was built outside the kernel's tree, or all that there is.
	if [ "${CF_MODULE:-ours}" = ours ]; then
		modprobe cachefiles && { modprobe -q ondemandfs || :; }
	else
		load-cachefiles "$CF_MODULE"
	fi
}

# cf_have_fs TYPE: status 0 if the kernel has that file system
cf_have_fs() {
	modprobe -q "$1" || :
	grep -qw "$1" /proc/filesystems
}

# cf_need_fs TYPE...
cf_need_fs() {
	local type

	for type in "$@"; do
		cf_have_fs "$type" || cf_skip_all "no file system $type"
	done
}

# --- time ---

# What nobody ever writes to, to wait without another process: the machine may be slow.
exec {cf_quiet}<> <(:)

# cf_pause SECONDS: between two looks at what no event tells
cf_pause() {
	read -rt "$1" -u "$cf_quiet" || :
}

# cf_wait SECONDS COMMAND...: until it succeeds, for what no event tells. Status 1, and
# the test has failed, after that time. The last look begins after it: one that takes long
# says nothing of the time left.
cf_wait() {
	local end=$((SECONDS + $1 * CF_SCALE))

	shift
	while [ $SECONDS -le $end ]; do
		! "$@" || return 0
		cf_pause 0.1
	done
	"$@" || cf_fail "still not: $*"
}

# cf_timeout SECONDS PROGRAM...: killed after that time; status 124
cf_timeout() {
	timeout -k 5 $(($1 * CF_SCALE)) "${@:2}"
}

# --- processes ---

# cf_background COMMAND...: a program or function, which has none of the caches' devices
# open and is killed with all its children at the end of the script. It is $!, too.
cf_background() {
	local device

	# A process group of its own, no more.
	set -m
	{
		set +m
		for device in "${cf_fds[@]}"; do
			exec {device}>&-
		done
		trap - EXIT TERM INT
		"$@"
	} &
	set +m
	cf_pids+=($!)
}

# cf_join PID: waits for the end of one of them; its status
cf_join() {
	local pid kept=() status=0

	wait "$1" 2>/dev/null || status=$?
	for pid in "${cf_pids[@]}"; do
		[ "$pid" = "$1" ] || kept+=("$pid")
	done
	cf_pids=("${kept[@]}")
	return $status
}

# cf_end PID [SIGNAL]: ends one of them and waits for it and for all that it has started,
# which has files open until it is gone; its status
cf_end() {
	local status=0

	kill -"${2:-TERM}" -- "-$1" 2>/dev/null || :
	cf_join "$1" || status=$?
	# The others are not our children: init reaps them.
	cf_wait 30 cf_not kill -0 -- "-$1" 2>/dev/null || :
	return $status
}

# --- file systems ---

# cf_store NAME SIZE [FSTYPE [MKFS-OPTION...]]: a file system of that SIZE (as truncate
# has it) on a loop device over tmpfs, mounted at $CF_DIR/NAME
cf_store() {
	local name=$1 size=$2 fstype=${3:-$CF_FSTYPE} mkfs=()

	shift $(($# < 3 ? $# : 3))
	cf_have_fs "$fstype" || {
		cf_skip "no file system $fstype"
		return 1
	}
	modprobe -q loop
	truncate -s "$size" "$CF_DIR/$name.img" || return
	# A user's own blocks only: what is reserved for root is not free for the cache.
	case $fstype in
	ext4) mkfs=(-q -m 0 -E "lazy_itable_init=0,lazy_journal_init=0") ;;
	xfs | btrfs) mkfs=(-q -f) ;;
	esac
	"mkfs.$fstype" "${mkfs[@]}" "$@" "$CF_DIR/$name.img" >"$CF_DIR/$name.mkfs" 2>&1 || {
		cat "$CF_DIR/$name.mkfs"
		return 1
	}
	mkdir -p "$CF_DIR/$name"
	mount -t "$fstype" -o loop "$CF_DIR/$name.img" "$CF_DIR/$name"
}

# cf_umount DIR: what the kernel has closed may keep it busy for a moment
cf_umount() {
	local end=$((SECONDS + 30 * CF_SCALE))

	while [ $SECONDS -le $end ]; do
		! umount "$1" 2>/dev/null || return 0
		cf_pause 0.1
	done
	umount "$1"
}

# cf_unstore NAME: unmounts it and forgets its content
cf_unstore() {
	cf_umount "$CF_DIR/$1" && rm -f "$CF_DIR/$1.img"
}

# cf_drop_caches: clean pages, dentries and inodes that nobody uses
cf_drop_caches() {
	sync
	echo 3 >/proc/sys/vm/drop_caches
}

# cf_pattern write|check|mmap|direct FILE SEED OFFSET LENGTH...: see pattern.c
cf_pattern() {
	"$cf_here/pattern" "$@"
}

# cf_numbered WAY DIR BASE STEP NUMBER...: cf_pattern for the whole of files of DIR, f1 for
# number 1, with that number's pattern and BASE + NUMBER * STEP bytes
cf_numbered() {
	local ranges=() i

	for i in "${@:5}"; do
		ranges+=("$2/f$i" "$i" 0 $(($3 + i * $4)))
	done
	cf_pattern "$1" "${ranges[@]}"
}

# --- caches ---

# cf_open_cache VARIABLE: a new cache's device; its descriptor goes to VARIABLE
cf_open_cache() {
	local fd

	[ -e /dev/cachefiles ] || modprobe -q cachefiles || :
	[ -c /dev/cachefiles ] || {
		cf_fail "no /dev/cachefiles"
		return
	}
	# The last cache's end is not waited for by close(2).
	cf_wait 30 eval "exec {fd}<>/dev/cachefiles" 2>/dev/null || return
	cf_fds+=("$fd")
	printf -v "$1" %s "$fd"
}

# cf_command FD COMMAND...: one write to the device. Status 1 and what errno means, in
# words, in CF_ERROR if it is refused.
cf_command() {
	CF_ERROR=$({ LC_ALL=C printf '%s' "${*:2}" >&"$1"; } 2>&1) && return
	CF_ERROR=${CF_ERROR##*: }
	return 1
}

# cf_bind VARIABLE DIR TAG [COMMAND...]: a cache in original mode in DIR, which is made,
# with other commands before bind
cf_bind() {
	local variable=$1 dir=$2 tag=$3 command

	mkdir -p "$dir"
	cf_open_cache "$variable" || return
	for command in "dir $dir" "tag $tag" "${@:4}" bind; do
		cf_command "${!variable}" "$command" || {
			cf_fail "$command: $CF_ERROR"
			return
		}
	done
}

# cf_close_cache VARIABLE: the cache ends
cf_close_cache() {
	local fd kept=() closed=${!1}

	exec {closed}>&-
	for fd in "${cf_fds[@]}"; do
		[ "$fd" = "$closed" ] || kept+=("$fd")
	done
	cf_fds=("${kept[@]}")
	printf -v "$1" %s ""
}

# cf_cachefilesd DIR TAG [LINE...]: Debian's daemon on a cache in DIR with more lines in
# its configuration. Its process goes to CF_DAEMON, its output to DIR.log. Returns when
# the cache is bound.
cf_cachefilesd() {
	local dir=$1 tag=$2

	mkdir -p "$dir"
	{
		printf 'dir %s\ntag %s\n' "$dir" "$tag"
		printf '%s\n' "${@:3}"
	} >"$dir.conf"
	cf_background cachefilesd -n -s -d -f "$dir.conf" -p "$dir.pid" >"$dir.log" 2>&1
	# shellcheck disable=SC2034 # for the caller
	CF_DAEMON=$!
	cf_wait 30 cf_bound "$tag" || cat "$dir.log"
}

# cf_bound TAG: whether a cache of that name is bound
cf_bound() {
	local state tag

	while read -r _ _ _ _ _ state tag _; do
		[ "$state $tag" != "A $1" ] || return 0
	done </proc/fs/fscache/caches
	return 1
}

# --- counters ---

# cf_count GROUP NAME: a counter of fscache, such as "IO rd"; nothing, which no
# expectation accepts, if there is no such counter. Where netfs does not write yet, it
# counts what it reads in one group.
cf_count() {
	local lines line counter="^$1 *:.* $2=([0-9]+)"

	case $1 in
	DownOps | CaRdOps | CaWrOps) counter="^($1|RdHelp) *:.* $2=([0-9]+)" ;;
	esac

	mapfile -t lines </proc/fs/fscache/stats
	for line in "${lines[@]}"; do
		if [[ $line =~ $counter ]]; then
			echo "${BASH_REMATCH[-1]}"
			return
		fi
	done
	return 1
}

# cf_counts NAME...: keeps what "GROUP:NAME" count now
declare -A cf_kept
cf_counts() {
	local name

	for name; do
		cf_kept[$name]=$(cf_count "${name%:*}" "${name#*:}") || cf_fail "no counter $name"
	done
}

# cf_counted GROUP:NAME: by how much it has grown since cf_counts
cf_counted() {
	[ -n "${cf_kept[$1]}" ] && echo $(($(cf_count "${1%:*}" "${1#*:}") - ${cf_kept[$1]}))
}

# --- the beginning and the end ---

cf_clean_up() {
	local status=$? fd pid mounted

	# One of ours that was killed before it has let go of the trap
	[ "$BASHPID" = $$ ] || exit $status
	trap '' TERM INT
	for pid in "${cf_pids[@]}"; do
		kill -TERM -- "-$pid" 2>/dev/null || :
		kill -CONT -- "-$pid" 2>/dev/null || :
	done
	for pid in "${cf_pids[@]}"; do
		for _ in {1..20}; do
			kill -0 -- "-$pid" 2>/dev/null || break
			cf_pause 0.1
		done
		cf_end "$pid" KILL
	done
	if declare -F cf_at_end >/dev/null; then
		cf_at_end
	fi
	# A mount ends before the cache that it uses, the cache before its store.
	while read -r mounted; do
		case $(stat -fc %T "$mounted" 2>/dev/null) in
		nfs | v9fs) umount -f "$mounted" 2>/dev/null || umount -l "$mounted" ;;
		esac
	done < <(cf_mounts)
	for fd in "${cf_fds[@]}"; do
		exec {fd}>&-
	done
	while read -r mounted; do
		cf_umount "$mounted" 2>/dev/null || umount -l "$mounted"
	done < <(cf_mounts)
	umount "$CF_DIR" 2>/dev/null || umount -l "$CF_DIR"
	rmdir "$CF_DIR"
	exit $status
}

# The mounts below $CF_DIR, the last one first
cf_mounts() {
	awk -v dir="$CF_DIR/" 'index($2, dir) == 1 { print $2 }' /proc/self/mounts | tac
}

[ "$(id -u)" = 0 ] || cf_skip_all "needs root"
cf_need unshare losetup mount modprobe timeout pattern
trap cf_clean_up EXIT
trap 'exit 143' TERM INT
mkdir -p "$CF_DIR"
mount -t tmpfs -o size=90% cachefiles-selftest "$CF_DIR" || cf_skip_all "no tmpfs"
