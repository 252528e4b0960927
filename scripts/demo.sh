#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# demo.sh [--timeout SECONDS] [--out DIR]
#
# Serves an EROFS image through the cache in a virtual machine to 4 readers, kills the
# daemon again and again, and compares every file; then reads all again without a daemon.
# Prints a table and fails if anything is off.
#
# What the virtual machine has found goes to DIR.
#
#	DEMO_DIR=DIR    what to put into the image (default: a large directory)
#	KERNEL=NAME     stock (default), stock-6.1, base, base-7.3 and the like, or a kernel
#			directory
#	KILLS=N         kill the daemon at least so often (default 50)
set -euo pipefail
. "$(dirname "$0")/lib.sh"

readers=4
kills=${KILLS:-50}
kernel=${KERNEL:-stock}
timeout=600
out=
min_bytes=$((100 << 20))
min_files=5000

runner_options "$@"

if [ -n "${DEMO_DIR:-}" ]; then
	[ -d "$DEMO_DIR" ] || die "$DEMO_DIR: not a directory"
	DEMO_DIR=$(cd "$DEMO_DIR" && pwd)
fi

runner_begin "$kernel"
build=${BUILD:-$top/build/$release}
rm -f "$out"/{result,{first,second,last}.*}

say "building the modules for $release, and the daemon"
make -s -C "$top" -j "$jobs" KDIR="$kernel_path/build" BUILD="$build" modules >"$work/make.log" 2>&1 ||
	{ cat "$work/make.log" >&2; die "the modules do not build"; }
mkdir "$work/bin"
make -s -C "$top/tools/testing/selftests/cachefiles" O="$work/bin" \
	"$work/bin/ondemandd" "$work/bin/mount_file" >"$work/make.log" 2>&1 ||
	{ cat "$work/make.log" >&2; die "the daemon does not build"; }

# --- what is read ---

# count DIR: the number of its regular files and their bytes
count() {
	find "$1" -xdev -type f -printf '%s\n' | awk '{ n++; b += $1 } END { print n + 0, b + 0 }'
}

if [ -n "${DEMO_DIR:-}" ]; then
	dir=$DEMO_DIR
	read -r files bytes < <(count "$dir")
	[ "$files" -gt 0 ] || die "$dir: no files"
else
	for dir in "$kernel_path" "$(kernel_dir stock)" /usr/share /usr/lib; do
		read -r files bytes < <(count "$dir")
		[ "$files" -lt $min_files ] || [ "$bytes" -lt $min_bytes ] || break
	done
	if [ "$files" -lt $min_files ] || [ "$bytes" -lt $min_bytes ]; then
		die "no directory with $min_files files and $min_bytes bytes; give DEMO_DIR"
	fi
fi

# mib BYTES
mib() {
	echo "$((($1 + 524288) >> 20)) MiB"
}

say "taking the sha256 of the $files files ($(mib "$bytes")) of $dir"
mkdir -p "$work/disk/image"
(cd "$dir" && find . -xdev -type f -print0) >"$work/files"
split -t '\0' -n "r/$readers" -a 1 --numeric-suffixes "$work/files" "$work/disk/list."
"$top/scripts/guest/demo-hash" "$dir" "$work/disk/list" "$work/original"
cat "$work/original".*.err >&2
LC_ALL=C sort -z "$work/original".[0-9] >"$work/disk/image/sums"
[ "$(tr -dc '\0' <"$work/disk/image/sums" | wc -c)" = "$files" ] || die "$dir: not all files can be read"

say "making the image"
mkfs.erofs --quiet "$work/disk/image/demo" "$dir" >"$work/mkfs.log" 2>&1 ||
	{ cat "$work/mkfs.log" >&2; die "mkfs.erofs failed"; }
image=$(stat -c %s "$work/disk/image/demo")
truncate -s $((image + image / 8 + (64 << 20))) "$work/vda"
truncate -s $((image + image / 2 + (256 << 20))) "$work/vdb"
mkfs.ext4 -q -m 0 -d "$work/disk" "$work/vda"
mkfs.ext4 -q "$work/vdb"
rm "$work/disk/image/demo" "$work/disk/list".*

# --- reading it ---

# A READ is for about 128 KiB. Some are delivered again after each kill, so that there
# are more of them than the image has data for, and the daemon dies more often than this.
every=$((image / 131072 / (2 * kills)))
[ $every -gt 0 ] || every=1
# Busybox's xargs prefers busybox's sha256sum.
status=0
"$top/scripts/vm.sh" --kernel "$kernel_path" --build "$build" --timeout "$timeout" --out "$out" \
	--add "$work/bin/ondemandd:/job/ondemandd" --add "$work/bin/mount_file:/job/mount_file" \
	--add "$(command -v xargs):/usr/bin/xargs" --disk "$work/vda" --disk "$work/vdb" -- demo-guest "$every" || status=$?

# --- what has happened ---

# value FILE NAME
value() {
	local value

	value=$(sed -n "s/^$2=//p" "$out/$1" 2>/dev/null) || :
	echo "${value:-?}"
}

# missed PASS: how many files were not read as they are in the original
missed() {
	{ LC_ALL=C sort -z "$out/$1".[0-9] 2>/dev/null || :; } | LC_ALL=C comm -z -23 "$work/disk/image/sums" - |
		tr -dc '\0' | wc -c
}

off=()
# want TEXT CONDITION...: as for test(1)
want() {
	local text=$1

	shift
	[ "$@" ] 2>/dev/null || off+=("$text")
}

row() {
	printf '  %-30s %s\n' "$@"
}

stats=last.stats
[ -e "$out/$stats" ] || stats=first.stats
mismatches=$(($(missed first) + $(missed second)))
[ "$(value result last_mismatch)" = "?" ] || mismatches=$((mismatches + 1))
errors=$(cat "$out"/*.errors 2>/dev/null | wc -l) || :
daemon_errors=$(value $stats errors)
errors=$((errors + ${daemon_errors/\?/0}))
disk=$(value result second_disk)

{ cat "$out"/*.errors 2>/dev/null || :; } | head -n 10 >&2
row "files" "$files"
row "bytes" "$bytes ($(mib "$bytes"))"
row "image" "$image ($(mib "$image"))"
row "requests OPEN/READ/CLOSE" "$(value $stats opens)/$(value $stats reads)/$(value $stats closes)"
row "kills" "$(value $stats kills), $(value $stats busy) with a request in its hands"
row "reopened" "$(value $stats reopened)"
row "re-sent" "$(value $stats resent)"
row "mismatches" "$mismatches"
row "errors" "$errors"
row "upcalls in the second pass" "$(value result upcalls)"
row "read from the disk there" "$(mib "${disk/\?/0}")"
row "seconds, first/second pass" "$(value result first_seconds)/$(value result second_seconds)"

want "the virtual machine ended with status $status" $status = 0
want "not everything has run" "$(value result ended)" = 1
want "fewer than $kills kills; KILLS=N asks for another number" "$(value $stats busy)" -ge "$kills"
want "no request was sent again" "$(value $stats resent)" -gt 0
want "nothing was reopened" "$(value $stats reopened)" -gt 0
want "files are not as they were" "$mismatches" = 0
want "there were errors" "$errors" = 0
want "the trace has seen no request in the first pass" "$(value result first_events)" -gt 0
want "there were upcalls in the second pass" "$(value result upcalls)" = 0
want "a request was pending after the second pass" "$(value result pending)" = 0
want "the second pass was not read from the disk" "$disk" -ge $((image * 9 / 10))
for text in ${off[@]+"${off[@]}"}; do
	say "FAILED: $text"
done
[ ${#off[@]} -eq 0 ] || exit 1
say "every byte was as it should be"
