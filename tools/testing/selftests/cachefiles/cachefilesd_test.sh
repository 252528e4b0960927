#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Debian's cachefilesd, as it is, runs a cache for NFS: every setting arrives, the kernel
# wakes it, the files that were not used for longest go when space is short and nothing
# that is in use, the limits hold, and it ends, is killed and starts again without a trace.

# shellcheck source-path=SCRIPTDIR
. "$(dirname "$0")/lib/test.sh"
. "$(dirname "$0")/lib/nfs.sh"

store=$CF_DIR/store
cache=$store/cache
served=$CF_DIR/served
nfs=$CF_DIR/nfs
log=$CF_DIR/daemon.log

# Files of the server by number. The size of each is its own, so that it is known again
# in the cache, and a multiple of what files in the cache are rounded to.
files=60
size_base=1048576
size_step=16384
daemon=
holder=
# Other options of the daemon
flags=()
# Bytes by which the limit of blocks may be missed: blocks that map what is written
slack=65536

cf_at_end() {
	cf_nfs_stop
	echo "$randomize" >/proc/sys/kernel/randomize_va_space
}

# --- files ---

# size_of NUMBER
size_of() {
	echo $((size_base + $1 * size_step))
}

# make_files: on the server
make_files() {
	# shellcheck disable=SC2046 # numbers
	cf_numbered write "$served" $size_base $size_step $(seq $files)
}

# read_files DIR NUMBER...: and compares each
read_files() {
	cf_numbered check "$1" $size_base $size_step "${@:2}"
}

# hold DIR NUMBER...: keeps them open until cf_end $holder
hold() {
	local dir=$1

	shift
	rm -f "$CF_DIR/held"
	cf_background holder "${@/#/$dir/f}"
	holder=$!
	cf_wait 30 test -e "$CF_DIR/held"
}

holder() {
	local file fd

	for file; do
		exec {fd}<"$file"
	done
	touch "$CF_DIR/held"
	exec sleep infinity
}

# cached NUMBER: its file in the cache, whatever that has of it
cached() {
	# The daemon removes directories meanwhile.
	find "$cache" -type f -size "$(size_of "$1")c" 2>/dev/null | grep .
}

# cached_of NUMBER...: those of them that are in the cache
cached_of() {
	local i found=()

	for i in "$@"; do
		! cached "$i" >/dev/null || found+=("$i")
	done
	echo "${found[*]}"
}

# age NUMBER SECONDS: its file in the cache was used that many seconds after 2001
age() {
	touch -a -d "@$((978307200 + $2))" "$(cached "$1")"
}

# used_since NUMBER...: since age was told of them
used_since() {
	local i

	for i; do
		[ "$(stat -c %X "$(cached "$i")")" -gt 1009843200 ] || return
	done
}

# is_empty DIR
is_empty() {
	[ -z "$(ls -A "$1")" ]
}

# --- the store ---

# make_store SIZE [MKFS-OPTION...]
make_store() {
	# A test that has failed leaves it.
	if mountpoint -q "$store"; then
		cf_end "$daemon" KILL || :
		cf_end "$holder" || :
		umount -qf "$nfs" "$nfs.new" 2>/dev/null
		cf_unstore store || return
	fi
	cf_store store "$1" ext4 "${@:2}" && mount -o remount,strictatime "$store"
}

# free blocks|files: what a user has of them
free() {
	stat -f -c "$([ "$1" = blocks ] && echo %a || echo %d)" "$store"
}

# limit blocks|files PERCENT
limit() {
	# shellcheck disable=SC2017 # the way the kernel rounds it
	echo $(($(stat -f -c "$([ "$1" = blocks ] && echo %b || echo %c)" "$store") / 100 * $2))
}

# free_at_least blocks|files NUMBER
free_at_least() {
	[ "$(free "$1")" -ge "$2" ]
}

# watch_free: in the background, until least is asked for
watch_free() {
	local b f blocks=999999999 files=999999999 last=

	while [ -z "$last" ]; do
		[ ! -e "$CF_DIR/watched" ] || last=y
		read -r b f < <(stat -f -c "%a %d" "$store") || return
		blocks=$((b < blocks ? b : blocks))
		files=$((f < files ? f : files))
		[ -n "$last" ] || cf_pause 0.5
	done
	echo "$blocks $files" >"$CF_DIR/least"
}

# least: ends the watcher; the least that blocks and files have come to is in $CF_DIR/least
least() {
	touch "$CF_DIR/watched"
	expect cf_join "$watcher"
	rm "$CF_DIR/watched"
}

# --- the daemon ---

# run_daemon LINE...: with this configuration; its output goes to $log
run_daemon() {
	printf '%s\n' "$@" >"$CF_DIR/daemon.conf"
	: >"$log"
	cf_background exec cachefilesd -n -s -d -d -d "${flags[@]}" -f "$CF_DIR/daemon.conf" \
		>"$log" 2>&1
	daemon=$!
}

# start TAG [LINE...]: on the store; returns when the cache is bound and the daemon has
# looked through it
start() {
	run_daemon "dir $store" "tag $1" "${@:2}"
	if ! cf_wait 30 cf_bound "$1" || ! cf_wait 30 idle; then
		cat "$log"
		return 1
	fi
}

# idle: the daemon waits for what the kernel may tell it
idle() {
	[ "$(tail -n 1 "$log")" = Poll ]
}

# told: what the kernel has told the daemon, a line each time
told() {
	sed -n 's/^KERNEL: //p' "$log" | grep .
}

# released f|b: what it was told in all
released() {
	local n sum=0

	for n in $(told | sed "s/.* ${1}released=\([0-9a-f]*\).*/\1/"); do
		sum=$((sum + 0x$n))
	done
	echo $sum
}

# has_released NUMBER: files
has_released() {
	[ "$(released f)" -ge "$1" ]
}

# culling_has_ended: as far as the kernel has told
culling_has_ended() {
	[[ $(told | tail -n 1) != cull=1* ]]
}

# stop TAG: as an init system does it
stop() {
	expect cf_end "$daemon" || tail -n 3 "$log"
	expect grep -q "Daemon Terminated" "$log"
	# Exiting does not wait for the cache's end for ever.
	cf_wait 30 cf_not cf_bound "$1"
}

# --- tests ---

# expect_limits FIRST-LINE BRUN BCULL BSTOP FRUN FCULL FSTOP
expect_limits() {
	expect_eq "$(printf 'cull=0 frun=%x fcull=%x fstop=%x brun=%x bcull=%x bstop=%x %s' \
		"$(limit files "$5")" "$(limit files "$6")" "$(limit files "$7")" \
		"$(limit blocks "$2")" "$(limit blocks "$3")" "$(limit blocks "$4")" \
		"freleased=0 breleased=0")" "$1" "what the kernel tells"
}

# The kernel tells the daemon the limits that its configuration means on this file system.
test_settings() {
	make_store 64M || return
	start settings "# a comment" "" "brun 51%" "bcull 42%" "bstop 33%" "frun 24%" \
		"fcull 15%" "fstop 6%" "culltable 13" "debug 0" || return
	expect_limits "$(told | head -n 1)" 51 42 33 24 15 6
	expect test -d "$cache" -a -d "$store/graveyard"
	stop settings

	run_daemon "dir $store"
	expect cf_wait 30 cf_bound CacheFiles
	expect cf_wait 30 idle
	expect_limits "$(told | head -n 1)" 7 5 1 7 5 1
	stop CacheFiles
	cf_unstore store
}


# malformed MESSAGE LINE...: a daemon with that configuration says so, fails and leaves
# nothing: no cache, no directories.
malformed() {
	local status=0

	run_daemon "${@:2}"
	wait "$daemon" || status=$?
	[ $status = 1 ] || [ $status = 2 ] || cf_fail "${*:2}: the daemon ends with $status"
	grep -q "$1" "$log" || cf_fail "${*:2}: the daemon says: $(cat "$log")"
	is_empty "$store" || cf_fail "${*:2}: there is $(ls "$store")"
}

test_malformed() {
	local config="CacheFiles gave config error" bind="CacheFiles bind failed"

	make_store 16M -O ^has_journal || return
	rmdir "$store/lost+found"
	malformed "$bind: errno 22" "tag malformed"
	malformed "Can't confirm cache location: errno 2" "dir $store/none"
	malformed "$bind: errno 20" "dir $log"
	malformed "$bind: errno 95" "dir /proc"
	malformed ":2:$config: File exists" "dir $store" "dir $store"
	malformed ":3:$config: File exists" "dir $store" "tag a" "tag b"
	malformed ":2:$config: Invalid" "dir $store" "tag"
	malformed ":2:$config: Invalid" "dir $store" "brun 100%"
	malformed ":2:$config: Invalid" "dir $store" "brun 20"
	malformed ":2:$config: Invalid" "dir $store" "fstop -1%"
	malformed ":2:$config: Invalid" "dir $store" "debug x"
	malformed ":2:$config: Operation not supported" "dir $store" "purge"
	malformed ":2:$config" "dir $store" "cull Ivolume"
	malformed "$config\|$bind" "dir $store" "brun 4%" "bcull 5%"
	malformed ":2:.*not permitted" "dir $store" "bind"
	malformed ":2:.*table size" "dir $store" "culltable 21"
	expect mount -o remount,ro "$store" && malformed "$bind: errno 30" "dir $store"
	expect cf_unloads
	cf_unstore store
}

# What NFS has let go of wakes the daemon, which is told files and units of 512 bytes.
test_released() {
	local blocks

	make_store 64M || return
	start released || return
	expect cf_nfs_mount 4.2 "$nfs" fsc=released
	# What nobody has open FS-Cache lets go of after some seconds.
	expect hold "$nfs" {1..6}
	expect read_files "$nfs" {1..6}
	expect_eq 0 "$(released f)" "files released in use"
	cf_end "$holder" || :
	expect umount "$nfs"
	expect cf_wait 30 has_released 6
	expect_eq 6 "$(released f)" "files released"
	blocks=$(find "$cache" -type f -exec stat -c %b {} + | awk '{ n += $1 } END { print n }')
	expect_eq "$blocks" "$(released b)" "blocks released"
	stop released
	cf_unstore store
}

# The content is there for the next daemon, whether the last one was stopped or killed,
# with files in use; NFS goes on between them. A file that is found is used now.
test_restart() {
	local signal before

	make_store 64M || return
	for signal in TERM KILL; do
		start "$signal" || return
		expect cf_nfs_mount 4.2 "$nfs" fsc=restart
		expect read_files "$nfs" {1..6}
		expect cf_nfs_umount "$nfs"
		expect cf_wait 30 has_released 6
		# The second time all is found, and some is added while it is in use.
		expect cf_nfs_mount 4.2 "$nfs" fsc=restart
		before=$(cf_nfs_reads)
		expect read_files "$nfs" {1..6}
		expect_eq "$before" "$(cf_nfs_reads)" "READs of the server before SIG$signal"
		expect read_files "$nfs" {7..9}
		hold "$nfs" 2 7
		if [ $signal = TERM ]; then
			stop $signal
		else
			cf_end "$daemon" KILL
			cf_wait 30 cf_not cf_bound $signal
		fi
		expect read_files "$nfs" {1..12}
		cf_end "$holder" || :
		expect cf_nfs_umount "$nfs"
		expect cf_unloads
	done

	age 3 0
	start again || return
	before=$(date +%s)
	expect cf_nfs_mount 4.2 "$nfs" fsc=restart
	expect read_files "$nfs" {1..9}
	expect cf_nfs_umount "$nfs"
	expect_ge "$before" "$(stat -c %X "$(cached 3)")" "when f3 was used"
	before=$(cf_nfs_reads)
	expect cf_nfs_mount 4.2 "$nfs" fsc=restart
	expect read_files "$nfs" {1..9}
	expect_eq "$before" "$(cf_nfs_reads)" "READs of the server afterwards"
	expect umount "$nfs"
	stop again
	cf_unstore store
}

# Of files that are not in use those go that were not used for longest, as many as bring
# free space back. What is in use stays, although it is the oldest.
test_least_recently_used() {
	local order=(5 2 8 1 7 3 6 4 10 9) settings i culled n lru

	# Far less is to go than the ten: more files come in until the reading stops.
	settings=("brun 47%" "bcull 45%" "bstop 20%")
	make_store 96M || return
	start lru "${settings[@]}" || return
	expect cf_nfs_mount 4.2 "$nfs" fsc=lru
	expect read_files "$nfs" "${order[@]}" 11 12
	expect umount "$nfs"
	expect cf_wait 30 has_released 12
	stop lru
	age 11 0
	age 12 1
	for ((i = 0; i < 10; i++)); do
		age "${order[i]}" $((1000 + i))
	done

	# When the daemon has looked through them, two come into use, and look as before.
	start lru "${settings[@]}" || return
	expect cf_nfs_mount 4.2 "$nfs" fsc=lru
	expect hold "$nfs" 11 12
	# The look-up, which is not waited for, is a use.
	expect cf_wait 30 used_since 11 12
	age 11 0
	age 12 1
	expect_eq "${order[*]}" "$(cached_of "${order[@]}")" "cached before space is short"

	# Others come in until the culling begins, and go out of use only later.
	cf_counts NoSpace:cull
	expect cf_nfs_mount 4.2 "$nfs.new" fsc=new
	for ((i = 13; i <= files; i++)); do
		expect read_files "$nfs.new" $i || return
		told | grep -q '^cull=1' && break
	done
	expect_le $((files - 1)) $i "files read until culling began"
	# What was read last may be stored behind it.
	expect cf_wait 30 culling_has_ended
	expect cf_wait 30 idle
	expect_ge $(($(limit blocks 47) - $(size_of $i) / $(stat -f -c %S "$store"))) \
		"$(free blocks)" "free blocks after culling"

	lru="$(cached_of "${order[@]}")"
	n=$(wc -w <<<"$lru")
	expect_eq "${order[*]:10 - n}" "$lru" "cached after culling"
	expect_le 9 "$n" "how many of the ten are left"
	expect_eq $((10 - n)) "$(cf_counted NoSpace:cull)" "culled as fscache counts"
	expect_eq "11 12" "$(cached_of 11 12)" "in use"
	# The last one that went was needed.
	culled=${order[9 - n]}
	# A write that is under way counts twice for a moment.
	expect_le $(($(limit blocks 47) +
		($(size_of "$culled") + 524288) / $(stat -f -c %S "$store"))) \
		"$(free blocks)" "free blocks at the end"
	expect read_files "$nfs" {1..12}
	cf_end "$holder" || :
	expect umount "$nfs.new"
	expect umount "$nfs"
	stop lru
	cf_unstore store
}

# pressure SETTINGS...: reads more than the store has room for, and all of it right
pressure() {
	start limits "$@" || return
	cf_background watch_free
	watcher=$!
	expect cf_nfs_mount 4.2 "$nfs" fsc=limits
	# shellcheck disable=SC2046 # numbers
	expect hold "$nfs" $(seq $files)
	# shellcheck disable=SC2046
	expect read_files "$nfs" $(seq $files)
}

# While all is in use, nothing of it goes, and what comes stops at the limit of blocks; it
# is read nevertheless. When it is not in use any more, culling makes room.
test_blocks() {
	local size blocks

	for size in 1024 4096; do
		make_store 64M -b $size || return
		cf_counts NoSpace:cull NoSpace:nwr
		pressure "brun 60%" "bcull 50%" "bstop 40%" || return
		least
		cf_end "$holder" || :
		read -r blocks _ <"$CF_DIR/least"
		expect_ge $(($(limit blocks 40) - slack / size)) "$blocks" "free blocks of $size"
		expect_le "$(limit blocks 45)" "$blocks" "free blocks of $size"
		expect_ge 1 "$(cf_counted NoSpace:nwr)" "refused writes"
		expect_eq 0 "$(cf_counted NoSpace:cull)" "culled in use"
		expect umount "$nfs"
		expect cf_wait 30 free_at_least blocks "$(limit blocks 60)"
		expect cf_wait 30 idle
		expect_le $(($(limit blocks 60) + 2097152 / size)) "$(free blocks)" "free blocks"
		stop limits
		cf_unstore store
	done
}

# The same for files: once the volume is there, there is room for a few.
test_files() {
	local inodes room i

	make_store 64M -N 400 || return
	start limits "frun 23%" "fcull 21%" "fstop 20%" || return
	expect cf_nfs_mount 4.2 "$nfs" fsc=limits
	expect read_files "$nfs" 1
	mkdir "$store/other"
	room=$(($(limit files 20) + 41))
	for ((i = $(free files); i > room; i--)); do
		: >"$store/other/$i"
	done
	cf_counts NoSpace:cull NoSpace:ncr
	cf_background watch_free
	watcher=$!
	# shellcheck disable=SC2046 # numbers
	expect hold "$nfs" $(seq $files)
	# shellcheck disable=SC2046
	expect read_files "$nfs" $(seq $files)
	least
	read -r _ inodes <"$CF_DIR/least"
	expect_ge "$(limit files 20)" "$inodes" "free files"
	expect_le "$(limit files 21)" "$inodes" "free files"
	expect_ge 1 "$(cf_counted NoSpace:ncr)" "refused files"
	expect_eq 0 "$(cf_counted NoSpace:cull)" "culled in use"
	cf_end "$holder" || :
	expect umount "$nfs"
	expect cf_wait 30 free_at_least files "$(limit files 23)"
	stop limits
	cf_unstore store
}

# Without culling, by option or by setting, the cache is full and stays so.
test_no_culling() {
	local settings flags=() found

	settings=("brun 60%" "bcull 50%" "bstop 40%")
	make_store 64M || return
	cf_counts NoSpace:cull
	flags=(-N)
	pressure "${settings[@]}" || return
	least
	cf_end "$holder" || :
	expect umount "$nfs"
	found=$(find "$cache" -type f | wc -l)
	expect_le "$(limit blocks 45)" "$(free blocks)" "free blocks"
	stop limits
	# A daemon that was told so by its configuration sees a full cache and lets it be.
	if [ "${CF_MODULE:-ours}" != stock ]; then
		flags=()
		start limits "${settings[@]}" nocull || return
		expect_ge 1 "$(told | wc -l)" "times it was told"
		expect_eq 0 "$(told | grep -vc ^cull=1)" "told not to cull"
		stop limits
	fi
	expect_eq 0 "$(cf_counted NoSpace:cull)" culled
	expect_eq "$found" "$(find "$cache" -type f | wc -l)" "files in the cache"
	cf_unstore store
}

# Volumes that nothing is left of go by way of the graveyard, which is emptied, as is what
# does not belong into a cache.
test_empty_volume() {
	local volume

	make_store 64M || return
	start volume || return
	expect cf_nfs_mount 4.2 "$nfs" fsc=volume
	expect read_files "$nfs" {1..6}
	expect umount "$nfs"
	expect cf_wait 30 has_released 6
	stop volume
	volume=$(find "$cache" -mindepth 1 -maxdepth 1 -name 'Infs*')
	expect test -d "$volume" || return
	find "$volume" -type f -delete
	mkdir -p "$store/graveyard/old/dir" "$cache/Zdir/dir"
	touch "$store/graveyard/old/dir/file" "$cache/Zdir/dir/file" "$cache/Zfile"

	# A daemon that starts removes what is empty, which is seen from the leaves to the root.
	cf_counts NoSpace:cull
	start volume || return
	expect cf_wait 30 is_empty "$volume"
	expect cf_wait 30 is_empty "$store/graveyard"
	expect_eq "${volume##*/}" "$(ls "$cache")" "what is left"
	expect_eq 0 "$(cf_counted NoSpace:cull)" culled
	stop volume
	start volume || return
	expect cf_wait 30 is_empty "$cache"
	expect cf_wait 30 is_empty "$store/graveyard"
	expect_eq 1 "$(cf_counted NoSpace:cull)" culled
	# The file system tells it what comes later.
	mkdir -p "$store/later/dir"
	expect mv "$store/later" "$store/graveyard"
	expect cf_wait 30 is_empty "$store/graveyard"
	stop volume
	cf_unstore store
}

# A volume that is not this one is replaced, and the daemon removes it.
test_foreign_volume() {
	local volume before

	make_store 64M || return
	start foreign || return
	expect cf_nfs_mount 4.2 "$nfs" fsc=foreign
	expect read_files "$nfs" {1..3}
	expect cf_nfs_umount "$nfs"
	expect cf_wait 30 has_released 3
	volume=$(find "$cache" -mindepth 1 -maxdepth 1 -name 'Infs*')
	expect setfattr -n user.CacheFiles.cache -v 0x01020304 "$volume" || return
	# Which one it is an inode number would not tell: the next may have the same.
	expect setfattr -n user.before -v old "$volume"
	expect cf_nfs_mount 4.2 "$nfs" fsc=foreign
	expect read_files "$nfs" {1..3}
	expect test -d "$volume"
	expect getfattr -n user.CacheFiles.cache "$volume" >/dev/null 2>&1
	expect_not getfattr -n user.before "$volume" >/dev/null 2>&1
	expect cf_wait 30 is_empty "$store/graveyard"
	expect cf_nfs_umount "$nfs"
	expect cf_wait 30 has_released 6
	before=$(cf_nfs_reads)
	expect cf_nfs_mount 4.2 "$nfs" fsc=foreign
	expect read_files "$nfs" {1..3}
	expect_eq "$before" "$(cf_nfs_reads)" "READs of the server"
	expect umount "$nfs"
	stop foreign
	cf_unstore store
}

# refused LINE...: another daemon is told EBUSY
refused() {
	local first=$daemon log=$CF_DIR/second.log status=0

	run_daemon "$@"
	wait "$daemon" || status=$?
	daemon=$first
	expect_eq 1 $status "status with $*"
	expect grep -q "errno 16" "$log"
}

# A daemon for a cache that is there is refused and harms nothing.
test_second() {
	local before first other log_of_first=$log

	make_store 64M || return
	start first || return
	expect cf_nfs_mount 4.2 "$nfs" fsc=second
	expect read_files "$nfs" {1..3}
	mkdir "$store/second"
	refused "dir $store/second" "tag first"
	refused "dir $store" "tag second"
	expect kill -0 "$daemon"
	expect cf_bound first
	expect cf_nfs_umount "$nfs"
	expect cf_wait 30 has_released 3
	before=$(cf_nfs_reads)
	expect cf_nfs_mount 4.2 "$nfs" fsc=second
	expect read_files "$nfs" {1..3}
	expect_eq "$before" "$(cf_nfs_reads)" "READs of the server"

	# One with a name and a directory of its own may come and go.
	if [ "${CF_MODULE:-ours}" != stock ]; then
		first=$daemon
		mkdir "$store/other"
		log=$CF_DIR/second.log
		run_daemon "dir $store/other" "tag other"
		other=$daemon
		expect cf_wait 30 cf_bound other
		# It catches signals only later.
		expect cf_wait 30 idle
		expect cf_end "$other"
		expect cf_wait 30 cf_not cf_bound other
		daemon=$first
		log=$log_of_first
		expect cf_bound first
		expect read_files "$nfs" {4..6}
	fi
	expect umount "$nfs"
	stop first
	expect cf_unloads
	cf_unstore store
}

# cachefilesd 0.10.10 takes a pointer with 6 in bits 28 to 31 for one that is no longer
# valid and aborts, so one of 16 would where addresses are random.
read -r randomize </proc/sys/kernel/randomize_va_space
cf_need cachefilesd setfattr getfattr mkfs.ext4
cf_need_nfs
cf_need_fs ext4
# Its init script does so, and the daemon does not.
modprobe -q cachefiles || :
echo 0 >/proc/sys/kernel/randomize_va_space
cf_nfs_server "$served" || cf_bail_out "the NFS server does not start"
make_files || cf_bail_out "no files on the server"
cf_tests test_settings test_malformed test_released test_restart test_least_recently_used \
	test_blocks test_files test_no_culling test_empty_volume test_foreign_volume test_second
