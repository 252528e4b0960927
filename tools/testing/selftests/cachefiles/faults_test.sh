#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Whatever happens to a cache under load, those who read through it get what the server
# has, in time, and the network file system goes on without it; when the fault is gone,
# a new cache in the same place never has a wrong byte.
#
# shellcheck disable=SC2317 # functions that others call

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib/test.sh"
. "$(dirname "$0")/lib/nfs.sh"

store=$CF_DIR/store
# Nobody else makes the nodes in time, or at all.
export DM_DISABLE_UDEV=1
image=$CF_DIR/store.img
served=$CF_DIR/served
nfs=$CF_DIR/nfs
name=cachefiles-selftest-$$
tag=faults
files=16
device=
loop=
workers=()
rounds=()
watcher=

cf_at_end() {
	cf_nfs_stop
	[ -z "$loop" ] || whole_device
	remove_device --deferred
	[ ! -e "$injection" ] || echo 0 >"$injection"
}

# --- the server's files, none of which ends with a page ---

unit=9169

make_files() {
	# shellcheck disable=SC2046 # numbers
	cf_numbered write "$served" 0 $unit $(seq $files)
}

# read_files DIR [NUMBER...]: and compares each, all of them without a number
read_files() {
	# shellcheck disable=SC2046 # numbers
	[ $# -gt 1 ] || set -- "$1" $(seq $files)
	cf_numbered check "$1" 0 $unit "${@:2}"
}

# --- the store: ext4 on a device that can be made to fail ---

# table TABLE: what the device does from now on
table() {
	dmsetup suspend --noflush --nolockfs "$name" &&
		dmsetup load --table "$1" "$name" &&
		dmsetup resume "$name"
}

whole_device() {
	table "0 $(blockdev --getsz "$loop") linear $loop 0"
}

# make_store SIZE [MKFS-OPTION...]
make_store() {
	clear_up
	modprobe -q loop || :
	truncate -s "$1" "$image" && loop=$(losetup -f --show "$image") &&
		dmsetup create "$name" \
			--table "0 $(blockdev --getsz "$loop") linear $loop 0" || return
	mkfs.ext4 -q -m 0 -E lazy_itable_init=0,lazy_journal_init=0 "${@:2}" "/dev/mapper/$name" \
		2>"$CF_DIR/mkfs" || return
	mount_store
}

mount_store() {
	mkdir -p "$store"
	mount -t ext4 "/dev/mapper/$name" "$store"
}

# repair_store: after it has been unmounted; with what the last one has left in its journal
repair_store() {
	local status=0

	e2fsck -fy "/dev/mapper/$name" >"$CF_DIR/fsck" 2>&1 || status=$?
	[ $status -lt 4 ] || cat "$CF_DIR/fsck"
	[ $status -lt 4 ] && mount_store
}

# remove_device [OPTION]
remove_device() {
	[ -n "$loop" ] || return 0
	dmsetup remove --retry "$@" "$name"
	losetup -d "$loop"
	loop=
	rm -f "$image"
}

# clear_up: what a test that has failed has left
clear_up() {
	local pid

	for pid in "${workers[@]}" $watcher; do
		cf_end "$pid" KILL || :
	done
	workers=()
	watcher=
	[ ! -e "$injection" ] || echo 0 >"$injection"
	fsfreeze -u "$store" 2>/dev/null
	umount -qf "$nfs" "$nfs.other" "$nfs.churn" 2>/dev/null
	[ -z "$device" ] || cf_close_cache device
	if mountpoint -q "$store"; then
		whole_device
		cf_umount "$store"
	fi
	remove_device
}

# --- the load ---

# try COMMAND...: what it says when it fails is kept: wrong data, or an error
try() {
	local output status=0

	output=$("$@" 2>&1) || status=$?
	[ $status = 0 ] || note_failure $status "$output"
	return $status
}

# note_failure STATUS OUTPUT
note_failure() {
	case $2 in
	*wrong* | *"end of file"* | *bad=[0-9]* | *completions*) echo "$2" >>"$CF_DIR/said.wrong" ;;
	*) echo "${2:-status $1}" >>"$CF_DIR/errors" ;;
	esac
}

# worker NAME COMMAND...: does it again and again, until it is told to stop
worker() {
	local file=$CF_DIR/rounds.$1

	shift
	while [ ! -e "$CF_DIR/stop" ]; do
		"$@" || :
		echo >>"$file"
		cf_pause 0.1
	done
}

# change_one: a file that only this worker knows, in place and shorter or longer
change_one() {
	local length=$((RANDOM * 4 + 1))

	change=$((${change:-1000} + 1))
	try truncate -s $length "$nfs/changing" || return
	try cf_pattern write "$nfs/changing" $change 0 $length || return
	try cf_pattern check "$nfs/changing" $change 0 $length
}

# touch_one: the server has a file anew, and the cache has to take it again
touch_one() {
	touch "$served/f$((RANDOM % files + 1))"
}

# own_netfs: a file of the tests' own network file system is written over and read again.
# What the cache did not take may be missing, what was there before may not be there.
own_netfs() {
	local i=$((RANDOM % 4 + 1)) size old new

	size=$((i * 4 * unit))
	own=$((${own:-1} + 1))
	old=${aux[i]:-0001}
	printf -v new %04x $own
	aux[i]=$new
	own_netfs_tool -U "$new" faults "0$i" "$old" "$size" write 0 "$size" $own
	own_netfs_tool faults "0$i" "$new" "$size" check 0 "$size" $own
}

# own_netfs_tool ARGUMENT...: without a cache, and where that refuses to store, it fails
own_netfs_tool() {
	local output status=0

	output=$("$cf_here/cf_netfs_tool" -t "$tag" "$@" 2>&1) || status=$?
	case $output in
	*"bad=-1 err=0"*) [ $status = 0 ] || note_failure $status "$output" ;;
	*"not cached"* | *"write: "*) ;;
	*) [ $status = 0 ] || note_failure $status "$output" ;;
	esac
}

# watch_stuck FILE: says there what has been in one sleep that no signal ends for 15 s. Of
# who is killed or exits, the watcher beside every test says so after 5 s.
watch_stuck() {
	local pid comm key step=$((2 * CF_SCALE))
	declare -A before=() now=()

	while cf_pause $step; do
		now=()
		while read -r pid comm key; do
			key=$pid:$key
			now[$key]=$((${before[$key]:-0} + step))
			if [ "${now[$key]}" -gt $((15 * CF_SCALE)) ]; then
				echo "$comm ($pid):" && cat "/proc/$pid/stack"
			fi >>"$1" 2>/dev/null
		done < <(cat /proc/[0-9]*/status 2>/dev/null | awk '
			$1 == "Name:" { comm = $2 }
			$1 == "State:" { state = $2 }
			$1 == "Pid:" { pid = $2 }
			$1 == "voluntary_ctxt_switches:" && state == "D" { print pid, comm, $2 }')
		before=()
		for key in "${!now[@]}"; do
			before[$key]=${now[$key]}
		done
	done
}

# start_reader NAME DIR [-m SOURCE OPTIONS]
start_reader() {
	: >"$CF_DIR/rounds.$1"
	cf_background exec "$cf_here/readers" "${@:3}" "$2" $files $unit "$CF_DIR/rounds.$1" \
		"$CF_DIR/stop" >"$CF_DIR/said.$1" 2>>"$CF_DIR/errors"
	workers+=($!)
}

# start_worker NAME COMMAND...
start_worker() {
	: >"$CF_DIR/rounds.$1"
	cf_background worker "$@"
	workers+=($!)
}

start_load() {
	local cf_nfs_opts

	rm -f "$CF_DIR"/{stop,errors,stuck,said.*,rounds.*}
	cf_background watch_stuck "$CF_DIR/stuck"
	watcher=$!
	start_reader reader "$nfs"
	start_reader other "$nfs.other"
	# Mounted for one file each time
	mkdir -p "$nfs.churn"
	cf_nfs_options 4.2 fsc=churn,addr=127.0.0.1,clientaddr=127.0.0.1
	start_reader churn "$nfs.churn" -m 127.0.0.1:/ "$cf_nfs_opts"
	start_worker change change_one
	start_worker touch touch_one
	[ -z "$netfs" ] || start_worker netfs own_netfs
}

# count_rounds: what each worker has done goes to "rounds", in this order
count_rounds() {
	local file lines

	rounds=()
	for file in "$CF_DIR"/rounds.*; do
		mapfile -t lines <"$file"
		rounds+=(${#lines[@]})
	done
}

# all_rounds_above NUMBER...
all_rounds_above() {
	local n

	count_rounds
	for n in "${rounds[@]}"; do
		[ "$n" -gt "$1" ] || return
		shift
	done
}

# progress: every worker does something from beginning to end from now on, in time
progress() {
	local marks=() n

	count_rounds
	for n in "${rounds[@]}"; do
		marks+=($((n + 1)))
	done
	if ! cf_wait 120 all_rounds_above "${marks[@]}"; then
		cf_note "rounds: ${rounds[*]}, were to be above ${marks[*]}"
		echo w >/proc/sysrq-trigger
		return 1
	fi
}

# ended PID...: none of them runs
ended() {
	local pid

	for pid; do
		! kill -0 "$pid" 2>/dev/null || return
	done
}

# stop_load [FILTER]: in time, and without anything that any of them had to say. Errors
# that match FILTER are none.
stop_load() {
	local pid said

	touch "$CF_DIR/stop"
	cf_wait 30 ended "${workers[@]}" || echo w >/proc/sysrq-trigger
	for pid in "${workers[@]}" "$watcher"; do
		cf_end "$pid" || :
	done
	workers=()
	watcher=
	said=$(cat "$CF_DIR"/said.* | grep -v "^longest" | head -n 20)
	[ -z "$said" ] || cf_fail "wrong data: $said"
	said=$(sort "$CF_DIR/errors" | grep -vE "^\$${1:+|$1}" | uniq -c | head -n 20)
	[ -z "$said" ] || cf_fail "errors: $said"
	[ ! -s "$CF_DIR/stuck" ] || cf_fail "stuck: $(head -n 40 "$CF_DIR/stuck")"
	count_rounds
	cf_note "$(cat "$CF_DIR"/said.* | grep "^longest" | xargs) (${rounds[*]} rounds)"
}

# --- caches ---

# bind_cache: with no limit but the file system's own
bind_cache() {
	cf_bind device "$store" "$tag" "bstop 0%" "bcull 1%" "brun 2%" "fstop 0%" "fcull 1%" \
		"frun 2%"
}

mount_all() {
	cf_nfs_mount 4.2 "$nfs" fsc=one && cf_nfs_mount 3 "$nfs.other" fsc=other
}

umount_all() {
	cf_nfs_umount "$nfs" "$nfs.other"
}

remount_all() {
	expect umount_all && expect mount_all
}

read_all() {
	read_files "$nfs" && read_files "$nfs.other"
}

# begin SIZE [MKFS-OPTION...]: a cache that has half of the files, and others that use it
begin() {
	make_store "$@" && bind_cache && mount_all || return
	expect read_files "$nfs" {1..8}
	expect read_files "$nfs.other" {5..12}
	remount_all
	start_load
	progress
}

# in_time COMMAND...: succeeds, and does not wait for ever; how fast is not the question
in_time() {
	local start=$SECONDS

	expect "$@" && expect_le $((30 * CF_SCALE)) $((SECONDS - start)) "seconds of $*"
}

# end_all [repair]: everything comes to its end in time, and a new cache in the same place
# has nothing wrong, and all of it, but for last pages, when it has been read once.
end_all() {
	in_time umount_all
	[ -z "$device" ] || in_time cf_close_cache device
	expect cf_wait 30 cf_not cf_bound "$tag"
	in_time cf_unloads
	in_time cf_umount "$store" || return
	if [ "${1-}" = repair ]; then
		whole_device && expect repair_store || return
	else
		expect mount_store || return
	fi

	expect bind_cache || return
	expect mount_all || return
	expect read_all
	remount_all
	cf_nfs_settle $((2 * files)) remount_all read_all
	in_time umount_all
	in_time cf_close_cache device
	in_time cf_umount "$store"
	remove_device
}

# --- tests ---

# stored: the cache takes what is new
stored() {
	cf_counts IO:wr
	cf_wait 30 more_stored
}

more_stored() {
	fresh=$((fresh + 1))
	cf_pattern write "$served/fresh.$fresh" $fresh 0 64K
	expect cf_pattern check "$nfs/fresh.$fresh" $fresh 0 64K
	rm "$served/fresh.$fresh"
	[ "$(cf_counted IO:wr)" -gt 0 ]
}

# No block is left, nor one for an extended attribute where inodes have no room for it.
test_no_space() {
	local inode_size

	for inode_size in 256 128; do
		begin 48M -I $inode_size || return
		expect_not dd if=/dev/zero of="$store/full" bs=64K 2>/dev/null
		expect_not dd if=/dev/zero of="$store/full.rest" bs=1K 2>/dev/null
		expect progress
		rm -f "$store/full" "$store/full.rest"
		expect progress
		expect stored
		stop_load
		end_all
	done
}

# No inode is left.
test_no_inodes() {
	local n

	begin 48M -N 1200 || return
	mkdir "$store/full"
	for ((n = 0; n < 1200; n++)); do
		: >"$store/full/$n" || break
	done 2>/dev/null
	expect progress
	rm -rf "$store/full"
	expect progress
	stop_load
	expect stored
	end_all
}

# The backing file system becomes read-only for an error of its own.
test_error_read_only() {
	local trigger

	begin 48M || return
	trigger=/sys/fs/ext4/dm-$(dmsetup info -c --noheadings -o minor "$name")/trigger_fs_error
	mount -o remount,errors=remount-ro "$store"
	expect test -e "$trigger" && echo selftest >"$trigger"
	expect progress
	stop_load
	end_all repair
}

# An administrator remounts it read-only, which is refused or not.
test_remount_read_only() {
	begin 48M || return
	mount -o remount,ro "$store" 2>"$CF_DIR/remount" || expect grep -q busy "$CF_DIR/remount"
	expect progress
	mount -o remount,rw "$store"
	expect progress
	expect stored
	stop_load
	end_all
}

# The device fails altogether.
test_device_error() {
	begin 48M || return
	expect table "0 $(blockdev --getsz "$loop") error"
	expect progress
	stop_load
	end_all repair
}

# has_flakey FEATURE: dm-flakey takes a table with it, on a device that nobody uses
has_flakey() {
	local status=0

	dmsetup create "$name-try" --notable || return
	dmsetup load --table "0 8 flakey $loop 0 1 1 1 $1" "$name-try" 2>/dev/null || status=$?
	dmsetup remove --retry "$name-try"
	return $status
}

# Reads fail, then writes, each of them every other second.
test_flakey() {
	local feature flakey skipped=

	modprobe -q dm-flakey || :
	begin 48M || return
	flakey="0 $(blockdev --getsz "$loop") flakey $loop 0 1 1 1"
	for feature in error_reads error_writes; do
		if ! has_flakey $feature; then
			skipped=$feature
		elif expect table "$flakey $feature"; then
			expect progress
			sleep 2
		else
			dmsetup resume "$name"
		fi
	done
	expect progress
	stop_load
	end_all repair
	[ -z "$skipped" ] || cf_skip "dm-flakey has no $skipped"
}

# Power fails: what has come to the disk is what the next cache has.
test_power_cut() {
	local cut

	begin 48M || return
	for cut in 1 2; do
		expect progress
		dmsetup suspend --noflush --nolockfs "$name"
		cp --sparse=always "$image" "$image.$cut"
		dmsetup resume "$name"
	done
	expect progress
	stop_load
	in_time umount_all
	in_time cf_close_cache device
	in_time cf_umount "$store"
	for cut in 1 2; do
		cp --sparse=always "$image.$cut" "$image"
		rm "$image.$cut"
		expect repair_store && expect bind_cache && expect mount_all || return
		expect read_files "$nfs"
		expect read_files "$nfs.other"
		if [ $cut = 1 ]; then
			expect umount_all && expect cf_close_cache device
			expect cf_umount "$store" || return
		fi
	done
	end_all
}

# The module's own errors come and go: at first those of space, which the cache survives.
test_injection() {
	local n

	[ -e "$injection" ] || {
		cf_skip "no error injection (CONFIG_CACHEFILES_ERROR_INJECTION)"
		return
	}
	begin 48M || return
	for ((n = 0; n < 20; n++)); do
		echo $((RANDOM % 2)) >"$injection"
		cf_pause 0.1
	done
	echo 0 >"$injection"
	expect progress
	expect cf_bound "$tag"
	expect stored
	for ((n = 0; n < 20; n++)); do
		echo $((RANDOM % 3)) >"$injection"
		cf_pause 0.1
	done
	expect progress
	echo 0 >"$injection"
	stop_load
	end_all
}

# The device is closed under load, and another cache comes, a few times.
test_closed() {
	local n

	begin 48M || return
	for n in 1 2 3; do
		in_time cf_close_cache device
		expect cf_wait 30 cf_not cf_bound "$tag"
		expect progress
		expect bind_cache
		expect progress
		expect stored
	done
	stop_load
	end_all
}

# The daemon is killed under load, and another one comes, a few times.
test_daemon_killed() {
	local n randomize

	command -v cachefilesd >/dev/null || {
		cf_skip "no cachefilesd"
		return
	}
	begin 48M || return
	cf_close_cache device
	# Its own test says why.
	read -r randomize </proc/sys/kernel/randomize_va_space
	echo 0 >/proc/sys/kernel/randomize_va_space
	printf '%s\n' "dir $store" "tag $tag" >"$CF_DIR/daemon.conf"
	for n in 1 2 3; do
		expect cf_wait 30 cf_not cf_bound "$tag"
		cf_background exec cachefilesd -n -s -f "$CF_DIR/daemon.conf" \
			>"$CF_DIR/daemon.log" 2>&1
		expect cf_wait 30 cf_bound "$tag" || cat "$CF_DIR/daemon.log"
		expect progress
		cf_end $! KILL || :
	done
	echo "$randomize" >/proc/sys/kernel/randomize_va_space
	expect cf_wait 30 cf_not cf_bound "$tag"
	expect progress
	stop_load
	end_all
}

# The network file system is unmounted under load. Errors are what its readers get then,
# and nothing wrong.
test_umount() {
	begin 48M || return
	umount -f "$nfs.other" 2>/dev/null || expect umount -l "$nfs.other"
	expect progress
	expect umount -l "$nfs"
	expect progress
	stop_load .
	expect mount_all
	end_all
}

thaw_later() {
	touch "$CF_DIR/thawing"
	sleep 2
	exec fsfreeze -u "$store"
}

# The backing file system is frozen for two seconds, once with the cache's end meanwhile,
# which waits for that.
test_frozen() {
	local thawing

	rm -f "$CF_DIR/thawing"
	begin 48M || return
	expect fsfreeze -f "$store"
	sleep 2
	expect fsfreeze -u "$store"
	expect progress
	expect stored
	expect fsfreeze -f "$store"
	cf_background thaw_later
	thawing=$!
	# Without the device: as the last one who closes it, it would wait for itself.
	cf_wait 30 test -e "$CF_DIR/thawing"
	cf_close_cache device
	expect cf_join "$thawing"
	expect progress
	stop_load
	end_all
}

injection=/proc/sys/cachefiles/error_injection
fresh=0
aux=()
netfs=
cf_need readers dmsetup losetup blockdev e2fsck mkfs.ext4 fsfreeze
cf_need_module dm-mod
cf_need_fs ext4
cf_need_nfs
modprobe -q cachefiles || :
! modprobe -q cf_netfs || ! [ -x "$cf_here/cf_netfs_tool" ] || netfs=y
cf_nfs_server "$served" || cf_bail_out "the NFS server does not start"
make_files || cf_bail_out "no files on the server"
cf_tests test_no_space test_no_inodes test_error_read_only test_remount_read_only \
	test_device_error test_flakey test_power_cut test_injection test_closed \
	test_daemon_killed test_umount test_frozen
