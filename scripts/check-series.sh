#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# check-series.sh [short]
#
# Is the patch series fit for mainline? Everything is done to a copy of a kernel source in
# the cache folder, of KERNEL=TREE (of a git tree, its HEAD), else of the newest that
# setup.sh finds: each patch has to apply, to pass checkpatch and to build in three ways
# without a warning; in the end the tree has to have our files and no others, and its
# kernel to boot and to pass the kselftests that are built in that tree, with our code
# built in and as modules. The first run builds that kernel, which takes some 15 minutes;
# it is kept.
#
# short: some of the patches only, nothing is linked or booted; for "make check". Status 4 and
# the reason if it would have to prepare the copy first, or to wait for another run.
#
# KEEP=n builds the kernel anew. TESTS="PROGRAM..." runs only these, CF_TIME_SCALE=N gives
# tests N times as long. Logs are kept in build/check-series.
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# Progress of what is checked; else anything that it says is wrong.
exec 3>&2

logs=$top/build/check-series
patches=$logs/patches
selftests=tools/testing/selftests
source=${KERNEL:-$(find "$cache" -maxdepth 1 -type d -regex '.*/linux-[0-9]+\.[0-9]+' \
	2>/dev/null | sort -V | tail -1 || :)}
# Debian's Python has the modules that checkpatch's check of licences needs.
export PATH=/usr/bin:$PATH

# A machine that only checks has no committer.
git -C "$top" config user.email >/dev/null || export GIT_CONFIG_COUNT=2 \
	GIT_CONFIG_KEY_0=user.name GIT_CONFIG_VALUE_0=check-series \
	GIT_CONFIG_KEY_1=user.email GIT_CONFIG_VALUE_1=check-series@localhost

# Where the series goes: a copy with its history, and what is built from it. Trees of others
# may have one version and different content.
place() {
	local key=

	[ -e "$source/Kbuild" ] || return 1
	source=$(readlink -f "$source")
	[ -z "${KERNEL:-}" ] || key=$(cd "$source" && { git rev-parse -q --verify HEAD || pwd; } |
		sha256sum | cut -c1-8)
	version=$(make -s -C "$source" kernelversion)
	tree=$cache/series/tree-$version${key:+.$key}
	objects=${tree/tree-/build-}
}

prepare() {
	local new

	"$top/scripts/setup.sh" build vm check series
	[ -n "${KERNEL:-}" ] || source=$("$top/scripts/setup.sh" source-newest)
	place || die "$source: not a kernel tree"
	mkdir -p "$cache/series"
	only_one "$cache/series/lock" "is at work on the copy"
	[ "${KEEP:-}" != n ] || rm -rf "$tree" "$objects"
	mkdir -p "$objects"
	if [ ! -e "$tree" ]; then
		say "copying the source of ${tree##*/tree-}"
		new=$tree.new
		rm -rf "$new"
		if [ -e "$source/.git" ]; then
			mkdir "$new"
			git -C "$source" archive HEAD | tar -xf - -C "$new"
		else
			cp -a "$source" "$new"
		fi
		git -C "$new" init -q
		git -C "$new" config gc.auto 0
		git -C "$new" add -A -f
		git -C "$new" -c user.name=base -c user.email=base commit -q -m "$(basename "$tree")"
		git -C "$new" tag base
		mv "$new" "$tree"
	fi
	if [ ! -e "$objects/Makefile" ]; then
		make -s -C "$tree" O="$objects" outputmakefile
	fi
}

# configure OPTION...: the small kernel with these on top. What a patch does not know yet
# is dropped.
configure() {
	local fragments=("$top/scripts/config/base.config") fragment known wish wishes

	fragment=$top/scripts/config/base-$(cut -d. -f1,2 <<<"${version%%-*}").config
	[ ! -e "$fragment" ] || fragments+=("$fragment")
	kconfig "$objects" "${fragments[@]}" <(
		echo 'CONFIG_LOCALVERSION="-series"'
		printf 'CONFIG_%s\n' CACHEFILES_DEBUG=y CACHEFILES_ERROR_INJECTION=y "$@"
	) 2>&1
	mapfile -t wishes < <(unfulfilled "$objects" "${@/#/CONFIG_}")
	[ ${#wishes[@]} -eq 0 ] ||
		known=$(find "$tree/fs" "$tree/net" -name Kconfig -exec sed -n 's/^config //p' {} +)
	for wish in ${wishes[@]+"${wishes[@]#CONFIG_}"}; do
		! grep -qxF "${wish%=*}" <<<"$known" ||
			echo "the configuration does not get $wish"
	done
}

# Nobody is asked for NETFS_SUPPORT; until ondemandfs does it, 9p brings it in.
modular=(CACHEFILES=m CACHEFILES_ONDEMAND=y ONDEMANDFS=m)
built_in=(NET_9P=y NETFS_SUPPORT=y CACHEFILES=y CACHEFILES_ONDEMAND=y ONDEMANDFS=y)
original=(CACHEFILES=m CACHEFILES_ONDEMAND=n ONDEMANDFS=m)

# compile NAME OPTION...: what there is of ours after this patch, and all that make says
compile() {
	local log=$logs/make-$1.log name dirs=() status=0

	configure "${@:2}"
	for name in cachefiles ondemandfs; do
		! grep -q "^CONFIG_${name^^}=" "$objects/.config" || dirs+=("fs/$name/")
	done
	# Without them, that everything else can still be configured and begun with.
	make -s -j "$jobs" -C "$objects" W=1 "${dirs[@]:-prepare}" >"$log" 2>&1 || status=$?
	cat "$log"
	return $status
}

# --- the series as a whole ---

check_generate() {
	rm -rf "$patches"
	# What an interrupted run may have left
	rm -rf "$tree/.git/rebase-apply" "$tree/.git/index.lock"
	git -C "$tree" checkout -q -f --detach base
	git -C "$tree" clean -q -d -f -x
	KERNEL=$tree OUT=$patches "$top/scripts/series.py" >"$logs/generated"
	[ -s "$(echo "$patches"/0000-*)" ] || echo "there is no cover letter"
	grep -qx "base-commit: $(git -C "$tree" rev-parse base)" "$patches"/0000-* ||
		echo "the cover letter does not say what it is for"
	! grep -n '\*\*\*' "$patches"/0000-* || :
	for patch in "$patches"/*; do
		[[ $patch == */0000-* ]] || grep -q '^Signed-off-by: ' "$patch" ||
			echo "${patch##*/} is not signed off"
	done
}

# --- each patch ---

# Files that are there for more than us are edited.
check_apply() {
	local file patch=$1

	git -C "$tree" -c user.name="$(git -C "$top" config user.name)" \
		-c user.email="$(git -C "$top" config user.email)" am -q "$patches/$patch-"* || {
		git -C "$tree" am --abort
		return 1
	}
	for file in fs/Kconfig fs/Makefile MAINTAINERS "$selftests/Makefile" \
		Documentation/filesystems/caching/index.rst; do
		git -C "$tree" diff --numstat HEAD^ -- "$file" | awk -v file="$file" \
			'$1 + $2 > 20 { print file ": " $1 " lines come, " $2 " go" }'
	done
}

# FILE_PATH_CHANGES: asks for a look at MAINTAINERS, which check_maintained takes. The
# others are wrong about programs for user space: they have neither BIT() nor __printf nor
# __noreturn, but _Static_assert and answers of ENOSYS; EXPECT_EQ() and its like are more
# than one statement and need their braces; a function that returns a pointer to const is
# no constant.
check_checkpatch() {
	local ignored=FILE_PATH_CHANGES patch=$1

	[[ $(echo "$patches/$patch-"*) != *-selftests-* ]] ||
		ignored+=,BIT_MACRO,PREFER_DEFINED_ATTRIBUTE_MACRO,CAMELCASE,ENOSYS,BRACES,STATIC_CONST
	(cd "$tree" && scripts/checkpatch.pl --strict --terse --show-types --no-summary \
		--ignore "$ignored" "$patches/$patch-"*) || :
}

check_modular() {
	compile "modules-$1" "${modular[@]}"
}

check_built_in() {
	compile "built-in-$1" "${built_in[@]}"
}

check_original() {
	compile "original-$1" "${original[@]}"
}

numbers() {
	find "$patches" -name '*.patch' -printf '%f\n' | sed 's/-.*//' | grep -v 0000 | sort
}

# check_builds NUMBER KIND...: what changes no code, but for the last one, is not compiled
check_builds() {
	local kind

	[ "$1" = "$(numbers | tail -1)" ] ||
		! git -C "$tree" diff --quiet HEAD^ -- fs include || return 0
	for kind in "${@:2}"; do
		check "$1 builds with W=1, $kind" "check_$kind" "$1"
	done
}

# --- the tree after the last one ---

ours=(fs/cachefiles fs/ondemandfs include/uapi/linux/cachefiles.h "$selftests/cachefiles")

# What both have is the same, and theirs has nothing of the old one.
check_files() {
	local file

	{
		git -C "$top" ls-files -- "${ours[@]}" 'Documentation/filesystems/caching/*'
		git -C "$tree" ls-files -- "${ours[@]}"
	} | sort -u | while read -r file; do
		cmp "$top/$file" "$tree/$file" 2>&1 || :
	done
	git -C "$tree" diff --name-only --diff-filter=A base | while read -r file; do
		[ -e "$top/$file" ] || echo "$file is not ours"
	done
	! git -C "$tree" ls-files --error-unmatch include/trace/events/cachefiles.h 2>/dev/null || :
}

check_maintained() {
	local file sections

	# One of each directory, but all pages
	git -C "$tree" diff --name-only --diff-filter=A base |
		awk -F/ '{ dir = $0; sub("/[^/]*$", "", dir) } $1 == "Documentation" || !seen[dir]++' |
		while read -r file; do
			sections=$(cd "$tree" && scripts/get_maintainer.pl --no-git \
				--no-git-fallback --sections -f "$file")
			[[ $sections == *"CACHEFILES: "* ]] || echo "$file is not in MAINTAINERS"
		done
}

# Where no network file system brings in what they need; nothing is built.
check_selected() {
	configure NET_9P=n NFS_FS=n "${modular[@]}"
	configure NFS_FS=n "${built_in[@]/NET_9P=y/NET_9P=n}"
}

# As in check.sh: sparse does not see what guard() gives back. This
# kernel leaves a sparse out that does not know __typeof_unqual__, as Debian's; nor does that
# take the strlen() of a constant, which is asserted in MODULE_INFO(), for one.
check_sparse() {
	local log=$logs/sparse.log status=0 line

	configure "${modular[@]}"
	make -s -j "$jobs" -C "$objects" C=2 \
		CF="-Wno-context -D__typeof_unqual__=__typeof__" fs/cachefiles/ fs/ondemandfs/ \
		>"$log" 2>&1 || status=$?
	while read -r line; do
		[[ $line == *": error: bad constant expression"* ]] &&
			sed -n "$(cut -d: -f2 <<<"$line")p" "${line%%:*}" |
			grep -qE '^(MODULE_|module_param)' || echo "$line"
	done <"$log"
	return $status
}

# As "make coccicheck" does it, which wants OCaml for all or does nothing.
check_coccinelle() {
	local dir

	for dir in fs/cachefiles fs/ondemandfs; do
		coccinelle "$tree/scripts/coccinelle" "$logs/cocci-${dir##*/}" --dir "$tree/$dir" \
			-I "$tree/include" -I "$tree/include/uapi"
	done
}

# Of the pages beside ours, before and after.
documents() {
	local dir=$logs/docs-$1

	rm -rf "$dir"
	mkdir -p "$dir/src/filesystems"
	cp -r "$tree/Documentation/filesystems/caching" "$dir/src/filesystems/"
	printf 'Documents\n=========\n\n.. toctree::\n\n   filesystems/caching/index\n' \
		>"$dir/src/index.rst"
	sphinx "$dir" "$tree" | sed -E "s,^$dir/src/,,; s/:[0-9]+: /: /" | sort -u
}

check_docs() {
	documents after >"$logs/docs-after.txt"
	git -C "$tree" checkout -q --detach base
	documents before >"$logs/docs-before.txt"
	git -C "$tree" checkout -q --detach -
	comm -13 "$logs/docs-before.txt" "$logs/docs-after.txt"
}

# --- its kernel ---

# build_kernel NAME OPTION...: into $objects/../kernel-NAME, as vm.sh wants it
build_kernel() {
	local log=$logs/make-kernel-$1.log

	kernel=${tree/tree-/kernel-}-$1
	configure "${@:2}"
	run_make "$log" -C "$objects" bzImage modules 2>&3 || {
		tail -20 "$log"
		return 1
	}
	# Of modpost, too; what other code is warned of is not ours.
	grep -iE '(warning|error):.*(cachefiles|ondemandfs)' "$log" || :
	rm -rf "$kernel"
	install_kernel "$objects" "$kernel" "$log"
}

# The programs from the tree itself, their test modules for its kernel
selftests_make() {
	rm -rf "$logs/kselftest"
	mkdir -p "$logs/kselftest"
	make -s -C "$objects" headers >"$logs/make-headers.log" 2>&1
	make -s -j "$jobs" -C "$tree/$selftests" TARGETS=cachefiles KDIR="$objects" \
		KHDR_INCLUDES="-isystem $objects/usr/include" O="$logs/kselftest" \
		INSTALL_PATH="$logs/kselftest/install" "$@" \
		>"$logs/make-kselftest.log" 2>&1 || {
		tail -20 "$logs/make-kselftest.log"
		return 1
	}
}

# What run_kselftest.sh keeps output from being held back with, beside the program stdbuf
stdbuf=/usr/libexec/coreutils/libstdbuf.so

# run_programs KERNEL DIR LOG: all that run_kselftest.sh in DIR knows, or those in TESTS
run_programs() {
	local test options=()

	for test in ${TESTS:-}; do
		options+=(-t "cachefiles:$test")
	done
	"$top/scripts/vm.sh" --kernel "$1" --build "$2/cachefiles" --module cachefiles \
		--module ondemandfs --mem 3072 --timeout $((2400 * ${CF_TIME_SCALE:-1})) \
		--add "$2:/job/kselftest" --add "$stdbuf:$stdbuf" --program fio --share --out "$3.out" -- \
		env CF_TIME_SCALE="${CF_TIME_SCALE:-1}" /job/kselftest/run_kselftest.sh \
		-o $((1200 * ${CF_TIME_SCALE:-1})) ${options[@]+"${options[@]}"} \
		>"$3.log" 2>"$3.err"
}

# run_tests KERNEL DIR: what comes of them
run_tests() {
	local log=$logs/run-${1##*-} status=0 why

	run_programs "$@" "$log" || status=$?
	if [ $status != 0 ] && why=$(not_ours "$log"); then
		echo "note: $why; once more"
		status=0
		run_programs "$@" "$log" || status=$?
	fi
	grep -E '^not ok ' "$log.log" || :
	grep -cE '^ok ' "$log.log" | sed 's/^0$/no program has run/; t; s/$/ programs pass/; s/^/note: /'
	grep -E '^ok .*# SKIP' "$log.log" | sed 's/^/note: /' || :
	[ $status = 0 ] || tail -20 "$log.err"
	return $status
}

check_run_modules() {
	selftests_make install
	run_tests "$kernel" "$logs/kselftest/install"
}

check_run_built_in() {
	selftests_make gen_tar
	rm -rf "$logs/kselftest/tar"
	mkdir -p "$logs/kselftest/tar"
	tar -xf "$(find "$logs/kselftest" -name 'kselftest.tar*' | head -1)" -C "$logs/kselftest/tar"
	run_tests "$kernel" "$logs/kselftest/tar"
}

check_kernel_modules() {
	build_kernel modules "${modular[@]}"
}

check_kernel_built_in() {
	build_kernel built-in "${built_in[@]}"
}

case $#:${1:-all} in
0:all)
	prepare
	mkdir -p "$logs"
	check "the series can be written" check_generate
	for number in $(numbers); do
		check "$number applies" check_apply "$number"
		check "$number checkpatch --strict" check_checkpatch "$number"
		check_builds "$number" modular built_in original
	done
	;;
1:short)
	if ! place || [ ! -e "$objects/include/generated/autoconf.h" ]; then
		echo 'skip: no kernel to put it on, which "make check-series" prepares'
		exit 4
	fi
	only_one "$cache/series/lock" || {
		echo "skip: another check of the series is at work"
		exit 4
	}
	mkdir -p "$logs"
	check "the series can be written" check_generate
	for number in $(numbers); do
		check "$number applies" check_apply "$number"
		case $number in
		0001 | 0003 | 0004 | 0006)
			check "$number checkpatch --strict" check_checkpatch "$number"
			check_builds "$number" modular
			;;
		# Its checkpatch takes a minute; check.sh looks at what is in it.
		0008) check_builds "$number" modular original built_in ;;
		esac
	done
	;;
*) die "usage: check-series.sh [short]" ;;
esac
check "the tree has our files" check_files
check "all of them are in MAINTAINERS" check_maintained
check "no network file system is needed" check_selected
if [ $# = 0 ]; then
	check "sparse, C=2" check_sparse
	check "coccinelle" check_coccinelle
	check "no new warning about documentation" check_docs
	check "the kernel builds, modules" check_kernel_modules
	check "kselftests as modules, from make install" check_run_modules
	check "the kernel builds, built in" check_kernel_built_in
	check "kselftests built in, from gen_tar" check_run_built_in
fi
checked
