// SPDX-License-Identifier: GPL-2.0-only
/*
 * Numbers by which a daemon names something.
 *
 * They are given in turn, so that one comes again only when all others have been given,
 * and then only if nothing goes by it.  Not even a lack of memory changes that: an answer
 * that comes late must not meet something else.
 */
#include "ondemand.h"

/**
 * cachefiles_ids_init - Begin with the lowest number
 * @ids: The numbers.
 * @min: The lowest.
 * @max: The highest.
 * @force: How a test names them.
 */
void cachefiles_ids_init(struct cachefiles_ids *ids, u32 min, u32 max, enum cachefiles_force force)
{
	xa_init(&ids->used);
	ids->next = min;
	ids->min = min;
	ids->max = max;
	ids->force = force;
}

/**
 * cachefiles_ids_destroy - End it
 * @ids: The numbers; nothing goes by any of them.
 */
void cachefiles_ids_destroy(struct cachefiles_ids *ids)
{
	unsigned long index = 0;

	WARN_ON_ONCE(xa_find(&ids->used, &index, ULONG_MAX, XA_PRESENT));
	xa_destroy(&ids->used);
}

static u32 cachefiles_ids_advance_locked(struct cachefiles_ids *ids)
{
	u32 id = ids->next;

	lockdep_assert_held(&ids->used.xa_lock);
	cachefiles_force_number(ids->force, &id);
	if (id < ids->min || id > ids->max)
		id = ids->min;
	ids->next = id == ids->max ? ids->min : id + 1;
	return id;
}

/**
 * cachefiles_ids_insert - Give something a number
 * @ids: The numbers.
 * @entry: What the number is to lead to, from now on until it is erased from @ids->used.
 * @id: Where to store the number; it is there before @entry can be found.
 * @gfp: How to allocate.
 *
 * Context: as @gfp says; the lock of @ids->used is not held.
 * Return: 0, -ENOMEM, or -EBUSY if all are in use.
 */
int cachefiles_ids_insert(struct cachefiles_ids *ids, void *entry, u32 *id, gfp_t gfp)
{
	u64 left = (u64)ids->max - ids->min + 1;
	int ret;

	xa_lock(&ids->used);
	do {
		*id = cachefiles_ids_advance_locked(ids);
		/* Whoever gets the lock while this allocates gets other numbers. */
		ret = __xa_insert(&ids->used, *id, entry, gfp);
	} while (ret == -EBUSY && --left);
	xa_unlock(&ids->used);
	return ret;
}

/**
 * cachefiles_ids_pass - A number for what nobody is going to look for
 * @ids: The numbers, not all of which are in use.
 *
 * Context: any; the lock of @ids->used is not held.
 * Return: a number that nothing goes by.
 */
u32 cachefiles_ids_pass(struct cachefiles_ids *ids)
{
	u32 id;

	xa_lock(&ids->used);
	do {
		id = cachefiles_ids_advance_locked(ids);
	} while (xa_load(&ids->used, id));
	xa_unlock(&ids->used);
	return id;
}
