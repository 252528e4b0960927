// SPDX-License-Identifier: GPL-2.0-only
/*
 * cf_netfs_tool [OPTION]... VOLUME KEY AUX SIZE [COMMAND [ARGUMENT]...]...
 *
 * A network file system with one file: acquires a volume and a cookie, does what the
 * commands say one after the other, gives both back and waits until the cache has let go.
 * For shell tests. KEY and AUX are hex digits, or any text behind "text:"; numbers are
 * decimal or 0x..., with k, m or g. Ranges are widened to whole pages, except by subreq
 * where the library writes to caches by itself.
 *
 *   -t TAG	the cache's name; without it any cache
 *   -b HEX	coherency data of the volume
 *   -B HEX	what they are when the volume is given back
 *   -I		invalidate the volume then
 *   -m		the file is going to be modified
 *   -r		retire the cookie in the end
 *   -u SIZE	its size in the end; -U AUX its auxiliary data (of the same length)
 *   -n		"no cache" is what is expected: exit 0 if it is not cached, else 1
 *
 *   write OFF LEN SEED		store, as copy-to-cache does
 *   subreq OFF LEN SEED	store, as write-back does
 *   read OFF LEN SEED		all of it has to come from the cache, and be right
 *   check OFF LEN SEED		print what comes from where; what does has to be right
 *   absent OFF LEN		nothing of it may come from the cache
 *   resize SIZE		truncate or extend
 *   invalidate SIZE		the server has something else now
 *   state			print state and flags
 *   hold			go on when standard input ends
 *   name			print the name of the file, as CACHE/I.../@xx/...
 *
 * Exit status: 0; 1: what failed is on standard error; 2: usage; 4: no cf_netfs module.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/netfs.h"

static int nf, volume, cookie;
static __u64 size;

static void __attribute__((noreturn)) usage(const char *what)
{
	fprintf(stderr, "cf_netfs_tool: %s; see the head of its source\n", what);
	exit(2);
}

static int fail(const char *what, int err)
{
	fprintf(stderr, "cf_netfs_tool: %s: %s\n", what, strerror(err < 0 ? -err : err));
	return 1;
}

static __u64 number(const char *s)
{
	unsigned long long n;
	char *end;

	n = strtoull(s, &end, 0);
	for (const char *unit = "gmk"; *end && *unit; unit++) {
		if (*end != *unit)
			continue;
		n <<= *unit == 'g' ? 30 : *unit == 'm' ? 20 : 10;
		end++;
		break;
	}
	if (!*s || *end)
		usage(s);
	return n;
}

static size_t bytes(const char *s, unsigned char buf[255])
{
	size_t n = strlen(s);

	if (!strncmp(s, "text:", 5)) {
		n -= 5;
		if (n > 255)
			usage(s);
		memcpy(buf, s + 5, n);
		return n;
	}
	if (n % 2 || n > 510)
		usage(s);
	for (size_t i = 0; i < n / 2; i++) {
		const char pair[3] = { s[2 * i], s[2 * i + 1] };
		char *end;

		buf[i] = (unsigned char)strtoul(pair, &end, 16);
		if (*end || !isxdigit((unsigned char)pair[0]))
			usage(s);
	}
	return n / 2;
}

static int check(__u64 off, __u64 len, __u64 seed)
{
	struct cf_fetch f;
	int ret = cf_nf_fetch(nf, cookie, seed, off, len, size, &f, NULL);

	if (ret)
		return fail("check", ret);
	printf("cached=%llu download=%llu copy=%llu zeroes=%llu bad=%lld err=%d\n",
	       f.cached, f.download, f.copy, f.zeroes, f.bad, -f.err);
	return f.bad >= 0 || f.err;
}

static int subreq(__u64 off, __u64 len, __u64 seed)
{
	struct cf_netfs_subreq a;
	int ret;

	if (!cf_nf_has_streams(nf)) {
		ret = cf_nf_store(nf, cookie, seed, off, len, size);
		return ret ? fail("subreq", ret) : 0;
	}
	while (len) {
		__u64 n = len < 1 << 20 ? len : 1 << 20;

		ret = cf_nf_store_subreq(nf, cookie, seed, off, n, size,
					 (unsigned int)(-(off + n) % CF_GRANULE), &a);
		if (ret || a.error || a.transferred < n)
			return fail("subreq", ret ? ret : a.error ? a.error : EMSGSIZE);
		off += n;
		len -= n;
	}
	return 0;
}

static int show_state(void)
{
	static const char *const names[] = {
		"quiescent", "looking-up", "creating", "active", "invalidating", "failed",
		"lru-discarding", "withdrawing", "relinquishing", "dropped",
	};
	struct cf_netfs_wait a;
	int ret = cf_nf_wait(nf, cookie, 0, 0, 0, 0, &a);

	if (ret)
		return fail("state", ret);
	printf("state=%s flags=%#x accesses=%u active=%u size=%llu\n",
	       a.state <= CF_DROPPED ? names[a.state] : "?", a.flags, a.n_accesses,
	       a.n_active, a.size);
	return 0;
}

static int invalidate(__u64 new_size)
{
	int ret = cf_nf_invalidate(nf, cookie, NULL, 0, new_size, false);

	size = new_size;
	if (!ret)
		ret = cf_nf_wait(nf, cookie, ~CF_STATE(CF_INVALIDATING), 0, 0, CF_NF_MS, NULL);
	return ret ? fail("invalidate", ret) : 0;
}

/* Is @argv[0] the command @name, with @nr arguments? */
static bool is(char **argv, const char *name, int nr)
{
	if (strcmp(argv[0], name))
		return false;
	for (int i = 1; i <= nr; i++)
		if (!argv[i])
			usage(name);
	return true;
}

static int run(char **argv, const char *path)
{
	int ret = 0, nr = 3;
	char c;

	for (; *argv && !ret; argv += 1 + nr) {
		__u64 n[3] = { 0 };

		nr = is(argv, "absent", 2) ? 2 :
		     is(argv, "resize", 1) || is(argv, "invalidate", 1) ? 1 :
		     is(argv, "write", 3) || is(argv, "subreq", 3) || is(argv, "read", 3) ||
		     is(argv, "check", 3) ? 3 : 0;
		for (int i = 0; i < nr; i++)
			n[i] = number(argv[1 + i]);
		/* Only write-back knows of less than whole pages, and not everywhere. */
		if (nr > 1 && (!is(argv, "subreq", 3) || !cf_nf_has_streams(nf))) {
			n[1] += n[0] % CF_GRANULE + CF_GRANULE - 1;
			n[0] -= n[0] % CF_GRANULE;
			n[1] -= n[1] % CF_GRANULE;
		}
		if (is(argv, "write", 3)) {
			ret = cf_nf_store(nf, cookie, n[2], n[0], n[1], size);
			cf_nf_note_release(nf, cookie);
		} else if (is(argv, "subreq", 3)) {
			ret = subreq(n[0], n[1], n[2]);
			cf_nf_note_release(nf, cookie);
		} else if (is(argv, "read", 3)) {
			ret = cf_nf_check(nf, cookie, n[2], n[0], n[1], size);
		} else if (is(argv, "check", 3)) {
			ret = check(n[0], n[1], n[2]);
		} else if (is(argv, "absent", 2)) {
			ret = cf_nf_absent(nf, cookie, n[0], n[1], size);
		} else if (is(argv, "resize", 1)) {
			ret = cf_nf_resize(nf, cookie, n[0]);
			size = n[0];
		} else if (is(argv, "invalidate", 1)) {
			ret = invalidate(n[0]);
		} else if (is(argv, "state", 0)) {
			ret = show_state();
		} else if (is(argv, "hold", 0)) {
			fflush(stdout);
			while (read(0, &c, 1) > 0)
				;
		} else if (is(argv, "name", 0)) {
			printf("%s\n", path);
		} else {
			usage(argv[0]);
		}
		fflush(stdout);
		if (ret < 0)
			ret = fail(argv[0], ret);
	}
	return ret;
}

int main(int argc, char **argv)
{
	unsigned char key[255], aux[255], blob[255], new_blob[255], end_aux[255];
	size_t key_len, aux_len, blob_len = 0, new_len = 0;
	bool modify = false, retire = false, uncached = false, inval = false, has_new = false;
	const char *tag = NULL, *new_aux = NULL, *new_size = NULL;
	char path[1024] = "";
	int opt, ret, status;
	__u64 end_size;

	while ((opt = getopt(argc, argv, "+t:b:B:Imru:U:n")) != -1) {
		switch (opt) {
		case 't':
			tag = optarg;
			break;
		case 'b':
			blob_len = bytes(optarg, blob);
			break;
		case 'B':
			new_len = bytes(optarg, new_blob);
			has_new = true;
			break;
		case 'I':
			inval = true;
			break;
		case 'm':
			modify = true;
			break;
		case 'r':
			retire = true;
			break;
		case 'u':
			new_size = optarg;
			break;
		case 'U':
			new_aux = optarg;
			break;
		case 'n':
			uncached = true;
			break;
		default:
			usage("unknown option");
		}
	}
	if (argc - optind < 4)
		usage("too few arguments");
	argv += optind;
	key_len = bytes(argv[1], key);
	aux_len = bytes(argv[2], aux);
	size = number(argv[3]);
	if (cf_nf_path("", argv[0], key, key_len, path, sizeof(path)))
		snprintf(path, sizeof(path), "/none");

	nf = cf_nf_open();
	if (nf < 0) {
		fprintf(stderr, "cf_netfs_tool: no %s (module cf_netfs)\n", CF_NETFS_DEVICE);
		return 4;
	}
	volume = cf_nf_volume(nf, argv[0], tag, blob, blob_len);
	if (volume < 0)
		return fail("volume", volume);
	cookie = cf_nf_cookie(nf, volume, key, key_len, aux, aux_len, size);
	if (cookie < 0)
		return fail("cookie", cookie);
	ret = cf_nf_attach(nf, cookie, modify);
	if (uncached)
		status = ret == -ENOBUFS ? 0 : fail("it is cached", ret);
	else if (ret)
		status = fail("not cached", ret);
	else
		status = run(argv + 4, path + 1);

	end_size = new_size ? number(new_size) : 0;
	ret = cf_nf_unuse_with(nf, cookie, new_aux ? end_aux : NULL,
			       new_aux ? bytes(new_aux, end_aux) : 0, new_size ? &end_size : NULL);
	if (!ret)
		ret = cf_nf_relinquish(nf, cookie, retire);
	if (!ret)
		ret = cf_nf_volume_end(nf, volume, has_new ? new_blob : NULL, new_len, inval);
	if (ret)
		status = fail("giving back", ret);
	ret = cf_nf_odd(nf);
	if (ret) {
		fprintf(stderr, "cf_netfs_tool: %d completions came never or twice\n", ret);
		status = 1;
	}
	close(nf);
	return status;
}
