// SPDX-License-Identifier: GPL-2.0-only
/* iov_iter_extract_pages(), and what goes with it. */
#include <linux/bvec.h>
#include <linux/uio.h>

bool probe(struct iov_iter *iter, struct folio *folio, struct bio_vec *bvec);
bool probe(struct iov_iter *iter, struct folio *folio, struct bio_vec *bvec)
{
	copy_folio_from_iter(folio, 0, 0, iter);
	bvec_set_folio(bvec, folio, 0, 0);
	iov_iter_extract_pages(iter, NULL, 0, 0, 0, NULL);
	return iov_iter_extract_will_pin(iter);
}
