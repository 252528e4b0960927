#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# A cache is on disk what the cachefiles of the kernel makes of it: what either module has
# written the other one reads, by the same names and with the same attributes, also when
# they take turns, and after a crash.
#
# It needs two modules: ours, and one that came with the kernel.
#
# shellcheck disable=SC2317 # functions that others call

. "$(dirname "$0")/lib/test.sh"
. "$(dirname "$0")/lib/nfs.sh"

tag=ondisk
export=$CF_DIR/export
mnt=$CF_DIR/mnt
socket=$CF_DIR/diod.sock
cache=

# --- modules and caches ---

# with MODULE STORE: the cache in that store, served by that module
with() {
	without
	expect load-cachefiles "$1" && expect cf_bind cache "$CF_DIR/$2/cache" $tag || return
	module=$1
}

# The cache is complete on disk when this returns.
without() {
	[ -n "$cache" ] || return 0
	cf_close_cache cache
	cf_wait 30 cf_not grep -qw $tag /proc/fs/fscache/caches
}

cf_at_end() {
	mountpoint -q "$mnt" && umount -l "$mnt"
	without
	cf_nfs_stop 2>/dev/null
	load-cachefiles ours
}

# --- objects ---
#
# An object is its number; what is done to it goes into these. Its content is the pattern
# whose seed is in $seed. The names are what a key of that shape becomes.

volume=()
blob=()
key=()
aux=()
size=()
pieces=()
seed=()

# object VOLUME BLOB KEY AUX SIZE [OFFSET LENGTH]...: BLOB and AUX may be -, what is to be
# written is all if nothing else is said
object() {
	volume+=("$1")
	blob+=("${2#-}")
	key+=("$3")
	aux+=("${4#-}")
	size+=("$5")
	[ $# -gt 5 ] || set -- "$@" 0 "$5"
	pieces+=("${*:6}")
	seed+=("${#seed[@]}1")
}

# hex BYTE COUNT: that many of it
hex() {
	printf "$1%.0s" $(seq "$2")
}

afs=afs,example.com,100058
smb=cifs,0a000001,share
define_objects() {
	local n text=text:

	volume=() blob=() key=() aux=() size=() pieces=() seed=()
	# Text, D: short, with what looks odd, and the longest.
	object $afs - text:hello 0102030405060708 1234567
	object $afs - text:D - 1
	object $afs - "text:!\"#\$%&'()*+,-.0:;<=>?@[]^_\`{|}~" 00 4095
	object $afs - 417f42 ff 4096
	for n in $(seq 252); do
		text+=$(printf '%x' $((n % 16)))
	done
	object $afs - "$text" 0a0b 4097
	# A space, a slash or a control character: not D.
	object $afs - "text:a b" 0a0b 8192
	object $afs - "text:a/b" 0a0b 8192
	object $afs - "text:../../etc" 0a0b 8192
	object $afs - 00 - 5000
	# S, T, E: by size and by endianness of the words.
	object $afs - ffffffff 01020304 0
	object $afs - 0102 01020304 4096
	object $afs - fedcba 01020304 12345
	object $afs - 00000001000000010000000000000000 "$(hex 5a 255)" 65536
	object $afs - 0600000000000000 00000000 100000
	object $afs - 8182838485868788898a8b8c8d8e8f90 0102 100001
	object $afs - "$(hex ff 189)" 0102 4096
	object $afs - "01000601b2f0$(hex 3c 10)00e19a71$(hex 00 12)" "$(hex 21 24)" 262144
	# Volumes: with coherency data, long, with odd names.
	object $smb 0123456789abcdef 8001000000000000 "$(hex 07 20)" 50001
	object $smb 0123456789abcdef text:second "$(hex 07 20)" 4096
	object "$(hex v 254)" "$(hex b0 255)" text:longest 0102 4096
	object "nfs,4.2,2,,8,0; odd @name" 00 text:odd 0102 4096
	# Holes: at the end, in the middle, beyond 4 GiB.
	object $afs - text:sparse1 0102 1234567 0 4096
	object $afs - text:sparse2 0102 3000000 40960 8192 1048576 65536 2998272 1728
	object $afs - text:sparse3 0102 5368709121 0 8192 4294963200 8192 5368709120 1
}

# tool NUMBER [OPTION]... -- COMMAND...
tool() {
	local n=$1 options=(-t "$tag")

	shift
	[ -z "${blob[n]}" ] || options+=(-b "${blob[n]}")
	while [ "$1" != -- ]; do
		options+=("$1")
		shift
	done
	shift
	# In the process group of whoever ends it.
	timeout --foreground -k 5 $((60 * CF_SCALE)) "$cf_here/cf_netfs_tool" \
		"${options[@]}" "${volume[n]}" "${key[n]}" "${aux[n]}" "${size[n]}" "$@"
}

# each_piece NUMBER COMMAND: "COMMAND OFFSET LENGTH SEED" for all its pieces, in $commands
each_piece() {
	local word i=0

	commands=()
	for word in ${pieces[$1]}; do
		if [ $((i++ % 2)) = 0 ]; then
			commands+=("$2" "$word")
		elif [ "$word" = 0 ]; then
			commands=()
		else
			commands+=("$word" "${seed[$1]}")
		fi
	done
}

# fill [NUMBER]...: writes these objects, or all
fill() {
	local n

	[ $# -gt 0 ] || set -- "${!key[@]}"
	for n; do
		each_piece "$n" write
		expect tool "$n" -- "${commands[@]}" || cf_note "$module: object $n ${key[n]}"
	done
}

# names: of the files of all objects, as the description of the format has it
names() {
	local n

	for n in "${!key[@]}"; do
		tool "$n" -- name
	done
}

# hits [NUMBER]...: all that was written comes from the cache, and is right
hits() {
	local n

	[ $# -gt 0 ] || set -- "${!key[@]}"
	for n; do
		each_piece "$n" read
		expect tool "$n" -- "${commands[@]}" || cf_note "$module: object $n ${key[n]}"
	done
}

# --- what is on disk ---

# The fan-out directories are no content: one module makes all at once, the other those
# that it needs. Nor are modes and times.

# attributes STORE: names of all files, sizes, attributes of files and volumes
attributes() {
	(
		cd "$CF_DIR/$1/cache/cache" || exit
		find . -type f -printf '%p %s\n' | sort
		find . \( -name 'I*' -o -type f \) -print0 | sort -z |
			xargs -0 getfattr -d -m - -e hex --
	)
}

# content STORE: where there are data in files, and what
content() {
	(
		cd "$CF_DIR/$1/cache/cache" || exit
		find . -type f | sort | while read -r file; do
			echo "$file"
			xfs_io -r -c 'seek -a -r 0' "$file"
			[ "$(stat -c %s "$file")" -gt 100000000 ] || sha256sum "$file"
		done
	)
}

# alike FUNCTION STORE STORE: it prints the same for both
alike() {
	"$1" "$2" >"$CF_DIR/$1.1"
	"$1" "$3" >"$CF_DIR/$1.2"
	expect_ge 3 "$(wc -l <"$CF_DIR/$1.1")" "lines of $1 of $2"
	cmp -s "$CF_DIR/$1.1" "$CF_DIR/$1.2" && return
	cf_fail "$1 of $2 and of $3"
	diff "$CF_DIR/$1.1" "$CF_DIR/$1.2" | head -20 | sed 's/^/# /'
}

# Both stores are empty.
stores() {
	local store

	without
	for store; do
		[ ! -e "$CF_DIR/$store.img" ] || cf_unstore "$store"
		# One inode for each directory of each volume, and blocks for them.
		expect cf_store "$store" 300M ext4 -O ^has_journal || return
	done
}

# --- tests ---

test_same_names_attributes_and_content() {
	define_objects
	stores a b || return
	with stock a && fill
	with ours b && fill && names >"$CF_DIR/names"
	without
	alike attributes a b
	alike content a b
	expect_eq "$(sort "$CF_DIR/names")" "$(cd "$CF_DIR/a/cache" && find cache -type f | sort)" \
		"names"
}

# With the caches of the test before.
test_each_reads_what_the_other_wrote() {
	[ ${#key[@]} -gt 0 ] || define_objects
	with ours a && hits
	with stock b && hits
	with ours b && hits
	without
	alike attributes a b
	alike content a b
}

# changes ROUND: to most objects, in the cache that is bound
changes() {
	local n new round=$1

	for n in "${!key[@]}"; do
		case $(((n + round) % 9)) in
		0)
			# The server has something else now.
			seed[n]=${n}2$round
			each_piece "$n" write
			expect tool "$n" -- invalidate "${size[n]}" "${commands[@]}"
			;;
		1)
			# Another version of the file: the old one is stale.
			[ -n "${aux[n]}" ] || continue
			aux[n]=$(printf '%02x' $((0x${aux[n]:0:2} ^ 0x55)))${aux[n]:2}
			seed[n]=${n}3$round
			each_piece "$n" write
			expect tool "$n" -- absent 0 $((size[n] ? size[n] : 1)) "${commands[@]}"
			;;
		2)
			# Modified here; a new version in the end.
			[ -n "${aux[n]}" ] || continue
			seed[n]=${n}4$round
			each_piece "$n" subreq
			new=$(printf '%02x' $((0x${aux[n]:0:2} ^ 0x99)))${aux[n]:2}
			expect tool "$n" -m -U "$new" -u "${size[n]}" -- "${commands[@]}"
			aux[n]=$new
			;;
		3)
			# Gone from the server.
			expect tool "$n" -r --
			each_piece "$n" write
			expect tool "$n" -- absent 0 $((size[n] ? size[n] : 1)) "${commands[@]}"
			;;
		4)
			# Another size on the server.
			size[n]=$((size[n] + 4096 * 3))
			seed[n]=${n}5$round
			pieces[n]="0 ${size[n]}"
			[ "${size[n]}" -lt 4000000 ] || pieces[n]="4096 8192"
			each_piece "$n" write
			expect tool "$n" -- "${commands[@]}"
			;;
		5)
			# Cut off here, at a granule.
			[ "${size[n]}" -gt 8192 ] || continue
			size[n]=8192
			expect tool "$n" -m -- invalidate 100000 write 0 100000 "${seed[n]}" \
				resize 8192 >/dev/null
			pieces[n]="0 8192"
			;;
		esac || cf_note "$module: round $round, object $n ${key[n]}"
	done
}

# Cache "a" is passed on, cache "b" stays with the kernel's own module.
test_taking_turns() {
	local round=0 writer

	define_objects
	stores a b || return
	with stock a && fill && with stock b && fill
	for writer in ours stock ours stock; do
		round=$((round + 1))
		with "$writer" a || return
		hits
		changes $round
		hits
	done
	without
	with ours a && hits
	without
	# What the same changes leave behind in a cache that never was ours.
	define_objects
	for round in 1 2 3 4; do
		with stock b || return
		changes $round
	done
	hits
	without
	alike attributes a b
}

# crash STORE COPY: what a crash now would leave of the cache
crash() {
	local status=0

	expect fsfreeze -f "$CF_DIR/$1" || return
	cp --sparse=always "$CF_DIR/$1.img" "$CF_DIR/$2.img" || status=1
	fsfreeze -u "$CF_DIR/$1"
	mkdir -p "$CF_DIR/$2"
	expect_eq 0 $status "copy of the store" &&
		expect mount -o loop "$CF_DIR/$2.img" "$CF_DIR/$2"
}

# write_again NUMBER COMMAND...: over and over again; says what else than SIGTERM ends it.
# Where the store is frozen, its cache refuses what it would have to wait for.
write_again() {
	local status=0 said

	while [ $status = 0 ]; do
		said=$(tool "$1" -- "${@:2}" 2>&1) || status=$?
		case $said in
		*": write: No buffer space available" | *": write: Device or resource busy")
			[ ! -e "$CF_DIR/crash" ] || status=0
			;;
		esac
	done
	[ $status = 143 ] || echo "status $status: $said"
}

# Objects of ours have their names while they are in use.
test_after_a_crash() {
	local n pids=() busy=(0 2 6 14 16) held=(5 7 18) dirty=(10 13) reader

	define_objects
	# A volume can be acquired once at a time.
	for n in "${busy[@]}" "${held[@]}" "${dirty[@]}"; do
		volume[n]=crash,$n
	done
	stores a || return
	with ours a || return
	fill
	for n in "${held[@]}"; do
		seed[n]=${n}6
		each_piece "$n" write
		cf_background tool_held "$n" -- invalidate "${size[n]}" "${commands[@]}" state hold
		pids+=($!)
	done
	for n in "${dirty[@]}"; do
		each_piece "$n" subreq
		cf_background tool_held "$n" -m -- "${commands[@]}" state hold
		pids+=($!)
	done
	for n in "${held[@]}" "${dirty[@]}"; do
		cf_wait 30 grep -q state= "$CF_DIR/held.$n"
	done
	for n in "${busy[@]}"; do
		each_piece "$n" write
		cf_background write_again "$n" invalidate "${size[n]}" "${commands[@]}" \
			>"$CF_DIR/again.$n" 2>&1
		pids+=($!)
	done
	cf_counts IO:wr
	cf_wait 30 enough_written
	touch "$CF_DIR/crash"
	crash a a2 || return
	for n in "${pids[@]}"; do
		cf_end "$n"
	done
	# A shell may tell of what it has seen ended.
	expect_eq "" "$(grep -v Terminated "$CF_DIR"/again.*)" "what writers had to say"

	for reader in stock ours; do
		with $reader a2 || return
		for n in "${!key[@]}"; do
			each_piece "$n" check
			case " ${dirty[*]} / ${busy[*]/%/ busy} " in
			*" $n busy "*) expect tool "$n" -- "${commands[@]}" >/dev/null ;;
			*" $n "*) expect tool "$n" -- absent 0 "${size[n]}" ;;
			*) hits "$n" ;;
			esac || cf_note "$reader: object $n ${key[n]}"
		done
	done
	without
	cf_unstore a2
}

enough_written() {
	[ "$(cf_counted IO:wr)" -ge 30 ]
}

tool_held() {
	tool "$@" <>"$CF_DIR/fifo" >"$CF_DIR/held.$1" 2>&1
}

# --- the real ones ---

# mount_it NFS-VERSION|9p
mount_it() {
	case $1 in
	9p)
		expect mount -t 9p -o "trans=unix,version=9p2000.L,access=any,msize=262144,\
aname=$export,uname=root,cache=fscache,ignoreqv,cachetag=diod" "$socket" "$mnt"
		;;
	*) expect cf_nfs_mount "$1" "$mnt" "fsc=$tag" ;;
	esac
}

# read_all KIND: through the mount; the files are what they are on the server
read_all() {
	local file

	mount_it "$1" || return
	for file in "$export"/*; do
		expect cmp "$file" "$mnt/${file##*/}"
	done
	cf_nfs_umount "$mnt"
}

# settle KIND: the netfs of 6.12 does not always let the last page of a file be stored, so
# that what a reading has left out may take another one
settle() {
	for _ in {1..8}; do
		cf_counts DownOps:DL
		read_all "$1" || return
		[ "$(cf_counted DownOps:DL)" -gt 0 ] || return 0
	done
	cf_fail "there are downloads again and again"
}

# both_ways KIND
both_ways() {
	local size store reader

	rm -f "$export"/*
	for size in 0 1 4095 4096 4097 1234567; do
		cf_pattern write "$export/f$size" "$size" 0 "$size"
	done
	truncate -s 1000000 "$export/sparse"
	cf_pattern write "$export/sparse" 9 500000 10000
	cf_pattern write "$export/$(hex n 200)" 8 0 20000
	stores a b || return
	with stock a && read_all "$1" && read_all "$1"
	with ours b && read_all "$1" && settle "$1"
	without
	alike attributes a b

	for store in a b; do
		for reader in ours stock; do
			with $reader $store || return
			cf_counts DownOps:DL CaRdOps:RD IO:rd
			read_all "$1"
			expect_ge 5 "$(cf_counted IO:rd)" "reads of $store by $reader"
			# What 6.12's netfs does not let the kernel's own module store.
			expect_le $(($([ $store = a ] && echo 6 || echo 0))) \
				"$(cf_counted DownOps:DL)" "downloads to $store by $reader"
		done
	done
	without
	alike attributes a b
}

test_9p() {
	if ! command -v diod >/dev/null || ! modprobe -q 9p || ! modprobe -q 9pnet_fd; then
		cf_skip "no diod or no 9p"
		return
	fi
	cf_background diod -f -n -N -S -U root -l "$socket" -e "$export" -L "$CF_DIR/diod.log"
	cf_wait 30 test -S "$socket" || return
	both_ways 9p
}

test_nfs() {
	expect cf_nfs_server "$export" || return
	both_ways 3
	both_ways 4.2
}

# The kernel's own module has no files for ondemandfs, rather than an empty one of any name.
test_nothing_for_ondemandfs() {
	stores a && with stock a || return
	modprobe -q ondemandfs || {
		cf_skip "no ondemandfs"
		return
	}
	expect mount -t ondemandfs -o cache=$tag volume "$mnt" || return
	[ ! -e "$mnt/name" ] || cf_fail "there is a file of $(stat -c %s "$mnt/name") bytes"
	cf_umount "$mnt"
}

# need_cachefiles MODULE WHAT: which may be missing, but not be refused by the kernel
need_cachefiles() {
	local status=0

	load-cachefiles "$1" || status=$?
	case $status in
	0) ;;
	4) cf_skip_all "no $2" ;;
	*) cf_bail_out "load-cachefiles $1: status $status" ;;
	esac
}

cf_need cf_netfs_tool pattern load-cachefiles getfattr setfattr xfs_io fsfreeze
cf_need_module cf_netfs
mkdir -p "$mnt" "$export"
mkfifo "$CF_DIR/fifo"
need_cachefiles stock "cachefiles of the kernel's own"
need_cachefiles ours "cachefiles of ours"
cf_need_nfs

cf_tests test_same_names_attributes_and_content test_each_reads_what_the_other_wrote \
	test_taking_turns test_after_a_crash test_9p test_nfs test_nothing_for_ondemandfs
