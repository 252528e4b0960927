/* SPDX-License-Identifier: GPL-2.0-only */
/* For spatch, which takes a macro before a block for a syntax error. */
#define scoped_guard YACFE_ITERATOR
#define scoped_class YACFE_ITERATOR
#define with_cache_creds YACFE_ITERATOR
