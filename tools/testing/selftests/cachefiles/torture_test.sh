#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Wherever a daemon dies, stops or loses a descriptor, readers get every byte right and
# no error as long as somebody keeps the device, and nobody waits for ever.
#
# This is the short form of "make torture", and of "make torture EROFS=y": each point once.
# CF_SEED repeats a run with another seed, CF_KILLS makes it longer.
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

# torture OPTION...: on a new store. Its status is that of the tool.
torture() {
	local status=0

	cf_store store 4G || return
	mkdir -p "$CF_DIR/mnt"
	# The machine may be busy with others.
	"$cf_here/cf_torture" --brief --seed "$SEED" --kills "$KILLS" --files 600 --readers 8 \
		--minutes $((5 * CF_SCALE)) --umount-ms 10000 "$@" "$CF_DIR/store" "$CF_DIR/mnt" || status=$?
	cf_unstore store
	return $status
}

all_points() {
	local options=()

	! image || options+=(--image "$CF_DIR/image" --image-files 40)
	expect torture ${options[@]+"${options[@]}"}
}

all_points_through_erofs() {
	local status=0

	if ! command -v mkfs.erofs >/dev/null || ! cf_have_fs erofs; then
		cf_skip "no EROFS, or no mkfs.erofs"
		return
	fi
	mkdir "$CF_DIR/images"
	expect "$cf_here/cf_torture" --make-images "$CF_DIR/images" 600 || return
	torture --erofs "$CF_DIR/images" || status=$?
	if [ $status = 4 ]; then
		cf_skip "EROFS does not read through FS-Cache (CONFIG_EROFS_FS_ONDEMAND)"
	else
		expect_eq 0 $status "status of cf_torture"
	fi
}

cf_tests all_points all_points_through_erofs
