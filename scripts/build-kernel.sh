#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# build-kernel.sh base|debug|kcsan|coverage[-SERIES]
# build-kernel.sh tree SOURCE
# build-kernel.sh prepare TREE
#
# Builds a kernel for the virtual machine into the cache folder, from Debian's source
# package and the fragments in scripts/config: base is small and fast, debug is base
# with KASAN, lockdep, kmemleak and their like, kcsan is base with what finds data races
# in our modules, coverage is base with what counts what of them is executed and lets calls
# fail. SERIES is 6.12 if it is not given, else that of a kernel that setup.sh
# knows the source of, such as 6.1 and 7.3. What was built from the same source and
# fragments is not built again. "tree" builds base from any source tree, which it leaves as
# it is, and builds again what has changed there; the kernel's name is then tree-VERSION.
# "prepare" configures any kernel tree with base and makes it fit for building our modules
# (make KDIR=TREE). JOBS= limits the processors.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

series=6.12

# configure DIR SOURCE FRAGMENT...: kconfig, and a look at what came of it. The fragments are
# written for 6.12: another kernel may lack what they name.
configure() {
	local dir=$1 source=$2 wish name wishes lost unknown=()

	shift 2
	kconfig "$dir" "$@" || return
	mapfile -t wishes < <(cat "$@" | grep -o '^CONFIG_[^ ]*' | tac | sort -t= -k1,1 -u -s)
	mapfile -t lost < <(unfulfilled "$dir" "${wishes[@]}")
	[ ${#lost[@]} -eq 0 ] || [ "$series" = 6.12 ] || {
		wish=$(grep -rhoE --include='Kconfig*' '^\s*(menu)?config [A-Z0-9_]+$' "$source" |
			awk '{ print "CONFIG_" $2 }')
		for name in "${lost[@]}"; do
			grep -qxF "${name%%=*}" <<<"$wish" || unknown+=("$name")
		done
		mapfile -t lost < <(comm -23 <(printf '%s\n' "${lost[@]}" | sort) \
			<(printf '%s\n' "${unknown[@]}" | sort))
		say "this kernel does not know ${unknown[*]}"
	}
	[ -z "${lost[*]}" ] || say "these wishes did not come true: ${lost[*]}"
	[ -z "${lost[*]}" ]
}

prepare() {
	[ -e "$1/Kbuild" ] || die "$1: not a kernel tree"
	configure "$1" "$1" "$top/scripts/config/base.config" || :
	make -s -j "$jobs" -C "$1" modules_prepare
	say "$1 is ready: make KDIR=$1"
}

# build NAME [SOURCE]
build() {
	local name=$1 flavour=${1%%-*} fragments=("$top/scripts/config/base.config")
	local source=${2:-$cache/linux-$series} version key dir options=()

	[ "$flavour" = base ] || [ "$flavour" = tree ] || fragments+=("$top/scripts/config/$flavour.config")
	[ ! -e "$top/scripts/config/base-$series.config" ] ||
		fragments+=("$top/scripts/config/base-$series.config")
	# With only our modules instrumented it is as fast as base, and its samples are ours.
	[ "$flavour" != kcsan ] || options=(KCSAN_SANITIZE=n)
	version=$(make -s -C "$source" kernelversion)
	# Trees of one version may differ, and a tree may change; make knows.
	key=$({ cat "${fragments[@]}" && echo -n "${2:-}"; } | sha256sum | cut -c1-12)
	dir=$cache/kernels/$flavour-$version-$key
	mkdir -p "$dir/build"
	only_one "$dir/lock" "builds this kernel"
	if [ ! -e "$dir/boot" ] || [ "$flavour" = tree ]; then
		make -s -C "$source" O="$dir/build" outputmakefile
		say "configuring $version-$flavour"
		configure "$dir/build" "$source" "${fragments[@]}" \
			<(echo "CONFIG_LOCALVERSION=\"-$flavour\"") ||
			die "fragments in scripts/config need mending"
		say "building in $dir"
		run_make "$dir/build.log" -C "$dir/build" ${options[@]+"${options[@]}"} bzImage \
			modules || {
			tail -30 "$dir/build.log" >&2
			die "make failed, see $dir/build.log"
		}
		strip -o "$dir/vmlinux" "$dir/build/vmlinux"
		install_kernel "$dir/build" "$dir" "$dir/build.log" ||
			die "the kernel can't be installed in $dir, see $dir/build.log"
	fi
	ln -sfn "${dir##*/}" "$cache/kernels/$name"
	say "the $name kernel is in $dir"
}

case "$#:${1:-}" in
1:base | 1:debug | 1:kcsan | 1:coverage | 1:base-* | 1:debug-* | 1:kcsan-* | 1:coverage-*)
	[ "$1" = "${1%%-*}" ] || series=${1#*-}
	"$top/scripts/setup.sh" build debug "source-$series"
	build "$1"
	;;
2:tree)
	[ -e "$2/Kbuild" ] || die "$2: not a kernel tree"
	"$top/scripts/setup.sh" build debug
	source=$(readlink -f "$2")
	version=$(make -s -C "$source" kernelversion)
	series=$(cut -d. -f1,2 <<<"${version%%-*}")
	# What setup.sh has unpacked is what base is built from.
	if [ "$source" = "$(readlink -f "$cache/linux-$series")" ]; then
		build "base-$series"
		ln -sfn "$(readlink "$cache/kernels/base-$series")" "$cache/kernels/tree-$version"
	else
		build "tree-$version" "$source"
	fi
	;;
2:prepare) prepare "$2" ;;
*) die "usage: build-kernel.sh base|debug|kcsan|coverage[-SERIES], or build-kernel.sh tree|prepare TREE" ;;
esac
