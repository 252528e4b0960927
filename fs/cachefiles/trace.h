/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Tracepoints: each change of state of the daemon protocol.
 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM cachefiles

#if !defined(CACHEFILES_TRACE_H) || defined(TRACE_HEADER_MULTI_READ)
#define CACHEFILES_TRACE_H

#include <linux/tracepoint.h>
#include "ondemand.h"

TRACE_DEFINE_ENUM(CACHEFILES_OD_CLOSED);
TRACE_DEFINE_ENUM(CACHEFILES_OD_OPENING);
TRACE_DEFINE_ENUM(CACHEFILES_OD_OPEN);
TRACE_DEFINE_ENUM(CACHEFILES_OD_REOPENING);
TRACE_DEFINE_ENUM(CACHEFILES_OD_DROPPING);
TRACE_DEFINE_ENUM(CACHEFILES_REQ_IDLE);
TRACE_DEFINE_ENUM(CACHEFILES_REQ_BLOCKED);
TRACE_DEFINE_ENUM(CACHEFILES_REQ_FOLLOWING);
TRACE_DEFINE_ENUM(CACHEFILES_REQ_QUEUED);
TRACE_DEFINE_ENUM(CACHEFILES_REQ_COPYING);
TRACE_DEFINE_ENUM(CACHEFILES_REQ_SENT);
TRACE_DEFINE_ENUM(CACHEFILES_REQ_ATTACHING);
TRACE_DEFINE_ENUM(CACHEFILES_REQ_DONE);

#define show_od_state(state)						\
	__print_symbolic(state,						\
			 { CACHEFILES_OD_CLOSED,	"CLOSED" },	\
			 { CACHEFILES_OD_OPENING,	"OPENING" },	\
			 { CACHEFILES_OD_OPEN,		"OPEN" },	\
			 { CACHEFILES_OD_REOPENING,	"REOPENING" },	\
			 { CACHEFILES_OD_DROPPING,	"DROPPING" })

#define show_req_state(state)						\
	__print_symbolic(state,						\
			 { CACHEFILES_REQ_IDLE,		"IDLE" },	\
			 { CACHEFILES_REQ_BLOCKED,	"BLOCKED" },	\
			 { CACHEFILES_REQ_FOLLOWING,	"FOLLOWING" },	\
			 { CACHEFILES_REQ_QUEUED,	"QUEUED" },	\
			 { CACHEFILES_REQ_COPYING,	"COPYING" },	\
			 { CACHEFILES_REQ_SENT,		"SENT" },	\
			 { CACHEFILES_REQ_ATTACHING,	"ATTACHING" },	\
			 { CACHEFILES_REQ_DONE,		"DONE" })

#define show_opcode(opcode)						\
	__print_symbolic(opcode, { 0, "OPEN" }, { 1, "CLOSE" }, { 2, "READ" })

/*
 * Both tell all that decides which moves are legal: the state of the od, its current
 * descriptor by object_id or 0, and whether file and cache are there.  Together they
 * are held against the model in tools/testing/selftests/cachefiles/model.
 */
TRACE_EVENT(cachefiles_od_state,
	    TP_PROTO(struct cachefiles_ondemand *od, enum cachefiles_od_state to),
	    TP_ARGS(od, to),
	    TP_STRUCT__entry(__field(unsigned int, object)
			     __field(u32, anon)
			     __field(u8, attached)
			     __field(u8, dead)
			     __field(u8, from)
			     __field(u8, to)),
	    TP_fast_assign(__entry->object = od->debug_id;
			   __entry->anon = od->anon ? od->anon->object_id : 0;
			   __entry->attached = od->attached;
			   __entry->dead = od->queue->dead;
			   __entry->from = od->state;
			   __entry->to = to;),
	    TP_printk("o=%08x fd=%u attached=%u dead=%u %s -> %s", __entry->object,
		      __entry->anon, __entry->attached, __entry->dead,
		      show_od_state(__entry->from), show_od_state(__entry->to))
);

TRACE_EVENT(cachefiles_req_state,
	    TP_PROTO(struct cachefiles_req *req, enum cachefiles_req_state to),
	    TP_ARGS(req, to),
	    TP_STRUCT__entry(__field(const void *, req)
			     __field(unsigned int, object)
			     __field(u32, anon)
			     __field(u32, id)
			     __field(u8, attached)
			     __field(u8, dead)
			     __field(u8, od_state)
			     __field(u8, opcode)
			     __field(u8, from)
			     __field(u8, to)),
	    TP_fast_assign(__entry->req = req;
			   __entry->object = req->od->debug_id;
			   __entry->anon = req->od->anon ? req->od->anon->object_id : 0;
			   __entry->id = req->id;
			   __entry->attached = req->od->attached;
			   __entry->dead = req->od->queue->dead;
			   __entry->od_state = req->od->state;
			   __entry->opcode = req->opcode;
			   __entry->from = req->state;
			   __entry->to = to;),
	    TP_printk("o=%08x fd=%u attached=%u dead=%u %s %s r=%p id=%u %s -> %s",
		      __entry->object, __entry->anon, __entry->attached, __entry->dead,
		      show_od_state(__entry->od_state), show_opcode(__entry->opcode),
		      __entry->req, __entry->id, show_req_state(__entry->from),
		      show_req_state(__entry->to))
);

#endif /* CACHEFILES_TRACE_H */

/* This part must be outside of the guard. */
#undef TRACE_INCLUDE_PATH
#define TRACE_INCLUDE_PATH .
#undef TRACE_INCLUDE_FILE
#define TRACE_INCLUDE_FILE trace
#include <trace/define_trace.h>
