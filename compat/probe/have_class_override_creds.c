// SPDX-License-Identifier: GPL-2.0-only
/* The class override_creds of <linux/cleanup.h>. */
#include <linux/cleanup.h>
#include <linux/cred.h>

uid_t probe(const struct cred *cred);
uid_t probe(const struct cred *cred)
{
	CLASS(override_creds, old)(cred);

	return __kuid_val(current_fsuid());
}
