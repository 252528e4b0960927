#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# kernel-path.sh dir|build|release NAME
#
# Prints where the kernel NAME (stock, base, debug, or a kernel directory) is, its
# build directory for modules, or its release.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

[ $# = 2 ] || die "usage: kernel-path.sh dir|build|release NAME"
dir=$(kernel_dir "$2")
case $1 in
dir) echo "$dir" ;;
build) readlink -f "$dir/build" ;;
release) kernel_release "$dir" ;;
*) die "$1: unknown" ;;
esac
