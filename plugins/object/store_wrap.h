/* SPDX-License-Identifier: BSD-3-Clause
 * Copyright the abdkit authors */

/* Wrappers around a store.  Each owns the store below it. */
#ifndef ABD_OBJECT_STORE_WRAP_H
#define ABD_OBJECT_STORE_WRAP_H

#include "store.h"

/* Resolves unknown outcomes and tries again (I1, I2, P5): with back-off and
 * jitter, not before what the store asked for, for as long as retry_for_ns
 * since the call began (UINT64_MAX: for ever).  A CREATE ends with OK only if
 * the object is ours: on EXISTS, or when the outcome was unknown and it then
 * exists, its first bytes are read and the session in them compared with
 * call->session (log objects: at byte 48; JSON: the member "session");
 * another's is EXISTS. */
int store_retry(struct store *below, uint64_t retry_for_ns, struct store **ret);

/* Latency and faults, for tests and demonstrations: from a plan, with seeded
 * chance, so that a run can be repeated.
 *
 *     latency=30ms        before the call reaches the store
 *     jitter=10ms         up to so much more
 *     rate=20M            bytes a second, both ways, all calls together
 *     seed=N
 *     unknown=P           of 1000 CREATEs: so many end with UNKNOWN, half of
 *                         them created
 *     busy=P              of 1000 calls: BUSY
 *     broken=P            of 1000 GETs: BROKEN, after part of the bytes
 *     stall=P:TIME        of 1000 calls: take TIME longer
 *     stale=P             of 1000 LISTs: BUSY
 *     crash=N             the N-th call (1: the first), counted over CREATE and
 *                         DELETE, and all after it never end; half of the time
 *                         (by seed) the N-th one takes effect
 *     flip=P              of 1000 GETs: one bit is wrong
 *
 * separated by commas.  0 or an errno value, *why says what is wrong. */
int store_fault_check(const char *plan, char why[STORE_WHY_MAX]);
int store_fault(struct store *below, const char *plan, struct store **ret,
                char why[STORE_WHY_MAX]);
/* For tests: called when the plan's crash has come. */
void store_fault_on_crash(struct store *store, void (*fn)(void *arg),
                          void *arg);

#endif
