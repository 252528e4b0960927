#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-only
#
# compat-config.sh BUILD
#
# Collects the answers of BUILD/probe into BUILD/generated: compat-config.h for the
# compiler and compat-config.mk for Kbuild.
set -eu

out=$1/generated
mk=
h='#define COMPAT_ASKED 1
'
for file in "$1"/probe/*.c; do
	[ -e "$file" ] || continue
	name=${file##*/}
	name=${name%.c}
	upper=COMPAT_$(echo "$name" | tr '[:lower:]-' '[:upper:]_')
	read -r answer <"$1/probe/$name.probe"
	if [ "$answer" = y ]; then
		h="$h#define $upper 1
"
		mk="$mk$upper := y
"
	else
		h="$h/* $upper is not set */
"
	fi
done
printf '%s' "$mk" >"$out/compat-config.mk"
printf '%s' "$h" >"$out/compat-config.h"
