#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# 9p with cache=fscache reads from the cache what has not changed on the server, and never
# a byte that has: not after writes and truncations, with a full cache or unmounted under
# load.
#
# There are two servers. All files of diod have version 0, so what the cache has outlives
# writes through the mount, and can be told from what the server has by changing that
# behind the mount's back. The virtual machine's own server, if it exports a directory
# twice by the tags "share" and "share_direct", makes versions from time and size.
#
# CF_SEED and CF_ROUNDS: the first seed of random operations, and how many to try.
#
# shellcheck disable=SC2317 # functions that others call

. "$(dirname "$0")/lib/test.sh"

store=$CF_DIR/store
mnt=$CF_DIR/mnt
server=$CF_DIR/server
model=$CF_DIR/model
socket=$CF_DIR/diod.sock
seed=${CF_SEED:-1}
rounds=${CF_ROUNDS:-$((CF_SCALE > 1 ? 1 : 3))}

# --- mounts and what they count ---

# What a test that has failed left mounted is in the way of the next one.
mount_9p() {
	! mountpoint -q "$mnt" || umount -l "$mnt"
	mount -t 9p -o "version=9p2000.L,access=any,msize=262144,cache=fscache,$1" "$2" "$mnt" ||
		cf_fail "mount $2"
}

mount_diod() {
	mount_9p "trans=unix,aname=$server,uname=root,ignoreqv,cachetag=diod" "$socket"
}

mount_share() {
	mount_9p "trans=virtio" share
}

remount() {
	cf_umount "$mnt" && mount_diod
}

# Where netfs does not write, 9p does, and nothing but the cache counts it.
uploads=UpldOps:UL
cache_writes=CaWrOps:WR
cf_count UpldOps UL >/dev/null || uploads=IO:wr cache_writes=IO:wr

mark() {
	cf_counts DownOps:DL CaRdOps:RD $uploads $cache_writes CaWrOps:wf NoSpace:nwr
}

# cuts_are_told: whether 9p tells its cache that a file was cut off, or skips the test. If
# it does not, what was cut off comes back from any cache.
cuts_are_told() {
	if [ -z "${cut_told:-}" ]; then
		random_file "$server/told" 8192
		mount_diod || return
		cat "$mnt/told" >/dev/null
		cf_counts Updates:rsz Updates:rsn
		truncate -s 4096 "$mnt/told"
		cut_told=$(cf_counted Updates:rsz)
		expect_eq 0 "$(cf_counted Updates:rsn)" "changes of a size that were refused"
		cf_umount "$mnt"
	fi
	[ "$cut_told" -gt 0 ] || {
		cf_skip "9p does not tell of truncation (fscache_resize_cookie() for 9p2000.L)"
		return 1
	}
}

# warm FILE MODEL: it has the model's content, and all of it came from the cache
warm() {
	mark
	same "$1" "$2"
	expect_eq 0 "$(cf_counted DownOps:DL)" "downloads of $1"
	expect_ge 1 "$(cf_counted CaRdOps:RD)" "cache reads of $1"
}

# cold FILE MODEL: it has the model's content, and none of it came from the cache
cold() {
	mark
	same "$1" "$2"
	expect_ge 1 "$(cf_counted DownOps:DL)" "downloads of $1"
	expect_eq 0 "$(cf_counted CaRdOps:RD)" "cache reads of $1"
}

# --- files ---

# same FILE FILE: and where they differ
same() {
	cmp -s "$1" "$2" && return
	cf_fail "$1 is not like $2, of $(stat -c %s "$1") and $(stat -c %s "$2") bytes"
	cmp -l "$1" "$2" 2>/dev/null | awk '
		NR == 1 || $1 != last + 1 { if (NR > 1) print from - 1 "-" last - 1; from = $1 }
		{ last = $1 }
		END { if (NR) print from - 1 "-" last - 1 }' | head -5 | sed 's/^/# differs at /'
	return 1
}

random_file() {
	head -c "$2" /dev/urandom >"$1"
}

# turn FILE: other bytes; neither its size nor, with diod, its version says so
turn() {
	tr '\000-\377' '\001-\377\000' <"$1" >"$CF_DIR/turned" && cat "$CF_DIR/turned" >"$1"
}

# both FILE COMMAND...: xfs_io's commands on the mount and on the model
both() {
	local file command args=()

	for command in "${@:2}"; do
		args+=(-c "$command")
	done
	for file in "$mnt/$1" "$model"; do
		xfs_io "${args[@]}" "$file" || {
			cf_fail "xfs_io $file"
			return
		}
	done
}

# join PID...: all of them succeed
join() {
	local pid

	for pid; do
		expect cf_join "$pid"
	done
}

# --- reading ---

test_second_mount_reads_from_the_cache() {
	random_file "$server/a" 3002368
	cp "$server/a" "$model"
	mount_diod || return
	cold "$mnt/a" "$model"
	cf_umount "$mnt"
	expect_ge 1 "$(cf_counted $cache_writes)" "cache writes"
	turn "$server/a"
	mount_diod || return
	warm "$mnt/a" "$model"
	cf_umount "$mnt"
}

# netfs completes the last page with a request for what is behind the end of the file; that
# one decides whether the page goes to the cache.
test_last_partial_page() {
	local size

	for size in 1 4095 4097 8193 500001; do
		random_file "$server/l$size" "$size"
		cp "$server/l$size" "$CF_DIR/l$size"
	done
	mount_diod || return
	cat "$mnt"/l* >/dev/null
	remount || return
	for size in 1 4095 4097 8193 500001; do
		turn "$server/l$size"
		warm "$mnt/l$size" "$CF_DIR/l$size"
	done
	cf_umount "$mnt"
}

test_truncated_on_the_server() {
	local size

	random_file "$server/b" 102400
	for size in 102400 50001 102400 4096 0 8192; do
		truncate -s $size "$server/b"
		cp "$server/b" "$model"
		mount_diod || return
		same "$mnt/b" "$model" || return
		cf_umount "$mnt"
	done
	mount_diod || return
	warm "$mnt/b" "$model"
	cf_umount "$mnt"
}

test_changed_on_the_server() {
	local direct=$CF_DIR/direct

	modprobe -q 9pnet_virtio
	cat /sys/bus/virtio/drivers/9pnet_virtio/*/mount_tag 2>/dev/null | tr '\0' '\n' |
		grep -qx share_direct || {
		cf_skip "no share of the host"
		return
	}
	mkdir -p "$direct"
	expect mount -t 9p -o trans=virtio,version=9p2000.L,cache=none share_direct \
		"$direct" || return
	random_file "$direct/c" 1003520
	touch -d '2020-01-01 00:00:00' "$direct/c"
	cp "$direct/c" "$model"
	mount_share || return
	cold "$mnt/c" "$model"
	cf_umount "$mnt"

	# Behind the mount's back: what coherency is judged by stays.
	random_file "$direct/c" 1003520
	touch -d '2020-01-01 00:00:00' "$direct/c"
	mount_share || return
	warm "$mnt/c" "$model"
	cf_umount "$mnt"

	# Another time, then another size.
	touch -d '2020-01-01 00:01:00' "$direct/c"
	cp "$direct/c" "$model"
	mount_share || return
	cold "$mnt/c" "$model"
	cf_umount "$mnt"
	mount_share || return
	warm "$mnt/c" "$model"
	cf_umount "$mnt"
	truncate -s 905216 "$direct/c"
	cp "$direct/c" "$model"
	mount_share || return
	cold "$mnt/c" "$model"
	cf_umount "$mnt"

	# What is written through the mount gets another version from the server.
	mount_share || return
	both c 'pwrite -q -S 0x31 905216 4096' 'pwrite -q -S 0x32 7777 77'
	cf_umount "$mnt"
	same "$direct/c" "$model"
	mount_share || return
	cold "$mnt/c" "$model"
	cf_umount "$mnt"
	mount_share || return
	warm "$mnt/c" "$model"
	cf_umount "$mnt"
	cf_umount "$direct"
}

test_parallel_readers() {
	local i pids

	for i in {0..5}; do
		random_file "$server/p$i" $((303104 + i * 4096))
		cp "$server/p$i" "$CF_DIR/p$i"
	done
	mount_diod || return
	for _ in cold warm; do
		pids=()
		mark
		for i in {0..11}; do
			cf_background cmp "$mnt/p$((i % 6))" "$CF_DIR/p$((i % 6))"
			pids+=($!)
		done
		join "${pids[@]}"
		turn "$server/p0"
		remount || return
	done
	expect_eq 0 "$(cf_counted DownOps:DL)" "downloads"
	expect_ge 6 "$(cf_counted CaRdOps:RD)" "cache reads"
	cf_umount "$mnt"
}

# large_pieces [MEGABYTE:COUNT...]: the large file is like its model at these places
large_pieces() {
	local piece args

	[ $# -gt 0 ] || set -- 0:3 100:2 4090:8 4766:4 5119:1
	for piece; do
		args="bs=1M skip=${piece%:*} count=${piece#*:} status=none"
		# shellcheck disable=SC2086 # several
		expect cmp <(dd if="$mnt/large" $args) <(dd if="$CF_DIR/large" $args) || {
			cf_note "large file, MiB $piece"
			return 1
		}
	done
}

test_sparse_and_beyond_4_gib() {
	local at file

	random_file "$CF_DIR/piece" 1400001
	for file in "$server/large" "$CF_DIR/large"; do
		for at in 0 104857 4293918 5000000; do
			dd if="$CF_DIR/piece" of="$file" bs=1000 seek=$at conv=notrunc status=none
		done
		truncate -s 5G "$file"
	done
	mount_diod || return
	large_pieces || return

	# All holes, behind the mount's back.
	truncate -s 0 "$server/large"
	truncate -s 5G "$server/large"
	remount || return
	mark
	large_pieces || return
	expect_ge 1 "$(cf_counted CaRdOps:RD)" "cache reads"

	# Written across 4 GiB, cut and grown again there; the server has its content again.
	cf_umount "$mnt"
	if ! cuts_are_told; then
		rm -f "$server/large" "$CF_DIR/large"
		return 0
	fi
	mount_diod || return
	for at in 0 104857 4293918 5000000; do
		dd if="$CF_DIR/piece" of="$server/large" bs=1000 seek=$at conv=notrunc status=none
	done
	for file in "$mnt/large" "$CF_DIR/large"; do
		expect xfs_io -c 'pwrite -q -S 0x77 4294967000 5000' -c 'truncate 4295000001' \
			-c 'truncate 5368709120' "$file" || return
	done
	remount || return
	large_pieces 4095:2 4766:4 5119:1
	cf_umount "$mnt"
	rm -f "$server/large" "$CF_DIR/large"
}

# --- writing ---

# Both ends of what is written lie within pages that are in the cache.
test_writes_reach_server_and_cache() {
	random_file "$server/w" 500001
	cp "$server/w" "$model"
	mount_diod || return
	cat "$mnt/w" >/dev/null
	remount || return
	mark
	both w 'pwrite -q -S 0x11 8192 65536' 'pwrite -q -S 0x12 100001 3' \
		'pwrite -q -S 0x13 200000 77777' 'pwrite -q -S 0x14 499990 11'
	cf_umount "$mnt"
	expect_ge 1 "$(cf_counted $uploads)" "uploads"
	expect_ge 1 "$(cf_counted $cache_writes)" "cache writes"
	same "$server/w" "$model"
	turn "$server/w"
	mount_diod || return
	warm "$mnt/w" "$model"
	cf_umount "$mnt"
}

test_new_files_reach_server_and_cache() {
	local size

	mount_diod || return
	for size in 1 4095 4096 4097 1234567; do
		random_file "$CF_DIR/new$size" "$size"
		expect cp "$CF_DIR/new$size" "$mnt/new$size" || return
	done
	remount || return
	for size in 1 4095 4096 4097 1234567; do
		same "$server/new$size" "$CF_DIR/new$size"
		turn "$server/new$size"
		warm "$mnt/new$size" "$CF_DIR/new$size"
	done
	cf_umount "$mnt"
}

# What was cut off does not come back when the file grows again, whichever way.
test_cut_off_for_good() {
	local downs=(0 1 4095 4096 5000 8191 60001) down how

	cuts_are_told || return 0
	head -c 70000 /dev/zero | tr '\0' A >"$CF_DIR/letters"
	for how in same_mount remount cold; do
		for down in "${downs[@]}"; do
			cp "$CF_DIR/letters" "$server/t$down"
		done
		mount_diod || return
		[ $how = cold ] || cat "$mnt"/t* >/dev/null
		for down in "${downs[@]}"; do
			truncate -s "$down" "$mnt/t$down"
		done
		[ $how = same_mount ] || remount || return
		truncate -s 70000 "$mnt"/t*
		remount || return
		for down in "${downs[@]}"; do
			head -c "$down" "$CF_DIR/letters" >"$model"
			truncate -s 70000 "$model"
			same "$server/t$down" "$model" || cf_note "server, $how"
			same "$mnt/t$down" "$model" || cf_note "$how"
		done
		cf_umount "$mnt"
		rm "$server"/t*
	done
}

# Its last page was cached when the file ended within that page.
test_grown_after_a_partial_page() {
	local where

	for where in mount server; do
		random_file "$server/g" 5000
		cp "$server/g" "$model"
		mount_diod || return
		cat "$mnt/g" >/dev/null
		remount || return
		if [ $where = mount ]; then
			both g 'pwrite -q -S 0x41 6000 5' 'truncate 20000'
			remount || return
			same "$server/g" "$model"
		else
			xfs_io -c 'pwrite -q -S 0x41 6000 5' -c 'truncate 20000' "$server/g"
			cp "$server/g" "$model"
			remount || return
		fi
		same "$mnt/g" "$model" || return
		remount || return
		same "$mnt/g" "$model"
		cf_umount "$mnt"
		rm "$server/g"
	done
}

# random_pieces SEED COUNT: written and cut alike through the mount and in the model, some
# at a time: buffered, mapped, O_DIRECT, O_SYNC
random_pieces() {
	local i size at len how op commands

	RANDOM=$1
	size=$(stat -c %s "$model")
	for ((i = 1; i <= $2; i++)); do
		case $((RANDOM % 3)) in
		0) len=$((1 + RANDOM % 9)) ;;
		1) len=$((4096 * (1 + RANDOM % 4))) ;;
		2) len=$((1 + RANDOM % 20000)) ;;
		esac
		case $((RANDOM % 4)) in
		0) at=$size ;;
		*) at=$(((RANDOM << 15 | RANDOM) % (size + 5000))) ;;
		esac
		case $((RANDOM % 3)) in
		0) at=$((at & ~4095)) ;;
		1) at=$(((at | 4095) - RANDOM % 4)) ;;
		esac
		if [ $((i % 3)) = 1 ]; then
			commands=()
			how=$((RANDOM % 5))
		fi
		op="pwrite -q -S $((i % 255 + 1)) $at $len"
		if [ $((RANDOM % 6)) = 0 ]; then
			size=$((RANDOM % 2 ? at : at / 2))
			op="truncate $size"
		elif [ $how = 3 ] && [ "$size" -gt 0 ]; then
			# There is nothing to be mapped behind the end.
			at=$((at % size))
			len=$((at + len > size ? size - at : len))
			commands+=(-c "mmap -rw 0 $size")
			op="mwrite -S $((i % 255 + 1)) $at $len"
		else
			size=$((at + len > size ? at + len : size))
		fi
		commands+=(-c "$op")
		[ $((i % 3)) = 0 ] || continue

		case $((RANDOM % 6)) in
		0) echo 3 >/proc/sys/vm/drop_caches ;;
		1) sync -f "$mnt" && echo 3 >/proc/sys/vm/drop_caches ;;
		2) same "$mnt/r" "$model" || return ;;
		3) dd if="$mnt/r" of=/dev/null bs=1 skip=$((at / 2)) count=1 status=none ;;
		esac
		case $how in
		0) set -- "$1" "$2" -d ;;
		1) set -- "$1" "$2" -s ;;
		*) set -- "$1" "$2" ;;
		esac
		echo "${*:3} ${commands[*]}" >>"$CF_DIR/ops"
		expect xfs_io "${@:3}" "${commands[@]}" "$mnt/r" &&
			expect xfs_io "${commands[@]}" "$model" || return
	done
}

test_random_pieces() {
	local s

	cuts_are_told || return 0
	mark
	for ((s = seed; s < seed + rounds; s++)); do
		rm -f "$server/r" "$CF_DIR/ops"
		random_file "$server/r" 150000
		cp "$server/r" "$model"
		mount_diod || return
		[ $((s % 2)) = 0 ] || cat "$mnt/r" >/dev/null
		if ! { random_pieces $s 18 && remount && random_pieces $((s + 1000)) 18 &&
			cf_umount "$mnt" && same "$server/r" "$model" && mount_diod &&
			same "$mnt/r" "$model"; }; then
			cf_note "seed $s, what was done:"
			sed 's/^/# /' "$CF_DIR/ops"
			return 1
		fi
		cf_umount "$mnt"
	done
	expect_ge 1 "$(cf_counted CaRdOps:RD)" "cache reads"
}

test_file_operations() {
	local s

	cuts_are_told || return 0
	mount_diod || return
	mark
	for ((s = seed; s < seed + rounds; s++)); do
		expect cf_timeout 60 "$cf_here/file_ops" -s $s -n 150 -m 200000 "$mnt/ops" || return
		remount || return
		same "$mnt/ops" "$server/ops" || {
			cf_note "seed $s"
			return 1
		}
	done
	expect_ge 1 "$(cf_counted CaRdOps:RD)" "cache reads"
	cf_umount "$mnt"
}

# verify DIR ARGUMENT...: three writers at once, each in a file of its own
verify() {
	cf_timeout 100 fio --name=v --directory="$1" --size=1M --numjobs=3 --ioengine=psync \
		--rw=randrw --bsrange=1k-64k --verify=crc32c --verify_fatal=1 --do_verify=1 \
		--randrepeat=1 --output="$CF_DIR/fio.log" "${@:2}" || {
		cf_fail "fio $*"
		tail -20 "$CF_DIR/fio.log" | sed 's/^/# /'
		return 1
	}
}

# takes_direct: not every 9p does with a cache
takes_direct() {
	xfs_io -f -d -c 'pwrite -q 0 4096' "$mnt/fio/direct" 2>/dev/null
}

test_fio_verifies() {
	local way ways=("--ioengine=psync" "--ioengine=mmap" "--direct=1 --bsrange=4k-64k")

	command -v fio >/dev/null || {
		cf_skip "no fio"
		return
	}
	for way in "${ways[@]}"; do
		rm -rf "$server/fio"
		mount_diod && mkdir "$mnt/fio" || return
		case $way in
		--direct*) takes_direct || way=${way#--direct=1} ;;
		esac
		# shellcheck disable=SC2086 # several
		{
			verify "$mnt/fio" $way && cf_umount "$mnt" &&
				verify "$server/fio" ${way#--direct=1} --verify_only || return
			mount_diod || return
			verify "$mnt/fio" $way --direct=0 --verify_only || return
		}
		cf_umount "$mnt"
	done
	# After the last one, which wrote past the cache, they have been read from the server.
	mount_diod || return
	mark
	verify "$mnt/fio" --verify_only --bsrange=4k-64k
	expect_ge 1 "$(cf_counted CaRdOps:RD)" "cache reads"
	cf_umount "$mnt"
}

# one_writer N: writes, cuts and reads files of its own
one_writer() {
	local i at op

	RANDOM=$1
	for ((i = 0; i < 12; i++)); do
		at=$((RANDOM * 5))
		op="pwrite -q -S $((RANDOM % 255 + 1)) $at $((1 + RANDOM % 30000))"
		[ $((RANDOM % 8)) != 0 ] || op="truncate $at"
		xfs_io -c "$op" "$CF_DIR/pw$1" && xfs_io -c "$op" "$mnt/pw$1" || return
		[ $((i % 6)) != 0 ] || cmp "$mnt/pw$1" "$CF_DIR/pw$1" || return
		[ $((i % 5)) != "$1" ] || echo 3 >/proc/sys/vm/drop_caches
	done
}

test_parallel_writers() {
	local i pids=()

	cuts_are_told || return 0
	for i in {0..3}; do
		random_file "$server/pw$i" 100000
		cp "$server/pw$i" "$CF_DIR/pw$i"
	done
	mount_diod || return
	for i in {0..3}; do
		cf_background one_writer "$i"
		pids+=($!)
	done
	join "${pids[@]}"
	remount || return
	for i in {0..3}; do
		same "$server/pw$i" "$CF_DIR/pw$i"
		same "$mnt/pw$i" "$CF_DIR/pw$i"
	done
	cf_umount "$mnt"
}

# --- a mount that goes away, a full cache ---

# Until the mount has gone: nothing of it makes a file on what is below.
one_user() {
	RANDOM=$1
	while [ -e "$mnt/u$1" ]; do
		xfs_io -c "pwrite -q -S $((RANDOM % 255 + 1)) $((RANDOM * 30)) 20001" \
			-c 'pread -q 0 1000000' "$mnt/u$1" 2>/dev/null
		echo 1 >/proc/sys/vm/drop_caches
	done
}

test_unmounted_under_load() {
	local i pids=()

	for i in {0..3}; do
		random_file "$server/u$i" 1000000
	done
	mount_diod || return
	mark
	for i in {0..3}; do
		cf_background one_user "$i"
		pids+=($!)
	done
	cf_wait 30 enough_read
	# Busy, or between two files; what is dirty reaches server and cache either way.
	umount "$mnt" 2>/dev/null || umount -l "$mnt"
	join "${pids[@]}"
	cf_wait 30 no_cookies || return
	mount_diod || return
	for i in {0..3}; do
		same "$mnt/u$i" "$server/u$i"
	done
	cf_umount "$mnt"
}

enough_read() {
	[ "$(cf_counted CaRdOps:RD)" -ge 20 ] && [ "$(cf_counted $uploads)" -ge 20 ]
}

# What is written while the store is frozen gets into the cache when it has been thawed.
test_written_while_frozen() {
	local change='pwrite -q -S 0x31 98304 65536' writer status=0

	random_file "$server/frozen" 303104
	cp "$server/frozen" "$model"
	mount_diod || return
	cat "$mnt/frozen" >/dev/null
	# The cache knows then that the file is written to.
	both frozen 'pwrite -q -S 0x30 0 4096' || return
	expect xfs_io -c "$change" "$model"
	expect fsfreeze -f "$store" || return
	cf_background xfs_io -c "$change" -c fsync "$mnt/frozen"
	writer=$!
	cf_wait 30 cmp -s "$server/frozen" "$model" || status=1
	same "$mnt/frozen" "$model"
	expect fsfreeze -u "$store"
	expect_eq 0 $status "status of waiting for the server to have it"
	expect cf_join $writer
	remount || return
	turn "$server/frozen"
	warm "$mnt/frozen" "$model"
	cf_umount "$mnt"
}

no_cookies() {
	! grep -q '^[0-9a-f]' /proc/fs/fscache/cookies
}

# The cache has old bytes of a file and no room for new ones.
test_full_cache() {
	random_file "$server/f" 1000001
	random_file "$server/f2" 1000001
	cp "$server/f" "$model"
	mount_diod || return
	cat "$mnt/f" >/dev/null
	remount || return
	dd if=/dev/zero of="$store/ballast" bs=64k status=none 2>/dev/null
	mark
	both f 'pwrite -q -S 0x21 0 1' 'pwrite -q -S 0x22 4096 8192' \
		'pwrite -q -S 0x23 100001 300000' 'pwrite -q -S 0x24 1000000 100000'
	same "$mnt/f2" "$server/f2"
	remount || return
	# What was found out about space a moment ago may let a write go until it fails.
	expect_ge 1 $(($(cf_counted NoSpace:nwr) + $(cf_counted CaWrOps:wf))) \
		"writes refused or failed for want of space"
	same "$server/f" "$model"
	same "$mnt/f" "$model"
	same "$mnt/f2" "$server/f2"
	cf_umount "$mnt"
	rm "$store/ballast"
	for _ in filled read; do
		mount_diod || return
		same "$mnt/f" "$model"
		same "$mnt/f2" "$server/f2"
		cf_umount "$mnt"
	done
}

cf_need diod xfs_io cmp file_ops fsfreeze "mkfs.$CF_FSTYPE"
cf_need_module 9p 9pnet_fd
cf_need_fs 9p "$CF_FSTYPE"
mkdir -p "$mnt" "$server"
# Small enough to be filled soon.
cf_store store 100M || cf_bail_out "no backing file system"
# shellcheck disable=SC2034 # the descriptor, closed at the end
cf_bind cache "$store" 9p_test || exit
cf_background diod -f -n -N -S -U root -l "$socket" -e "$server" -L "$CF_DIR/diod.log"
cf_wait 30 test -S "$socket" || exit

cf_tests test_second_mount_reads_from_the_cache test_last_partial_page \
	test_truncated_on_the_server test_changed_on_the_server test_parallel_readers \
	test_sparse_and_beyond_4_gib test_writes_reach_server_and_cache \
	test_new_files_reach_server_and_cache test_cut_off_for_good \
	test_grown_after_a_partial_page test_random_pieces test_file_operations \
	test_fio_verifies test_parallel_writers test_written_while_frozen \
	test_unmounted_under_load test_full_cache
