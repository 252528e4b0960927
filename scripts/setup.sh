#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# setup.sh [build] [vm] [check] [bench] [debug] [6.1] [coverage] [series] [source-SERIES]...
#
# Brings a Debian 12 machine, as root, to where the named things work; without an
# argument everything but debug, coverage, series, 6.1, which is the older stock kernel, and
# source-SERIES, which is what build-kernel.sh builds kernels of that series from;
# source-newest is that of the newest series that there is, beside the project or in the
# package lists, and prints where it is.
# Packages are installed by apt. Some are servers that tests run in a virtual machine;
# those that are new here are neither started nor enabled. The stock kernel and its headers
# are unpacked into the cache folder, the host's own kernel stays what it is. What is there
# already is skipped, so this may run as often as one likes.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

series=6.12

declare -A packages=(
	[build]="gcc gcc-12 libc6-dev make bc kmod xz-utils zstd libelf1 libssl3 pahole git"
	[vm]="qemu-system-x86 busybox-static cpio kmod binutils xz-utils zstd e2fsprogs xfsprogs
		btrfs-progs f2fs-tools erofs-utils dmsetup mount util-linux bash attr cachefilesd
		nfs-kernel-server nfs-common rpcbind diod fio"
	[check]="sparse coccinelle shellcheck perl python3 python3-sphinx git"
	[bench]="libfuse3-dev fuse3 pkg-config python3"
	[debug]="flex bison libelf-dev libssl-dev bc cpio rsync"
	[6.1]="gcc gcc-12 libc6-dev make kmod xz-utils"
	[coverage]="gcc lcov python3"
	[series]="git perl python3-ply python3-git flex bison libelf-dev libssl-dev bc rsync"
)

updated=
apt_update() {
	[ -z "$updated" ] || return 0
	updated=y
	say "reading the package lists"
	apt-get -q update >"$cache/apt.log" 2>&1 || say "apt-get update failed, see $cache/apt.log"
}

# While servers are installed, nothing is started. A policy that is there already stays, but
# for ours, which a run that was killed has left behind.
policy=/usr/sbin/policy-rc.d
policy_mark="# Put here by setup.sh of cachefiles, until it has installed what it needs"
held=
drop_old_policy() {
	! grep -qxF "$policy_mark" "$policy" 2>/dev/null || rm -f "$policy" ||
		say "$policy has been left behind, and starts no service"
}

hold_services() {
	[ ! -e "$policy" ] || return 0
	held=y
	trap release_services EXIT
	printf '#!/bin/sh\n%s\nexit 101\n' "$policy_mark" >"$policy"
	chmod 755 "$policy"
}

release_services() {
	[ -z "$held" ] || rm -f "$policy"
	held=
}

# disable_services PACKAGE...: nor do the services of new packages start with the machine.
disable_services() {
	local units

	mapfile -t units < <(dpkg-query -L "$@" 2>/dev/null |
		sed -nE 's,^(/usr)?/lib/systemd/system/([^/]*\.(service|socket))$,\2,p')
	[ ${#units[@]} -eq 0 ] || ! command -v systemctl >/dev/null ||
		systemctl -q disable "${units[@]}" >>"$cache/apt.log" 2>&1 || :
}

# Installs what of its arguments is missing.
apt_install() {
	local missing=() servers=() package

	for package in "$@"; do
		[ "$(dpkg-query -Wf '${db:Status-Status}' "$package" 2>/dev/null)" = installed ] ||
			missing+=("$package")
	done
	[ ${#missing[@]} -gt 0 ] || return 0
	[ "$(id -u)" = 0 ] || die "not root, and these packages are missing: ${missing[*]}"
	apt_update
	say "installing ${missing[*]}"
	for package in "${missing[@]}"; do
		case $package in
		cachefilesd | nfs-* | rpcbind | diod) servers+=("$package") ;;
		esac
	done
	[ ${#servers[@]} -eq 0 ] || hold_services
	DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 \
		install --no-install-recommends "${missing[@]}" >"$cache/apt.log" 2>&1 ||
		{ tail -20 "$cache/apt.log" >&2; die "installing packages failed"; }
	if [ ${#servers[@]} -gt 0 ]; then
		disable_services "${servers[@]}"
		release_services
	fi
}

# fetch PACKAGE: downloads its newest version and prints the file's name
fetch() {
	local file

	mkdir -p "$cache/debs"
	cd "$cache/debs"
	file=$(find . -maxdepth 1 -name "$1_*.deb" | sort -V | tail -1)
	if [ -z "$file" ]; then
		say "downloading $1"
		apt-get -q -o APT::Sandbox::User=root download "$1" >"$cache/apt.log" 2>&1 || {
			apt_update
			apt-get -q -o APT::Sandbox::User=root download "$1" >"$cache/apt.log" 2>&1
		} || die "downloading $1 failed, see $cache/apt.log"
		file=$(find . -maxdepth 1 -name "$1_*.deb" | sort -V | tail -1)
	fi
	echo "$cache/debs/${file#./}"
}

# newest_release SERIES: the newest that the package lists know
newest_release() {
	apt-cache pkgnames "linux-image-$1" |
		sed -nE "s/^linux-image-($1\.[0-9]+(\+deb12|-[0-9]+)-amd64)-unsigned\$/\1/p" |
		sort -V | tail -1
}

# unpack_kernel IMAGE MAGIC COMMAND...: the uncompressed kernel inside a boot image, on
# standard output. It starts in a virtual machine without unpacking itself, which costs
# an emulated processor seconds.
unpack_kernel() {
	local at

	at=$(LC_ALL=C grep -abom1 "$2" "$1" | head -1 | cut -d: -f1) || :
	[ -n "$at" ] || return 0
	tail -c +$((at + 1)) "$1" | "${@:3}" 2>/dev/null || :
}

# stock_kernel SERIES NAME: into the cache folder, with a link NAME to it
stock_kernel() {
	local release common kbuild dir tmp package file

	[ ! -e "$cache/kernels/$2" ] || return 0
	apt_update
	release=$(newest_release "$1")
	[ -n "$release" ] || die "no linux-image-$1*-amd64-unsigned in the package lists"
	common=${release%-amd64}
	kbuild=linux-kbuild-$common
	[ "$1" != 6.1 ] || kbuild=linux-kbuild-$1

	dir=$cache/kernels/stock-$release
	tmp=$dir.new
	rm -rf "$tmp"
	mkdir -p "$tmp"
	for package in "linux-image-$release-unsigned" "linux-headers-$release" \
		"linux-headers-$common-common" "$kbuild"; do
		file=$(fetch "$package")
		say "unpacking ${file##*/}"
		dpkg-deb -x "$file" "$tmp"
	done

	# One file names another by its absolute path, as if installed.
	sed -i "s|^include /usr/src/|include $dir/usr/src/|" "$tmp/usr/src/linux-headers-$release/Makefile"
	ln -sfn "usr/src/linux-headers-$release" "$tmp/build"

	say "indexing the modules of $release"
	depmod -b "$tmp" "$release"

	file=$tmp/boot/vmlinuz-$release
	unpack_kernel "$file" $'\x28\xb5\x2f\xfd' zstd -dcq >"$tmp/vmlinux"
	[ -s "$tmp/vmlinux" ] || unpack_kernel "$file" $'\xfd7zXZ' xz -dcq --single-stream >"$tmp/vmlinux"
	readelf -n "$tmp/vmlinux" 2>/dev/null | grep -q Xen || rm -f "$tmp/vmlinux"

	rm -rf "$dir"
	mv "$tmp" "$dir"
	ln -sfn "${dir##*/}" "$cache/kernels/$2"
	rm -rf "$cache/debs"
	say "stock kernel $release is in $dir"
}

# offered: the series whose source the package lists know
offered() {
	apt-cache pkgnames linux-source- | sed -nE 's/^linux-source-([0-9]+\.[0-9]+)$/\1/p'
}

# newest_source: the newest series that there is a source of
newest_source() {
	{
		find "$top/../shared/kernels" -name 'linux-*.tar.xz' -printf '%f\n' 2>/dev/null |
			sed -nE 's/^linux-([0-9]+\.[0-9]+).*/\1/p'
		offered
	} | sort -V | tail -1
}

# source_tarball SERIES: prints where the kernel source is, which is fetched when it is not
# there. What Debian does not offer may lie beside the project.
source_tarball() {
	local file name=linux-source-$1.tar.xz

	file=$(find "$top/../shared/kernels" -name "linux-$1[.-]*tar.xz" 2>/dev/null | sort -V | tail -1)
	if [ -n "$file" ]; then
		echo "$file"
		return
	fi
	if [ -e "/usr/src/$name" ]; then
		echo "/usr/src/$name"
		return
	fi
	if [ ! -e "$cache/$name" ]; then
		file=$(fetch "linux-source-$1") ||
			die "no source of Linux $1; ../shared/kernels/linux-$1.tar.xz would do"
		say "unpacking ${file##*/}"
		dpkg-deb --fsys-tarfile "$file" |
			tar -xOf - "./usr/src/$name" >"$cache/$name.new"
		mv "$cache/$name.new" "$cache/$name"
		rm -f "$file"
	fi
	echo "$cache/$name"
}

# The parts of the kernel source that checks and tests use.
kernel_tools() {
	local tarball tmp=$cache/source.new

	# The last that was added to the list below dates what is there.
	[ ! -e "$cache/source/tools/testing/selftests/kselftest/ktap_helpers.sh" ] || return 0
	tarball=$(source_tarball "$series")
	rm -rf "$tmp"
	mkdir -p "$tmp"
	say "unpacking checkpatch, documentation tools, coccinelle scripts and kselftest headers"
	tar -xf "$tarball" -C "$tmp" --strip-components=1 --wildcards --no-anchored \
		"linux-source-$series/Documentation/sphinx" \
		"linux-source-$series/scripts/checkpatch.pl" \
		"linux-source-$series/scripts/spelling.txt" \
		"linux-source-$series/scripts/const_structs.checkpatch" \
		"linux-source-$series/scripts/kernel-doc" \
		"linux-source-$series/scripts/coccicheck" \
		"linux-source-$series/scripts/coccinelle" \
		"linux-source-$series/tools/testing/selftests/kselftest*.h" \
		"linux-source-$series/tools/testing/selftests/lib.mk" \
		"linux-source-$series/tools/testing/selftests/kselftest/ktap_helpers.sh" \
		"linux-source-$series/tools/testing/selftests/kselftest/runner.sh" \
		"linux-source-$series/tools/testing/selftests/kselftest/prefix.pl"
	rm -rf "$cache/source"
	mv "$tmp" "$cache/source"
}

# kernel_source SERIES: all of it, for build-kernel.sh
kernel_source() {
	local tarball tmp=$cache/linux-$1.new

	[ ! -e "$cache/linux-$1" ] || return 0
	tarball=$(source_tarball "$1")
	say "unpacking ${tarball##*/}"
	rm -rf "$tmp"
	mkdir -p "$tmp"
	tar -xf "$tarball" -C "$tmp" --strip-components=1
	mv "$tmp" "$cache/linux-$1"
}

[ $# -gt 0 ] || set -- build vm check bench
mkdir -p "$cache"
only_one "$cache/setup.lock" "sets things up"
drop_old_policy
for what in "$@"; do
	case $what in
	source-newest)
		apt_update
		what=$(newest_source)
		[ -n "$what" ] || die "no linux-source-* in the package lists"
		kernel_source "$what"
		echo "$cache/linux-$what"
		continue
		;;
	source-*)
		kernel_source "${what#*-}"
		continue
		;;
	esac
	[ -n "${packages[$what]:-}" ] ||
		die "usage: setup.sh [build] [vm] [check] [bench] [debug] [6.1] [coverage] [source-SERIES]..."
	# shellcheck disable=SC2086 # a list
	apt_install ${packages[$what]}
	case $what in
	build | vm) stock_kernel "$series" stock ;;
	6.1) stock_kernel 6.1 stock-6.1 ;;
	check) kernel_tools ;;
	debug) kernel_source "$series" ;;
	esac
done
