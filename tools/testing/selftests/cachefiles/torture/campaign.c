// SPDX-License-Identifier: GPL-2.0-only
/* What happens to the daemons, the mounts and the cache, and in which order. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "torture/torture.h"

/* A point that is not reached by then is not going to be. */
#define REACHED		30000
#define ROUNDS		3		/* of deaths at each point */

const char *const kind_names[KINDS] = { "OPEN", "reOPEN", "READ", "CLOSE" };
const char *const point_names[POINTS] = {
	"before read(2)", "after read(2)", "in write", "after write", "after the answer",
	"before restore", "after restore",
};

const char *const action_names[ACTIONS] = { "killed", "stopped", "taken over", "fd closed" };

static int current;			/* slot of the daemon that serves */
static int other;			/* slot of another one, or none */

static bool possible(const struct item *i)
{
	if ((i->point == P_HALF || i->point == P_WRITTEN) && i->kind != K_READ)
		return false;
	if (i->point >= P_BEFORE_RESTORE)
		return i->action == A_KILL;
	if (i->action == A_CLOSE)
		return i->kind != K_CLOSE && i->point != P_WAITING;
	return true;
}

/* A brief run does the others than deaths at these alone. */
static bool chosen(const struct item *i)
{
	if (i->point != P_GOT && i->point != P_WRITTEN)
		return false;
	return i->kind == K_OPEN || i->kind == K_READ;
}

/* The whole run is to have done it. */
bool asked_for(const struct item *i)
{
	return possible(i) && (i->action == A_KILL || !sh->opt.brief || chosen(i));
}

/* --- conditions for pump() --- */

static bool current_gone(void)
{
	return !who.daemons[current].pid;
}

static bool current_ready(void)
{
	return atomic_load(&sh->daemons[current].ready);
}

static bool current_struck(void)
{
	return current_gone() || atomic_load(&sh->daemons[current].struck);
}

static bool current_stopped(void)
{
	return current_gone() || who.daemons[current].stopped;
}

static bool other_gone(void)
{
	return !who.daemons[other].pid;
}

static bool nobody_stale(void)
{
	return !atomic_load(&sh->stale.file);
}

static bool other_helpless(void)
{
	return other_gone() || atomic_load(&sh->daemons[other].foreign);
}

/* --- daemons --- */

/* There is a daemon that serves, afterwards. */
static bool serve_on(void)
{
	/* One that has been killed takes a moment to go. */
	if (!current_gone() && who.daemons[current].doomed)
		pump(cf_ms(REACHED), current_gone);
	if (current_gone()) {
		/* Who waits, waits a while, now and then. */
		pump(draw(4) ? draw(10) : draw(100), NULL);
		start_daemon(current, 0);
	}
	if (!pump(cf_ms(REACHED), current_ready) && !atomic_load(&sh->failed)) {
		tell_waiting();
		fault("a daemon does not get ready");
	}
	return !atomic_load(&sh->failed);
}

static bool end_current(void)
{
	kill_daemon(current);
	return pump(cf_ms(REACHED), current_gone);
}

static long long mark;

/* Whatever began before the mark is over. */
static bool nobody_waits(void)
{
	for (unsigned int i = 0; i < sh->opt.readers; i++) {
		long long since = atomic_load(&sh->readers[i].since);

		if (since && since < mark)
			return false;
	}
	return !who.helper || who.helper_since >= mark;
}

/*
 * While somebody serves, all that has been begun comes to an end.  That has to be
 * seen before errors are allowed, or the next daemon dies: what closing its
 * descriptors brings back may have been lost before.
 */
static bool settle(void)
{
	if (!serve_on())
		return false;
	mark = cf_now();
	if (pump(cf_ms(REACHED), nobody_waits))
		return true;
	tell_waiting();
	fault("somebody waits for a daemon that serves");
	return false;
}

static void arm(const struct item *i, int skip)
{
	sh->plan.kind = i->kind;
	sh->plan.point = i->point;
	sh->plan.action = i->action;
	atomic_store(&sh->plan.skip, skip);
	atomic_store(&sh->plan.armed, 1);
}

static int leaving;

static bool left(void)
{
	for (unsigned int i = 0; i < sh->opt.readers; i++) {
		if (atomic_load(&sh->readers[i].mount) == leaving + 1)
			return false;
	}
	return true;
}

/* Nobody is at work there, and nobody comes. */
static bool leave(int mount)
{
	atomic_store(&sh->mount_on[mount], 0);
	leaving = mount;
	if (pump(cf_ms(REACHED), left))
		return true;
	tell_waiting();
	fault("mount %d is not left", mount);
	return false;
}

/* Have some mount go and come back, with the plan armed: CLOSE, OPEN, READ. */
static void renew(const struct item *i)
{
	int mount = draw(VOLUMES);

	/* It has happened in the meantime. */
	if (!atomic_exchange(&sh->plan.armed, 0))
		return;
	note("mount %d anew", mount);
	if (!settle() || !leave(mount))
		return;
	next_turn(mount);
	arm(i, 0);
	who.renewing = mount + 1;
	if (!helper_start(H_RENEW, mount))
		fault("a helper is still at work");
}

/*
 * Make the point come, in the @nth try.  Files that nobody has opened are always at
 * hand, but an inode has to go for a CLOSE.  EROFS asks for its objects when it is
 * mounted, and for all of them; what it reads comes to an end.
 */
static void bring(const struct item *i, int nth)
{
	if (!sh->opt.erofs) {
		if (i->kind == K_CLOSE && helper_start(H_DROP, 0))
			who.drops++;
	} else if (i->kind == K_CLOSE || i->kind == K_OPEN || nth % 2) {
		renew(i);
	}
}

/* Wait for the point to come; for a reOPEN, a daemon has to go. */
static bool wait_struck(const struct item *i)
{
	int brief = i->kind == K_CLOSE && !sh->opt.erofs ? 150 : 600;
	long long end = cf_now() + cf_ms(REACHED);

	if (i->kind == K_REOPEN && !current_gone())
		end_current();
	arm(i, i->kind == K_ANY ? (int)draw(12) : 0);
	atomic_store(&sh->want_new, i->kind == K_OPEN);
	for (int nth = 0; cf_now() < end && !atomic_load(&sh->failed); nth++) {
		if (!atomic_load(&sh->plan.armed))
			break;
		if (!serve_on())
			break;
		bring(i, nth);
		pump(brief, current_struck);
		if (i->kind == K_REOPEN && atomic_load(&sh->plan.armed))
			end_current();
	}
	atomic_store(&sh->want_new, 0);
	return !atomic_exchange(&sh->plan.armed, 0);
}

/* Two daemons at a time, the older of which does not know. */
static bool take_over(void)
{
	bool good;

	other = current;
	current = !current;
	pump(draw(30), NULL);
	start_daemon(current, 0);
	good = pump(cf_ms(REACHED), current_ready);
	pump(20 + draw(100), NULL);
	atomic_store(&sh->daemons[other].struck, 0);
	atomic_store(&sh->daemons[other].foreign, 0);
	kill(who.daemons[other].pid, SIGCONT);
	/* Let it have read what it can't answer, besides what it can. */
	atomic_store(&sh->want_new, 1);
	pump(20 + draw(150), NULL);
	pump(1000, other_helpless);
	atomic_store(&sh->want_new, 0);
	pump(cf_ms(1500), nobody_stale);
	kill_daemon(other);
	good = good && pump(cf_ms(REACHED), other_gone);
	atomic_store(&sh->stale.file, 0);
	atomic_store(&sh->stale.msg_id, 0);
	/* What it has read of objects that are not its own. */
	if (good && cf_cmd(who.device, "restore"))
		fault("restore: %s", strerror(errno));
	who.restores++;
	return good && settle();
}

/* A daemon that was told to stop or to die has done so, and what follows from that. */
static bool follow_up(const struct item *i)
{
	switch (i->action) {
	case A_KILL:
		return pump(cf_ms(REACHED), current_gone);
	case A_STOP:
		if (!pump(cf_ms(REACHED), current_stopped))
			return false;
		pump(draw(200), NULL);
		return end_current();
	case A_TAKEOVER:
		return pump(cf_ms(REACHED), current_stopped) && take_over();
	default:
		/* An OPEN can't be answered then. */
		if (i->kind != K_READ && i->point == P_GOT)
			return pump(cf_ms(REACHED), current_gone);
		pump(draw(40), NULL);
		atomic_store(&sh->daemons[current].struck, 0);
		return true;
	}
}

/* Carry out one item: was it?  It need not be, but what has begun has to go on. */
static bool carry_out(const struct item *i)
{
	struct item before = { i->kind, P_GOT, A_KILL };
	bool restoring = i->point >= P_BEFORE_RESTORE, good;

	note("%s %s, %s", i->kind < KINDS ? kind_names[i->kind] : "any", point_names[i->point],
	     action_names[i->action]);
	if (!wait_struck(restoring ? &before : i))
		return false;
	if (restoring) {
		good = pump(cf_ms(REACHED), current_gone);
		if (good) {
			start_daemon(current, i->point == P_BEFORE_RESTORE ? 1 : 2);
			good = pump(cf_ms(REACHED), current_gone);
		}
		if (good && i->kind < KINDS)
			add(&sh->hits[i->kind][i->point][A_KILL], 1);
	} else {
		good = follow_up(i);
	}
	if (!good && !atomic_load(&sh->failed)) {
		tell_waiting();
		fault("a daemon was to be %s, and does not go on", action_names[i->action]);
	}
	return good;
}

/*
 * Once, or as often as it takes: the point may not be reached, or an OPEN that is
 * taken over not be followed by a READ.  Each point has to be reached in the end; a brief
 * run does not wait for that READ for ever.
 */
static void carry_out_once(const struct item *i)
{
	bool stale = i->action == A_TAKEOVER && i->point == P_GOT && i->kind == K_OPEN;
	unsigned long tried = atomic_load(&sh->stale_tried);
	long long end = cf_now() + 5LL * cf_ms(REACHED);

	for (int n = 1; !atomic_load(&sh->failed) && cf_now() < end; n++) {
		if (carry_out(i) && (!stale || atomic_load(&sh->stale_tried) != tried ||
				     (sh->opt.brief && n >= 5)))
			return;
	}
	if (!atomic_load(&sh->failed))
		fault("no daemon could be %s: %s %s", action_names[i->action],
		      kind_names[i->kind], point_names[i->point]);
}

/* Each point, in an order that is drawn. */
static void sweep(enum action action)
{
	struct item items[KINDS * POINTS], swap;
	int nr = 0, at;

	for (int kind = 0; kind < KINDS; kind++) {
		for (int point = 0; point < POINTS; point++) {
			items[nr] = (struct item) { kind, point, action };
			nr += asked_for(&items[nr]);
		}
	}
	for (int i = 0; i < nr; i++) {
		at = i + draw(nr - i);
		swap = items[i];
		items[i] = items[at];
		items[at] = swap;
		carry_out_once(&items[i]);
	}
}

/* --- mounts and the cache --- */

/* None of us has anything there: what it takes, from the first attempt on, is the kernel's. */
static bool umount_now(int mount)
{
	long long since = cf_now();
	int ret = 0;

	/* What has just been closed is let go a moment later. */
	for (int i = 0; i < 20; i++) {
		ret = helper_run(H_UMOUNT, mount);
		if (ret != EBUSY)
			break;
		who.busy_umounts++;
		pump(50, NULL);
	}
	if (ret) {
		fault("umount of %d: %s", mount, strerror(ret));
		return false;
	}
	who.umounts++;
	who.last_umount = cf_now() - since;
	if (who.last_umount > who.longest_umount)
		who.longest_umount = who.last_umount;
	return true;
}

static bool mount_now(int mount)
{
	int ret;

	if (!serve_on())
		return false;
	if (sh->opt.erofs)
		next_turn(mount);
	ret = helper_run(H_MOUNT, mount);
	if (ret) {
		fault("mount of %d: %s", mount, strerror(ret));
		return false;
	}
	if (mount < VOLUMES && !sh->opt.erofs) {
		for (unsigned int i = mount; i < sh->opt.files; i += VOLUMES)
			atomic_store(&sh->opened[i], 0);
	}
	atomic_store(&sh->mount_on[mount], 1);
	return true;
}

/* A daemon need not be there to unmount; what is culled then has to be fetched again. */
static void remount(int mount)
{
	note("unmount %d", mount);
	if (!settle() || !leave(mount))
		return;
	if (!draw(2))
		kill_daemon(current);
	if (atomic_load(&sh->failed) || !umount_now(mount))
		return;
	if (draw(2)) {
		helper_run(H_CULL, mount);
		who.culls++;
	}
	mount_now(mount);
}

/* Ends what is waiting, and fails since there is always somebody. */
static void force(int mount)
{
	int ret;

	if (!settle())
		return;
	note("umount -f %d", mount);
	atomic_fetch_add(&sh->mount_gen[mount], 1);
	if (!draw(2))
		kill_daemon(current);
	ret = helper_run(H_FORCE, mount);
	who.forced++;
	if (!ret && !mount_now(mount))
		return;
	if (ret && ret != EBUSY)
		fault("umount -f of %d: %s", mount, strerror(ret));
	atomic_fetch_add(&sh->mount_gen[mount], 1);
}

static int bind_cache(void)
{
	who.device = cf_device();
	if (who.device < 0)
		return who.device;
	return cf_bind(who.device, sh->opt.cache, "torture");
}

/* The last descriptor goes: errors, at once, until there is a cache again. */
static void rebind(void)
{
	bool first = draw(2);
	int ret;

	if (!settle())
		return;
	note("close the device");
	atomic_fetch_add(&sh->cache_gen, 1);
	if (first)
		close(who.device);
	if (!current_gone() && !end_current())
		return;
	if (!first)
		close(who.device);
	who.device = -1;
	who.closed = cf_now();
	mark = who.closed;
	if (!pump(cf_ms(REACHED), nobody_waits))
		return;
	pump(draw(200), NULL);
	who.closed = 0;
	note("bind again");
	ret = bind_cache();
	if (ret) {
		fault("binding again: %s", strerror(-ret));
		return;
	}
	who.rebinds++;
	if (!serve_on())
		return;
	if (sh->opt.image) {
		ret = helper_run(H_TOUCH, 0);
		if (ret)
			fault("the image, after binding again: %s", strerror(ret));
	}
	/* EROFS asks for its objects when it is mounted, and not again. */
	for (int i = 0; sh->opt.erofs && i < VOLUMES; i++) {
		if (!leave(i) || !umount_now(i) || !mount_now(i))
			return;
	}
	atomic_fetch_add(&sh->cache_gen, 1);
}

/* There must be room for what is still to come. */
static void make_room(void)
{
	struct statvfs st;

	for (int i = 0; i < VOLUMES; i++) {
		if (statvfs(sh->opt.cache, &st) || st.f_bavail > st.f_blocks / 2)
			return;
		remount(i);
		helper_run(H_CULL, i);
		who.culls++;
	}
}

/* --- the whole --- */

bool surroundings_up(void)
{
	char path[256];
	int ret = bind_cache();

	if (ret) {
		fault("binding %s: %s", sh->opt.cache, strerror(-ret));
		return false;
	}
	for (int i = 0; i < MOUNTS; i++) {
		mount_path(i, path);
		if (mkdir(path, 0755) && errno != EEXIST)
			fault("%s: %s", path, strerror(errno));
	}
	for (int i = 0; i < mounts(); i++) {
		if (!mount_now(i))
			return false;
	}
	start_readers();
	return true;
}

/* Everything in the reverse order, as if nothing had happened. */
bool surroundings_down(void)
{
	note("the end");
	if (!serve_on() || !stop_readers()) {
		fault("there are readers that do not end");
		return false;
	}
	for (int i = mounts() - 1; i >= 0; i--) {
		if (!umount_now(i))
			return false;
		who.last_umounts += who.last_umount;
	}
	if (who.last_umounts > cf_ms(sh->opt.umount_ms))
		fault("unmounting has taken %lld ms", who.last_umounts);
	helper_run(H_SYNC, 0);
	kill_daemon(current);
	return pump(cf_ms(REACHED), current_gone);
}

static void anything(void)
{
	struct item i = { draw(KINDS + 2), draw(POINTS), draw(12) };
	unsigned int x = draw(100);

	if (x < 2)
		rebind();
	else if (x < 5)
		remount(draw(VOLUMES));
	else if (x < 9 && sh->opt.erofs)
		remount(draw(VOLUMES));
	else if (x < 9)
		force(draw(VOLUMES));
	else if (x < 10)
		helper_start(H_DROP, 0);
	if (atomic_load(&sh->failed))
		return;
	if (x < 30) {
		/* By the clock. */
		note("kill by time");
		if (serve_on() && !pump(draw(80), NULL))
			end_current();
		return;
	}
	if (i.kind > K_ANY)
		i.kind = K_ANY;
	if (i.action >= ACTIONS)
		i.action = A_KILL;
	if (i.kind == K_CLOSE && draw(4))
		i.kind = K_READ;
	if (i.kind == K_ANY && i.point >= P_HALF)
		i.point = P_ANSWERED;
	if (i.kind == K_ANY && i.action == A_CLOSE)
		i.action = A_KILL;
	if (possible(&i))
		carry_out(&i);
}

static bool enough(void)
{
	return who.kills >= sh->opt.kills && (sh->opt.brief || !content_unread(NULL));
}

void campaign(void)
{
	for (int i = 0; i < (sh->opt.brief ? 1 : ROUNDS); i++)
		sweep(A_KILL);
	sweep(A_STOP);
	sweep(A_TAKEOVER);
	sweep(A_CLOSE);
	if (!atomic_load(&sh->failed))
		rebind();
	if (!atomic_load(&sh->failed) && !sh->opt.erofs)
		force(0);
	if (!atomic_load(&sh->failed))
		remount(1);
	while (!atomic_load(&sh->failed) && !enough() && cf_now() < who.deadline) {
		anything();
		if (!draw(10))
			settle();
		/* What is left is to be read, with fewer deaths. */
		if (who.kills >= sh->opt.kills) {
			atomic_store(&sh->want_rest, 1);
			if (serve_on())
				pump(1000, NULL);
		}
		make_room();
	}
	/* Left alone, everybody gets on. */
	if (!atomic_load(&sh->failed) && serve_on())
		pump(500, NULL);
}
