// SPDX-License-Identifier: GPL-2.0-only
/*
 * A key is stored under the name that the format gives it, whatever it is made of, and no
 * two keys share data; one whose name would be too long for a file is not cached.
 */
#include "harness.h"

#include <sys/ioctl.h>

struct key {
	const void	*data;
	size_t		len;
};

#define KEY(s)		((struct key){ s, sizeof(s) - 1 })

struct example {
	const char	*volume;
	struct key	key;
	__u32		hash;
	const char	*where;		/* NULL: can't be cached */
};

/* The examples that go with the description of the format. */
static const struct example examples[] = {
	{ "erofs,test", KEY("test.img"), 0xa9e00f73, "@73/Dtest.img" },
	{ "erofs,test", KEY("blob1"), 0x46e0073a, "@3a/Dblob1" },
	{ "erofs,test", KEY("a/b"), 0x25217c82, "@82/E0xZyo" },
	{ "erofs,test", KEY("a b c d"), 0x8140050f, "@0f/E2x1yowc68A100" },
	{ "erofs,test", KEY("\xc3\xa9"), 0xa49d851c, "@1c/Ta9c3" },
	{ "erofs,test", KEY("\x7f"), 0xe7d547ee, "@ee/D\x7f" },
	{ "afs,example.com,100058", KEY("\0\0\0\1\0\0\0\1\0\0\0\0\0\0\0\0"), 0x42e3890a,
	  "@0a/S1,1,," },
	{ "afs,example.com,100058", KEY("\0\0\x12\x34\0\5\x67\x89\0\0\0\0\0\0\0\0"), 0x90001f3b,
	  "@3b/S1234,56789,," },
	{ "afs,example.com,100058", KEY("\1\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0"), 0x3c490bb9,
	  "@b9/T1,1,," },
	{ "afs,example.com,100058", KEY("\0\0\0\0"), 0x785eb189, "@89/S" },
	{ "afs,example.com,100058", KEY("\0"), 0x785eb189, "@89/S" },
	{ "afs,example.com,100058", KEY("\0\0\0\0\0"), 0x5e600162, "@62/S," },
	{ "nfs,4.2,2,,8,0",
	  KEY("\x80\x81\x82\x83\x84\x85\x86\x87\x88\x89\x8a\x8b\x8c\x8d"
	       "\x8e\x8f\x90\x91\x92\x93\x94\x95\x96\x97\x98\x99\x9a\x9b"), 0x1416ae3a,
	  "@3a/E206Ew3iox6u8y9GUycSEzf2pAie9BlqVBoCFCr200" },
	{ "nfs,4.2,2,,8,0", KEY("\xff\xff\xff"), 0x956e1773, "@73/E0----" },
	{ "nfs,4.2,2,,8,0", KEY("\xff\xff\xff\xff"), 0x90f937de, "@de/Sffffffff" },
	{ "nfs,4.2,2,,8,0", KEY("\1\2"), 0x14e61564, "@64/T201" },
	{ "nfs,4.2,2,,8,0", KEY("\xfe\xdc\xba"), 0x04f5a290, "@90/E0_PJK" },
};

/* Store one granule under a key: 0, or why not. */
static int store(int nf, int vol, const void *key, size_t len, const void *aux, size_t aux_len,
		 __u64 seed, __u32 *hash)
{
	struct cf_netfs_cookie a = {
		.volume = vol, .key_len = (__u8)len, .aux_len = (__u8)aux_len,
		.size = CF_GRANULE,
	};
	int ret;

	memcpy(a.key, key, len);
	if (aux_len)
		memcpy(a.aux, aux, aux_len);
	if (ioctl(nf, CF_NETFS_ACQUIRE_COOKIE, &a))
		return -errno;
	*hash = a.key_hash;
	ret = cf_nf_attach(nf, a.id, false);
	if (!ret)
		ret = cf_nf_store(nf, a.id, seed, 0, CF_GRANULE, CF_GRANULE);
	return cf_nf_detach(nf, a.id, false) ? -EIO : ret;
}

/* 0 if it is there and right. */
static int look(int nf, int vol, const void *key, size_t len, const void *aux, size_t aux_len,
		__u64 seed)
{
	int c = cf_nf_cookie(nf, vol, key, len, aux, aux_len, CF_GRANULE);
	int ret = c < 0 ? c : cf_nf_attach(nf, c, false);

	if (c < 0)
		return c;
	if (!ret)
		ret = cf_nf_check(nf, c, seed, 0, CF_GRANULE, CF_GRANULE);
	return cf_nf_detach(nf, c, false) ? -EIO : ret;
}

static void expect_example(struct __test_metadata *_metadata, struct cf_env *e, int nf,
			   const struct example *x, __u64 seed)
{
	int vol = cf_nf_volume(nf, x->volume, e->tag, NULL, 0);
	char want[512] = "", ours[512] = "";
	__u32 hash;

	ASSERT_LT(0, vol);
	EXPECT_EQ(x->where ? 0 : -ENOBUFS,
		  store(nf, vol, x->key.data, x->key.len, NULL, 0, seed, &hash));
	EXPECT_EQ(x->hash, hash);
	EXPECT_EQ(x->hash, cf_nf_hash(cf_nf_volume_hash(x->volume), x->key.data, x->key.len));
	EXPECT_EQ(x->where ? 0 : -ENAMETOOLONG,
		  cf_nf_path(e->dir, x->volume, x->key.data, x->key.len, ours, sizeof(ours)));
	if (x->where) {
		snprintf(want, sizeof(want), "%s/cache/I%s/%s", e->dir, x->volume, x->where);
		EXPECT_STREQ(want, ours);
		EXPECT_EQ(0, access(want, F_OK)) {
			TH_LOG("%s", want);
		}
		EXPECT_EQ(0, look(nf, vol, x->key.data, x->key.len, NULL, 0, seed));
	}
	ASSERT_EQ(0, cf_nf_volume_end(nf, vol, NULL, 0, false));
}

TEST_F(original, examples)
{
	struct example x = { .volume = "nfs,4.2,2,,8,0" };
	char key[252], where[300];

	for (size_t i = 0; i < ARRAY_SIZE(examples); i++)
		expect_example(_metadata, &self->e, self->nf, &examples[i], i);

	memset(key, 0xff, sizeof(key));
	memset(where, '-', sizeof(where));
	memcpy(where, "@fa/E0", 6);
	where[6 + 252] = '\0';
	x.key.data = key;
	x.key.len = 189;
	x.hash = 0xfc7426fa;
	x.where = where;
	expect_example(_metadata, &self->e, self->nf, &x, 50);
	x.key.len = 190;
	x.hash = 0xc63f39c7;
	x.where = NULL;
	expect_example(_metadata, &self->e, self->nf, &x, 51);
	memset(key, 'A', sizeof(key));
	memset(where, 'A', sizeof(where));
	memcpy(where, "@40/D", 5);
	where[5 + 252] = '\0';
	x.key.len = 252;
	x.hash = 0xf7f47240;
	x.where = where;
	expect_example(_metadata, &self->e, self->nf, &x, 52);
}

/* --- all lengths --- */

enum kind { PRINTABLE, BINARY, ZEROS, ONES, WORDS, NR_KINDS };

static void make_key(enum kind kind, size_t len, unsigned char key[255])
{
	unsigned int r = (unsigned int)(len * 2654435761U + kind);

	for (size_t i = 0; i < len; i++) {
		r = r * 1103515245 + 12345;
		switch (kind) {
		case PRINTABLE:
			key[i] = 0x30 + (r >> 16) % 0x50;
			break;
		case BINARY:
			key[i] = (unsigned char)(r >> 16);
			break;
		case ZEROS:
			key[i] = 0;
			break;
		case ONES:
			key[i] = 0xff;
			break;
		default:
			key[i] = i % 4 ? 0 : (unsigned char)(1 + (r >> 16) % 9);
			break;
		}
	}
}

static int count_file(const char *path, void *arg)
{
	return 0;
}

/* Keys that only end in other numbers of zeros have a name in common; the last one wins. */
static bool shadowed(enum kind kind, size_t len)
{
	return kind == ZEROS && len % 4 && len < 255;
}

TEST_F_TIMEOUT(original, d79_lengths, 120)
{
	long files = 0, refused = 0;
	unsigned char key[255];
	char dir[160];
	__u32 hash;

	for (int kind = 0; kind < NR_KINDS; kind++) {
		for (size_t len = 1; len <= 255; len += len % 64 > 8 && len < 180 ? 5 : 1) {
			unsigned char aux[2] = { (unsigned char)kind, (unsigned char)len };
			char name[512];
			size_t n;

			make_key(kind, len, key);
			n = cf_nf_file_name(key, len, name);
			EXPECT_EQ(n ? 0 : -ENOBUFS, store(self->nf, self->vol, key, len, aux, 2,
							  kind * 256 + len, &hash)) {
				TH_LOG("kind %d, %zu bytes", kind, len);
			}
			EXPECT_EQ(cf_nf_hash(cf_nf_volume_hash(self->e.volume), key, len), hash);
			files += n && !shadowed(kind, len);
			refused += !n;
		}
	}
	/* There are such keys. */
	EXPECT_LT(20, refused);
	EXPECT_LT(200, files);

	for (int kind = 0; kind < NR_KINDS; kind++) {
		for (size_t len = 1; len <= 255; len += len % 64 > 8 && len < 180 ? 5 : 1) {
			unsigned char aux[2] = { (unsigned char)kind, (unsigned char)len };
			char name[512], path[1024];

			make_key(kind, len, key);
			if (!cf_nf_file_name(key, len, name))
				continue;
			ASSERT_EQ(0, cf_nf_path(self->e.dir, self->e.volume, key, len, path,
						sizeof(path)));
			EXPECT_EQ(0, access(path, F_OK)) {
				TH_LOG("%s", path);
			}
			if (shadowed(kind, len))
				continue;
			EXPECT_EQ(0, look(self->nf, self->vol, key, len, aux, 2,
					  kind * 256 + len)) {
				TH_LOG("kind %d, %zu bytes", kind, len);
			}
		}
	}
	snprintf(dir, sizeof(dir), "%s/cache", self->e.dir);
	EXPECT_LE(files, cf_tree_count(dir, count_file, NULL));

	/* Those that share a name share no data. */
	for (size_t len = 1; len < 9; len++) {
		unsigned char aux[2] = { ZEROS, (unsigned char)len };

		make_key(ZEROS, len, key);
		EXPECT_EQ(-ENODATA, look(self->nf, self->vol, key, len, aux, 2,
					 ZEROS * 256 + len));
		EXPECT_EQ(0, store(self->nf, self->vol, key, len, aux, 2, ZEROS * 256 + len,
				   &hash));
	}
}

/* Nothing of a key that is refused is on disk, nor is it refused for ever. */
TEST_F(original, too_long)
{
	unsigned char key[255];
	char dir[160];
	__u32 hash;

	memset(key, 0xfe, sizeof(key));
	for (size_t len = 190; len <= 255; len++) {
		EXPECT_EQ(-ENOBUFS, store(self->nf, self->vol, key, len, NULL, 0, 1, &hash));
	}
	memset(key, 'x', sizeof(key));
	EXPECT_EQ(-ENOBUFS, store(self->nf, self->vol, key, 255, NULL, 0, 1, &hash));
	snprintf(dir, sizeof(dir), "%s/cache", self->e.dir);
	EXPECT_EQ(0, cf_tree_count(dir, count_file, NULL));
	/* 255 bytes with the letter in front. */
	EXPECT_EQ(0, store(self->nf, self->vol, key, 254, NULL, 0, 1, &hash));
	EXPECT_EQ(0, look(self->nf, self->vol, key, 254, NULL, 0, 1));
	EXPECT_EQ(1, cf_tree_count(dir, count_file, NULL));
}

/* Those whose names were cut off shared one file. */
TEST_F(original, long_keys_apart)
{
	unsigned char key[200];
	__u32 hash;

	for (int i = 0; i < 20; i++) {
		memset(key, 0xff, sizeof(key));
		key[100] = i;
		EXPECT_EQ(-ENOBUFS, store(self->nf, self->vol, key, 200, NULL, 0, i, &hash));
		EXPECT_EQ(0, store(self->nf, self->vol, key, 189, NULL, 0, 100 + i, &hash));
	}
	for (int i = 0; i < 20; i++) {
		key[100] = i;
		EXPECT_EQ(0, look(self->nf, self->vol, key, 189, NULL, 0, 100 + i));
	}
}

/* --- volumes --- */

TEST_F_TIMEOUT(original, volumes, 120)
{
	static const int lens[] = {
		0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 32, 33, 63, 64, 65, 127, 128, 200, 250, 251,
		252, 253, 254, 255,
	};
	char key[256];
	__u32 hash;

	for (int again = 0; again < 2; again++) {
		for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
			int fits = lens[i] <= 254, vol;
			char path[512];

			memset(key, 'v', sizeof(key));
			key[lens[i]] = '\0';
			vol = cf_nf_volume(self->nf, key, self->e.tag, NULL, 0);
			ASSERT_LT(0, vol);
			if (again) {
				EXPECT_EQ(fits ? 0 : -ENOBUFS,
					  look(self->nf, vol, "key", 3, NULL, 0, i)) {
					TH_LOG("%d bytes", lens[i]);
				}
			} else {
				EXPECT_EQ(fits ? 0 : -ENOBUFS,
					  store(self->nf, vol, "key", 3, NULL, 0, i, &hash)) {
					TH_LOG("%d bytes", lens[i]);
				}
			}
			EXPECT_EQ(fits, cf_nf_volume_attached(self->nf, vol));
			ASSERT_EQ(0, cf_nf_volume_end(self->nf, vol, NULL, 0, false));
			if (!fits)
				continue;
			ASSERT_EQ(0, cf_nf_path(self->e.dir, key, "key", 3, path, sizeof(path)));
			EXPECT_EQ(0, access(path, F_OK)) {
				TH_LOG("%s", path);
			}
		}
	}
}

/* A name is a name in one directory; the cache is not left by it. */
TEST_F(original, volume_with_slashes)
{
	static const char *const keys[] = { "a/b", "/", "../../x", "/etc" };
	__u32 hash;

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		int vol = cf_nf_volume(self->nf, keys[i], self->e.tag, NULL, 0);
		char dir[160];

		ASSERT_LT(0, vol);
		EXPECT_EQ(-ENOBUFS, store(self->nf, vol, "key", 3, NULL, 0, 1, &hash));
		ASSERT_EQ(0, cf_nf_volume_end(self->nf, vol, NULL, 0, false));
		snprintf(dir, sizeof(dir), "%s/cache", self->e.dir);
		EXPECT_EQ(0, cf_tree_count(dir, count_file, NULL));
	}
	/* The cache is none the worse for it. */
	EXPECT_EQ(0, store(self->nf, self->vol, "key", 3, NULL, 0, 1, &hash));
}

/* Only volumes that were asked for from this cache are in it. */
TEST_F(original, volume_of_another_cache)
{
	int vol = cf_nf_volume(self->nf, "v", "no such cache", NULL, 0);
	__u32 hash;

	ASSERT_LT(0, vol);
	EXPECT_EQ(-ENOBUFS, store(self->nf, vol, "key", 3, NULL, 0, 1, &hash));
	EXPECT_EQ(0, cf_nf_volume_attached(self->nf, vol));
	ASSERT_EQ(0, cf_nf_volume_end(self->nf, vol, NULL, 0, false));
}

TEST_HARNESS_MAIN
