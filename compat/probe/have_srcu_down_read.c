// SPDX-License-Identifier: GPL-2.0-only
/* srcu_down_read() and srcu_up_read(). */
#include <linux/srcu.h>

void probe(struct srcu_struct *srcu);
void probe(struct srcu_struct *srcu)
{
	srcu_up_read(srcu, srcu_down_read(srcu));
}
