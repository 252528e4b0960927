#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# torture.sh [--timeout SECONDS] [--out DIR]
#
# Kills daemons in a virtual machine, at each point of the protocol and at random, while
# readers go through ondemandfs, and through EROFS on a file of it, and compare every
# byte. Prints tables and fails if anything is off.
#
# What the virtual machine has found goes to DIR.
#
#	KERNEL=NAME     stock (default), base, debug, or a kernel directory
#	EROFS=y         read through EROFS over FS-Cache instead (default kernel: base)
#	SEED=N          what is drawn (default: from the clock)
#	KILLS=N         daemons to kill, at least (default 1000; debug 150)
#	READERS=N       processes that read (default 16)
#	FILES=N         files, each of which is read completely (default 20000; debug 1000)
#	MINUTES=N       end after so many in any case (default 20); what is not done by then
#	                has failed
#	SCALE=N         multiplies time limits, for a busy machine (default 1; debug 10)
#	BRIEF=y         each point once instead of several times, and any of the files
set -euo pipefail
. "$(dirname "$0")/lib.sh"

erofs=${EROFS:-}
kernel=${KERNEL:-$([ -n "$erofs" ] && echo base || echo stock)}
kills=1000
files=20000
scale=1
if [ "$kernel" = debug ]; then
	kills=150
	files=1000
	scale=10
fi
kills=${KILLS:-$kills}
files=${FILES:-$files}
scale=${SCALE:-$scale}
readers=${READERS:-16}
minutes=${MINUTES:-20}
seed=${SEED:-$(date +%s)}
image_files=300
timeout=$((minutes * 60 + 120 + 60 * scale))
out=

runner_options "$@"

runner_begin "$kernel"
build=${BUILD:-$top/build/torture-$release}
rm -f "$out"/{counts,unload}

say "building the modules for $release, and the tool"
make -s -C "$top" -j "$jobs" KDIR="$kernel_path/build" BUILD="$build" DEBUG=y modules \
	>"$work/make.log" 2>&1 || { cat "$work/make.log" >&2; die "the modules do not build"; }
make -s -C "$top/tools/testing/selftests/cachefiles" O="$work" "$work/cf_torture" \
	>"$work/make.log" 2>&1 || { cat "$work/make.log" >&2; die "the tool does not build"; }

say "making ${erofs:+images of }the files"
mkdir "$work/files"
if [ -n "$erofs" ]; then
	"$work/cf_torture" --make-images "$work/files" "$files"
	truncate -s $(($(du -sm "$work/files" | cut -f1) * 5 / 4 + 64))M "$work/vdb"
	mkfs.ext4 -q -d "$work/files" "$work/vdb"
	rm -r "$work/files"
	run=(--disk "$work/vdb")
	options=(--erofs /mnt/images)
else
	"$work/cf_torture" --make "$work/files" $image_files
	mkfs.erofs --quiet -T0 "$work/image" "$work/files" >"$work/mkfs.log" 2>&1 ||
		{ cat "$work/mkfs.log" >&2; die "mkfs.erofs failed"; }
	run=(--add "$work/image:/job/image")
	options=(--image /job/image --image-files "$image_files")
fi
truncate -s 32G "$work/vda"
mkfs.ext4 -q -m 0 "$work/vda"

status=0
"$top/scripts/vm.sh" --kernel "$kernel_path" --build "$build" --timeout "$timeout" --out "$out" \
	--add "$work/cf_torture:/job/cf_torture" --disk "$work/vda" "${run[@]}" \
	--mem 3072 -- env CF_TIME_SCALE="$scale" torture-guest ${BRIEF:+--brief} --seed "$seed" \
	--readers "$readers" --files "$files" --kills "$kills" --minutes "$minutes" \
	"${options[@]}" || status=$?

unload=$(cat "$out/unload" 2>/dev/null) || unload=
echo "# milliseconds to unload the modules: ${unload:-?}"
if [ $status != 0 ]; then
	say "FAILED with status $status; SEED=$seed draws the same"
	exit 1
fi
[ "${unload:-1000000}" -le $((1000 * scale)) ] || die "unloading has taken $unload ms"
say "every byte was right, and nobody was left waiting"
