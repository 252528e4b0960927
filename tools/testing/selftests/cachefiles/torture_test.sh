#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Wherever a daemon dies, stops or loses a descriptor, readers get every byte right and
# no error as long as somebody keeps the device, and nobody waits for ever.
#
# This is the short form of "make torture": each point once. CF_SEED repeats a run with
# another seed, CF_KILLS makes it longer.
. "$(dirname "$0")/lib/test.sh"
cf_need cf_torture
cf_need_fs "$CF_FSTYPE" ondemandfs
cf_need_module cachefiles

SEED=${CF_SEED:-1}
KILLS=${CF_KILLS:-$((CF_SCALE > 1 ? 40 : 80))}

# With an image for EROFS, where there is what it takes.
image() {
	command -v mkfs.erofs >/dev/null && cf_have_fs erofs || return
	mkdir "$CF_DIR/files"
	"$cf_here/cf_torture" --make "$CF_DIR/files" 40 &&
		mkfs.erofs --quiet -T0 "$CF_DIR/image" "$CF_DIR/files" >/dev/null
}

all_points() {
	local options=(--brief --seed "$SEED" --kills "$KILLS" --files 600 --readers 8 --minutes 5)

	# The machine may be busy with others.
	options+=(--umount-ms 10000)

	cf_store store 4G || return
	mkdir "$CF_DIR/mnt"
	! image || options+=(--image "$CF_DIR/image" --image-files 40)
	expect "$cf_here/cf_torture" "${options[@]}" "$CF_DIR/store" "$CF_DIR/mnt"
	cf_unstore store
}

cf_tests all_points
