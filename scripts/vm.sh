#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
#
# Runs a command as root in a virtual machine with our modules; "vm.sh --help".
set -euo pipefail
. "$(dirname "$0")/lib.sh"

usage() {
	cat <<-'END'
	vm.sh [OPTION]... -- COMMAND [ARGUMENT]...

	Boots a kernel in QEMU, runs COMMAND in it as root and exits with its status. What it
	prints comes to standard output as it is printed. The console is kept apart; a kernel
	that reports a bug there fails the run. The guest has busybox, bash, the usual file
	system tools, cachefilesd and servers for NFS and 9p. "load-modules" loads our modules,
	"load-cachefiles ours|stock" exchanges cachefiles. What is put into /out comes back.

	  --kernel NAME       stock (default), base, debug, kcsan, coverage, or a directory
	  --build DIR         where our modules were built, default build/RELEASE
	  --no-modules        leave our modules out
	  --module NAME       another module of the kernel that is to be at hand
	  --add HOST:GUEST    a file or directory; libraries of programs come along
	  --program NAME      a program of the host, if it has it, such as fio
	  --out DIR           where the guest's /out and console.log go
	  --disk FILE         raw disk /dev/vda, /dev/vdb, ...
	  --share             an empty directory of the host, by 9p over virtio: the mount tags
	                      "share" and "share_direct" are two ways to it
	  --cpus N --mem MB   default 2 and 2048
	  --timeout SECONDS   default 600
	  --boot-timeout SECONDS  default 120
	  --append ARGUMENTS  for the kernel's command line
	  --accel NAME        kvm, tcg or tcg-single; default $ACCEL, or KVM if it works here,
	                      else tcg. With tcg-single the processors take turns in one
	                      thread: best for several machines at a time, as no processor
	                      waits for one that the host lets wait
	  --icount            one instruction a nanosecond, one processor: repeatable costs
	  --kmemleak          look for leaks at the end (default with the debug kernel)
	  --expect-splat RE   a report whose first line matches is no failure
	  --quiet             no progress
	Status 124: not ended in time; 125: the machine died; 126: the kernel reported a bug.
	END
}

kernel=stock
build=
with_modules=y
# cachefiles is the kernel's own, for load-cachefiles; ours is found before it.
modules=(netfs cachefiles erofs ext4 xfs btrfs f2fs minix vfat nls_ascii nls_cp437
	nls_iso8859-1 loop fuse cuse overlay dm-mod dm-flakey dm-delay 9p 9pnet_virtio 9pnet_fd
	nfs nfsv3 nfsv4 nfsd virtio_pci virtio_console virtio_blk null_blk crc32c-generic crc32c-intel
	virtio_rng)
adds=()
extra_programs=()
out=
disks=()
share=
cpus=2
mem=2048
timeout=600
boot_timeout=120
append=
accel=${ACCEL:-}
icount=
kmemleak=
expect=
quiet=

while [ $# -gt 0 ]; do
	case $1 in
	--kernel) kernel=$2 && shift ;;
	--build) build=$2 && shift ;;
	--no-modules) with_modules= ;;
	--module) modules+=("$2") && shift ;;
	--add) adds+=("$2") && shift ;;
	--program) extra_programs+=("$2") && shift ;;
	--out) out=$2 && shift ;;
	--disk) disks+=("$2") && shift ;;
	--share) share=y ;;
	--cpus) cpus=$2 && shift ;;
	--mem) mem=$2 && shift ;;
	--timeout) timeout=$2 && shift ;;
	--boot-timeout) boot_timeout=$2 && shift ;;
	--append) append+=" $2" && shift ;;
	--accel) accel=$2 && shift ;;
	--icount) icount=y ;;
	--kmemleak) kmemleak=y ;;
	--expect-splat) expect=$2 && shift ;;
	--quiet) quiet=y ;;
	--help)
		usage
		exit
		;;
	--)
		shift
		break
		;;
	*)
		usage >&2
		exit 2
		;;
	esac
	shift
done
[ $# -gt 0 ] || {
	usage >&2
	exit 2
}

progress() {
	[ -n "$quiet" ] || say "$*"
}

kernel_path=$(kernel_dir "$kernel")
release=$(kernel_release "$kernel_path")
image=$kernel_path/boot/vmlinuz-$release
[ ! -e "$kernel_path/vmlinux" ] || image=$kernel_path/vmlinux
[ -n "$build" ] || build=$top/build/$release
case $kernel in
debug)
	append+=" hung_task_panic=1"
	# KASAN watches all of them. What each process is made of is not ours: without SLUB's
	# own checks there, to start one takes a fifth less.
	append+=" slab_debug=FZPU;-,maple_node,vm_area_struct,vma_lock,anon_vma,anon_vma_chain"
	append+=",mm_struct,task_struct,signal_cache,sighand_cache,files_cache,fs_cache,pid,filp"
	append+=",names_cache,cred_jar,kmemleak_object,debug_objects_cache"
	;;
# A task that gives its processor away while it is watched changes its own flags.
kcsan) append+=" hung_task_panic=1 kcsan.interrupt_watcher=0" ;;
esac
[ "$kernel" != debug ] || [[ $append == *kmemleak=off* ]] || kmemleak=y

work=$(mktemp -d "${TMPDIR:-/tmp}/vm.XXXXXX")
qemu_pid=
cat_pid=
# shellcheck disable=SC2317 # called by the trap
clean_up() {
	[ -z "$qemu_pid" ] || kill -9 "$qemu_pid" 2>/dev/null || :
	[ -z "$cat_pid" ] || kill "$cat_pid" 2>/dev/null || :
	rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM

# --- what goes into the machine ---

# The root is merged: /bin, /sbin, /lib and /lib64 are links into /usr. No archive may
# name them otherwise, or unpacking it would take the link away.
guest_path() {
	local path=/${1#/}

	case $path in
	/bin/* | /sbin/* | /lib/* | /lib64/*) path=/usr$path ;;
	esac
	echo "$path"
}

# add_libraries ROOT PROGRAM...: shared libraries and loader
add_libraries() {
	local root=$1 lib to

	shift
	for lib in $({ ldd "$@" 2>/dev/null || :; } | grep -oE '/[^ ]+\.so[^ )]*' | sort -u); do
		to=$root$(guest_path "$lib")
		[ -e "$to" ] || install -D "$(readlink -f "$lib")" "$to"
	done
}

# add ROOT HOST GUEST
add() {
	local to programs

	to=$1$(guest_path "$3")
	[ -e "$2" ] || die "$2: not found"
	mkdir -p "${to%/*}"
	if [ -d "$2" ]; then
		mkdir -p "$to"
		cp -a "$2/." "$to"
	else
		cp -L "$2" "$to"
	fi
	mapfile -t programs < <(find "$to" -type f \( -perm -100 -o -name '*.so*' \) -size -64M \
		-exec sh -c 'for f; do [ "$(head -c4 "$f" | tail -c3)" != ELF ] || echo "$f"; done' \
		sh {} + 2>/dev/null)
	[ ${#programs[@]} -eq 0 ] || add_libraries "$1" "${programs[@]}"
}

# archive ROOT FILE
archive() {
	(cd "$1" && find . -mindepth 1 -print0 | LC_ALL=C sort -z |
		cpio --quiet -0 -o -H newc --owner=0:0) >"$2.new.$$"
	mv "$2.new.$$" "$2"
}

programs=(dash bash setsid kmod mkfs.ext4 mkfs.xfs mkfs.btrfs mkfs.f2fs mkfs.erofs mkfs.minix losetup
	dmsetup mount umount mountpoint tune2fs debugfs e2fsck xfs_io setpriv unshare nsenter prlimit fsfreeze
	fallocate sha256sum truncate timeout taskset stdbuf strace tar env sync blockdev cp dd cmp stat
	find getfattr setfattr cachefilesd diod exportfs rpc.mountd rpc.nfsd rpcbind mount.nfs
	mount.nfs4 umount.nfs umount.nfs4)
configs=(mke2fs.conf netconfig services protocols rpc nsswitch.conf)

# host_program NAME: its path; none if the host lacks it
host_program() {
	PATH=$PATH:/usr/sbin:/sbin command -v "$1"
}

base_archive() {
	local path paths=() key root

	for path in "${programs[@]}"; do
		path=$(host_program "$path") && paths+=("$path")
	done
	key=$({
		stat -L -c '%n %s %Y' "${paths[@]}" /bin/busybox /etc/ld.so.cache
		cat "$top"/scripts/guest/* "$0"
	} | sha256sum | cut -c1-16)
	base=$cache/vm/base-$key.cpio
	[ ! -e "$base" ] || return 0

	progress "packing the base system"
	root=$work/base
	mkdir -p "$root"/{dev,proc,sys,tmp,run,mnt,out,root,etc,job,usr/{bin,sbin,lib,lib64,lib/busybox}}
	for path in bin sbin lib lib64; do
		ln -s usr/$path "$root/$path"
	done
	cp /bin/busybox "$root/usr/bin/"
	for path in $(busybox --list); do
		ln -s /usr/bin/busybox "$root/usr/lib/busybox/$path"
	done
	# Not busybox, whose shell prefers its own programs to what PATH says.
	ln -s dash "$root/usr/bin/sh"
	for path in "${paths[@]}"; do
		install -D "$(readlink -f "$path")" "$root$(guest_path "$path")"
	done
	add_libraries "$root" "${paths[@]}"
	for path in modprobe insmod rmmod depmod lsmod modinfo; do
		ln -s "$(guest_path "$(command -v kmod)")" "$root/usr/sbin/$path"
	done
	for path in "${configs[@]}"; do
		[ ! -e "/etc/$path" ] || cp "/etc/$path" "$root/etc/"
	done
	echo "127.0.0.1 localhost vm" >"$root/etc/hosts"
	ln -s /proc/self/mounts "$root/etc/mtab"
	mkdir -p "$root"/var/lib/nfs/{sm,sm.bak,v4recovery}
	ln -s /run "$root/var/run"
	{
		echo "root:x:0:0:root:/root:/bin/sh"
		echo "nobody:x:65534:65534:nobody:/:/bin/false"
		echo "_rpc:x:100:65534::/run/rpcbind:/bin/false"
		echo "statd:x:101:65534::/var/lib/nfs:/bin/false"
	} >"$root/etc/passwd"
	printf 'root:x:0:\nnogroup:x:65534:\n' >"$root/etc/group"
	: >"$root/etc/exports"
	install -m 755 "$top/scripts/guest/init" "$root/init"
	for path in "$top"/scripts/guest/*; do
		[ "${path##*/}" = init ] || install -m 755 -t "$root/usr/bin" "$path"
	done
	find "$cache/vm" -name 'base-*.cpio' -mtime +2 -delete
	archive "$root" "$base"
}

# The kernel's own modules, unpacked once: $module_root/lib/modules/RELEASE
module_tree() {
	local key from=$kernel_path/lib/modules/$release path to

	key=$({ echo "${modules[@]}" && stat -c '%n %Y' "$from" "$from/modules.dep"; } |
		sha256sum | cut -c1-16)
	module_root=$cache/vm/modules-$key
	[ ! -e "$module_root.cpio" ] || return 0

	progress "unpacking modules of $release"
	mkdir -p "$work/modules/usr/lib/modules/$release"
	ln -s usr/lib "$work/modules/lib"
	for path in $(for m in "${modules[@]}"; do
		modprobe -d "$kernel_path" -S "$release" -q --show-depends "$m" || :
	done | sed -n 's/^insmod \([^ ]*\).*/\1/p' | sort -u); do
		to=$work/modules/usr/${path#"$kernel_path"/}
		mkdir -p "${to%/*}"
		case $path in
		*.xz) xz -dc "$path" >"${to%.xz}" ;;
		*.zst) zstd -dcq "$path" >"${to%.zst}" ;;
		*) cp "$path" "$to" ;;
		esac
	done
	for path in order builtin builtin.modinfo; do
		[ ! -e "$from/modules.$path" ] ||
			cp "$from/modules.$path" "$work/modules/usr/lib/modules/$release/"
	done
	cp -r "$work/modules" "$module_root.new.$$"
	# Another run may have been faster; what it made is the same.
	mv -T "$module_root.new.$$" "$module_root" 2>/dev/null || rm -rf "$module_root.new.$$"
	rm "$work/modules/lib"
	archive "$work/modules" "$module_root.cpio"
}

job_archive() {
	local root=$work/job spec

	mkdir -p "$root/job" "$root/usr/lib/modules"
	cp -r "$module_root/usr/lib/modules/$release" "$root/usr/lib/modules/"
	if [ -n "$with_modules" ]; then
		for spec in "$build"/fs/*/*.ko "$build"/test_modules/*.ko; do
			[ ! -e "$spec" ] || install -m 644 -D -t "$root/usr/lib/modules/$release/updates" "$spec"
		done
	fi
	ln -s usr/lib "$root/lib"
	depmod -b "$root" "$release"
	rm -rf "${root:?}/lib" "$root/usr/lib/modules/$release/kernel"
	for spec in ${extra_programs[@]+"${extra_programs[@]}"}; do
		! spec=$(host_program "$spec") || adds+=("$spec:$spec")
	done
	for spec in ${adds[@]+"${adds[@]}"}; do
		add "$root" "${spec%%:*}" "${spec#*:}"
	done
	printf '%q ' "$@" >"$root/job/cmd"
	archive "$root" "$work/job.cpio"
}

# --- the machine ---

# KVM that opens may still not run a guest (nested, or an emulated processor): ask once
# for each boot of this host.
kvm_works() {
	local answer

	[ -w /dev/kvm ] || return 1
	answer=$cache/vm/kvm-$(cat /proc/sys/kernel/random/boot_id)
	if [ ! -e "$answer" ]; then
		progress "trying KVM"
		if "$0" --quiet --accel kvm --no-modules --kernel "$kernel_path" --timeout 10 \
			--boot-timeout 10 -- true >/dev/null 2>&1; then
			echo y >"$answer"
		else
			echo n >"$answer"
		fi
	fi
	[ "$(cat "$answer")" = y ]
}

mkdir -p "$cache/vm"
base_archive
module_tree
job_archive "$@"
cat "$base" "$module_root.cpio" "$work/job.cpio" >"$work/initrd"
rm -rf "$work/base" "$work/modules" "$work/job" "$work/job.cpio"

if [ -n "$icount" ]; then
	accel=tcg
	cpus=1
	machine=(-accel "tcg,thread=single" -cpu max -icount "shift=0,sleep=off")
else
	if [ -z "$accel" ]; then
		accel=tcg
		! kvm_works || accel=kvm
	fi
	case $accel in
	kvm) machine=(-accel kvm -cpu host) ;;
	tcg | tcg-single)
		thread=multi
		[ "$accel" = tcg ] || thread=single
		# TCG does what "rep movsb" does a byte at a time, forgets all addresses with
		# each change of protection keys, and translates a program anew wherever it
		# is mapped.
		machine=(-accel "tcg,thread=$thread" -cpu "max,-erms,-pku")
		append+=" norandmaps"
		;;
	*) die "--accel: $accel is none of kvm, tcg, tcg-single" ;;
	esac
fi

drives=()
for disk in ${disks[@]+"${disks[@]}"}; do
	n=$((${#drives[@]} / 4))
	drives+=(-drive "if=none,format=raw,id=disk$n,file=$disk"
		-device "virtio-blk-pci,drive=disk$n,serial=disk$n")
done
# A tag can be mounted once at a time.
shares=()
if [ -n "$share" ]; then
	mkdir "$work/share"
	for tag in share share_direct; do
		shares+=(-fsdev "local,id=$tag,path=$work/share,security_model=none,multidevs=remap"
			-device "virtio-9p-pci,fsdev=$tag,mount_tag=$tag")
	done
fi
ports=()
mkfifo "$work/output"
for port in out status results; do
	file=$work/$port
	[ $port != out ] || file=$work/output
	ports+=(-chardev "file,id=$port,path=$file" -device "virtserialport,chardev=$port,name=$port")
done

cat "$work/output" &
cat_pid=$!
progress "booting $release ($accel, $cpus processors${icount:+, icount})"
: >"$work/status"
: >"$work/console"
SECONDS=0
qemu-system-x86_64 -M q35 "${machine[@]}" -smp "$cpus" -m "$mem" -display none \
	-nodefaults -no-user-config -no-reboot -kernel "$image" -initrd "$work/initrd" \
	-append "console=ttyS0 loglevel=5 panic=-1 rdinit=/init nokaslr no_timer_check mitigations=off slab_nomerge \
vm.timeout=$timeout ${kmemleak:+vm.kmemleak=y} $append" \
	-chardev "file,id=console,path=$work/console" -serial chardev:console \
	-device virtio-rng-pci -device virtio-serial-pci "${ports[@]}" ${drives[@]+"${drives[@]}"} \
	${shares[@]+"${shares[@]}"} \
	>"$work/qemu.log" 2>&1 &
qemu_pid=$!

up=
while kill -0 "$qemu_pid" 2>/dev/null; do
	if [ -z "$up" ] && grep -q '^up' "$work/status"; then
		up=$SECONDS
		progress "up"
	fi
	if [ -z "$up" ] && [ "$SECONDS" -gt "$boot_timeout" ]; then
		progress "not up in $boot_timeout s"
		break
	elif [ -n "$up" ] && [ "$SECONDS" -gt $((up + timeout + 30)) ]; then
		progress "neither the command nor the guest's watchdog has ended in time"
		break
	fi
	sleep 0.1
done
kill -9 "$qemu_pid" 2>/dev/null || :
wait "$qemu_pid" 2>/dev/null || :
qemu_pid=
wait "$cat_pid" 2>/dev/null || :
cat_pid=

status=$(sed -n 's/^exit //p' "$work/status")
[ -n "$status" ] || status=125
if [ -n "$out" ]; then
	mkdir -p "$out"
	cp "$work/console" "$out/console.log"
	[ ! -s "$work/results" ] || tar -C "$out" --no-same-owner -xf "$work/results"
fi

# --- what the kernel said ---

# elsewhere: drops data races that our modules have no part in from "LINE:TEXT" on its
# standard input; a report ends with a line of "=".
elsewhere() {
	awk 'NR == FNR {
		if (/BUG: KCSAN:/) { at = FNR; races[at] = 1 }
		else if (at && /==========/) at = 0
		if (at && /\[(cachefiles|ondemandfs|cf_netfs)\]/) delete races[at]
		next
	}
	!(int($0) in races)' "$work/console" -
}

grep -nE "$splats" "$work/console" | tee "$work/all-splats" | elsewhere >"$work/splats" || :
races=$(($(wc -l <"$work/all-splats") - $(wc -l <"$work/splats")))
[ $races = 0 ] || say "note: $races data races elsewhere in the kernel"
if [ -n "$expect" ]; then
	grep -vE "$expect" "$work/splats" >"$work/unexpected" || :
	mv "$work/unexpected" "$work/splats"
fi
if [ -s "$work/splats" ]; then
	line=$(head -1 "$work/splats" | cut -d: -f1)
	{
		echo "${0##*/}: the kernel reports:"
		sed -n "$line,$((line + 80))p" "$work/console"
		sed -n 's/.*\(BUG: KCSAN: \)/\1/p' "$work/splats" | sort | uniq -c | sort -rn
	} >&2
	case $status in
	0 | 125) status=126 ;;
	esac
elif [ "$status" = 125 ] || [ "$status" = 124 ]; then
	{
		echo "${0##*/}: the end of the console:"
		cat "$work/qemu.log"
		tail -30 "$work/console"
	} >&2
fi
progress "exit status $status"
exit "$status"
