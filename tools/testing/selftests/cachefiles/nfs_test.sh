#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# NFSv3 and NFSv4.2 with "fsc" read from the cache what they have read from the server
# once, without asking it for the data again, and never anything but what the server has.
#
# shellcheck disable=SC2317 # functions that others call

. "$(dirname "$0")/lib/test.sh"
. "$(dirname "$0")/lib/nfs.sh"

server=$CF_DIR/export/nfs
client=$CF_DIR/client
store=$CF_DIR/store/cache
options=fsc
dir=
odd=0

cf_at_end() {
	cf_nfs_stop
}

# Each test has a directory of its own, $server/$dir on the server and $client/$dir on
# the client, which is mounted when it starts and when it returns.

mount_client() {
	cf_nfs_mount "$version" "$client" "$options" || cf_fail "mount"
}

# The client forgets everything; what is on its way to the cache arrives there.
remount() {
	cf_nfs_umount "$client" && mount_client
}

# from_server COMMAND...: succeeds, and the server is asked for data
from_server() {
	local reads

	reads=$(cf_nfs_reads)
	expect "$@"
	expect_ge 1 $(($(cf_nfs_reads) - reads)) "READs to the server of $*"
}

# from_cache COMMAND...: succeeds, and the server is not asked for data, the cache is
from_cache() {
	local reads

	reads=$(cf_nfs_reads)
	cf_counts IO:rd
	expect "$@"
	expect_eq 0 $(($(cf_nfs_reads) - reads)) "READs to the server of $*"
	expect_ge 1 "$(cf_counted IO:rd)" "reads from the cache of $*"
}

# fills COMMAND...: what has been read from the server is in the cache afterwards. The
# client has been remounted then.
fills() {
	cf_counts IO:wr
	from_server "$@"
	remount || return
	expect_ge 1 "$(cf_counted IO:wr)" "writes to the cache of $*"
	[ "$odd" = 0 ] || settle "$@"
}

# settle COMMAND...: $odd files may take more than one reading. Remounts, too.
settle() {
	cf_nfs_settle "$odd" remount "$@"
}

# twice COMMAND...: once from the server and again from the cache
twice() {
	fills "$@"
	from_cache "$@"
}

# same FILE...: is on the client what it is on the server
same() {
	local file status=0

	for file; do
		cmp "$server/$dir/$file" "$client/$dir/$file" || status=1
	done
	return $status
}

# make FILE SEED OFFSET LENGTH: on the server
make() {
	cf_pattern write "$server/$dir/$1" "${@:2}"
}

# resize FILE SIZE: on the server. truncate(1) does not wait for what a client with a
# delegation has to give back before.
resize() {
	cf_wait 30 truncate -s "$2" "$server/$dir/$1" 2>/dev/null
}

# look WAY FILE SEED OFFSET LENGTH: on the client
look() {
	cf_pattern "$1" "$client/$dir/$2" "${@:3}"
}

# --- reading ---

test_second_mount_reads_from_the_cache() {
	local sizes=(1 4095 4096 4097 65536 300001 3M) size seed=0

	for size in "${sizes[@]}"; do
		make "f$size" $((seed += 1)) 0 "$size" || return
	done
	all() {
		seed=0
		for size in "${sizes[@]}"; do
			look check "f$size" $((seed += 1)) 0 "$size" || return
		done
	}
	odd=5
	twice all
	# Without the inodes that the client knew, and a third time.
	cf_drop_caches
	from_cache all
	expect_eq 0 "$(: >"$server/$dir/empty" && wc -c <"$client/$dir/empty")" "an empty file"
}

test_without_fsc_nothing_is_cached() {
	make f 1 0 1M || return
	options=actimeo=60
	remount
	options=fsc
	cf_counts IO:rd IO:wr
	from_server look check f 1 0 1M
	cf_drop_caches
	from_server look check f 1 0 1M
	remount || return
	expect_eq 0 "$(cf_counted IO:rd)" "reads from the cache"
	expect_eq 0 "$(cf_counted IO:wr)" "writes to the cache"
	twice look check f 1 0 1M
}

test_part_of_a_file() {
	make f 2 0 4M || return
	twice look check f 2 1M 200000
	fills look check f 2 0 4M
	from_cache look check f 2 0 4M
}

test_mmap() {
	make f 3 0 2000001 || return
	odd=1
	twice look mmap f 3 0 2000001
	cf_drop_caches
	from_cache look mmap f 3 1234567 100
}

test_sparse_files() {
	local zeros

	resize holes 24M
	make holes 4 0 10000 || return
	make holes 5 9000001 100 || return
	make holes 6 16M 256K || return
	resize hole 3000000
	sparse() {
		look check holes 4 0 10000 && look check holes 0 10000 8990001 &&
			look check holes 5 9000001 100 && look check holes 6 16M 256K &&
			look check hole 0 0 3000000 && same holes hole
	}
	odd=1
	twice sparse
	zeros=$(stat -c %b "$server/$dir/holes")
	expect_le 2048 "$zeros" "blocks of the server's file"
}

test_beyond_4_gib() {
	resize f 6G
	make f 7 0 8192 || return
	make f 8 $((4 * 1024 ** 3 - 5000)) 10000 || return
	make f 9 $((6 * 1024 ** 3 - 123457)) 123457 || return
	ends() {
		look "$1" f 9 $((6 * 1024 ** 3 - 123457)) 123457 &&
			look "$1" f 8 $((4 * 1024 ** 3 - 5000)) 10000 &&
			look "$1" f 7 0 8192
	}
	twice ends check
	# Read around a fault is another range, and not the same one each time.
	remount || return
	odd=3
	twice ends mmap
	odd=0
	expect look direct f 9 $((6 * 1024 ** 3 - 65536)) 65536
}

test_many_small_files() {
	local i

	for i in {1..60}; do
		printf 'file %d of many, ' {1..40} "$i" >"$server/$dir/$i"
	done
	(cd "$server/$dir" && sha256sum -- *) >"$CF_DIR/sums"
	sums() {
		(cd "$client/$dir" && sha256sum --quiet -c "$CF_DIR/sums")
	}
	# An exception, not the rule.
	odd=20
	twice sums
}

# A file's key is its handle, whatever it is called; two names of one are one.
test_names() {
	local long name
	local names=("a b" " " "-n" ".hidden" "..." "ümlaut-日本語" $'new\nline' $'\x01\x7f\xff'
		"D0000" "EFILE" "Jx" "*" "\\" "'\"" "+@=%" "cache" "nul")

	# As long as names get, and in characters of two bytes each
	printf -v long '%0255d' 7
	names+=("$long")
	printf -v long '%0127d' 0
	names+=("${long//0/é}")
	for name in "${names[@]}"; do
		printf '%s is what it is called\n' "$name" >"$server/$dir/$name" || return
	done
	name=$server/$dir
	for _ in {1..16}; do
		name+=/$long
	done
	mkdir -p "$name" && echo deep >"$name/deep" || return
	ln "$server/$dir/a b" "$server/$dir/second name"
	named() {
		diff -r "$server/$dir" "$client/$dir"
	}
	odd=7
	twice named
	expect_ge 21 "$(find "$client/$dir" -type f | wc -l)" "files with all kinds of names"

	# From one name to the other
	odd=1
	echo once >"$server/$dir/one"
	ln "$server/$dir/one" "$server/$dir/two"
	fills same one
	from_cache same two
	mv "$server/$dir/one" "$server/$dir/three"
	# Its time of change is another now: that the content is, too, can't be excluded.
	expect same three
}

test_parallel_readers() {
	local pids=() pid i

	for i in 1 2 3 4; do
		make "f$i" $((10 + i)) 0 2M || return
	done
	readers() {
		pids=()
		for i in 1 2 3 4; do
			cf_background look check f1 11 0 2M
			pids+=($!)
			cf_background look check "f$i" $((10 + i)) 0 2M
			pids+=($!)
		done
		cf_background look mmap f2 12 0 2M
		pids+=($!)
		for pid in "${pids[@]}"; do
			cf_join "$pid" || return
		done
	}
	twice readers
}

# --- changes on the server ---

# changed COMMAND...: FILE is cached, the server changes it, the client sees it, whether
# it was mounted meanwhile or not, and caches it again
test_changes_while_unmounted() {
	local file files=(content longer shorter punched replaced recreated)

	for file in "${files[@]}"; do
		make "$file" 20 0 300000 || return
	done
	odd=6
	fills same "${files[@]}"
	cf_nfs_umount "$client"

	make content 21 0 300000
	make longer 21 300000 300000
	resize shorter 100001
	resize punched 100001
	resize punched 300000
	make new 22 0 300000
	mv "$server/$dir/new" "$server/$dir/replaced"
	rm "$server/$dir/recreated"
	make recreated 23 0 300000

	mount_client || return
	from_server look check content 21 0 300000
	from_server same "${files[@]}"
	remount || return
	settle same "${files[@]}"
	from_cache same "${files[@]}"
	expect_eq 100001 "$(stat -c %s "$client/$dir/shorter")" size
}

test_changes_while_mounted() {
	local i

	odd=1
	make f 30 0 200000 || return
	fills look check f 30 0 200000
	for i in {31..34}; do
		from_cache look check f $((i - 1)) 0 200000
		# Open again: then NFS compares.
		make f "$i" 0 200000
		fills look check f "$i" 0 200000
	done
	resize f 50000
	expect look check f 34 0 50000
	expect_eq 50000 "$(wc -c <"$client/$dir/f")" "size of the shortened file"
	resize f 200000
	expect same f
	expect look check f 0 50000 150000
	remount
	settle same f
	from_cache same f
}

# --- writing ---

# While a client has a file open for writing NFS does not cache it.
test_client_writes() {
	odd=4
	make f 40 0 1M || return
	fills look check f 40 0 1M
	expect cf_pattern write "$client/$dir/f" 41 300000 400000
	expect cf_pattern write "$client/$dir/new" 42 0 700001
	written() {
		look check f 40 0 300000 && look check f 41 300000 400000 &&
			look check f 40 700000 348576 && look check new 42 0 700001 && same f new
	}
	expect written
	remount
	fills written
	from_cache written

	truncate -s 500000 "$client/$dir/f"
	truncate -s 1M "$client/$dir/f"
	written() {
		look check f 41 300000 200000 && look check f 0 500000 548576 && same f
	}
	expect written
	remount
	settle written
	from_cache written
}

test_random_operations() {
	local seed

	odd=1
	# The same at each run, unless asked for.
	for seed in "${CF_SEED:-2}" 1; do
		cf_note "seed $seed"
		expect "$cf_here/file_ops" -s "$seed" -n 400 "$client/$dir/f$seed" || return
		remount || return
		expect same "f$seed"
		remount || return
		settle same "f$seed"
		from_cache same "f$seed"
	done
}

test_fio_verify() {
	local job=("--filename=$client/$dir/f" --name=verify --size=1800k --bs=6k --ioengine=psync
		--verify=crc32c --verify_fatal=1 --verify_state_save=0 --minimal)

	command -v fio >/dev/null || {
		cf_skip "no fio"
		return
	}
	fio_run() {
		cf_timeout 60 fio "${job[@]}" "$@" >"$CF_DIR/fio" 2>&1 || {
			cat "$CF_DIR/fio"
			return 1
		}
	}
	expect fio_run --rw=randwrite --do_verify=1
	remount || return
	odd=1
	twice same f
	cf_drop_caches
	from_cache fio_run --rw=randread --readonly
}

# --- the cache comes and goes ---

test_cache_bound_again() {
	make f 50 0 1M || return
	fills look check f 50 0 1M
	cf_nfs_umount "$client"
	cf_close_cache cache
	cf_bind cache "$store" cachefiles-nfs || return
	mount_client || return
	from_cache look check f 50 0 1M
}

# What is mounted goes on without, and with the next one when it is mounted again.
test_cache_goes_while_mounted() {
	make f 51 0 1M || return
	make g 52 0 1M || return
	fills look check f 51 0 1M
	from_cache look check f 51 0 1M
	cf_close_cache cache
	expect look check f 51 0 1M
	expect look check g 52 0 1M
	cf_drop_caches
	expect look check f 51 0 1M
	cf_bind cache "$store" cachefiles-nfs || return
	remount || return
	expect look check g 52 0 1M
	remount || return
	from_cache look check f 51 0 1M
	from_cache look check g 52 0 1M
}

test_unmount_while_reading() {
	local pids=() pid i

	for i in 1 2 3; do
		make "f$i" $((60 + i)) 0 4M || return
	done
	cf_counts IO:wr
	endless() {
		while look check "f$1" $((60 + $1)) 0 4M >/dev/null; do
			:
		done
	}
	for i in 1 2 3; do
		cf_background endless $i
		pids+=($!)
	done
	some_writes() {
		[ "$(cf_counted IO:wr)" -ge 4 ]
	}
	cf_wait 30 some_writes
	# Detached; the last reader takes it along. Another mount is another client.
	umount -l "$client"
	for pid in "${pids[@]}"; do
		cf_end "$pid"
	done
	mount_client || return
	for i in 1 2 3; do
		expect look check "f$i" $((60 + i)) 0 4M
	done
	remount || return
	for i in 1 2 3; do
		from_cache look check "f$i" $((60 + i)) 0 4M
	done
}

# "fsc=NAME" keeps mounts apart in the cache.
test_named_volumes() {
	make f 70 0 500000 || return
	odd=1
	twice look check f 70 0 500000
	options=fsc=other
	remount
	grep -q '^0.*,other$' /proc/fs/fscache/volumes || {
		cf_skip "NFSv4 does not tell its cache of fsc=NAME (nfs_fscache_get_super_cookie())"
		return
	}
	twice look check f 70 0 500000
	options=fsc
	remount
	from_cache look check f 70 0 500000
}

cf_need_nfs
cf_need cmp sha256sum file_ops "mkfs.$CF_FSTYPE" mkfs.ext4
cf_need_fs "$CF_FSTYPE" ext4
cf_store store 400M || cf_bail_out "no file system for the cache"
cf_store export 400M ext4 || cf_bail_out "no file system for the server"
mkdir "$server"
cf_nfs_server "$server" || cf_bail_out "the NFS server does not start"
cf_bind cache "$store" cachefiles-nfs || exit 1

# Every test on both versions, in a directory and with a mount of its own
mapfile -t names < <(sed -n 's/^\(test_[a-z0-9_]*\)() .*/\1/p' "$0")
tests=()
for version in 3 4.2; do
	for name in "${names[@]}"; do
		test=nfs${version%.*}_${name#test_}
		eval "$test() { run_one $version $name; }"
		tests+=("$test")
	done
done

run_one() {
	local status=0

	version=$1
	dir=$1-$2
	options=fsc
	odd=0
	mkdir "$server/$dir"
	mount_client || return
	"$2" || status=$?
	expect cf_nfs_umount "$client"
	return $status
}

cf_tests "${tests[@]}"
