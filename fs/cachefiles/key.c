// SPDX-License-Identifier: GPL-2.0-only
/*
 * Names of backing files.
 *
 * A name is made from the key of the cookie in one of three ways, told apart by
 * the first letter, and the same key always gives the same name:
 *
 *	D	the key as it is;
 *	S, T	the key as 32-bit words, big-endian (S) or little-endian (T);
 *	E	the key in 6-bit digits.
 */
#include <linux/hex.h>
#include <linux/limits.h>
#include <linux/slab.h>
#include <linux/unaligned.h>
#include "internal.h"

/* Not the alphabet of RFC 4648, and the low bits come first. */
static const char cachefiles_key_digits[64] __nonstring =
	"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_-";

/* DEL counts as printable, space does not. */
static bool cachefiles_key_is_text(const u8 *key, unsigned int len)
{
	unsigned int i;

	for (i = 0; i < len; i++)
		if (key[i] <= ' ' || key[i] > 0x7f || key[i] == '/')
			return false;
	return true;
}

static unsigned int cachefiles_key_hex_digits(u32 word)
{
	return DIV_ROUND_UP(fls(word), 4);
}

static u32 cachefiles_key_word(const u8 *key, bool big_endian)
{
	return big_endian ? get_unaligned_be32(key) : get_unaligned_le32(key);
}

/* Length of the name in hexadecimal words; one more for each stands before it. */
static unsigned int cachefiles_key_words_len(const u8 *key, unsigned int len, bool big_endian)
{
	unsigned int n = 0;
	unsigned int i;

	for (i = 0; i < len; i += sizeof(u32))
		n += 1 + cachefiles_key_hex_digits(cachefiles_key_word(key + i, big_endian));
	return n;
}

static void cachefiles_key_put_words(const u8 *key, unsigned int len, bool big_endian, char *name)
{
	unsigned int i;
	int shift;

	for (i = 0; i < len; i += sizeof(u32)) {
		u32 word = cachefiles_key_word(key + i, big_endian);

		*name++ = i ? ',' : big_endian ? 'S' : 'T';
		shift = 4 * cachefiles_key_hex_digits(word);
		while (shift) {
			shift -= 4;
			*name++ = hex_asc_lo(word >> shift);
		}
	}
	*name = '\0';
}

static void cachefiles_key_put_digits(const u8 *key, unsigned int len, char *name)
{
	unsigned int groups = DIV_ROUND_UP(len, 3);
	unsigned int i, j;

	*name++ = 'E';
	*name++ = '0' + groups * 3 - len;
	for (i = 0; i < groups * 3; i += 3) {
		u32 group = 0;

		for (j = 0; j < 3 && i + j < len; j++)
			group |= (u32)key[i + j] << (8 * j);
		for (j = 0; j < 4; j++, group >>= 6)
			*name++ = cachefiles_key_digits[group & 63];
	}
	*name = '\0';
}

/**
 * cachefiles_key_encode - Turn a key into a file name
 * @key: The key, followed by NULs up to a multiple of four bytes
 * @len: Its length in bytes, 1 to 255
 * @name: Where to put the name; room for NAME_MAX + 1 bytes
 *
 * Return: 0, or -ENAMETOOLONG if the name would be longer than NAME_MAX.
 */
static int cachefiles_key_encode(const u8 *key, unsigned int len, char *name)
{
	unsigned int be, le, digits;

	if (cachefiles_key_is_text(key, len)) {
		if (1 + len > NAME_MAX)
			return -ENAMETOOLONG;
		name[0] = 'D';
		memcpy(name + 1, key, len);
		name[1 + len] = '\0';
		return 0;
	}

	be = cachefiles_key_words_len(key, len, true);
	le = cachefiles_key_words_len(key, len, false);
	digits = 2 + 4 * DIV_ROUND_UP(len, 3);
	if (min3(be, le, digits) > NAME_MAX)
		return -ENAMETOOLONG;

	if (be < digits || le < digits)
		cachefiles_key_put_words(key, len, be <= le, name);
	else
		cachefiles_key_put_digits(key, len, name);
	return 0;
}

/**
 * cachefiles_key_name - Name the backing file of a cookie
 * @cookie: The data cookie
 *
 * Context: May sleep.
 * Return: The name, to be freed with kfree(); ERR_PTR(-ENOMEM), or
 * ERR_PTR(-ENAMETOOLONG) for a key that can't be cached.
 */
char *cachefiles_key_name(struct fscache_cookie *cookie)
{
	char name[NAME_MAX + 1];
	int ret;

	ret = cachefiles_key_encode(fscache_get_key(cookie), cookie->key_len, name);
	if (ret)
		return ERR_PTR(ret);

	return kstrdup(name, GFP_KERNEL) ?: ERR_PTR(-ENOMEM);
}
