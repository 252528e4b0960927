# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=bash
#
# An NFS server on this machine, for tests that source test.sh before it.
#
# cf_nfs_server DIR: exports DIR, read-write, to this machine by NFSv3 and NFSv4.2
# cf_nfs_mount VERSION DIR [OPTIONS]: mounts it; with "fsc" among OPTIONS cached
# cf_nfs_umount DIR...: unmounts them, and waits until no mount of the server is left
# cf_nfs_settle MOST REMOUNT COMMAND...: reads until all of it is cached
#
# nfsd is one for the machine, so a running one is nothing to touch: cf_need_nfs skips.

# cf_need_nfs: or the program is skipped
cf_need_nfs() {
	cf_need rpcbind rpc.mountd rpc.nfsd exportfs mount.nfs
	cf_need_module nfs nfsv3 nfsv4 nfsd
	cf_need_fs nfs nfs4 nfsd
	[ ! -e /proc/fs/nfsd/threads ] || [ "$(cat /proc/fs/nfsd/threads)" = 0 ] ||
		cf_skip_all "an NFS server is running here"
}

cf_nfs_dir=

# cf_nfs_server DIR
cf_nfs_server() {
	cf_nfs_dir=$1
	mkdir -p /var/lib/nfs "$1" /run/rpcbind
	mount -t tmpfs cachefiles-selftest /var/lib/nfs || return
	mkdir -p /var/lib/nfs/{sm,sm.bak,v4recovery}
	touch /var/lib/nfs/{etab,rmtab,state}
	mountpoint -q /proc/fs/nfsd || mount -t nfsd none /proc/fs/nfsd || return

	# NFSv3 wants it even when every port is known.
	if ! [ -S /run/rpcbind.sock ] || ! rpc_answers; then
		cf_background rpcbind -f -w
		cf_wait 30 rpc_answers || return
	fi
	cf_background exec rpc.mountd -F --no-udp -p 20048 >"$CF_DIR/mountd.log" 2>&1
	# Whom the kernel asks before somebody listens there is refused.
	cf_wait 30 listens_for_exports $! || return
	exportfs -o rw,no_root_squash,async,insecure,no_subtree_check,fsid=0 \
		"127.0.0.1:$1" || return
	# Nobody has anything to reclaim from a server that has just been made.
	echo 10 >/proc/fs/nfsd/nfsv4gracetime 2>/dev/null || :
	rpc.nfsd -N 4.0 -N 4.1 -V 3 -V 4.2 8 || return
	echo Y >/proc/fs/nfsd/v4_end_grace 2>/dev/null || :
}

rpc_answers() {
	: 2>/dev/null <>/dev/tcp/127.0.0.1/111
}

# listens_for_exports PID: rpc.mountd has opened the channel
listens_for_exports() {
	find "/proc/$1/fd" -lname '*/nfsd.export/channel' 2>/dev/null | grep -q .
}

# cf_nfs_options VERSION [OPTIONS]: of each mount, in cf_nfs_opts
cf_nfs_options() {
	cf_nfs_opts=vers=$1,proto=tcp,sec=sys,soft,timeo=$((600 * CF_SCALE)),retrans=3${2:+,$2}
}

# cf_nfs_mount VERSION DIR [OPTIONS]: 3 or 4.2
cf_nfs_mount() {
	local path=/ cf_nfs_opts

	cf_nfs_options "$1" "${3-}"
	if [ "$1" = 3 ]; then
		path=$cf_nfs_dir
		cf_nfs_opts+=,nolock,mountproto=tcp,mountport=20048,port=2049
	fi
	mkdir -p "$2"
	cf_timeout 60 mount -t nfs -o "$cf_nfs_opts" "127.0.0.1:$path" "$2"
}

# cf_nfs_umount DIR...: when the last mount has been unmounted, files may still be on their
# way from its pages to the cache. They keep the super block, which another mount would
# share, and with it all that has been read. One without "fsc" has nothing of that kind.
cf_nfs_umount() {
	local dir

	for dir; do
		cf_umount "$dir" || return
	done
	cf_wait 30 cf_nfs_no_volume
}

# cf_nfs_no_volume: NFS lets go of a volume of FS-Cache when its super block has gone, and
# FS-Cache, which writes to the store then, after the last file. Of 127.0.0.1, as the key has
# it: others are not ours.
cf_nfs_no_volume() {
	! grep -qE ' nfs,[0-9.]+,2,[0-9a-f]*,(100007f|7f000001),' /proc/fs/fscache/volumes
}

# cf_nfs_settle MOST REMOUNT COMMAND...: COMMAND, and REMOUNT after it, again and again until
# the server is asked for nothing. The last page of a file that does not fill it is not
# always copied to the cache: netfs forgets to if the page's end, after the end of the
# file, is ready after its beginning. So MOST files may take more than one reading.
cf_nfs_settle() {
	local most=$1 remount=$2 reads

	shift 2
	for _ in {1..8}; do
		reads=$(cf_nfs_reads)
		expect "$@" || return
		reads=$(($(cf_nfs_reads) - reads))
		expect_le "$most" $reads "READs to the server of $*" || return
		"$remount" || return
		[ $reads -gt 0 ] || return 0
	done
	cf_fail "there are READs to the server of $* again and again"
}

# cf_nfs_stop: what is left of a server when the program ends
cf_nfs_stop() {
	rpc.nfsd 0
	exportfs -au
	umount /proc/fs/nfsd 2>/dev/null || :
	umount /var/lib/nfs
}

# cf_nfs_reads: READs and READ_PLUSes that the server has answered, of all versions
cf_nfs_reads() {
	local lines line fields reads=0

	mapfile -t lines </proc/net/rpc/nfsd
	for line in "${lines[@]}"; do
		read -ra fields <<<"$line"
		case ${fields[0]} in
		proc3) ((reads += fields[8])) ;;
		proc4ops) ((reads += fields[27] + fields[70])) ;;
		esac
	done
	echo $reads
}
